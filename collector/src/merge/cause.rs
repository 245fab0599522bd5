//! What is said of losses of telemetry, by their cause.

use wire::v1::LossCause;

use super::node::COLLECTOR_FULL;

pub(super) fn label(cause: i32) -> &'static str {
    if cause == COLLECTOR_FULL {
        return "collector_full";
    }
    match LossCause::try_from(cause) {
        Ok(LossCause::RingFull) => "ring_full",
        Ok(LossCause::MapFull) => "map_full",
        Ok(LossCause::Drain) => "drain",
        Ok(LossCause::Fragment) => "fragment",
        Ok(LossCause::UnknownDevice) => "unknown_device",
        Ok(LossCause::TableFull) => "table_full",
        Ok(LossCause::HeaderDepth) => "header_depth",
        Ok(LossCause::DnsRingFull) => "dns_ring_full",
        Ok(LossCause::DnsTableFull) => "dns_table_full",
        Ok(LossCause::SocketsFull) => "sockets_full",
        Ok(LossCause::DropsFull) => "drops_full",
        Ok(LossCause::HookMissed) => "hook_missed",
        Ok(LossCause::KernelRefused) => "kernel_refused",
        Ok(LossCause::Unspecified) | Err(_) => "unknown",
    }
}

pub(super) fn words(cause: i32) -> &'static str {
    if cause == COLLECTOR_FULL {
        return "collector full";
    }
    match LossCause::try_from(cause) {
        Ok(LossCause::RingFull) => "event ring full",
        Ok(LossCause::MapFull) => "flow map full",
        Ok(LossCause::Drain) => "flows read while they changed",
        Ok(LossCause::Fragment) => "fragments without their first",
        Ok(LossCause::UnknownDevice) => "packets on a forgotten device",
        Ok(LossCause::TableFull) => "edge table full",
        Ok(LossCause::HeaderDepth) => "headers too deep",
        Ok(LossCause::DnsRingFull) => "ring of DNS messages full",
        Ok(LossCause::DnsTableFull) => "DNS tables full",
        Ok(LossCause::SocketsFull) => "map of sockets full",
        Ok(LossCause::DropsFull) => "map of drops full",
        Ok(LossCause::HookMissed) => "hooks passed over by the kernel",
        Ok(LossCause::KernelRefused) => "readings that the kernel refused",
        Ok(LossCause::Unspecified) | Err(_) => "telemetry",
    }
}
