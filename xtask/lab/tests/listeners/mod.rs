//! Where a process listens, by the kernel's own tables.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// TCP sockets that listen, and UDP sockets that anybody may send to.
pub(crate) fn of(pid: u32) -> Vec<SocketAddr> {
    let own = sockets(pid);
    let mut found = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        // Without IPv6 its tables are not there.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.len() > 9 && fields[3] == state && own.contains(fields[9]) {
                found.push(address(fields[1]));
            }
        }
    }
    found
}

/// This machine's own addresses beyond the loopback, IPv4 and routed IPv6.
pub(crate) fn others() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().expect("addresses");
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let ips = all.filter_map(|interface| interface.address.and_then(ip));
    let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    ips.filter(|ip| !ip.is_loopback() && !is_local(ip)).collect()
}

/// Inodes of the sockets a process has open.
fn sockets(pid: u32) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there").flatten();
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |target: std::path::PathBuf| {
        let text = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
        Some(text)
    };
    targets.filter_map(inode).collect()
}

/// An address as the tables write it: words in the machine's order, in hex.
fn address(text: &str) -> SocketAddr {
    let (address, port) = text.split_once(':').expect("address and port");
    let words: Vec<u32> =
        (0..address.len() / 8).map(|at| u32::from_str_radix(&address[8 * at..8 * at + 8], 16).expect("hex")).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).expect("16 bytes")).into(),
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).expect("hex"))
}
