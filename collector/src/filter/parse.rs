//! From text to terms: a lexer of words and quotes, and what each key takes.

use super::{Filter, FilterError, Key, MAX_BYTES, MAX_TERMS, Pattern, Term, Value};

/// All keys, as they are written.
pub const KEYS: [Key; 10] = [
    Key::Namespace,
    Key::Workload,
    Key::Pod,
    Key::Node,
    Key::Port,
    Key::Protocol,
    Key::Name,
    Key::Verdict,
    Key::Layer,
    Key::Kind,
];
/// Protocols known by name; others by their IANA number.
const PROTOCOLS: [&str; 5] = ["tcp", "udp", "icmp", "icmpv6", "sctp"];
const VERDICTS: [&str; 2] = ["dropped", "forwarded"];
const LAYERS: [&str; 2] = ["l4", "dns"];
const KINDS: [&str; 6] = ["pod", "service", "workload", "namespace", "node", "external"];

/// A term's text as it stands in the filter.
struct Raw {
    column: usize,
    negated: bool,
    key: Option<String>,
    value: String,
    literal: bool,
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_BYTES {
            return Err(error(1, format!("{} bytes are too long", text.len()), format!("at most {MAX_BYTES}")));
        }
        let mut terms = Vec::new();
        let letters: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < letters.len() {
            if letters[at].is_whitespace() {
                at += 1;
                continue;
            }
            let raw;
            (raw, at) = lex(&letters, at)?;
            if terms.len() == MAX_TERMS {
                return Err(error(raw.column, "too many terms".to_owned(), format!("at most {MAX_TERMS}")));
            }
            terms.push(term(raw)?);
        }
        terms.sort_unstable();
        terms.dedup();
        Ok(Self { terms })
    }
}

/// The term that begins at `at`, and where it ends.
fn lex(letters: &[char], mut at: usize) -> Result<(Raw, usize), FilterError> {
    let column = at + 1;
    let negated = matches!(letters[at], '-' | '!');
    at += usize::from(negated);
    let word = |from: usize| {
        let rest = letters.get(from..).unwrap_or_default();
        rest.iter().position(|letter| letter.is_whitespace() || *letter == '"').unwrap_or(rest.len()) + from
    };
    let mut end = word(at);
    // Addresses and times have colons, too: a key is letters only.
    let colon = letters[at..end].iter().position(|letter| *letter == ':').map(|found| at + found);
    let key = colon.filter(|colon| *colon > at && letters[at..*colon].iter().all(char::is_ascii_alphabetic));
    let start = key.map_or(at, |colon| colon + 1);
    let key = key.map(|colon| letters[at..colon].iter().collect::<String>().to_ascii_lowercase());
    let quoted = letters.get(end) == Some(&'"');
    if quoted && end > start {
        return Err(error(end + 1, "a quote inside of a word".to_owned(), "quote the whole value: \"…\"".to_owned()));
    }
    let value = if quoted {
        let value;
        (value, end) = unquote(letters, end)?;
        value
    } else {
        letters[start..end].iter().collect()
    };
    if value.is_empty() {
        let (message, hint) = match &key {
            Some(key) => (format!("{key}: has no value"), format!("write {key}:something")),
            None => ("nothing to look for".to_owned(), "write a word, or key:value".to_owned()),
        };
        return Err(error(column, message, hint));
    }
    Ok((Raw { column, negated, key, value: value.to_ascii_lowercase(), literal: quoted }, end))
}

/// What stands between the quote at `at` and the next, and where to go on.
fn unquote(letters: &[char], at: usize) -> Result<(String, usize), FilterError> {
    let mut value = String::new();
    let mut escaped = false;
    for (index, letter) in letters.iter().enumerate().skip(at + 1) {
        match letter {
            _ if escaped => {
                value.push(*letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                return match letters.get(index + 1) {
                    Some(next) if !next.is_whitespace() => {
                        let hint = "put a space after the closing quote".to_owned();
                        Err(error(index + 2, "text after a quote".to_owned(), hint))
                    }
                    _ => Ok((value, index + 1)),
                };
            }
            _ => value.push(*letter),
        }
    }
    Err(error(at + 1, "a quote that does not end".to_owned(), "close it with \"".to_owned()))
}

fn term(raw: Raw) -> Result<Term, FilterError> {
    let Raw { column, negated, key, value, literal } = raw;
    let key = match key {
        None => Key::Word,
        Some(word) => KEYS.into_iter().find(|key| key.word() == word).ok_or_else(|| {
            let keys = KEYS.map(Key::word).join(", ");
            error(
                column,
                format!("unknown key {word}"),
                format!("keys are {keys}; to look for the text itself, quote it"),
            )
        })?,
    };
    let one_of = |words: &[&str]| {
        if words.contains(&value.as_str()) {
            return Ok(());
        }
        Err(error(column, format!("{}:{value} is none", key.word()), format!("one of {}", words.join(", "))))
    };
    match key {
        Key::Port => {
            let (first, last) = value.split_once('-').unwrap_or((&value, &value));
            let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
                return Err(error(column, format!("no port: {value}"), "port:443 or port:8000-8999".to_owned()));
            };
            if first > last {
                return Err(error(column, format!("no range: {value}"), format!("port:{last}-{first}")));
            }
            return Ok(Term { key, negated, value: Value::Ports(first, last) });
        }
        Key::Protocol if value.parse::<u8>().is_err() => one_of(&PROTOCOLS)
            .map_err(|error| FilterError { hint: format!("{}, or a protocol's number", error.hint), ..error })?,
        Key::Verdict => one_of(&VERDICTS)?,
        Key::Layer => one_of(&LAYERS)?,
        Key::Kind => one_of(&KINDS)?,
        _ => {}
    }
    // A word of a fixed list is itself, quoted or not.
    let literal = literal && !matches!(key, Key::Protocol | Key::Verdict | Key::Layer | Key::Kind);
    Ok(Term { key, negated, value: Value::Text(Pattern { text: value, literal }) })
}

fn error(column: usize, message: String, hint: String) -> FilterError {
    FilterError { column, message, hint }
}
