//! Facts in the form of a report: as they came, so they are kept. Pure.

use std::net::IpAddr;

use wire::v1::{self, Edge};

use super::facts::{Dns, DropKey, Drops, Facts};

impl Facts {
    pub(super) fn write(&self, edge: &mut Edge) {
        edge.sockets.clone_from(&self.sockets);
        edge.owners = self
            .owners
            .0
            .iter()
            .map(|(key, home)| v1::Owner {
                process: key.process.to_string(),
                cgroup: key.cgroup,
                container: home.container.to_string(),
                pod_uid: home.pod_uid.to_string(),
            })
            .collect();
        edge.drops = self.drops.written();
        edge.dns = self.dns.as_ref().map(Dns::written);
        edge.vias = self
            .vias
            .0
            .iter()
            .map(|(address, port)| v1::Via {
                address: match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                },
                port: u32::from(*port),
            })
            .collect();
        edge.translated = self.translated;
    }
}

impl Drops {
    pub(super) fn written(&self) -> Vec<v1::Drop> {
        let drop = |(key, segments): (&DropKey, &u64)| v1::Drop {
            reason: key.reason.to_string(),
            by: key.by.to_string(),
            forward: key.forward,
            segments: *segments,
        };
        self.0.iter().map(drop).collect()
    }
}

impl Dns {
    pub(super) fn written(&self) -> v1::Dns {
        let questions = self.questions.iter().map(|((name, kind), asked)| v1::DnsQuestion {
            name: name.to_string(),
            r#type: *kind,
            queries: asked.queries,
            failures: asked.failures,
            last_rcode: asked.last_rcode,
            last_unix_ns: u64::try_from(asked.last).unwrap_or(0),
        });
        v1::Dns {
            queries: self.queries,
            answers: self.answers,
            timeouts: self.timeouts,
            unparsed: self.unparsed,
            rcodes: self.rcodes.iter().map(|(rcode, count)| v1::RcodeCount { rcode: *rcode, count: *count }).collect(),
            latency: Some(self.latency.clone()),
            questions: questions.collect(),
        }
    }
}
