//! tc filters on a clsact qdisc, for kernels without TCX. A qdisc is made where there is none and never taken away or
//! replaced; filters of others are read and never touched. Filters outlive their maker: ours are known by their name.

use std::{collections::HashSet, io, os::fd::AsFd as _};

use agent_ebpf::abi::Direction;

use super::{
    hook::Program,
    netlink::{Attributes, Netlink, TrafficControl, attributes, flags},
    sys::raw,
};

// include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, if_ether.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS_PARENT: u32 = 0xffff_fff2;
const EGRESS_PARENT: u32 = 0xffff_fff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const ETH_P_ALL: u16 = 3;

/// What all our filters' names begin with.
const NAME_PREFIX: &str = "orrery_";
/// What the names of Cilium's filters begin with.
const CILIUM_PREFIX: &str = "cil_";
/// Where ours stands when nobody is in front: everybody's favourite, 1, stays free.
const PRIORITY: u16 = 2;
/// Our filter's handle at its priority.
const HANDLE: u32 = 0x0771;

/// One filter, ours or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// A lower one runs earlier.
    pub priority: u16,
    /// Its number at that priority.
    pub handle: u32,
    /// `bpf`, `u32`, …
    pub kind: String,
    /// What a BPF filter was called by its maker.
    pub name: String,
    /// The number of a BPF filter's program.
    pub program: Option<u32>,
}

impl Filter {
    /// Made by an agent of ours, this run's or an earlier one's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.kind == "bpf" && self.name.starts_with(NAME_PREFIX)
    }
}

/// Why there is no filter of ours.
#[derive(Debug, thiserror::Error)]
pub enum ClsactError {
    /// rtnetlink refused.
    #[error("{what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else is first and may let nothing through to us; or is Cilium, which removes everybody's filters.
    #[error("the filter {name} stands there: what it takes would not be seen behind it")]
    Behind {
        /// Its name, or its kind.
        name: String,
    },
}

/// Traffic control of the devices of one network namespace.
#[derive(Debug)]
pub struct Clsact {
    netlink: Netlink,
}

impl Clsact {
    /// Opens a connection in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// Indexes of the devices that have a clsact qdisc.
    ///
    /// # Errors
    /// What rtnetlink answered.
    pub fn devices(&mut self) -> io::Result<HashSet<u32>> {
        let mut found = HashSet::new();
        let about = TrafficControl::default();
        self.netlink.ask(RTM_GETQDISC, flags::DUMP, about, &Attributes::default(), |about, bytes| {
            if attributes(bytes).any(|(kind, value)| kind == TCA_KIND && text(value) == "clsact") {
                found.insert(about.ifindex);
            }
        })?;
        Ok(found)
    }

    /// All filters of a device, one way, in the order in which they run.
    ///
    /// # Errors
    /// What rtnetlink answered.
    pub fn filters(&mut self, ifindex: u32, way: Direction) -> io::Result<Vec<Filter>> {
        let mut found: Vec<Filter> = Vec::new();
        let about = TrafficControl { ifindex, parent: parent(way), ..TrafficControl::default() };
        self.netlink.ask(RTM_GETTFILTER, flags::DUMP, about, &Attributes::default(), |about, bytes| {
            let mut filter = Filter {
                priority: (about.info >> 16) as u16,
                handle: about.handle,
                kind: String::new(),
                name: String::new(),
                program: None,
            };
            for (kind, value) in attributes(bytes) {
                match kind {
                    TCA_KIND => filter.kind = text(value),
                    TCA_OPTIONS if filter.kind == "bpf" => {
                        for (kind, value) in attributes(value) {
                            match kind {
                                TCA_BPF_NAME => filter.name = text(value),
                                TCA_BPF_ID => filter.program = value.first_chunk().map(|id| u32::from_ne_bytes(*id)),
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
            // The kernel also tells of each priority as such, without a handle.
            if filter.handle != 0 || filter.kind != "bpf" {
                found.push(filter);
            }
        })?;
        found.sort_by_key(|filter| filter.priority);
        Ok(found)
    }

    /// Puts a program in front of all other filters. A filter that an earlier run left is taken over in one step.
    ///
    /// # Errors
    /// When rtnetlink refuses, or when there is no place in front.
    pub fn attach(&mut self, program: &Program, ifindex: u32, way: Direction) -> Result<(), ClsactError> {
        let refused = |what| move |source| ClsactError::Refused { what, source };
        self.make_qdisc(ifindex).map_err(refused("add a clsact qdisc"))?;
        let (ours, others): (Vec<_>, Vec<_>) =
            self.filters(ifindex, way).map_err(refused("list filters"))?.into_iter().partition(Filter::is_ours);
        let first = others.first();
        // Behind somebody's first priority there is no place in front.
        let in_the_way = |filter: &&Filter| filter.priority <= 1 || filter.name.starts_with(CILIUM_PREFIX);
        if let Some(other) = others.iter().find(in_the_way) {
            let name = if other.name.is_empty() { other.kind.clone() } else { other.name.clone() };
            return Err(ClsactError::Behind { name });
        }
        let in_front = |filter: &&Filter| first.is_none_or(|first| filter.priority < first.priority);
        let left = ours.iter().find(in_front);
        let (priority, handle, how) = match left {
            Some(left) => (left.priority, left.handle, 0),
            None => {
                let priority = first.map_or(PRIORITY, |first| PRIORITY.min(first.priority - 1));
                (priority, HANDLE, flags::CREATE | flags::EXCL)
            }
        };
        let mut options = Attributes::default();
        options
            .put(TCA_BPF_FD, &raw(program.fd.as_fd()).to_ne_bytes())
            .put(TCA_BPF_NAME, name(way).as_bytes())
            .put(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
        let mut request = Attributes::default();
        request.put(TCA_KIND, b"bpf\0").nest(TCA_OPTIONS, &options);
        let about = about(ifindex, way, priority, handle);
        self.netlink
            .ask(RTM_NEWTFILTER, how | flags::ACK, about, &request, |_, _| ())
            .map_err(refused("add a filter"))?;
        for stale in ours.iter().filter(|filter| (filter.priority, filter.handle) != (priority, handle)) {
            self.remove(ifindex, way, stale).map_err(refused("remove an old filter of our own"))?;
        }
        Ok(())
    }

    /// Removes a filter of ours.
    ///
    /// # Errors
    /// What rtnetlink answered; one that is gone already is no error.
    pub fn remove(&mut self, ifindex: u32, way: Direction, filter: &Filter) -> io::Result<()> {
        let mut request = Attributes::default();
        request.put(TCA_KIND, b"bpf\0");
        let about = about(ifindex, way, filter.priority, filter.handle);
        match self.netlink.ask(RTM_DELTFILTER, flags::ACK, about, &request, |_, _| ()) {
            Err(gone) if matches!(gone.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)) => Ok(()),
            outcome => outcome,
        }
    }

    /// One that is there is as good, whoever made it.
    fn make_qdisc(&mut self, ifindex: u32) -> io::Result<()> {
        let mut request = Attributes::default();
        request.put(TCA_KIND, b"clsact\0");
        let about = TrafficControl { ifindex, handle: CLSACT_HANDLE, parent: TC_H_CLSACT, ..TrafficControl::default() };
        let how = flags::CREATE | flags::EXCL | flags::ACK;
        match self.netlink.ask(RTM_NEWQDISC, how, about, &request, |_, _| ()) {
            Err(there) if there.raw_os_error() == Some(libc::EEXIST) && self.devices()?.contains(&ifindex) => Ok(()),
            outcome => outcome,
        }
    }
}

fn name(way: Direction) -> String {
    let way = match way {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    format!("{NAME_PREFIX}{way}\0")
}

fn parent(way: Direction) -> u32 {
    match way {
        Direction::Ingress => INGRESS_PARENT,
        Direction::Egress => EGRESS_PARENT,
    }
}

fn about(ifindex: u32, way: Direction, priority: u16, handle: u32) -> TrafficControl {
    let info = u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be());
    TrafficControl { ifindex, handle, parent: parent(way), info, ..TrafficControl::default() }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
