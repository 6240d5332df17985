//! One line for an error and everything that caused it.

use std::{
    error::Error,
    fmt::{self, Display},
};

/// Displays an error and its sources, outermost first, joined by `: `.
///
/// A source whose text the line already contains is left out: some libraries repeat their source in their own message.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'e>(pub &'e (dyn Error + 'static));

impl<'e> ErrorChain<'e> {
    /// The error and its sources, outermost first.
    pub fn errors(self) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
        let mut next = Some(self.0);
        std::iter::from_fn(move || {
            let error = next?;
            next = error.source();
            Some(error)
        })
    }
}

impl Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        for error in self.errors() {
            let text = error.to_string();
            if line.is_empty() {
                line = text;
            } else if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: Option<Box<Failure>>,
    }

    fn failure(texts: &[&'static str]) -> Failure {
        let (text, sources) = texts.split_first().expect("a text");
        Failure { text, source: (!sources.is_empty()).then(|| Box::new(failure(sources))) }
    }

    #[test]
    fn sources_follow_their_error_and_repeated_texts_are_left_out() {
        for (texts, line) in [
            (vec!["write failed"], "write failed"),
            (vec!["write failed", "disk full", "quota"], "write failed: disk full: quota"),
            (vec!["write failed: disk full", "disk full", "quota"], "write failed: disk full: quota"),
        ] {
            let failure = failure(&texts);
            assert_eq!(ErrorChain(&failure).to_string(), line);
            assert_eq!(ErrorChain(&failure).errors().count(), texts.len());
        }
    }
}
