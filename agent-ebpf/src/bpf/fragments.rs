//! Gives later fragments the ports that the first one carried.

use agent_ebpf::{
    abi::{FragmentKey, Loss, Ports},
    parse::{Fragment, Parsed},
};

use super::{loss, maps::FRAGMENTS};

/// Remembers a first fragment's ports, or looks them up for a later one. Where the first was not seen the packet
/// counts with port 0, and that is counted.
#[inline(always)]
pub(super) fn join(parsed: &mut Parsed) {
    if parsed.fragment == Fragment::None {
        return;
    }
    let key = FragmentKey {
        source: parsed.key.source,
        destination: parsed.key.destination,
        id: parsed.fragment_id,
        ifindex: parsed.key.ifindex,
        protocol: parsed.key.protocol,
        direction: parsed.key.direction,
        reserved: [0; 2],
    };
    if parsed.fragment == Fragment::First {
        let ports = Ports { source: parsed.key.source_port, destination: parsed.key.destination_port };
        // An LRU makes room for itself; where it fails all the same, the later fragments count the loss.
        let _ = FRAGMENTS.insert(&key, &ports, 0);
    // SAFETY: the value is only ever replaced as a whole.
    } else if let Some(ports) = unsafe { FRAGMENTS.get(&key) } {
        parsed.key.source_port = ports.source;
        parsed.key.destination_port = ports.destination;
    } else {
        loss::count(Loss::Fragment);
    }
}
