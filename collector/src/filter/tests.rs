//! The language: what parses, what it prints, what it matches.

use std::sync::Arc;

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest,
};

use super::{Filter, KEYS, Key, MAX_BYTES, MAX_TERMS, Noise, noise};
use crate::view::{DnsRow, EdgeRow, Phase, QuestionRow, Snapshot, VertexRow, View};

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> (usize, String) {
    let error = text.parse::<Filter>().expect_err(text);
    (error.column, error.to_string())
}

fn vertex(kind: &str, namespace: Option<&str>, workload: Option<&str>, name: &str) -> VertexRow {
    let place = namespace.map_or_else(String::new, |namespace| format!("{namespace}/"));
    VertexRow {
        id: format!("{kind}:{place}{name}").into(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        workload: workload.map(str::to_owned),
        workload_kind: None,
        node: (kind == "pod").then(|| "n1".to_owned()),
        addresses: vec!["10.0.0.9".to_owned()],
        phase: Phase::Running,
        ready: true,
        host_network: false,
        created_ms: None,
        dns_names: Vec::new(),
    }
}

fn edge(client: &VertexRow, server: &VertexRow, port: u16, protocol: &str, lost: u64) -> EdgeRow {
    let text = include_str!("../../../ui/fixtures/snapshot.json");
    let snapshot: Snapshot = serde_json::from_str(text).expect("the fixture");
    let mut edge = EdgeRow::clone(&snapshot.edges[0]);
    edge.id = format!("{}>{}:{port}/{protocol}", client.id, server.id).into();
    (edge.client, edge.server) = (Arc::clone(&client.id), Arc::clone(&server.id));
    (edge.port, edge.protocol, edge.own) = (port, protocol.to_owned(), false);
    (edge.drops, edge.dns) = (Vec::new(), None);
    edge.state = crate::view::EdgeState::Live;
    edge.loss.status = crate::view::LossStatus::Measured;
    (edge.loss.forward_lost, edge.loss.reverse_lost) = (Some(lost), Some(0));
    (edge.loss.forward_ratio, edge.loss.reverse_ratio) = (Some(if lost > 0 { 0.1 } else { 0.0 }), Some(0.0));
    edge
}

struct World {
    web: VertexRow,
    cart: VertexRow,
    dns: VertexRow,
    far: VertexRow,
}

impl World {
    fn new() -> Self {
        Self {
            web: vertex("pod", Some("shop"), Some("web"), "web-7f9c-x2k"),
            cart: vertex("pod", Some("store"), Some("cart"), "cart-0"),
            dns: vertex("pod", Some("kube-system"), Some("coredns"), "coredns-1"),
            far: vertex("external", None, None, "api.github.com"),
        }
    }

    /// The names of what web asked for, and of the address behind the far end.
    fn named() -> Self {
        let mut world = Self::new();
        world.far.dns_names.push("lb-140.github.com".to_owned());
        world
    }

    /// Web asks cart, losing some; web asks the name service; cart asks the world.
    fn edges(&self) -> [(EdgeRow, [&VertexRow; 2]); 3] {
        [
            (edge(&self.web, &self.cart, 8080, "tcp", 3), [&self.web, &self.cart]),
            (asked(edge(&self.web, &self.dns, 53, "udp", 0)), [&self.web, &self.dns]),
            (edge(&self.cart, &self.far, 443, "tcp", 0), [&self.cart, &self.far]),
        ]
    }

    fn shown(&self, text: &str) -> Vec<usize> {
        let filter = filter(text);
        let edges = self.edges();
        (0..edges.len()).filter(|index| filter.edge(&edges[*index].0, edges[*index].1)).collect()
    }
}

fn asked(edge: EdgeRow) -> EdgeRow {
    let question = QuestionRow {
        name: "cart.store.svc.cluster.local".to_owned(),
        r#type: "A".to_owned(),
        queries: 1,
        failures: 0,
        last_rcode: "none".to_owned(),
        last_ms: 0,
    };
    EdgeRow { dns: Some(DnsRow { questions: vec![question], ..DnsRow::default() }), ..edge }
}

#[test]
fn every_term_of_the_language() {
    let world = World::named();
    for (text, shown) in [
        ("", vec![0, 1, 2]),
        ("ns:shop", vec![0, 1]),
        ("NS:SHOP", vec![0, 1]),
        ("ns:sho", vec![]),
        ("ns:s*", vec![0, 1, 2]),
        ("workload:web", vec![0, 1]),
        ("workload:store/cart", vec![0, 2]),
        ("pod:web-*", vec![0, 1]),
        ("pod:web-7f9c-x2?", vec![0, 1]),
        ("pod:shop/web-*", vec![0, 1]),
        ("pod:\"web-*\"", vec![]),
        ("node:n1", vec![0, 1, 2]),
        ("node:n2", vec![]),
        ("port:8080", vec![0]),
        ("port:50-500", vec![1, 2]),
        ("proto:udp", vec![1]),
        ("proto:6", vec![]),
        ("name:*.github.com", vec![2]),
        ("name:10.0.0.9", vec![0, 1, 2]),
        ("kind:external", vec![2]),
        ("verdict:dropped", vec![0]),
        ("verdict:forwarded", vec![1, 2]),
        ("layer:dns", vec![1]),
        ("layer:l4", vec![0, 2]),
        ("github", vec![2]),
        ("7f9c", vec![0, 1]),
        ("*thub.com", vec![2]),
        ("\"api.git\"", vec![2]),
        ("443", vec![2]),
        (":443", vec![2]),
        ("443/tcp", vec![2]),
        ("443/udp", vec![]),
        ("udp", vec![1]),
        ("name:cart.store.svc.*", vec![1]),
        ("store.svc", vec![1]),
        ("name:lb-*.github.com", vec![2]),
    ] {
        assert_eq!(world.shown(text), shown, "{text}");
    }
}

#[test]
fn one_key_is_any_and_different_keys_are_all() {
    let world = World::new();
    assert_eq!(world.shown("port:53 port:443"), [1, 2]);
    assert_eq!(world.shown("ns:shop port:53"), [1]);
    assert_eq!(world.shown("ns:shop port:443"), [0; 0]);
    // One end must be all that describes an end; names and words may be at either.
    assert_eq!(world.shown("ns:shop workload:cart"), [0; 0]);
    assert_eq!(world.shown("ns:store workload:cart"), [0, 2]);
    assert_eq!(world.shown("ns:store name:*.github.com"), [2]);
    assert_eq!(world.shown("web cart-0"), [0]);
    assert_eq!(world.shown("-ns:kube-system"), [0, 2]);
    assert_eq!(world.shown("!port:443 -proto:udp"), [0]);
    assert_eq!(world.shown("ns:s* -verdict:dropped -github"), [1]);
}

#[test]
fn a_vertex_passes_by_itself_or_by_its_edges() {
    let world = World::new();
    assert!(filter("ns:shop").vertex(&world.web) && !filter("ns:shop").vertex(&world.cart));
    assert!(filter("-ns:kube-system").vertex(&world.cart) && !filter("-ns:kube-system").vertex(&world.dns));
    // What only an edge can answer takes no vertex along.
    assert!(!filter("ns:shop port:443").vertex(&world.web));
    assert!(filter("-port:443").vertex(&world.web));
}

#[test]
fn noise_is_told_apart_and_never_unhealthy() {
    let World { web, cart, dns, far } = World::new();
    let kind = |client, server, port, protocol| noise(&edge(client, server, port, protocol, 0), [client, server]);
    assert_eq!(kind(&web, &cart, 80, "tcp"), None);
    assert_eq!(kind(&web, &dns, 53, "udp"), Some(Noise::Dns));
    assert_eq!(noise(&edge(&web, &dns, 53, "udp", 1), [&web, &dns]), None, "it loses packets");
    assert_eq!(kind(&web, &far, 53, "udp"), None, "a name service of the user's own");
    assert_eq!(kind(&web, &dns, 9153, "tcp"), Some(Noise::KubeSystem));
    let prometheus = vertex("pod", Some("monitoring"), Some("prometheus-k8s"), "prometheus-k8s-0");
    assert_eq!(kind(&prometheus, &web, 9090, "tcp"), Some(Noise::Scrape));
    let here = vertex("node", None, None, "n1");
    let there = vertex("node", None, None, "n2");
    assert_eq!(kind(&here, &web, 8080, "tcp"), Some(Noise::Probe));
    assert_eq!(kind(&there, &web, 8080, "tcp"), None);
    let own = EdgeRow { own: true, ..edge(&web, &cart, 80, "tcp", 0) };
    assert_eq!(noise(&own, [&web, &cart]), Some(Noise::Own));
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    for (text, column, words) in [
        ("ns:shop foo:bar", 9, "unknown key foo; hint: keys are ns, workload, pod"),
        ("port:https", 1, "no port: https; hint: port:443"),
        ("port:9-1", 1, "hint: port:1-9"),
        ("proto:tpc", 1, "one of tcp, udp"),
        ("verdict:lost", 1, "one of dropped, forwarded"),
        ("a layer:l7", 3, "one of l4, dns"),
        ("ns:", 1, "ns: has no value; hint: write ns:something"),
        ("a -", 3, "nothing to look for"),
        ("a \"b", 3, "a quote that does not end"),
        ("ns:\"a\"b", 7, "text after a quote"),
        ("ns:a\"b\"", 5, "a quote inside of a word"),
        ("\"\"", 1, "nothing to look for"),
    ] {
        let (at, said) = refused(text);
        assert_eq!(at, column, "{text}: {said}");
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn the_bounds_hold() {
    assert!("a".repeat(MAX_BYTES).parse::<Filter>().is_ok());
    assert!(refused(&"a".repeat(MAX_BYTES + 1)).1.contains("at most 1024"));
    let words = |count: usize| (0..count).map(|index| format!("w{index}")).collect::<Vec<_>>().join(" ");
    assert!(words(MAX_TERMS).parse::<Filter>().is_ok());
    assert!(refused(&words(MAX_TERMS + 1)).1.contains("at most 32"));
}

#[test]
fn the_same_wish_is_the_same_filter() {
    assert_eq!(filter("port:443  ns:shop"), filter("ns:Shop port:443 ns:shop"));
    assert_eq!(filter("!a").to_string(), "-a");
    assert_eq!(filter("2001:db8::17").to_string(), "2001:db8::17");
    assert!(filter("  ").is_empty());
}

#[test]
fn a_view_answers_what_it_can() {
    assert!(filter("pod:a ns:b").fits(View::Pod).is_ok());
    let error = filter("ns:b pod:a").fits(View::Namespace).expect_err("no pods there");
    assert!(error.to_string().contains("pod: cannot be told in the view by namespace; hint: ask for view=pod"));
    assert!(filter("ns:b workload:a").fits(View::Workload).is_ok());
}

/// Text with all that the lexer looks at.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(KEYS.to_vec()).prop_map(|key: Key| format!("{}:", key.word())),
        6 => "[a-z0-9*?./:-]{0,8}",
        2 => prop::sample::select(vec!["\"", "\\", "-", "!", ":", " ", "\t", "\u{2003}", "é", "tcp", "443", "dns"])
            .prop_map(str::to_owned),
        2 => Just(" ".to_owned()),
        1 => any::<String>().prop_map(|text| text.chars().take(6).collect()),
    ];
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text is a filter or an error that points into it; what a filter prints is the same filter.
    #[test]
    fn any_text_parses_or_says_where(text in text()) {
        match text.parse::<Filter>() {
            Ok(filter) => prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter)),
            Err(error) => {
                prop_assert!(error.column >= 1 && error.column <= text.chars().count().max(1), "{}", error);
                prop_assert!(!error.hint.is_empty());
            }
        }
    }

    /// A negated term shows what the term does not.
    #[test]
    fn negation_is_the_rest(word in "[a-z0-9*.]{1,5}") {
        let world = World::new();
        for (edge, ends) in world.edges() {
            let (is, is_not) = (filter(&word), filter(&format!("-{word}")));
            prop_assert_ne!(is.edge(&edge, ends), is_not.edge(&edge, ends));
        }
    }
}
