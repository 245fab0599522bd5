//! The filter language: what a browser wants to see of a view. Pure: text in, terms out, rows matched.
//!
//! A filter is terms with spaces between them. A term is `key:value` or a free word; `-` or `!` before it negates it. `*`
//! and `?` stand for any text and any character; what is quoted is taken as it stands. Several terms of one key: any of
//! them. Different keys, and free words: all of them. What a negated term matches is left out whatever else holds.
//! Capital letters make no difference.
//!
//! `ns`, `workload`, `pod`, `node` and `kind` describe one end of an edge: the same end must match all of them. `name` and
//! every free word may be found at either end.

mod matcher;
mod noise;
mod parse;

use std::fmt;

pub use self::{
    noise::{Noise, noise},
    parse::KEYS,
};
use crate::view::View;

/// The longest filter.
pub const MAX_BYTES: usize = 1024;
/// The most terms of a filter.
pub const MAX_TERMS: usize = 32;

/// What a browser asks to see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wish {
    /// How the graph is grouped.
    pub view: View,
    /// What of it passes.
    pub filter: Filter,
    /// Noise is left out.
    pub hide_noise: bool,
}

impl Wish {
    /// All there is in a view.
    #[must_use]
    pub fn whole(view: View) -> Self {
        Self { view, ..Self::default() }
    }

    /// Nothing is left out.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.filter.is_empty() && !self.hide_noise
    }
}

/// What a term is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `ns:`, a namespace.
    Namespace,
    /// `workload:`, by `name` or `namespace/name`.
    Workload,
    /// `pod:`, by `name` or `namespace/name`.
    Pod,
    /// `node:`, where a pod runs, or the node itself.
    Node,
    /// `kind:` of an end.
    Kind,
    /// `name:`, of an end, a DNS name, or an address.
    Name,
    /// `port:` of the server.
    Port,
    /// `proto:`.
    Protocol,
    /// `verdict:dropped` or `verdict:forwarded`.
    Verdict,
    /// `layer:l4` or `layer:dns`.
    Layer,
    /// A free word.
    Word,
}

/// Text to look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
    /// It was quoted: `*` and `?` are themselves.
    literal: bool,
}

/// What a term asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Text(Pattern),
    Ports(u16, u16),
}

/// One term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Term {
    key: Key,
    negated: bool,
    value: Value,
}

/// A whole filter: its terms in a fixed order, each once, so that the same wish is the same filter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Filter {
    terms: Vec<Term>,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter, column {column}: {message}; hint: {hint}")]
pub struct FilterError {
    /// Where, counted in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl Filter {
    /// It lets everything through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether the view's rows can answer it: a row that stands for many pods has no pod's name.
    ///
    /// # Errors
    /// Names the first key that the view has no answer for.
    pub fn fits(&self, view: View) -> Result<(), FilterError> {
        let unknown: &[Key] = match view {
            View::Pod => &[],
            View::Workload => &[Key::Pod, Key::Node],
            View::Namespace => &[Key::Pod, Key::Node, Key::Workload],
            View::Node => &[Key::Pod, Key::Workload, Key::Namespace],
        };
        match self.terms.iter().find(|term| unknown.contains(&term.key)) {
            None => Ok(()),
            Some(term) => Err(FilterError {
                column: 1,
                message: format!("{}: cannot be told in the view by {}", term.key.word(), view.label()),
                hint: "ask for view=pod".to_owned(),
            }),
        }
    }
}

impl Key {
    /// As it is written before the colon; a free word has none.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Namespace => "ns",
            Self::Workload => "workload",
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Port => "port",
            Self::Protocol => "proto",
            Self::Verdict => "verdict",
            Self::Layer => "layer",
            Self::Word => "",
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                to.write_str(" ")?;
            }
            if term.negated {
                to.write_str("-")?;
            }
            if term.key != Key::Word {
                write!(to, "{}:", term.key.word())?;
            }
            match &term.value {
                Value::Ports(first, last) if first == last => write!(to, "{first}")?,
                Value::Ports(first, last) => write!(to, "{first}-{last}")?,
                Value::Text(Pattern { text, literal: false }) => to.write_str(text)?,
                Value::Text(Pattern { text, literal: true }) => {
                    write!(to, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
