//! Who is in the shop, and who talks to whom, how often. Plain data.

use std::net::Ipv4Addr;

use crate::control::{Call, Family, Load, Reply};
use crate::spec::{Owner, PodSpec, ServiceSpec};

/// The deployment that is scaled.
pub const SCALED: &str = "cart";
/// How many pods it has at first.
pub(super) const SCALED_AT_FIRST: usize = 2;
/// The workload whose container crashes again and again.
pub(super) const CRASHING: &str = "recommendations";
/// The workload that answers DNS.
pub(super) const DNS: &str = "kube-dns";
/// Every pod answers scrapes here.
pub(super) const METRICS_PORT: u16 = 9090;
/// Name under which the scraper finds all pods.
pub(super) const SCRAPED: &str = "scraped";

/// What a port speaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speaks {
    /// HTTP/1.1 with answers of this size.
    Http(u32),
    /// Transfers over TCP.
    Tcp,
    /// Datagrams.
    Udp(Reply),
}

/// A workload of the shop.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) namespace: &'static str,
    pub(super) owner: Owner,
    pub(super) nodes: &'static [&'static str],
    pub(super) ports: &'static [(u16, Speaks)],
}

impl Workload {
    pub(super) fn name(&self) -> &str {
        self.owner.name()
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = PodSpec> {
        self.nodes.iter().enumerate().map(|(index, node)| PodSpec::new(self.namespace, self.owner.clone(), index, node))
    }

    /// Its name for the resolver.
    pub(super) fn domain(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name(), self.namespace)
    }
}

/// One of the shop's conversations: every pod of `from` has it.
#[derive(Debug, Clone)]
pub(super) struct Talk {
    pub(super) from: &'static str,
    pub(super) load: Load,
}

/// All workloads; the DNS server first, so that its address is known from the start.
pub(super) fn workloads() -> Vec<Workload> {
    let deployment = |name: &str| Owner::Deployment(name.to_owned());
    let set = |name: &str| Owner::StatefulSet(name.to_owned());
    let of = |namespace, owner, nodes, ports| Workload { namespace, owner, nodes, ports };
    vec![
        of("kube-system", deployment(DNS), &["n1"], &[]),
        of("monitoring", set("prometheus"), &["n3"], &[]),
        of("monitoring", deployment("statsd"), &["n2"], &[(8125, Speaks::Udp(Reply::Sink))]),
        of("monitoring", deployment("blackbox"), &["n3"], &[]),
        of("shop", deployment("web"), &["n1", "n2", "n3"], &[(8080, Speaks::Http(9_000))]),
        of("shop", deployment(SCALED), &["n2", "n3"], &[(8080, Speaks::Http(1_200))]),
        of(
            "shop",
            deployment("catalog"),
            &["n1", "n2"],
            &[(8080, Speaks::Http(4_000)), (5000, Speaks::Udp(Reply::Sink))],
        ),
        of("shop", deployment("search"), &["n3"], &[(9200, Speaks::Http(2_500))]),
        of("shop", deployment("checkout"), &["n1", "n3"], &[(8080, Speaks::Http(800))]),
        of("shop", deployment("payments"), &["n1"], &[(8080, Speaks::Http(300))]),
        of("shop", set("ledger"), &["n2"], &[(8443, Speaks::Udp(Reply::Bytes(48)))]),
        of("shop", deployment("orders"), &["n2", "n3"], &[(8080, Speaks::Http(600))]),
        of("shop", set("postgres"), &["n3"], &[(5432, Speaks::Tcp)]),
        of("shop", set("redis"), &["n1"], &[(6379, Speaks::Tcp)]),
        of("shop", deployment("pricing"), &["n2"], &[]),
        of("shop", deployment("mailer"), &["n3"], &[(8080, Speaks::Http(100))]),
        of("shop", deployment(CRASHING), &["n2"], &[]),
    ]
}

/// What every pod of the scaled deployment listens on.
pub(super) fn ports_of(workload: &str) -> &'static [(u16, Speaks)] {
    workloads().into_iter().find(|known| known.name() == workload).map_or(&[], |known| known.ports)
}

/// All conversations. Rates are per pod.
pub(super) fn talks() -> Vec<Talk> {
    use Family::{V4, V6};
    let talk = |from, to: &str, port, call, per_second, swing, family| Talk {
        from,
        load: Load { to: to.to_owned(), port, call, per_second, swing, family },
    };
    let http = |path: &str, body| Call::Http { path: path.to_owned(), body };
    vec![
        talk("web", "catalog", 8080, http("/products", 0), 30.0, 0.5, V4),
        talk("web", "cart", 8080, http("/cart", 240), 25.0, 0.4, V6),
        talk("web", "checkout", 8080, http("/checkout", 700), 4.0, 0.6, V4),
        talk("catalog", "search", 9200, http("/search?q=lamp", 0), 12.0, 0.5, V4),
        talk("catalog", "postgres", 5432, Call::Tcp { send: 180, receive: 6_000 }, 5.0, 0.3, V4),
        talk("cart", "redis", 6379, Call::Tcp { send: 64, receive: 480 }, 8.0, 0.5, V4),
        talk("checkout", "payments", 8080, http("/pay", 500), 5.0, 0.5, V6),
        talk("checkout", "orders", 8080, http("/orders", 900), 4.0, 0.5, V4),
        talk("payments", "ledger", 8443, Call::Udp { payload: 180 }, 220.0, 0.2, V4),
        talk("payments", EXTERNAL_ALIAS.0, 443, Call::Tcp { send: 900, receive: 1_400 }, 2.0, 0.5, V4),
        talk("orders", "postgres", 5432, Call::Tcp { send: 700, receive: 200 }, 6.0, 0.4, V6),
        talk("orders", "mailer", 8080, http("/receipt", 1_500), 1.0, 0.3, V4),
        talk("mailer", "smtp.mail.example", 25, Call::Tcp { send: 2_500, receive: 90 }, 1.0, 0.3, V6),
        talk("pricing", "catalog", 5000, Call::Udp { payload: 96 }, 1_500.0, 0.3, V4),
        talk("web", "statsd.monitoring", 8125, Call::Udp { payload: 60 }, 20.0, 0.5, V4),
        talk("cart", "statsd.monitoring", 8125, Call::Udp { payload: 60 }, 10.0, 0.5, V4),
        talk("orders", "statsd.monitoring", 8125, Call::Udp { payload: 60 }, 1.0, 0.0, V6),
        talk("prometheus", SCRAPED, METRICS_PORT, http("/metrics", 0), 5.0, 0.0, V6),
        talk("blackbox", "web.shop", 8080, Call::Ping { payload: 56 }, 2.0, 0.0, V4),
        talk("blackbox", "redis.shop", 6379, Call::Ping { payload: 56 }, 1.0, 0.0, V6),
    ]
}

/// Names outside the cluster, all served by the external host.
pub(super) const EXTERNAL_NAMES: [&str; 2] = ["api.cards.example", "smtp.mail.example"];
/// A name that is only an alias of another, as at most of the world's larger sites.
pub(super) const EXTERNAL_ALIAS: (&str, &str) = ("pay.cards.example", "api.cards.example");
/// Ports on which the external host takes transfers.
pub(super) const EXTERNAL_PORTS: [u16; 2] = [443, 25];

/// The services: headless ones for the shop (their names resolve to pods), and the two every cluster has.
pub(super) fn services() -> Vec<ServiceSpec> {
    let service = |name: &str, namespace: &str, workload: &str, port, cluster_ip| ServiceSpec {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        workload: workload.to_owned(),
        port,
        cluster_ip,
    };
    let mut services = vec![
        service("kubernetes", "default", "kubernetes", 443, Some(Ipv4Addr::new(10, 96, 0, 1))),
        service("kube-dns", "kube-system", DNS, 53, Some(Ipv4Addr::new(10, 96, 0, 10))),
    ];
    for workload in workloads() {
        if let Some((port, _)) = workload.ports.first() {
            services.push(service(workload.name(), workload.namespace, workload.name(), *port, None));
        }
    }
    services
}

/// A pod by its workload and number.
type Numbered = (&'static str, usize);
/// The links that may be the one that drops: client, server, port. A seed counts through them.
pub(super) const DROPPING: [(Numbered, Numbered, u16); 6] = [
    (("payments", 0), ("ledger", 0), 8443),
    (("pricing", 0), ("catalog", 0), 5000),
    (("web", 0), ("statsd", 0), 8125),
    (("cart", 0), ("statsd", 0), 8125),
    (("pricing", 0), ("catalog", 1), 5000),
    (("web", 2), ("statsd", 0), 8125),
];
/// Who may call a port on which nobody listens: client, server, port.
pub(super) const REFUSED: [(&str, &str, u16); 5] = [
    ("orders", "mailer", 8081),
    ("checkout", "search", 9300),
    ("pricing", "postgres", 5433),
    ("search", "redis", 6380),
    ("mailer", "payments", 8081),
];
/// Who may call an address that nobody answers for: client, port.
pub(super) const SILENT: [(&str, u16); 5] =
    [("mailer", 587), ("payments", 8443), ("checkout", 443), ("search", 443), ("catalog", 5044)];
/// Who may ask for a name that nobody has.
pub(super) const NAMELESS: [(&str, &str); 5] = [
    ("redis", "replica.cache.example"),
    ("statsd", "sink.metrics.example"),
    ("ledger", "vault.bank.example"),
    ("postgres", "backup.store.example"),
    ("search", "index.shop.example"),
];
/// The host-network pod, by node, and whom it calls on another node by its name: workload, port.
pub(super) const HOST: [(&str, &str, u16); 2] = [("n2", "search", 9200), ("n3", "payments", 8080)];
/// The daemon set that it belongs to.
pub(super) const HOST_CLIENT: &str = "log-shipper";
