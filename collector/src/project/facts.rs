//! Rows of what is known beside packets: numbers out of histograms, names for codes, the few that matter of many. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use wire::v1::{Histogram, Point, Sockets};

use super::row::round;
use crate::{
    merge::facts::{Dns, DropKey, Drops, OTHER, Owners},
    names::Names,
    view::{DnsRow, DropRow, HistogramRow, OwnerRow, QuestionRow, RcodeRow, SocketsRow, ViaRow, ms},
};

/// Questions shown, those asked most.
const SHOWN_QUESTIONS: usize = 16;
/// Reasons shown apart, those with most segments; the rest is added up as `other`.
const SHOWN_DROPS: usize = 32;

/// A point's name.
pub(super) fn point_label(point: Point) -> Option<&'static str> {
    match point {
        Point::Pod => Some("pod"),
        Point::Cgroup => Some("cgroup"),
        Point::Tunnel => Some("tunnel"),
        Point::Uplink => Some("uplink"),
        Point::Socket => Some("socket"),
        Point::Unspecified => None,
    }
}

/// A bucket knows how many values it took and not which: they are taken to lie evenly between its ends.
pub(super) fn histogram_row(histogram: Option<&Histogram>) -> HistogramRow {
    let buckets = histogram.map_or(&[][..], |histogram| &histogram.buckets);
    let count = buckets.iter().fold(0u64, |sum, bucket| sum.saturating_add(*bucket));
    if count == 0 {
        return HistogramRow::default();
    }
    let sum_us = histogram.map_or(0, |histogram| histogram.sum_us);
    HistogramRow {
        count,
        mean_us: Some(round(sum_us as f64 / count as f64, 1e1)),
        p50_us: quantile(buckets, count as f64 * 0.5),
        p95_us: quantile(buckets, count as f64 * 0.95),
    }
}

/// The value below which `rank` values lie.
fn quantile(buckets: &[u64], rank: f64) -> Option<f64> {
    let mut below = 0.0;
    for (index, &bucket) in buckets.iter().enumerate() {
        let count = bucket as f64;
        if count > 0.0 && below + count >= rank {
            // The first bucket begins at 0.
            let low = if index == 0 { 0.0 } else { (1u64 << index.min(62)) as f64 };
            let high = (1u64 << (index + 1).min(63)) as f64;
            return Some(round(low + (high - low) * (rank - below) / count, 1e1));
        }
        below += count;
    }
    None
}

pub(super) fn sockets_row(sockets: &Sockets) -> SocketsRow {
    SocketsRow {
        attempts: sockets.attempts,
        established: sockets.established,
        refused: sockets.refused,
        timed_out: sockets.timed_out,
        unreachable: sockets.unreachable,
        failed_otherwise: sockets.failed_otherwise,
        retransmitted: sockets.retransmitted,
        aborted: sockets.aborted,
        rtt: histogram_row(sockets.rtt.as_ref()),
    }
}

pub(super) fn owner_rows(owners: &Owners, names: &Names) -> Vec<OwnerRow> {
    let row = |(key, home): (&crate::merge::facts::OwnerKey, &crate::merge::facts::Home)| OwnerRow {
        process: key.process.to_string(),
        container: home.container.to_string(),
        pod_uid: home.pod_uid.to_string(),
        pod: names.pod_of_uid(&home.pod_uid).cloned(),
    };
    owners.0.iter().map(row).collect()
}

pub(super) fn via_rows(vias: &BTreeSet<(IpAddr, u16)>, names: &Names) -> Vec<ViaRow> {
    let row = |(address, port): &(IpAddr, u16)| ViaRow {
        address: address.to_string(),
        port: *port,
        service: names.service_at(*address).cloned(),
    };
    vias.iter().map(row).collect()
}

/// Drops of several nodes, the most first.
pub(super) fn drop_rows<'a>(nodes: impl Iterator<Item = (&'a Arc<str>, &'a Drops)>) -> Vec<DropRow> {
    let mut by_key: BTreeMap<DropKey, (u64, Vec<Arc<str>>)> = BTreeMap::new();
    for (node, drops) in nodes {
        for (key, segments) in drops.0.iter().filter(|(_, segments)| **segments > 0) {
            add(&mut by_key, key.clone(), *segments, std::slice::from_ref(node));
        }
    }
    let order = |(a_key, a): &(DropKey, (u64, Vec<Arc<str>>)), (b_key, b): &(DropKey, (u64, Vec<Arc<str>>))| {
        b.0.cmp(&a.0).then_with(|| a_key.cmp(b_key))
    };
    let mut all: Vec<_> = by_key.into_iter().collect();
    all.sort_by(order);
    let mut shown: BTreeMap<_, _> = all.drain(..all.len().min(SHOWN_DROPS)).collect();
    for (key, (segments, nodes)) in all {
        add(&mut shown, DropKey { reason: OTHER.into(), ..key }, segments, &nodes);
    }
    let mut all: Vec<_> = shown.into_iter().collect();
    all.sort_by(order);
    let row = |(key, (segments, nodes)): (DropKey, (u64, Vec<Arc<str>>))| DropRow {
        reason: key.reason.to_string(),
        by: key.by.to_string(),
        forward: key.forward,
        segments,
        nodes,
    };
    all.into_iter().map(row).collect()
}

fn add(sums: &mut BTreeMap<DropKey, (u64, Vec<Arc<str>>)>, key: DropKey, segments: u64, nodes: &[Arc<str>]) {
    let (sum, known) = sums.entry(key).or_default();
    *sum = sum.saturating_add(segments);
    known.extend(nodes.iter().cloned());
    known.sort();
    known.dedup();
}

pub(super) fn dns_row(dns: &Dns) -> DnsRow {
    let mut questions: Vec<_> = dns.questions.iter().collect();
    questions.sort_by(|a, b| b.1.queries.cmp(&a.1.queries).then_with(|| b.1.cmp(a.1)).then_with(|| a.0.cmp(b.0)));
    let question = |((name, kind), asked): &(&(Arc<str>, u32), &crate::merge::facts::Asked)| QuestionRow {
        name: name.to_string(),
        r#type: type_name(*kind),
        queries: asked.queries,
        failures: asked.failures,
        last_rcode: rcode_name(asked.last_rcode),
        last_ms: ms(asked.last),
    };
    let rcodes = dns.rcodes.iter().filter(|(_, count)| **count > 0);
    DnsRow {
        queries: dns.queries,
        answers: dns.answers,
        timeouts: dns.timeouts,
        unparsed: dns.unparsed,
        rcodes: rcodes.map(|(rcode, count)| RcodeRow { rcode: rcode_name(*rcode), count: *count }).collect(),
        latency: histogram_row(Some(&dns.latency)),
        questions: questions.iter().take(SHOWN_QUESTIONS).map(question).collect(),
    }
}

/// RFC 6895 §2.3.
fn rcode_name(rcode: u32) -> String {
    match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        16 => "BADVERS",
        65_535 => "none",
        other => return format!("RCODE{other}"),
    }
    .to_owned()
}

/// The types that are asked for every day; the rest as RFC 3597 §5 writes them.
fn type_name(kind: u32) -> String {
    match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        43 => "DS",
        48 => "DNSKEY",
        52 => "TLSA",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use wire::v1::Histogram;

    use super::{histogram_row, rcode_name, type_name};

    fn check(buckets: &[u64], sum_us: u64, expect: (u64, Option<f64>, Option<f64>, Option<f64>)) {
        let row = histogram_row(Some(&Histogram { buckets: buckets.to_vec(), sum_us }));
        assert_eq!((row.count, row.mean_us, row.p50_us, row.p95_us), expect);
    }

    #[test]
    fn quantiles_lie_evenly_inside_their_bucket() {
        check(&[], 7, (0, None, None, None));
        check(&[0, 0, 0], 0, (0, None, None, None));
        // One value between 256 and 512: half way, and nearly at its end.
        check(&[0, 0, 0, 0, 0, 0, 0, 0, 1], 300, (1, Some(300.0), Some(384.0), Some(499.2)));
        // The first bucket begins at 0.
        check(&[4], 2, (4, Some(0.5), Some(1.0), Some(1.9)));
        // Half of them lie below 8, and the upper tenth in the last bucket of all.
        check(&[0, 0, 50, 40, 10], 900, (100, Some(9.0), Some(8.0), Some(24.0)));
        let mut last = vec![0; 32];
        last[31] = 2;
        check(&last, 0, (2, Some(0.0), Some(3_221_225_472.0), Some(4_187_593_113.6)));
    }

    #[test]
    fn codes_have_names() {
        let rcodes = [0, 2, 3, 11, 65_535].map(rcode_name);
        assert_eq!(rcodes, ["NOERROR", "SERVFAIL", "NXDOMAIN", "RCODE11", "none"]);
        assert_eq!([1, 28, 65, 1_000].map(type_name), ["A", "AAAA", "HTTPS", "TYPE1000"]);
    }
}
