//! What the lab's tests share.

use std::net::IpAddr;

use lab::{Lab, LabSpec, UdpSend};

/// Whether this machine lets us build a lab; a skip says why, and fails where root was promised.
pub(crate) fn may_run() -> bool {
    match lab::require_root() {
        Ok(()) => true,
        Err(why) => {
            assert!(
                std::env::var_os("ORRERY_REQUIRE_ROOT").is_none_or(|value| value != "1"),
                "ORRERY_REQUIRE_ROOT=1, but {why}"
            );
            println!("skipped: {why}");
            false
        }
    }
}

/// A lab, or `None` where it cannot be.
pub(crate) fn lab_or_skip(spec: LabSpec) -> Option<Lab> {
    may_run().then(|| Lab::up(spec).expect("the lab comes up"))
}

/// Datagrams from one port.
pub(crate) fn udp(
    to: IpAddr,
    port: u16,
    datagrams: u64,
    payload: u32,
    pps: f64,
    replies: bool,
) -> UdpSend {
    UdpSend {
        to: (to, port).into(),
        datagrams,
        payload,
        pps,
        per_port: 0,
        replies,
    }
}
