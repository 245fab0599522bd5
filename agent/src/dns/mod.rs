//! DNS: messages become facts about edges. Queries and answers are matched by five-tuple, id and question. Pure; what is
//! believed of an answer is only what a query asked for.

pub mod message;
mod names;
mod totals;

use std::collections::HashMap;

use agent_ebpf::{
    abi::{DnsHead, FlowKey},
    parse::protocol,
};

pub use message::{Address, Message, Question, parse};
pub use names::{MAX_NAMES, MAX_REPORTED, NameMode, Names};
pub use totals::{MAX_QUESTIONS, NO_RCODE, Totals};

/// A query that waits longer has timed out.
pub const TIMEOUT_NS: u64 = 5_000_000_000;
/// Queries that may wait at once.
pub const MAX_PENDING: usize = 16_384;
/// Facts kept until the next reading of the flows gives them their edges.
pub const MAX_FACTS: usize = 65_536;

/// What a message, or the lack of one, tells. Questions are cut down as asked, `None` where names are off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Somebody asked.
    Query(Option<Question>),
    /// Somebody answered.
    Answer {
        /// As it was asked; `None` too where the answer left it out.
        question: Option<Question>,
        /// RFC 1035 §4.1.1.
        rcode: u16,
        /// From query to answer at this hook; `None` where no query waited for it.
        latency_us: Option<u64>,
        /// What the name stands for; none where no query waited for it.
        addresses: Vec<Address>,
    },
    /// No answer came in time.
    Timeout(Option<Question>),
    /// A message, or a part of one, that could not be read.
    Unparsed,
}

/// One thing that happened on the edge of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The flow of the message; of the query, where none came.
    pub key: FlowKey,
    /// When, monotonic.
    pub time_ns: u64,
    /// What.
    pub what: What,
}

#[derive(Debug)]
struct Waiting {
    since_ns: u64,
    question: Question,
    local_is_source: bool,
    /// The answer passed another hook of the same side: it may reach the client past this one.
    passed: bool,
}

/// A five-tuple with an id, on one side: what waits at several hooks for the same answer.
type Path = (FlowKey, u16, bool);

fn path(key: &FlowKey, id: u16, local_is_source: bool) -> Path {
    (FlowKey { ifindex: 0, direction: 0, ..*key }, id, local_is_source)
}

/// All conversations with name servers that pass this node.
#[derive(Debug)]
pub struct Watch {
    mode: NameMode,
    waiting: HashMap<(FlowKey, u16), Waiting>,
    /// The hooks at which each of them waits.
    hooks: HashMap<Path, Vec<FlowKey>>,
    facts: Vec<Fact>,
    refused: u64,
}

impl Watch {
    /// Nobody asked yet.
    #[must_use]
    pub fn new(mode: NameMode) -> Self {
        Self { mode, waiting: HashMap::new(), hooks: HashMap::new(), facts: Vec::new(), refused: 0 }
    }

    /// Queries that found no room to wait, and facts that found none.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Queries that wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Takes one record of the ring: a datagram, or a segment with any number of whole messages. `local_is_source` says
    /// whether the end on this side sent it.
    pub fn take(&mut self, head: &DnsHead, payload: &[u8], local_is_source: bool) {
        if head.key.protocol != protocol::TCP {
            return self.message(head, payload, local_is_source);
        }
        match segment(head, payload) {
            Some(messages) => {
                messages.into_iter().for_each(|message| self.message(head, message, local_is_source));
            }
            None => self.fact(head.key, head.time_ns, What::Unparsed),
        }
    }

    /// What happened until now; queries that waited for too long have timed out.
    pub fn facts(&mut self, now_ns: u64) -> Vec<Fact> {
        let late = |waiting: &Waiting| now_ns.saturating_sub(waiting.since_ns) > TIMEOUT_NS;
        let mut over: Vec<_> = self.waiting.extract_if(|_, waiting| late(waiting)).collect();
        over.sort_by_key(|(_, waiting)| waiting.since_ns);
        for ((key, id), waiting) in over {
            self.left(&key, id, &waiting);
            if waiting.passed {
                continue;
            }
            let question = self.cut(&waiting.question);
            self.fact(key, waiting.since_ns + TIMEOUT_NS, What::Timeout(question));
        }
        std::mem::take(&mut self.facts)
    }

    /// Keeps a fact whose flow is not decided yet for the next reading.
    pub fn keep(&mut self, fact: Fact) {
        self.fact(fact.key, fact.time_ns, fact.what);
    }

    fn message(&mut self, head: &DnsHead, bytes: &[u8], local_is_source: bool) {
        match parse(bytes) {
            Some(Message { answer: false, id, question: Some(question), .. }) => {
                self.query(head, id, question, local_is_source);
            }
            Some(message) => self.answer(head, message, local_is_source),
            None => self.fact(head.key, head.time_ns, What::Unparsed),
        }
    }

    fn query(&mut self, head: &DnsHead, id: u16, question: Question, local_is_source: bool) {
        let cut = self.cut(&question);
        self.fact(head.key, head.time_ns, What::Query(cut));
        let key = (head.key, id);
        match self.waiting.get(&key) {
            // Asked again while it waits: the client has waited since it first asked.
            Some(waiting) if waiting.question == question => {}
            None if self.waiting.len() >= MAX_PENDING => self.refused += 1,
            _ => {
                let waiting = Waiting { since_ns: head.time_ns, question, local_is_source, passed: false };
                self.hooks.entry(path(&head.key, id, local_is_source)).or_default().push(head.key);
                if let Some(given_up) = self.waiting.insert(key, waiting) {
                    self.left(&head.key, id, &given_up);
                    let question = self.cut(&given_up.question);
                    self.fact(head.key, head.time_ns, What::Timeout(question));
                }
            }
        }
    }

    fn answer(&mut self, head: &DnsHead, message: Message, local_is_source: bool) {
        let key = (head.key.reversed(), message.id);
        let fits = |waiting: &Waiting| message.question.as_ref().is_none_or(|asked| *asked == waiting.question);
        let waited = if self.waiting.get(&key).is_some_and(fits) { self.waiting.remove(&key) } else { None };
        if let Some(waiting) = &waited {
            self.left(&key.0, key.1, waiting);
        }
        for hook in self.hooks.get(&path(&key.0, key.1, !local_is_source)).into_iter().flatten() {
            if let Some(waiting) = self.waiting.get_mut(&(*hook, key.1)).filter(|waiting| fits(waiting)) {
                waiting.passed = true;
            }
        }
        let took_ns = waited.as_ref().map(|waiting| head.time_ns.saturating_sub(waiting.since_ns));
        let in_time = took_ns.filter(|took| *took <= TIMEOUT_NS);
        let question = message.question.as_ref().and_then(|question| self.cut(question));
        if let Some(waiting) = &waited
            && in_time.is_none()
        {
            let question = self.cut(&waiting.question);
            self.fact(key.0, waiting.since_ns + TIMEOUT_NS, What::Timeout(question));
        }
        let what = What::Answer {
            question,
            rcode: message.rcode,
            latency_us: in_time.map(|took| took / 1_000),
            addresses: if in_time.is_some() && message.rcode == 0 { message.addresses } else { Vec::new() },
        };
        self.fact(head.key, head.time_ns, what);
    }

    /// A query waits at this hook no more.
    fn left(&mut self, hook: &FlowKey, id: u16, waiting: &Waiting) {
        let path = path(hook, id, waiting.local_is_source);
        let Some(hooks) = self.hooks.get_mut(&path) else { return };
        if let Some(place) = hooks.iter().position(|known| known == hook) {
            hooks.swap_remove(place);
        }
        if hooks.is_empty() {
            self.hooks.remove(&path);
        }
    }

    fn cut(&self, question: &Question) -> Option<Question> {
        Some(Question { name: self.mode.cut(&question.name)?, rr_type: question.rr_type })
    }

    fn fact(&mut self, key: FlowKey, time_ns: u64, what: What) {
        if self.facts.len() < MAX_FACTS {
            self.facts.push(Fact { key, time_ns, what });
        } else {
            self.refused += 1;
        }
    }
}

/// The messages of a segment, if it begins with one and ends with one.
fn segment<'a>(head: &DnsHead, payload: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let (mut rest, mut left) = (payload, head.payload_bytes as usize);
    let mut messages = Vec::new();
    while left > 0 {
        let (prefix, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        left = left.checked_sub(2 + length)?;
        // The snap length may have cut the last one short.
        let (message, next) = behind.split_at(length.min(behind.len()));
        messages.push(message);
        rest = next;
    }
    Some(messages)
}
