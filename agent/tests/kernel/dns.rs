//! DNS as the agents report it is what clients and servers did: on each edge, on both sides, and nowhere else.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use agent::clock::monotonic_ns;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME},
    },
};
use lab::{AgentOptions, Lab, LabSpec, Offloads, Pod, testing::lab_or_skip, wait_for};
use nix::sys::signal::Signal;
use wire::v1::{Dns, LossCause, Side};

use crate::reports::Receiver;

/// How long the server thinks about a name that begins with `slow`.
const THINKS: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(5);

/// What one client and one server did on one edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Did {
    queries: u64,
    answers: u64,
    timeouts: u64,
    rcodes: BTreeMap<u32, u64>,
}

/// The ledger, by client and server address, and the nanoseconds that the server took on each edge.
#[derive(Default)]
struct Ledger {
    did: BTreeMap<(IpAddr, IpAddr), Did>,
    thought: BTreeMap<(IpAddr, IpAddr), u64>,
}

type Shared = Arc<Mutex<Ledger>>;

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn query(id: u16, asked: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(asked), RecordType::A));
    message.to_vec().expect("it encodes")
}

/// What the server answers; `None` where it keeps silent.
fn reply(asked: &[u8]) -> Option<(Vec<u8>, ResponseCode)> {
    let asked = Message::from_vec(asked).expect("a query");
    let query = asked.queries.first().expect("a question");
    let first = query.name.to_ascii().split('.').next().unwrap_or_default().to_owned();
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    answer.add_query(query.clone());
    match first.as_str() {
        "silent" => return None,
        "missing" => answer.metadata.response_code = ResponseCode::NXDomain,
        "slow" => thread::sleep(THINKS),
        _ => {
            let end = name("edge.cdn.example.");
            answer.add_answer(Record::from_rdata(query.name.clone(), 60, RData::CNAME(CNAME(end.clone()))));
            answer.add_answer(Record::from_rdata(end, 30, RData::A(A([192, 0, 2, 10].into()))));
        }
    }
    let rcode = answer.metadata.response_code;
    Some((answer.to_vec().expect("it encodes"), rcode))
}

/// Serves a pod's address until the process ends.
fn serve(pod: &Pod, ipv6: bool, ledger: &Shared) {
    let (at, ledger) = (pod.address(ipv6), Arc::clone(ledger));
    let socket = pod.netns().run(|| UdpSocket::bind((at, 53))).expect("the namespace").expect("port 53");
    thread::spawn(move || {
        let mut buffer = [0; 2_048];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).expect("a datagram");
            let since_ns = monotonic_ns();
            let Some((answer, rcode)) = reply(&buffer[..length]) else { continue };
            let thought = monotonic_ns() - since_ns;
            let mut ledger = ledger.lock().expect("whole");
            let edge = (client.ip(), at);
            let did = ledger.did.entry(edge).or_default();
            did.answers += 1;
            *did.rcodes.entry(u32::from(u16::from(rcode))).or_default() += 1;
            *ledger.thought.entry(edge).or_default() += thought;
            socket.send_to(&answer, client).expect("an answer leaves");
        }
    });
}

/// Asks for names, one after the other; gives the nanoseconds that the answers took, as the client saw it.
fn ask(pod: &Pod, server: IpAddr, names: &[&str], ledger: &Shared) -> u64 {
    let open = || {
        let socket = UdpSocket::bind((pod.address(server.is_ipv6()), 0))?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.connect((server, 53))?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = pod.netns().run(open).expect("the namespace").expect("a socket");
    let mut took = 0;
    for (id, asked) in names.iter().enumerate() {
        {
            let mut ledger = ledger.lock().expect("whole");
            let did = ledger.did.entry((pod.address(server.is_ipv6()), server)).or_default();
            did.queries += 1;
            did.timeouts += u64::from(asked.starts_with("silent"));
        }
        let since_ns = monotonic_ns();
        socket.send(&query(id as u16, asked)).expect("a query leaves");
        if !asked.starts_with("silent") {
            socket.recv(&mut [0; 2_048]).expect("an answer comes");
            took += monotonic_ns() - since_ns;
        }
    }
    took
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An edge's DNS as one side told it, by protocol.
fn told(receiver: &Receiver, client: IpAddr, server: IpAddr, side: Side, protocol: u32) -> Option<Dns> {
    let (client, server) = (octets(client), octets(server));
    let rows = receiver.rows().into_iter().map(|(_, row)| row).filter(|row| {
        row.client == client && row.server == server && row.side == i32::from(side) && row.protocol == protocol
    });
    rows.filter(|row| row.server_port == 53).find_map(|row| row.dns)
}

fn did(dns: &Dns) -> Did {
    let rcodes = dns.rcodes.iter().map(|row| (row.rcode, row.count)).collect();
    Did { queries: dns.queries, answers: dns.answers, timeouts: dns.timeouts, rcodes }
}

fn differences(receiver: &Receiver, ledger: &Ledger) -> Vec<String> {
    let mut found = Vec::new();
    for ((client, server), sent) in &ledger.did {
        for side in [Side::Client, Side::Server] {
            let seen = told(receiver, *client, *server, side, 17).map(|dns| did(&dns)).unwrap_or_default();
            if seen != *sent {
                found.push(format!("{client} > {server} {side:?}: did {sent:?}, told {seen:?}"));
            }
        }
    }
    let ours = |row: &wire::v1::Edge| {
        let ends = |(client, server): &(IpAddr, IpAddr)| octets(*client) == row.client && octets(*server) == row.server;
        ledger.did.keys().any(ends)
    };
    let others = receiver.rows().into_iter().filter(|(_, row)| row.dns.is_some() && !ours(row));
    found.extend(others.map(|(node, row)| format!("{node}: nobody asked on {row:?}")));
    found
}

fn equal(receiver: &Receiver, ledger: &Shared) {
    let mut left = Vec::new();
    let same = wait_for("DNS that equals the ledger", Duration::from_secs(20), || {
        left = differences(receiver, &ledger.lock().expect("whole"));
        left.is_empty().then_some(())
    });
    assert!(same.is_ok(), "{} differences:\n{}", left.len(), left.join("\n"));
}

fn start(arguments: &[&str]) -> Option<(Lab, Receiver, Vec<lab::Agent>)> {
    let lab = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up")?;
    let receiver = Receiver::listen(&lab.reports_socket());
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let agents = lab.start_agents(&AgentOptions { arguments, ..AgentOptions::default() }).expect("agents");
    Some((lab, receiver, agents))
}

#[test]
fn every_query_answer_and_fault_is_on_its_edge_and_nowhere_else() {
    let Some((lab, receiver, _agents)) = start(&[]) else { return };
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (ledger, server) = (Shared::default(), pod("p2-0"));
    let mut took = BTreeMap::new();
    for ipv6 in [false, true] {
        serve(&server, ipv6, &ledger);
        let at = server.address(ipv6);
        // From another node, sound; from another node, with every fault; from the same node.
        let asked: [(&str, &[&str]); 3] = [
            ("p1-0", &["www.shop.example."; 30]),
            ("p3-0", &["missing.shop.example.", "silent.example.", "missing.shop.example.", "slow.example."]),
            ("p2-1", &["www.news.example.", "slow.example."]),
        ];
        for (client, names) in asked {
            let client = pod(client);
            took.insert((client.address(ipv6), at), ask(&client, at, names, &ledger));
        }
    }
    equal(&receiver, &ledger);
    let held = ledger.lock().expect("whole");
    for ((client, server), thought) in &held.thought {
        let latency = told(&receiver, *client, *server, Side::Client, 17).and_then(|dns| dns.latency);
        let latency = latency.expect("answers were matched");
        let answers = held.did[&(*client, *server)].answers;
        assert_eq!(latency.buckets.iter().sum::<u64>(), answers, "{client}: each answer found its query");
        let (least, most) = (thought / 1_000, took[&(*client, *server)] / 1_000);
        let sum = latency.sum_us + answers;
        assert!((least..=most + answers).contains(&sum), "{client}: {least} <= {sum} <= {most}");
    }
    let faulty = told(&receiver, pod("p3-0").v4(), server.v4(), Side::Client, 17).expect("it asked");
    let failures = |name: &str| faulty.questions.iter().find(|asked| asked.name == name).map(|asked| asked.failures);
    assert_eq!((failures("missing.shop.example"), failures("silent.example")), (Some(2), Some(1)));
    assert_eq!(failures("slow.example"), Some(0));
    // The names that clients were told, by their own nodes alone: the head of the chain, not its links.
    let names = receiver.with(|heard| heard.names.clone());
    let mut names: Vec<_> =
        names.into_iter().map(|(node, told)| (node, told.client, told.name, told.address, told.ttl_s)).collect();
    names.sort();
    names.dedup();
    let row = |node: &str, client: IpAddr, name: &str| {
        (node.to_owned(), octets(client), name.to_owned(), vec![192, 0, 2, 10], 30)
    };
    let mut wanted = Vec::new();
    for ipv6 in [false, true] {
        wanted.push(row("n1", pod("p1-0").address(ipv6), "www.shop.example"));
        wanted.push(row("n2", pod("p2-1").address(ipv6), "www.news.example"));
    }
    wanted.sort();
    assert_eq!(names, wanted);
}

#[test]
fn over_tcp_what_stands_in_one_segment_counts_and_the_rest_is_unparsed() {
    let Some((lab, receiver, _agents)) = start(&[]) else { return };
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let at: SocketAddr = (server.v4(), 53).into();
    let listener = server.netns().run(|| TcpListener::bind(at)).expect("the namespace").expect("port 53");
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let framed = |body: &[u8]| [&(body.len() as u16).to_be_bytes()[..], body].concat();
        for _ in 0..2 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut body).expect("a query");
            stream.write_all(&framed(&reply(&body).expect("an answer").0)).expect("an answer leaves");
        }
    });
    let talk = || {
        let mut stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        let asked = query(7, "www.shop.example.");
        let length = (asked.len() as u16).to_be_bytes();
        let mut answer = [0; 2_048];
        stream.write_all(&[&length[..], &asked].concat())?;
        let first = stream.read(&mut answer)?;
        // Length and message in segments of their own.
        stream.write_all(&length)?;
        thread::sleep(Duration::from_millis(50));
        stream.write_all(&asked)?;
        Ok::<_, std::io::Error>(first.min(stream.read(&mut answer)?))
    };
    let least = client.netns().run(talk).expect("the namespace").expect("two answers");
    assert!(least > 0, "the server hung up");
    serving.join().expect("two queries");
    for side in [Side::Client, Side::Server] {
        let counts = || {
            let dns = told(&receiver, client.v4(), server.v4(), side, 6)?;
            Some((dns.queries, dns.answers, dns.unparsed, dns.latency?.buckets.iter().sum::<u64>()))
        };
        let same = wait_for("counts", Duration::from_secs(10), || (counts() == Some((1, 2, 2, 1))).then_some(()));
        assert!(same.is_ok(), "{side:?}: {:?}", counts());
    }
}

#[test]
fn names_stay_on_the_node_as_far_as_asked() {
    for (mode, question, named) in [("suffix", Some("shop.example"), Some("shop.example")), ("off", None, None)] {
        let Some((lab, receiver, _agents)) = start(&["--dns-names", mode]) else { return };
        let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
        let ledger = Shared::default();
        serve(&server, false, &ledger);
        ask(&client, server.v4(), &["www.shop.example.", "secret.shop.example."], &ledger);
        equal(&receiver, &ledger);
        let dns = told(&receiver, client.v4(), server.v4(), Side::Client, 17).expect("it asked");
        let questions: Vec<_> = dns.questions.iter().map(|asked| (asked.name.as_str(), asked.queries)).collect();
        assert_eq!(questions, question.map(|name| (name, 2)).into_iter().collect::<Vec<_>>());
        let mut names: Vec<_> = receiver.with(|heard| heard.names.iter().map(|(_, told)| told.name.clone()).collect());
        names.dedup();
        assert_eq!(names, named.into_iter().collect::<Vec<_>>());
    }
}

/// A stopped agent reads nothing: the ring fills, and what it had no room for is counted.
#[test]
fn a_full_ring_loses_messages_and_says_how_many() {
    const SENT: u64 = 10_000;
    let Some((lab, receiver, agents)) = start(&[]) else { return };
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let open = |at: SocketAddr| move || UdpSocket::bind(at);
    let _sink = server.netns().run(open((server.v4(), 53).into())).expect("the namespace").expect("port 53");
    let socket = client.netns().run(open((client.v4(), 0).into())).expect("the namespace").expect("a socket");
    let agent = &agents[0];
    agent.signal(Signal::SIGSTOP);
    let asked = query(7, "flood.example.");
    for _ in 0..SENT {
        socket.send_to(&asked, (server.v4(), 53)).expect("a query leaves");
    }
    agent.signal(Signal::SIGCONT);
    let counted = || {
        let dns = told(&receiver, client.v4(), server.v4(), Side::Client, 17).unwrap_or_default();
        let losses = receiver.latest("n1").map(|report| report.losses).unwrap_or_default();
        let full = losses.iter().find(|loss| loss.cause == i32::from(LossCause::DnsRingFull));
        (dns.queries, full.map_or(0, |loss| loss.count))
    };
    let all = wait_for("all queries", Duration::from_secs(20), || {
        let (seen, lost) = counted();
        (seen + lost == SENT).then_some((seen, lost))
    });
    let (seen, lost) = all.unwrap_or_else(|_| panic!("seen and lost: {:?} of {SENT}", counted()));
    println!("{seen} seen, {lost} lost");
    // The ring has room for some 3,000 of them.
    assert!(lost > 0 && seen > 2_500, "{seen} seen, {lost} lost");
}
