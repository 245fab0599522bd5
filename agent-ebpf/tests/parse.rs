//! The parser on packets written out by hand, on the host.

use agent_ebpf::{
    abi::{LinkType, mapped},
    parse::{Fragment, Packet, Parsed, Skip, parse, protocol, tcp_flags},
};

struct Bytes<'a>(&'a [u8]);

impl Packet for Bytes<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&[0_u8; 12][..], &ethertype.to_be_bytes(), rest].concat()
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let header = [
        &[0x45, 0][..],
        &total.to_be_bytes(),
        &0xbeef_u16.to_be_bytes(),
        &fragment.to_be_bytes(),
        &[64, protocol, 0, 0],
        &A,
        &B,
    ];
    [&header.concat(), payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x60, 0, 0, 0][..], &(payload.len() as u16).to_be_bytes(), &[next, 64], &A6, &B6, payload].concat()
}

fn udp(payload: usize) -> Vec<u8> {
    let length = (8 + payload) as u16;
    [&4000_u16.to_be_bytes()[..], &53_u16.to_be_bytes(), &length.to_be_bytes(), &[0, 0], &vec![7; payload]].concat()
}

fn tcp(flags: u8, words: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0_u8; usize::from(words) * 4];
    header[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    header[2..4].copy_from_slice(&443_u16.to_be_bytes());
    header[4..8].copy_from_slice(&0x0102_0304_u32.to_be_bytes());
    header[12] = words << 4;
    header[13] = flags;
    [header, vec![7; payload]].concat()
}

fn check(packet: &[u8], link: LinkType) -> Result<Parsed, Skip> {
    let mut parsed = Parsed::default();
    parse(&Bytes(packet), link, &mut parsed).map(|()| parsed)
}

fn parsed(packet: &[u8]) -> Parsed {
    check(packet, LinkType::Ethernet).expect("a packet with a flow")
}

#[test]
fn udp_over_ipv4_in_ethernet_with_vlan_tags_and_raw() {
    let inner = ipv4(protocol::UDP, 0, &udp(100));
    let frames = [
        (ethernet(0x0800, &inner), LinkType::Ethernet),
        (ethernet(0x8100, &[&[0, 5][..], &0x0800_u16.to_be_bytes(), &inner].concat()), LinkType::Ethernet),
        (ethernet(0x88a8, &[&[0, 5, 0x81, 0, 0, 6][..], &[8, 0], &inner].concat()), LinkType::Ethernet),
        (inner.clone(), LinkType::RawIp),
    ];
    for (frame, link) in frames {
        let parsed = check(&frame, link).expect("a packet with a flow");
        assert_eq!(parsed.key.source, mapped(A));
        assert_eq!(parsed.key.destination, mapped(B));
        assert_eq!((parsed.key.source_port, parsed.key.destination_port), (4000, 53));
        assert_eq!((parsed.l3_bytes, parsed.payload_bytes), (128, 100));
        assert_eq!(parsed.fragment, Fragment::None);
    }
}

#[test]
fn padding_is_no_payload_but_is_no_secret_either() {
    let mut frame = ethernet(0x0800, &ipv4(protocol::UDP, 0, &udp(1)));
    frame.resize(60, 0);
    let parsed = parsed(&frame);
    assert_eq!((parsed.l3_bytes, parsed.payload_bytes), (46, 1));
}

#[test]
fn tcp_with_options_over_ipv6() {
    let parsed = parsed(&ethernet(0x86dd, &ipv6(protocol::TCP, &tcp(tcp_flags::SYN, 10, 3))));
    assert_eq!(parsed.key.protocol, protocol::TCP);
    assert_eq!((parsed.key.source, parsed.key.destination_port), (A6, 443));
    assert_eq!((parsed.tcp_flags, parsed.tcp_seq, parsed.payload_bytes), (tcp_flags::SYN, 0x0102_0304, 3));
}

#[test]
fn ipv6_extension_headers_are_followed_to_a_depth() {
    let hop = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
    let authentication = |next: u8| [next, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let chain = [&hop(60)[..], &hop(51), &authentication(protocol::UDP), &udp(9)].concat();
    let found = parsed(&ethernet(0x86dd, &ipv6(0, &chain)));
    assert_eq!((found.key.protocol, found.key.destination_port, found.payload_bytes), (protocol::UDP, 53, 9));
    let deep = [[hop(60); 7].concat(), udp(9)].concat();
    assert_eq!(check(&ethernet(0x86dd, &ipv6(60, &deep)), LinkType::Ethernet), Err(Skip::HeaderDepth));
}

#[test]
fn fragments_of_both_families() {
    let first = parsed(&ethernet(0x0800, &ipv4(protocol::UDP, 0x2000, &udp(64))));
    assert_eq!((first.fragment, first.fragment_id, first.key.destination_port), (Fragment::First, 0xbeef, 53));
    let later = parsed(&ethernet(0x0800, &ipv4(protocol::UDP, 9, &[1; 40])));
    assert_eq!((later.fragment, later.key.destination_port, later.payload_bytes), (Fragment::Later, 0, 40));
    let header = |offset_and_more: u16| {
        [&[protocol::UDP, 0][..], &offset_and_more.to_be_bytes(), &77_u32.to_be_bytes()].concat()
    };
    let first = parsed(&ethernet(0x86dd, &ipv6(44, &[header(1), udp(64)].concat())));
    assert_eq!((first.fragment, first.fragment_id, first.key.destination_port), (Fragment::First, 77, 53));
    let later = parsed(&ethernet(0x86dd, &ipv6(44, &[header(64), vec![1; 40]].concat())));
    assert_eq!((later.fragment, later.fragment_id, later.payload_bytes), (Fragment::Later, 77, 40));
}

#[test]
fn the_sender_of_an_echo_request_is_the_client() {
    let request = parsed(&ethernet(0x0800, &ipv4(protocol::ICMP, 0, &[8, 0, 0, 0, 0, 1, 0, 1, 9, 9])));
    assert_eq!((request.key.source_port, request.key.destination_port, request.payload_bytes), (0, 8, 2));
    let reply = parsed(&ethernet(0x86dd, &ipv6(protocol::ICMPV6, &[129, 0, 0, 0, 0, 1, 0, 1])));
    assert_eq!((reply.key.source_port, reply.key.destination_port), (128, 0));
}

#[test]
fn an_icmp_error_belongs_to_the_flow_it_quotes_turned_round() {
    let unreachable = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &ipv4(protocol::UDP, 0, &udp(0))].concat();
    let error = parsed(&ethernet(0x0800, &ipv4(protocol::ICMP, 0, &unreachable)));
    assert!(error.icmp_error);
    assert_eq!((error.key.source, error.key.destination), (mapped(B), mapped(A)));
    assert_eq!((error.key.source_port, error.key.destination_port), (53, 4000));
    assert_eq!(error.key.protocol, protocol::UDP);
    let too_big = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &ipv6(protocol::TCP, &tcp(tcp_flags::ACK, 5, 0))].concat();
    let error = parsed(&ethernet(0x86dd, &ipv6(protocol::ICMPV6, &too_big)));
    assert_eq!((error.key.source, error.key.destination_port, error.key.protocol), (B6, 40_000, protocol::TCP));
}

#[test]
fn link_chatter_belongs_to_no_flow() {
    let arp = ethernet(0x0806, &[0; 28]);
    let solicitation = ethernet(0x86dd, &ipv6(protocol::ICMPV6, &[135, 0, 0, 0, 0, 0, 0, 0]));
    let igmp = ethernet(0x0800, &ipv4(protocol::IGMP, 0, &[0; 8]));
    for frame in [arp, solicitation, igmp] {
        assert_eq!(check(&frame, LinkType::Ethernet), Err(Skip::LinkControl));
    }
}

#[test]
fn sctp_and_unknown_protocols() {
    let sctp = [&2905_u16.to_be_bytes()[..], &38412_u16.to_be_bytes(), &[0; 8], &[5; 16]].concat();
    let parsed_sctp = parsed(&ethernet(0x0800, &ipv4(protocol::SCTP, 0, &sctp)));
    assert_eq!((parsed_sctp.key.destination_port, parsed_sctp.payload_bytes), (38412, 16));
    let gre = parsed(&ethernet(0x0800, &ipv4(47, 0, &[0; 24])));
    assert_eq!((gre.key.destination_port, gre.payload_bytes), (0, 24));
}

#[test]
fn whatever_is_cut_short_or_bent_is_malformed_and_never_panics() {
    let frames = [
        ethernet(0x0800, &ipv4(protocol::TCP, 0, &tcp(tcp_flags::ACK, 5, 0))),
        ethernet(0x86dd, &ipv6(protocol::TCP, &tcp(tcp_flags::ACK, 5, 0))),
        ethernet(0x0800, &ipv4(protocol::ICMP, 0, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &ipv4(17, 0, &udp(0))].concat())),
    ];
    for frame in frames {
        for length in 0..frame.len() - 8 {
            assert_eq!(check(&frame[..length], LinkType::Ethernet), Err(Skip::Malformed), "{length} bytes");
        }
        let mut random = 0x9e37_79b9_u32;
        for _ in 0..20_000 {
            let mut bent = frame.clone();
            for _ in 0..3 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (random >> 8) as usize % bent.len();
                bent[at] = random as u8;
            }
            if let Ok(parsed) = check(&bent, LinkType::Ethernet) {
                assert!(parsed.l3_bytes as usize <= bent.len());
            }
            let _ = check(&bent, LinkType::RawIp);
        }
    }
}
