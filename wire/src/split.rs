//! A full table told in parts, each of which the collector takes whatever is in it.

use prost::Message as _;

use crate::v1::Edge;

/// Edges in one part at the most.
pub const PART_EDGES: usize = 16_384;
/// Their bytes before they are packed. With the other parts of a report they stay below the largest body even where nothing can be
/// packed, and edges with all their questions and owners are a few kilobytes each.
pub const PART_BYTES: usize = 3 << 20;

/// Parts in order; one empty part for no edges.
#[must_use]
pub fn split(edges: Vec<Edge>) -> Vec<Vec<Edge>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for edge in edges {
        // With its tag and length.
        let own = edge.encoded_len() + 5;
        let last =
            parts.last_mut().filter(|part| part.len() < PART_EDGES && (bytes + own <= PART_BYTES || part.is_empty()));
        match last {
            Some(part) => {
                part.push(edge);
                bytes += own;
            }
            None => {
                parts.push(vec![edge]);
                bytes = own;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{PART_EDGES, split};
    use crate::{
        codec::{MAX_BODY_BYTES, decode_report, encode_report},
        limits::MAX_QUESTIONS,
        v1::{Dns, DnsQuestion, Edge, Report},
    };

    fn report(edges: Vec<Edge>) -> Report {
        Report { version: crate::VERSION, node: "n1".to_owned(), epoch: 1, seq: 1, edges, ..Report::default() }
    }

    fn plain(index: u32) -> Edge {
        let server = index.to_be_bytes().to_vec();
        Edge {
            client: vec![10, 0, 0, 1],
            server,
            server_port: 80,
            protocol: 6,
            side: 1,
            incarnation: 1,
            ..Edge::default()
        }
    }

    #[test]
    fn parts_hold_every_edge_once_and_in_order() {
        let edges: Vec<Edge> = (0..40_000).map(plain).collect();
        let parts = split(edges.clone());
        assert!(parts.len() == 3 && parts.iter().all(|part| part.len() <= PART_EDGES));
        assert_eq!(parts.concat(), edges);
        assert_eq!(split(Vec::new()), [Vec::new()]);
    }

    /// Names that nothing can pack, sixteen an edge: split by their number alone they would be refused.
    #[test]
    fn every_part_is_taken_whatever_the_edges_hold() {
        let mut state = 1u64;
        let mut name = move || -> String {
            let mut letter = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(33 + (state >> 33) as u8 % 90)
            };
            (0..250).map(|_| letter()).collect()
        };
        let mut full = |index| {
            let question = |name| DnsQuestion { name, queries: 1, ..DnsQuestion::default() };
            let questions = (0..MAX_QUESTIONS).map(|_| question(name())).collect();
            Edge { dns: Some(Dns { questions, ..Dns::default() }), ..plain(index) }
        };
        let edges: Vec<Edge> = (0..2_000).map(&mut full).collect();
        let whole = encode_report(&report(edges.clone())).expect("encode");
        assert!(whole.len() > MAX_BODY_BYTES, "unsplit it is refused: {}", whole.len());
        let parts = split(edges);
        for part in &parts {
            let body = encode_report(&report(part.clone())).expect("encode");
            decode_report(&body).expect("taken");
        }
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 2_000);
    }
}
