//! Rust source as far as tidy has to read it: comments and strings blanked out, words picked apart.
//! It is no parser: what it cannot tell apart (macros that build code) it leaves as it stands.

/// The text with comments and the insides of strings and characters replaced by spaces; lines keep their numbers.
pub(super) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The identifiers of a line, in order.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn token_end(chars: &[char], at: usize) -> usize {
    let ahead = |distance: usize| chars.get(at + distance).copied();
    // A letter before would make r, b or ' part of a name or a lifetime bound.
    let fresh = at == 0 || !is_word(chars[at - 1]);
    match chars[at] {
        '/' if ahead(1) == Some('/') => position(chars, at, |c| c == '\n'),
        '/' if ahead(1) == Some('*') => block_comment_end(chars, at),
        '"' => quoted_end(chars, at + 1, '"'),
        'r' if fresh => raw_string_end(chars, at + 1).unwrap_or(at),
        'b' | 'c' if fresh && ahead(1) == Some('r') => raw_string_end(chars, at + 2).unwrap_or(at),
        // A character has a closing quote after one character or an escape; a lifetime has not.
        '\'' if ahead(1) == Some('\\') || ahead(2) == Some('\'') => quoted_end(chars, at + 1, '\''),
        _ => at,
    }
}

fn position(chars: &[char], from: usize, found: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| found(chars[*at])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a raw string whose hashes or quote stand at `from`; `None` when none does.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let quote = position(chars, from, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let hashes = quote - from;
    let closes = |at: usize| chars[at] == '"' && (1..=hashes).all(|distance| chars.get(at + distance) == Some(&'#'));
    let close = (quote + 1..chars.len()).find(|at| closes(*at));
    Some(close.map_or(chars.len(), |at| at + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::{code, words};

    fn check(text: &str, expect: &[&str]) {
        let code = code(text);
        let found: Vec<&str> = words(&code).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn comments_and_literals_hold_no_words() {
        check("a // b\nc /* d /* e */ f */ g", &["a", "c", "g"]);
        check(r#"let a = "b \" c"; d"#, &["let", "a", "d"]);
        check("x = r#\"a \" b\"#; y", &["x", "y"]);
        check("x = br\"a\"; y", &["x", "y"]);
        check("let a = '\\''; b", &["let", "a", "b"]);
    }

    #[test]
    fn lifetimes_and_names_with_r_are_code() {
        check("fn f<'a>(x: &'a str) {}", &["fn", "f", "a", "x", "a", "str"]);
        check("for r in bar {}", &["for", "r", "in", "bar"]);
    }

    #[test]
    fn lines_keep_their_numbers() {
        assert_eq!(code("/* a\nb */ c\n\"d\ne\" f").lines().count(), 4);
    }
}
