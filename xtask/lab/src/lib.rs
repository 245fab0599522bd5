//! Orrery's lab: nodes and pods made of network namespaces on one machine, real traffic between them, and a ledger of what
//! was sent. The ledger, nft's counters and the devices' own statistics are the expected side of every exactness test; nothing
//! here reads what Orrery observed to find out what it should have observed.
//!
//! ```no_run
//! use lab::{Lab, LabSpec, Offloads, Reply, UdpSend};
//!
//! let lab = Lab::up(LabSpec::plain(2, Offloads::On))?;
//! let (client, server) = (lab.pod("p1-0")?, lab.pod("p2-0")?);
//! server.serve_udp(7000, Reply::Echo)?;
//! let to = (server.v4(), 7000).into();
//! client.udp(UdpSend { replies: true, ..UdpSend::new(to, 100, 64, 1000.0) })?;
//! println!("{}", serde_json::to_string_pretty(&lab.ledger()?).unwrap_or_default());
//! # Ok::<(), lab::LabError>(())
//! ```

pub mod bare;
mod bpf;
mod cgroup;
mod cilium;
mod clsact;
mod cluster_ip;
mod control;
mod error;
mod handle;
pub mod hooks;
pub mod http1;
mod lab;
mod ledger;
mod link;
mod net;
pub mod pod;
mod pod_list;
pub mod raw;
mod run_dir;
mod service;
pub mod shop;
mod signals;
mod spawn;
mod spec;
mod sys;
mod tcx;
pub mod testing;

pub use cilium::{Cilium, Form, Handled};
pub use cluster_ip::ClusterIp;
pub use control::{Answer, Call, Family, IcmpSend, Load, Reply, Request, TcpSend, UdpSend};
pub use error::{LabError, Result};
pub use handle::{Flow, Pod};
pub use lab::Lab;
pub use ledger::{Edge, Ledger, Protocol, Row, Sent, Totals, udp_packets};
pub use link::{DeviceStats, DroppingLink, EdgeCounters, Matched};
pub use run_dir::{Reaped, reap, watch};
pub use service::{Agent, AgentOptions, Collector, CollectorOptions};
pub use signals::Stop;
pub use spawn::Process;
pub use spec::{Cni, EXTERNAL, LabSpec, Offloads, Owner, POD_MTU, Phase, PodSpec, ServiceSpec, mix};
pub use sys::{Netns, binary, ebpf_object, require_root, wait_for};
pub use tcx::{FullChain, Guest, Verdict, detach_all, programs_on};
