//! Filters over labels: `labels.site = "north" AND (labels.role != "guest" OR labels.vip = "yes")`.

use std::fmt;

use thiserror::Error;

use super::{Labels, labels::is_label_key};

/// Maximum length of a filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Maximum nesting of parentheses.
pub const FILTER_DEPTH_MAX: usize = 16;

/// A condition on labels. `AND` binds tighter than `OR`. A missing label equals no value, so `labels.site != "north"`
/// also holds for identities without a `site`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    Equals { key: String, value: String },
    Differs { key: String, value: String },
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

/// Why a text is not a filter, and at which character.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    #[error("a filter has at most {FILTER_BYTES_MAX} bytes")]
    TooLong,
    #[error("parentheses nest at most {FILTER_DEPTH_MAX} deep")]
    TooDeep,
    #[error(
        "the filter should have {expected} at character {at}; write it like labels.site = \"north\" AND labels.role != \"guest\""
    )]
    Expected { expected: &'static str, at: usize },
    #[error("the text that starts at character {at} of the filter has no closing quote")]
    OpenQuote { at: usize },
    #[error("{key:?} at character {at} of the filter is not a label key")]
    BadKey { key: String, at: usize },
}

impl Filter {
    /// # Errors
    /// When the text does not follow the grammar; the error says where.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let filter = parser.any()?;
        match parser.peek() {
            None => Ok(filter),
            Some(_) => Err(parser.expected("AND, OR or the end")),
        }
    }

    /// Whether an identity with these labels satisfies the filter.
    #[must_use]
    pub fn accepts(&self, labels: &Labels) -> bool {
        match self {
            Self::Equals { key, value } => labels.get(key) == Some(value),
            Self::Differs { key, value } => labels.get(key) != Some(value),
            Self::All(filters) => filters.iter().all(|f| f.accepts(labels)),
            Self::Any(filters) => filters.iter().any(|f| f.accepts(labels)),
        }
    }
}

/// Writes the filter in a normal form that parses back to an equal filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn quoted(value: &str) -> String {
            format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
        }
        let (filters, word) = match self {
            Self::Equals { key, value } => return write!(f, "labels.{key} = {}", quoted(value)),
            Self::Differs { key, value } => return write!(f, "labels.{key} != {}", quoted(value)),
            Self::All(filters) => (filters, " AND "),
            Self::Any(filters) => (filters, " OR "),
        };
        for (index, filter) in filters.iter().enumerate() {
            let join = if index == 0 { "" } else { word };
            match filter {
                Self::All(_) | Self::Any(_) => write!(f, "{join}({filter})")?,
                Self::Equals { .. } | Self::Differs { .. } => write!(f, "{join}{filter}")?,
            }
        }
        Ok(())
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Byte offset of what is read next.
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Filter, FilterError> {
        let mut filters = vec![self.all()?];
        while self.keyword("OR") {
            filters.push(self.all()?);
        }
        Ok(single_or(filters, Filter::Any))
    }

    fn all(&mut self) -> Result<Filter, FilterError> {
        let mut filters = vec![self.term()?];
        while self.keyword("AND") {
            filters.push(self.term()?);
        }
        Ok(single_or(filters, Filter::All))
    }

    fn term(&mut self) -> Result<Filter, FilterError> {
        if !self.symbol("(") {
            return self.condition();
        }
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            return Err(FilterError::TooDeep);
        }
        let filter = self.any()?;
        if !self.symbol(")") {
            return Err(self.expected("a closing parenthesis"));
        }
        self.depth -= 1;
        Ok(filter)
    }

    fn condition(&mut self) -> Result<Filter, FilterError> {
        if !self.symbol("labels.") {
            return Err(self.expected("labels.<key>"));
        }
        let start = self.at;
        let key: String =
            self.rest().chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
        self.at += key.len();
        if !is_label_key(&key) {
            return Err(FilterError::BadKey { key, at: self.character(start) });
        }
        let differs = self.symbol("!=");
        if !differs && !self.symbol("=") {
            return Err(self.expected("= or !="));
        }
        let value = self.quoted()?;
        Ok(if differs { Filter::Differs { key, value } } else { Filter::Equals { key, value } })
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        if !self.symbol("\"") {
            return Err(self.expected("a text in double quotes"));
        }
        let start = self.at - 1;
        let mut value = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Ok(value);
                }
                '\\' => {
                    let Some((_, escaped @ ('"' | '\\'))) = characters.next() else {
                        self.at += offset;
                        return Err(self.expected("\\\" or \\\\ after a backslash"));
                    };
                    value.push(escaped);
                }
                other => value.push(other),
            }
        }
        Err(FilterError::OpenQuote { at: self.character(start) })
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&mut self) -> Option<char> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.at += blank;
        self.rest().chars().next()
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.peek();
        let ends = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || c == '(');
        let found = self.rest().starts_with(word) && ends(self.rest()[word.len()..].chars().next());
        if found {
            self.at += word.len();
        }
        found
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError::Expected { expected, at: self.character(self.at) }
    }

    /// A byte offset as people count: characters, from 1.
    fn character(&self, offset: usize) -> usize {
        self.text[..offset].chars().count() + 1
    }
}

fn single_or(mut filters: Vec<Filter>, many: impl Fn(Vec<Filter>) -> Filter) -> Filter {
    if filters.len() == 1 { filters.remove(0) } else { many(filters) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let map: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Labels::try_from(map).expect("valid")
    }

    #[test]
    fn and_binds_tighter_than_or() {
        let filter = Filter::parse("labels.a=\"1\" OR labels.b = \"2\" AND labels.c != \"3\"").expect("valid");
        assert!(filter.accepts(&labels(&[("a", "1"), ("c", "3")])));
        assert!(filter.accepts(&labels(&[("b", "2")])));
        assert!(!filter.accepts(&labels(&[("b", "2"), ("c", "3")])));
        let grouped = Filter::parse("(labels.a=\"1\" OR labels.b=\"2\")AND labels.c!=\"3\"").expect("valid");
        assert!(!grouped.accepts(&labels(&[("a", "1"), ("c", "3")])));
    }

    #[test]
    fn mistakes_are_located() {
        assert_eq!(Filter::parse("site = \"north\""), Err(FilterError::Expected { expected: "labels.<key>", at: 1 }));
        assert_eq!(Filter::parse("labels.é = \"a\""), Err(FilterError::BadKey { key: String::new(), at: 8 }));
        assert_eq!(Filter::parse("labels.a = \"open"), Err(FilterError::OpenQuote { at: 12 }));
        assert_eq!(
            Filter::parse("labels.a = \"x\" ANDlabels.b=\"y\""),
            Err(FilterError::Expected { expected: "AND, OR or the end", at: 16 })
        );
        assert_eq!(Filter::parse(&format!("{}labels.a=\"x\"", "(".repeat(17))), Err(FilterError::TooDeep));
        assert_eq!(Filter::parse(&" ".repeat(5000)), Err(FilterError::TooLong));
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let leaf = ("[a-z][a-z0-9_]{0,6}", "[^\\p{Cc}]{0,8}", any::<bool>()).prop_map(|(key, value, equals)| {
            if equals { Filter::Equals { key, value } } else { Filter::Differs { key, value } }
        });
        leaf.prop_recursive(3, 16, 4, |inner| {
            let many = prop::collection::vec(inner, 2..4);
            prop_oneof![many.clone().prop_map(Filter::All), many.prop_map(Filter::Any)]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(filter in filters()) {
            prop_assert_eq!(Filter::parse(&filter.to_string()).expect("printed filters parse"), filter);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = Filter::parse(&text);
        }
    }
}
