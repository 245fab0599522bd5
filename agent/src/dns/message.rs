//! One DNS message, as far as it is wanted: id, question, rcode, and the addresses at the end of the CNAME chain. Any bytes
//! may come in. What a cut-off message still holds is used.

use std::net::IpAddr;

use wire::limits::MAX_DNS_NAME_BYTES;

use hickory_proto::{
    op::{Header, MessageType, Query},
    rr::{Name, RData, Record},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

/// Answer records that are looked at, of one message.
const MAX_RECORDS: u16 = 64;
/// Aliases followed from the name asked for.
const MAX_ALIASES: usize = 16;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// In lower case, without the trailing dot; bytes that are not printable are escaped.
    pub name: String,
    /// RR type number (RFC 1035 §3.2.2).
    pub rr_type: u16,
}

/// An address that answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The shortest time to live on the way from the name asked for, seconds.
    pub ttl_s: u32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Tells which answer belongs to which query.
    pub id: u16,
    /// It answers.
    pub answer: bool,
    /// RFC 1035 §4.1.1.
    pub rcode: u16,
    /// The first question; answers may leave it out.
    pub question: Option<Question>,
    /// What the question's name stands for.
    pub addresses: Vec<Address>,
}

/// Reads a message; `None` where not even header and question are whole.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let answer = header.metadata.message_type == MessageType::Response;
    let mut asked = None;
    for _ in 0..header.counts.queries {
        let query = Query::read(&mut decoder).ok()?;
        asked.get_or_insert(query);
    }
    if asked.is_none() && !answer {
        return None;
    }
    let mut records = Vec::new();
    if let (true, Some(_)) = (answer, &asked) {
        // A record that cannot be read, or is cut off, ends what is known.
        let rest = 0..header.counts.answers.min(MAX_RECORDS);
        records.extend(rest.map_while(|_| Record::read(&mut decoder).ok()));
    }
    Some(Message {
        id: header.metadata.id,
        answer,
        rcode: u16::from(header.metadata.response_code),
        addresses: asked.as_ref().map(|query| addresses(&query.name, &records)).unwrap_or_default(),
        question: asked.map(|query| Question { name: text(&query.name), rr_type: query.query_type.into() }),
    })
}

/// Follows the aliases from the name asked for; only records on that way answer the question.
fn addresses(asked: &Name, records: &[Record]) -> Vec<Address> {
    let (mut name, mut ttl_s) = (asked, u32::MAX);
    for _ in 0..MAX_ALIASES {
        let alias = records.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *name => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = alias else { break };
        (name, ttl_s) = (target, ttl_s.min(ttl));
    }
    let own = records.iter().filter(|record| record.name == *name);
    own.filter_map(|record| {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => return None,
        };
        Some(Address { address, ttl_s: ttl_s.min(record.ttl) })
    })
    .collect()
}

fn text(name: &Name) -> String {
    if name.is_root() {
        return ".".to_owned();
    }
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    // Escaped, a name may grow to four times its length.
    text.truncate(MAX_DNS_NAME_BYTES);
    text
}
