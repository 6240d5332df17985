//! Reads the paths that a source names. Tokens are enough for that, and unlike a syntax tree they go on inside macros.

use proc_macro2::{Delimiter, Ident, LexError, Spacing, TokenStream, TokenTree};

/// A path as the source means it, with `use` trees spread out: `use super::{Slot, scan::*}` in `gallery::graph` names
/// `crate::gallery::Slot` and `crate::gallery::scan::*`.
#[derive(Debug)]
pub(super) struct NamedPath {
    /// The first is `crate`, or the name of a crate, or something local.
    pub(super) segments: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// The paths of two or more segments that a source of this module names, and every path that it imports.
pub(super) fn named_paths(text: &str, module: &[String]) -> Result<Vec<NamedPath>, LexError> {
    let mut reader = Reader { module: module.to_vec(), found: Vec::new() };
    reader.read(text.parse()?);
    Ok(reader.found)
}

struct Reader {
    module: Vec<String>,
    found: Vec<NamedPath>,
}

/// Where a path stands. Outside an import a single word is most often a variable.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Import,
    Code,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some(token) = rest.first() {
            rest = match (token, &rest[1..]) {
                (TokenTree::Ident(word), [TokenTree::Ident(name), TokenTree::Group(body), after @ ..])
                    if word == "mod" =>
                {
                    self.module.push(plain(name));
                    self.read(body.stream());
                    self.module.pop();
                    after
                }
                (TokenTree::Ident(word), after) if word == "use" => self.path(&[], after, Place::Import),
                (TokenTree::Ident(word), [TokenTree::Ident(_crate), after @ ..]) if word == "extern" => {
                    self.path(&[], after, Place::Import)
                }
                (TokenTree::Ident(_), _) => self.path(&[], rest, Place::Code),
                (TokenTree::Group(group), after) => {
                    self.read(group.stream());
                    after
                }
                (_, after) => after,
            };
        }
    }

    /// Reads one path, or one tree of an import, and answers what follows it. Takes at least one token when that is a word.
    fn path<'a>(&mut self, prefix: &[Ident], tokens: &'a [TokenTree], place: Place) -> &'a [TokenTree] {
        let mut words = prefix.to_vec();
        // `::tch` names the same crate as `tch` does.
        let mut rest = after_colons(tokens).unwrap_or(tokens);
        loop {
            match rest {
                [TokenTree::Ident(word), after @ ..] => {
                    words.push(word.clone());
                    match after_colons(after) {
                        Some(further) if continues(further) => rest = further,
                        _ => {
                            self.found(&words, None, place);
                            return after;
                        }
                    }
                }
                [TokenTree::Group(group), after @ ..] if group.delimiter() == Delimiter::Brace => {
                    let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in branches.split(|token| is_punct(token, ',')) {
                        self.path(&words, branch, Place::Import);
                    }
                    return after;
                }
                [TokenTree::Punct(star), after @ ..] if star.as_char() == '*' && !words.is_empty() => {
                    self.found(&words, Some("*"), place);
                    return after;
                }
                _ => return rest,
            }
        }
    }

    fn found(&mut self, words: &[Ident], glob: Option<&str>, place: Place) {
        let Some(first) = words.first() else { return };
        if words.len() == 1 && glob.is_none() && place == Place::Code {
            return;
        }
        let line = first.span().start().line;
        let mut segments = Vec::new();
        for (position, word) in words.iter().map(plain).enumerate() {
            match word.as_str() {
                "crate" | "semblance" if position == 0 => segments.push("crate".to_owned()),
                "self" | "super" if position == 0 => {
                    segments.push("crate".to_owned());
                    segments.extend(self.module.iter().cloned());
                    if word == "super" {
                        leave(&mut segments);
                    }
                }
                "super" => leave(&mut segments),
                "self" => {}
                _ => segments.push(word),
            }
        }
        segments.extend(glob.map(str::to_owned));
        self.found.push(NamedPath { segments, line });
    }
}

/// One module up; nothing is above the crate.
fn leave(segments: &mut Vec<String>) {
    if segments.len() > 1 {
        segments.pop();
    }
}

/// `r#store` is `store`.
fn plain(word: &Ident) -> String {
    let word = word.to_string();
    word.strip_prefix("r#").map_or(word.clone(), str::to_owned)
}

/// What follows a leading `::`.
fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [TokenTree::Punct(first), second, after @ ..]
            if first.as_char() == ':' && first.spacing() == Spacing::Joint && is_punct(second, ':') =>
        {
            Some(after)
        }
        _ => None,
    }
}

/// Whether a path goes on here, and not a type's arguments.
fn continues(tokens: &[TokenTree]) -> bool {
    match tokens.first() {
        Some(TokenTree::Ident(_)) => true,
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
        Some(token) => is_punct(token, '*'),
        None => false,
    }
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}
