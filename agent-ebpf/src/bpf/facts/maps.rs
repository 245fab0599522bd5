//! Maps and settings of the facts, nothing else.

use agent_ebpf::facts::{
    DropKey, DropTotals, MAX_DROPS, MAX_OPEN_SOCKETS, MAX_REASONS, MAX_SCOPE, MAX_SOCKETS, Settings, SocketKey,
    SocketState, SocketTotals,
};
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};

#[map]
pub(super) static SOCKETS: HashMap<SocketKey, SocketTotals> = HashMap::with_max_entries(MAX_SOCKETS, 0);

#[map]
pub(super) static OPEN_SOCKETS: HashMap<u64, SocketState> = HashMap::with_max_entries(MAX_OPEN_SOCKETS, 0);

#[map]
pub(super) static DROPS: HashMap<DropKey, DropTotals> = HashMap::with_max_entries(MAX_DROPS, 0);

#[map]
pub(super) static DROP_NOISE: Array<u8> = Array::with_max_entries(MAX_REASONS, 0);

#[map]
pub(super) static SCOPE: HashMap<u32, u8> = HashMap::with_max_entries(MAX_SCOPE, 0);

/// Written by the agent before the programs are loaded; read-only afterwards, so the verifier knows every value.
#[unsafe(no_mangle)]
static SETTINGS: Settings = zerocopy::transmute!([0xff_u8; size_of::<Settings>()]);

/// One setting. The compiler must not fold the value that stands in the object.
macro_rules! setting {
    ($name:ident) => {{
        // SAFETY: a field of a static that lives as long as the program.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::bpf::facts::maps::settings()).$name) }
    }};
}
pub(super) use setting;

/// Where the settings are.
#[inline(always)]
pub(super) fn settings() -> *const Settings {
    &raw const SETTINGS
}
