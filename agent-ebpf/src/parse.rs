//! Packet bytes to a five-tuple and its lengths. Pure: no helper, no map, no clock; it reads through [`Packet`].
//!
//! Follows Ethernet with up to two VLAN tags, raw IP, IPv4 (RFC 791), IPv6 with extension headers (RFC 8200), TCP, UDP,
//! SCTP, ICMP (RFC 792) and ICMPv6 (RFC 4443). An ICMP error is given the flow that it quotes.

use crate::abi::{FlowKey, LinkType, mapped};

/// Bytes of a packet, wherever they lie.
pub trait Packet {
    /// `N` bytes from `offset`, or `None` where the packet is shorter. `N` is 2 to 32: compilers turn "one byte more than
    /// the end" into "at the end", which the kernel's verifier takes for no check at all.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// Whole length in bytes, link header included.
    fn len(&self) -> usize;
    /// No bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a packet is in no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Not IP, or link chatter that belongs to no conversation: ARP, neighbour discovery, group membership.
    LinkControl,
    /// Shorter than its headers say, or headers that contradict themselves.
    Malformed,
    /// More extension headers than are followed.
    HeaderDepth,
}

/// Whether a packet is a fragment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// A whole datagram.
    #[default]
    None,
    /// The first fragment: it has the ports.
    First,
    /// A later one: it has none.
    Later,
}

/// TCP flag bits (RFC 9293 §3.1).
pub mod tcp_flags {
    /// Finish.
    pub const FIN: u8 = 1;
    /// Synchronise.
    pub const SYN: u8 = 1 << 1;
    /// Reset.
    pub const RST: u8 = 1 << 2;
    /// Acknowledge.
    pub const ACK: u8 = 1 << 4;
}

/// IANA protocol numbers that the parser knows.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// Group membership for IPv4.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// The types of an ICMP echo request, which stand in for its "server port".
pub mod echo {
    /// ICMP echo request (RFC 792).
    pub const V4: u16 = 8;
    /// ICMPv6 echo request (RFC 4443 §4.1).
    pub const V6: u16 = 128;
}

/// What the headers say. The caller owns it and hands it in, since a BPF stack has no room for copies. What most packets
/// leave zero does not lie together: the compiler would call for a row of zeros, which fills it byte by byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Parsed {
    /// Addresses (IPv4 mapped), protocol behind all extension headers, and ports; device and direction are the
    /// caller's to fill in.
    pub key: FlowKey,
    /// TCP sequence number, else 0.
    pub tcp_seq: u32,
    /// Bytes from the network header to the packet's end.
    pub l3_bytes: u32,
    /// Identification, where it is a fragment.
    pub fragment_id: u32,
    /// Bytes behind the transport header.
    pub payload_bytes: u32,
    /// TCP flags, else 0.
    pub tcp_flags: u8,
    /// Whether this is a fragment.
    pub fragment: Fragment,
    /// An ICMP error: addresses and ports are those of the quoted packet, turned round.
    pub icmp_error: bool,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Extension headers followed at the most.
const MAX_EXTENSIONS: usize = 6;

/// Parses one packet into `parsed`, whatever stood there before.
///
/// # Errors
/// [`Skip`] says why the packet belongs to no flow.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, link: LinkType, parsed: &mut Parsed) -> Result<(), Skip> {
    let (ethertype, l3) = match link {
        LinkType::Ethernet => ethernet(packet)?,
        LinkType::RawIp => match packet.load::<2>(0).ok_or(Skip::Malformed)?[0] >> 4 {
            4 => (ETHERTYPE_IPV4, 0),
            6 => (ETHERTYPE_IPV6, 0),
            _ => return Err(Skip::Malformed),
        },
    };
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, l3, parsed),
        ETHERTYPE_IPV6 => ipv6(packet, l3, parsed),
        _ => Err(Skip::LinkControl),
    }
}

#[inline(always)]
fn ethernet<P: Packet>(packet: &P) -> Result<(u16, usize), Skip> {
    let mut ethertype = u16::from_be_bytes(packet.load(12).ok_or(Skip::Malformed)?);
    let mut l3 = 14;
    for _ in 0..2 {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        ethertype = u16::from_be_bytes(packet.load(l3 + 2).ok_or(Skip::Malformed)?);
        l3 += 4;
    }
    Ok((ethertype, l3))
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, l3: usize, parsed: &mut Parsed) -> Result<(), Skip> {
    let header: [u8; 20] = packet.load(l3).ok_or(Skip::Malformed)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(Skip::Malformed);
    }
    let on_wire = (packet.len() - l3) as u32;
    // BIG TCP leaves the total length 0 (RFC 791 cannot say more than 65,535); otherwise it rules, since short
    // Ethernet frames are padded, but it may not claim more than is there.
    let total = match u32::from(u16::from_be_bytes([header[2], header[3]])) {
        0 => on_wire,
        total => total.min(on_wire),
    };
    if total < header_len as u32 {
        return Err(Skip::Malformed);
    }
    let offset_and_flags = u16::from_be_bytes([header[6], header[7]]);
    start(parsed, header[9], on_wire);
    parsed.fragment = match (offset_and_flags & 0x1fff, offset_and_flags & 0x2000 != 0) {
        (0, false) => Fragment::None,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    parsed.fragment_id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    parsed.key.source = mapped([header[12], header[13], header[14], header[15]]);
    parsed.key.destination = mapped([header[16], header[17], header[18], header[19]]);
    parsed.payload_bytes = total - header_len as u32;
    transport(packet, l3 + header_len, parsed)
}

/// Fills in everything that only some packets have.
#[inline(always)]
fn start(parsed: &mut Parsed, protocol: u8, l3_bytes: u32) {
    parsed.key.protocol = protocol;
    parsed.key.source_port = 0;
    parsed.key.destination_port = 0;
    parsed.l3_bytes = l3_bytes;
    parsed.tcp_flags = 0;
    parsed.tcp_seq = 0;
    parsed.fragment = Fragment::None;
    parsed.fragment_id = 0;
    parsed.icmp_error = false;
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, l3: usize, parsed: &mut Parsed) -> Result<(), Skip> {
    let fixed: [u8; 8] = packet.load(l3).ok_or(Skip::Malformed)?;
    if fixed[0] >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let on_wire = (packet.len() - l3) as u32;
    let payload = match u32::from(u16::from_be_bytes([fixed[4], fixed[5]])) {
        0 => on_wire.checked_sub(40).ok_or(Skip::Malformed)?,
        payload => payload.min(on_wire.checked_sub(40).ok_or(Skip::Malformed)?),
    };
    start(parsed, fixed[6], on_wire);
    parsed.key.source = packet.load(l3 + 8).ok_or(Skip::Malformed)?;
    parsed.key.destination = packet.load(l3 + 24).ok_or(Skip::Malformed)?;
    let extensions = extension_headers(packet, l3 + 40, parsed)?;
    parsed.payload_bytes = payload.checked_sub(extensions as u32).ok_or(Skip::Malformed)?;
    transport(packet, l3 + 40 + extensions, parsed)
}

/// Follows the extension headers from `at`; returns how many bytes they take.
#[inline(always)]
fn extension_headers<P: Packet>(packet: &P, at: usize, parsed: &mut Parsed) -> Result<usize, Skip> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;

    let mut length = 0;
    for _ in 0..MAX_EXTENSIONS {
        let protocol = parsed.key.protocol;
        let units = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | AUTHENTICATION | FRAGMENT => {
                packet.load::<2>(at + length).ok_or(Skip::Malformed)?
            }
            _ => return Ok(length),
        };
        parsed.key.protocol = units[0];
        if protocol == FRAGMENT {
            let header: [u8; 8] = packet.load(at + length).ok_or(Skip::Malformed)?;
            let offset_and_more = u16::from_be_bytes([header[2], header[3]]);
            parsed.fragment_id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            parsed.fragment = match (offset_and_more & 0xfff8, offset_and_more & 1) {
                (0, 0) => Fragment::None,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            };
            length += 8;
            // What follows in a later fragment is payload, not a header.
            if parsed.fragment == Fragment::Later {
                return Ok(length);
            }
        } else if protocol == AUTHENTICATION {
            length += (usize::from(units[1]) + 2) * 4;
        } else {
            length += (usize::from(units[1]) + 1) * 8;
        }
    }
    match parsed.key.protocol {
        HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | AUTHENTICATION | FRAGMENT => Err(Skip::HeaderDepth),
        _ => Ok(length),
    }
}

/// Reads the transport header at `at`. `parsed.payload_bytes` comes in as its length with the header and goes out
/// without.
#[inline(always)]
fn transport<P: Packet>(packet: &P, at: usize, parsed: &mut Parsed) -> Result<(), Skip> {
    if parsed.fragment == Fragment::Later {
        return Ok(());
    }
    let header_len = match parsed.key.protocol {
        protocol::TCP => {
            let header: [u8; 14] = packet.load(at).ok_or(Skip::Malformed)?;
            ports(parsed, [header[0], header[1], header[2], header[3]]);
            parsed.tcp_seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            parsed.tcp_flags = header[13];
            let header_len = u32::from(header[12] >> 4) * 4;
            if header_len < 20 {
                return Err(Skip::Malformed);
            }
            header_len
        }
        protocol::UDP => {
            ports(parsed, packet.load(at).ok_or(Skip::Malformed)?);
            8
        }
        protocol::SCTP => {
            ports(parsed, packet.load(at).ok_or(Skip::Malformed)?);
            12
        }
        protocol::ICMP | protocol::ICMPV6 => {
            icmp(packet, at, parsed)?;
            8
        }
        protocol::IGMP => return Err(Skip::LinkControl),
        _ => 0,
    };
    parsed.payload_bytes = parsed.payload_bytes.checked_sub(header_len).ok_or(Skip::Malformed)?;
    Ok(())
}

#[inline(always)]
fn ports(parsed: &mut Parsed, bytes: [u8; 4]) {
    parsed.key.source_port = u16::from_be_bytes([bytes[0], bytes[1]]);
    parsed.key.destination_port = u16::from_be_bytes([bytes[2], bytes[3]]);
}

#[inline(always)]
fn icmp<P: Packet>(packet: &P, at: usize, parsed: &mut Parsed) -> Result<(), Skip> {
    let kind = packet.load::<2>(at).ok_or(Skip::Malformed)?[0];
    if parsed.key.protocol == protocol::ICMP {
        match kind {
            8 => parsed.key.destination_port = echo::V4,
            0 => parsed.key.source_port = echo::V4,
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            3 | 4 | 5 | 11 | 12 => quoted_v4(packet, at + 8, parsed)?,
            _ => {}
        }
        return Ok(());
    }
    match kind {
        128 => parsed.key.destination_port = echo::V6,
        129 => parsed.key.source_port = echo::V6,
        1..=4 => quoted_v6(packet, at + 8, parsed)?,
        // Multicast listener (RFC 2710, 3810) and neighbour discovery (RFC 4861).
        130..=137 | 143 => return Err(Skip::LinkControl),
        _ => {}
    }
    Ok(())
}

/// Takes the flow that an ICMP error at hand quotes: the answer's way, since the error goes to the quoted source.
#[inline(always)]
fn quoted_v4<P: Packet>(packet: &P, at: usize, parsed: &mut Parsed) -> Result<(), Skip> {
    let header: [u8; 20] = packet.load(at).ok_or(Skip::Malformed)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(Skip::Malformed);
    }
    parsed.key.source = mapped([header[16], header[17], header[18], header[19]]);
    parsed.key.destination = mapped([header[12], header[13], header[14], header[15]]);
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    quoted_ports(packet, at + header_len, header[9], later, parsed)
}

#[inline(always)]
fn quoted_v6<P: Packet>(packet: &P, at: usize, parsed: &mut Parsed) -> Result<(), Skip> {
    let fixed: [u8; 8] = packet.load(at).ok_or(Skip::Malformed)?;
    if fixed[0] >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    parsed.key.source = packet.load(at + 24).ok_or(Skip::Malformed)?;
    parsed.key.destination = packet.load(at + 8).ok_or(Skip::Malformed)?;
    quoted_ports(packet, at + 40, fixed[6], false, parsed)
}

#[inline(always)]
fn quoted_ports<P: Packet>(packet: &P, at: usize, quoted: u8, later: bool, parsed: &mut Parsed) -> Result<(), Skip> {
    parsed.icmp_error = true;
    parsed.key.protocol = quoted;
    if later {
        return Ok(());
    }
    match quoted {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let bytes: [u8; 4] = packet.load(at).ok_or(Skip::Malformed)?;
            // Turned round, as the addresses are.
            ports(parsed, [bytes[2], bytes[3], bytes[0], bytes[1]]);
        }
        protocol::ICMP | protocol::ICMPV6 => match packet.load::<2>(at).ok_or(Skip::Malformed)?[0] {
            8 => parsed.key.source_port = echo::V4,
            128 => parsed.key.source_port = echo::V6,
            _ => {}
        },
        _ => {}
    }
    Ok(())
}
