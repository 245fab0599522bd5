//! Whether a row passes.

use super::{Filter, Key, Pattern, Term, Value};
use crate::view::{EdgeRow, EdgeState, LossStatus, VertexRow};

/// Keys that describe one end.
const OF_ONE_END: [Key; 5] = [Key::Namespace, Key::Workload, Key::Pod, Key::Node, Key::Kind];
/// Keys that only an edge can answer.
const OF_EDGES: [Key; 4] = [Key::Port, Key::Protocol, Key::Verdict, Key::Layer];

impl Filter {
    /// Whether an edge passes; `ends` are its client and its server.
    #[must_use]
    pub fn edge(&self, edge: &EdgeRow, ends: [&VertexRow; 2]) -> bool {
        let hit = |term: &Term| match term.key {
            Key::Port | Key::Protocol | Key::Verdict | Key::Layer => of_edge(term, edge),
            Key::Name => ends.iter().any(|end| of_end(term, end)) || of_questions(term, edge),
            Key::Word => {
                ends.iter().any(|end| of_end(term, end)) || names_service(term, edge) || of_questions(term, edge)
            }
            _ => ends.iter().any(|end| of_end(term, end)),
        };
        !self.negated().any(hit)
            && ends.iter().any(|end| self.all_of(&OF_ONE_END, |term| of_end(term, end)))
            && self.all_of(&OF_EDGES, hit)
            && self.all_of(&[Key::Name], hit)
            && self.words().all(hit)
    }

    /// Whether a vertex passes by itself, with no edge that would take it along.
    #[must_use]
    pub fn vertex(&self, vertex: &VertexRow) -> bool {
        let hit = |term: &Term| of_end(term, vertex);
        !self.negated().any(|term| !OF_EDGES.contains(&term.key) && hit(term))
            && !self.terms.iter().any(|term| !term.negated && OF_EDGES.contains(&term.key))
            && self.all_of(&OF_ONE_END, hit)
            && self.all_of(&[Key::Name], hit)
            && self.words().all(hit)
    }

    fn negated(&self) -> impl Iterator<Item = &Term> {
        self.terms.iter().filter(|term| term.negated)
    }

    fn words(&self) -> impl Iterator<Item = &Term> {
        self.terms.iter().filter(|term| !term.negated && term.key == Key::Word)
    }

    /// Of each of these keys that is asked for, at least one term hits.
    fn all_of(&self, keys: &[Key], hit: impl Fn(&Term) -> bool) -> bool {
        keys.iter().all(|key| {
            let mut asked = self.terms.iter().filter(|term| !term.negated && term.key == *key).peekable();
            asked.peek().is_none() || asked.any(&hit)
        })
    }
}

fn of_end(term: &Term, end: &VertexRow) -> bool {
    let Value::Text(pattern) = &term.value else { return false };
    let is = |text: &Option<String>| text.as_deref().is_some_and(|text| pattern.is(text));
    let in_namespace = |name: &str| {
        pattern.text.contains('/')
            && end.namespace.as_deref().is_some_and(|namespace| pattern.is(&format!("{namespace}/{name}")))
    };
    match term.key {
        Key::Namespace => is(&end.namespace),
        Key::Workload => is(&end.workload) || end.workload.as_deref().is_some_and(in_namespace),
        Key::Pod => end.kind == "pod" && (pattern.is(&end.name) || in_namespace(&end.name)),
        Key::Node => is(&end.node) || (end.kind == "node" && pattern.is(&end.name)),
        Key::Kind => pattern.is(&end.kind),
        Key::Name => names(end).any(|name| pattern.is(name)),
        Key::Word => {
            let parts = [&end.namespace, &end.workload, &end.node];
            names(end).chain(parts.into_iter().flatten().map(String::as_str)).any(|text| pattern.is_in(text))
                || in_namespace(&end.name)
                || end.workload.as_deref().is_some_and(in_namespace)
        }
        Key::Port | Key::Protocol | Key::Verdict | Key::Layer => false,
    }
}

/// All that an end is called.
fn names(end: &VertexRow) -> impl Iterator<Item = &str> {
    std::iter::once(&end.name).chain(&end.addresses).chain(&end.dns_names).map(String::as_str)
}

/// Names that were asked for on an edge that carries DNS.
fn of_questions(term: &Term, edge: &EdgeRow) -> bool {
    let Value::Text(pattern) = &term.value else { return false };
    let mut names = edge.dns.iter().flat_map(|dns| &dns.questions).map(|question| &question.name);
    names.any(|name| if term.key == Key::Word { pattern.is_in(name) } else { pattern.is(name) })
}

fn of_edge(term: &Term, edge: &EdgeRow) -> bool {
    match &term.value {
        Value::Ports(first, last) => (*first..=*last).contains(&edge.port),
        Value::Text(pattern) => match term.key {
            Key::Protocol => pattern.is(&edge.protocol),
            Key::Verdict => (pattern.text == "dropped") == is_dropping(edge),
            Key::Layer => (pattern.text == "dns") == is_dns(edge),
            _ => false,
        },
    }
}

/// A free word may name the port or the protocol: `443`, `:443`, `tcp`, `443/tcp`.
fn names_service(term: &Term, edge: &EdgeRow) -> bool {
    let Value::Text(Pattern { text, .. }) = &term.value else { return false };
    let text = text.strip_prefix(':').unwrap_or(text);
    let (port, protocol) = text.split_once('/').map_or((text, None), |(port, protocol)| (port, Some(protocol)));
    let is_port = edge.port > 0 && port.parse() == Ok(edge.port);
    match protocol {
        Some(protocol) => is_port && protocol == edge.protocol,
        None => is_port || text == edge.protocol,
    }
}

/// Packets were dropped on it, or are lost between its two sides now.
pub(super) fn is_dropping(edge: &EdgeRow) -> bool {
    let loss = &edge.loss;
    let lost = loss.forward_lost.unwrap_or(0) + loss.reverse_lost.unwrap_or(0);
    let ratio = loss.forward_ratio.unwrap_or(0.0).max(loss.reverse_ratio.unwrap_or(0.0));
    edge.drops.iter().any(|drop| drop.segments > 0)
        || edge.state == EdgeState::Live && loss.status == LossStatus::Measured && lost > 0 && ratio > 0.0
}

/// It carries DNS.
pub(super) fn is_dns(edge: &EdgeRow) -> bool {
    edge.dns.is_some() || edge.port == 53
}

impl Pattern {
    /// The whole text matches.
    fn is(&self, text: &str) -> bool {
        if self.literal { self.text.eq_ignore_ascii_case(text) } else { glob(self.text.as_bytes(), text.as_bytes()) }
    }

    /// The text has it somewhere; with `*` or `?` the whole text matches.
    fn is_in(&self, text: &str) -> bool {
        if !self.literal && self.text.contains(['*', '?']) {
            return self.is(text);
        }
        let (text, part) = (text.as_bytes(), self.text.as_bytes());
        text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
    }
}

/// `*` is any text, `?` one byte. On a mismatch only the last `*` is tried further on: no text takes longer than the product
/// of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == b'?' || letter.eq_ignore_ascii_case(&text[from]) => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((after, tried)) => {
                    *tried += 1;
                    (at, from) = (*after + 1, *tried);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}
