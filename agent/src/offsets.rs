//! Where the running kernel keeps what the facts need: member offsets from its BTF, as the programs' settings. Pure.

use agent_ebpf::facts::{ABSENT, Settings};
use zerocopy::FromZeros as _;

use crate::{btf::Btf, facts::Fact};

/// What the kernel's types allow.
#[derive(Debug)]
pub struct Offsets {
    /// For the programs.
    pub settings: Settings,
    /// Facts that cannot be had, with a member that is not there.
    missing: Vec<(Fact, String)>,
}

impl Offsets {
    /// From the kernel's BTF; without any, every fact is off.
    #[must_use]
    pub fn new(btf: Option<&Btf>, own_netns: u32, scoped: bool) -> Self {
        let mut found = Self { settings: Settings::new_zeroed(), missing: Vec::new() };
        let Some(btf) = btf else {
            let none = |fact| (fact, "the kernel has no BTF".to_owned());
            found.missing = Fact::ALL.map(none).into();
            return found;
        };
        let mut find = |facts: &[Fact], structure: &str, path: &str| {
            let offset = btf.offset(structure, path);
            if offset.is_none() {
                let why = format!("the kernel's BTF has no {structure}.{path}");
                found.missing.extend(facts.iter().map(|fact| (*fact, why.clone())));
            }
            offset.unwrap_or(ABSENT)
        };
        let sockets = [Fact::Connect, Fact::Retransmit, Fact::Rtt];
        let (connect, rtt, drop, owner) = ([Fact::Connect], [Fact::Rtt], [Fact::Drop], [Fact::Owner]);
        let (scoped_all, optional) = ([Fact::Connect, Fact::Retransmit, Fact::Rtt, Fact::Drop], []);
        let has = |structure: &str, member: &str| u16::from(btf.offset(structure, member).is_some());
        let state = "trace_event_raw_inet_sock_set_state";
        let received = "trace_event_raw_tcp_event_sk";
        let freed = "trace_event_raw_kfree_skb";
        // One of a class of tracepoints before it got a record of its own.
        let again = match btf.offset("trace_event_raw_tcp_retransmit_skb", "skbaddr") {
            Some(_) => "trace_event_raw_tcp_retransmit_skb",
            None => "trace_event_raw_tcp_event_sk_skb",
        };
        found.settings = Settings {
            own_netns,
            scoped: u16::from(scoped),
            drop_reason: has(freed, "reason"),
            drop_socket: has(freed, "rx_sk"),
            retransmit_error: has(again, "err"),
            sock_daddr: find(&sockets, "sock_common", "skc_daddr"),
            sock_rcv_saddr: find(&sockets, "sock_common", "skc_rcv_saddr"),
            sock_v6_daddr: find(&optional, "sock_common", "skc_v6_daddr"),
            sock_v6_rcv_saddr: find(&optional, "sock_common", "skc_v6_rcv_saddr"),
            sock_dport: find(&sockets, "sock_common", "skc_dport"),
            sock_family: find(&sockets, "sock_common", "skc_family"),
            sock_state: find(&sockets, "sock_common", "skc_state"),
            sock_net: find(&scoped_all, "sock_common", "skc_net"),
            sock_protocol: find(&connect, "sock", "sk_protocol"),
            sock_err: find(&connect, "sock", "sk_err"),
            sock_err_soft: find(&optional, "sock", "sk_err_soft"),
            sock_cgroup: find(&owner, "sock", "sk_cgrp_data"),
            inet_sport: find(&sockets, "inet_sock", "inet_sport"),
            icsk_retransmits: find(&optional, "inet_connection_sock", "icsk_retransmits"),
            tcp_srtt: find(&rtt, "tcp_sock", "srtt_us"),
            net_inum: find(&scoped_all, "net", "ns.inum"),
            cgroup_kn: find(&owner, "cgroup", "kn"),
            kernfs_id: find(&owner, "kernfs_node", "id"),
            skb_head: find(&drop, "sk_buff", "head"),
            skb_end: find(&drop, "sk_buff", "end"),
            skb_network_header: find(&drop, "sk_buff", "network_header"),
            skb_protocol: find(&drop, "sk_buff", "protocol"),
            skb_dev: find(&drop, "sk_buff", "dev"),
            skb_sk: find(&drop, "sk_buff", "sk"),
            skb_cb: find(&optional, "sk_buff", "cb"),
            skb_gso_segs: find(&drop, "skb_shared_info", "gso_segs"),
            cb_gso_segs: find(&optional, "tcp_skb_cb", "tcp_gso_segs"),
            dev_net: find(&drop, "net_device", "nd_net"),
            state_sk: find(&optional, state, "skaddr"),
            state_old: find(&optional, state, "oldstate"),
            state_new: find(&optional, state, "newstate"),
            retransmit_skb: find(&optional, again, "skbaddr"),
            retransmit_sk: find(&optional, again, "skaddr"),
            retransmit_err: find(&optional, again, "err"),
            receive_sk: find(&optional, received, "skaddr"),
            drop_skb: find(&optional, freed, "skbaddr"),
            drop_why: find(&optional, freed, "reason"),
            reserved: 0,
        };
        found
    }

    /// Why a fact cannot be had of this kernel, if so.
    #[must_use]
    pub fn missing(&self, fact: Fact) -> Option<&str> {
        self.missing.iter().find(|(known, _)| *known == fact).map(|(_, why)| why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Offsets;
    use crate::{btf::Btf, facts::Fact};

    #[test]
    fn without_types_every_fact_is_off() {
        let offsets = Offsets::new(None, 1, false);
        assert!(Fact::ALL.iter().all(|fact| offsets.missing(*fact).is_some()));
    }

    /// Skipped where the kernel has none, with the reason.
    #[test]
    fn this_machines_kernel_has_what_the_facts_need() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: no /sys/kernel/btf/vmlinux");
            return;
        };
        let btf = Btf::parse(&bytes).expect("the kernel's own");
        let offsets = Offsets::new(Some(&btf), 7, true);
        let missing: Vec<_> = Fact::ALL.iter().filter_map(|fact| offsets.missing(*fact)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!((offsets.settings.own_netns, offsets.settings.scoped), (7, 1));
    }
}
