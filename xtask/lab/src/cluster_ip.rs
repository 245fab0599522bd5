//! Virtual addresses of services, as kube-proxy makes them: every node translates what its pods send to one.

use std::net::{IpAddr, SocketAddr};

use crate::error::Result;
use crate::lab::Lab;
use crate::ledger::Protocol;
use crate::sys::nft;

/// A port of a virtual address, and who answers it.
#[derive(Debug, Clone)]
pub struct ClusterIp {
    /// The virtual address and its port.
    pub at: SocketAddr,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Connections go to these in turn.
    pub backends: Vec<SocketAddr>,
}

impl ClusterIp {
    fn script(&self, number: usize) -> String {
        let family = if self.at.is_ipv6() { "ip6" } else { "ip" };
        let target = match &self.backends[..] {
            [only] => only.to_string(),
            several => {
                let port = several.first().map_or(0, SocketAddr::port);
                let map: Vec<String> =
                    several.iter().enumerate().map(|(index, backend)| format!("{index} : {}", backend.ip())).collect();
                format!("numgen inc mod {} map {{ {} }} : {port}", several.len(), map.join(", "))
            }
        };
        format!(
            "table {family} orrery_vip_{number} {{\nchain translate {{\ntype nat hook prerouting priority -100\n\
             {family} daddr {} {} dport {} dnat to {target}\n}}\n}}\n",
            self.at.ip(),
            self.protocol.name(),
            self.at.port()
        )
    }
}

impl Lab {
    /// Makes a virtual address on every node. Several backends answer on the same port.
    pub fn add_cluster_ip(&self, service: ClusterIp) -> Result<()> {
        let script = service.script(self.cluster_ips().len());
        for node in self.nodes() {
            nft(self.node(&node)?.name(), &script)?;
        }
        self.remember_cluster_ip(service);
        Ok(())
    }

    /// The one who answers at this virtual address; `None` for all else, and where there are several.
    pub fn backend(&self, address: IpAddr, port: u16, protocol: Protocol) -> Option<SocketAddr> {
        let at = SocketAddr::new(address, port);
        let known = self.cluster_ips().into_iter().find(|known| known.at == at && known.protocol == protocol)?;
        (known.backends.len() == 1).then(|| known.backends.first().copied()).flatten()
    }
}
