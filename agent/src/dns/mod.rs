//! DNS: messages become facts about edges. Queries and answers are matched by five-tuple, id and question. Pure; what is
//! believed of an answer is only what a query asked for.

mod message;
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
}

/// All conversations with name servers that pass this node.
#[derive(Debug)]
pub struct Watch {
    mode: NameMode,
    waiting: HashMap<(FlowKey, u16), Waiting>,
    facts: Vec<Fact>,
    refused: u64,
}

impl Watch {
    /// Nobody asked yet.
    #[must_use]
    pub fn new(mode: NameMode) -> Self {
        Self { mode, waiting: HashMap::new(), facts: Vec::new(), refused: 0 }
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

    /// Takes one record of the ring: a datagram, or a segment with any number of whole messages.
    pub fn take(&mut self, head: &DnsHead, payload: &[u8]) {
        if head.key.protocol != protocol::TCP {
            return self.message(head, payload);
        }
        match segment(head, payload) {
            Some(messages) => messages.into_iter().for_each(|message| self.message(head, message)),
            None => self.fact(head.key, head.time_ns, What::Unparsed),
        }
    }

    /// What happened until now; queries that waited for too long have timed out. Facts of flows that wait themselves are
    /// told later.
    pub fn facts(&mut self, now_ns: u64, waits: impl Fn(&FlowKey) -> bool) -> Vec<Fact> {
        let late = |waiting: &Waiting| now_ns.saturating_sub(waiting.since_ns) > TIMEOUT_NS;
        let mut over: Vec<_> = self.waiting.extract_if(|_, waiting| late(waiting)).collect();
        over.sort_by_key(|(_, waiting)| waiting.since_ns);
        for ((key, _), waiting) in over {
            let question = self.cut(&waiting.question);
            self.fact(key, waiting.since_ns + TIMEOUT_NS, What::Timeout(question));
        }
        self.facts.extract_if(.., |fact| !waits(&fact.key)).collect()
    }

    fn message(&mut self, head: &DnsHead, bytes: &[u8]) {
        match parse(bytes) {
            Some(Message { answer: false, id, question: Some(question), .. }) => self.query(head, id, question),
            Some(message) => self.answer(head, message),
            None => self.fact(head.key, head.time_ns, What::Unparsed),
        }
    }

    fn query(&mut self, head: &DnsHead, id: u16, question: Question) {
        let cut = self.cut(&question);
        self.fact(head.key, head.time_ns, What::Query(cut));
        let key = (head.key, id);
        match self.waiting.get(&key) {
            // Asked again while it waits: the client has waited since it first asked.
            Some(waiting) if waiting.question == question => {}
            None if self.waiting.len() >= MAX_PENDING => self.refused += 1,
            _ => {
                let waiting = Waiting { since_ns: head.time_ns, question };
                if let Some(given_up) = self.waiting.insert(key, waiting) {
                    let question = self.cut(&given_up.question);
                    self.fact(head.key, head.time_ns, What::Timeout(question));
                }
            }
        }
    }

    fn answer(&mut self, head: &DnsHead, message: Message) {
        let key = (head.key.reversed(), message.id);
        let fits = |waiting: &Waiting| message.question.as_ref().is_none_or(|asked| *asked == waiting.question);
        let waited = if self.waiting.get(&key).is_some_and(fits) { self.waiting.remove(&key) } else { None };
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
