//! What a client knows of a person, and what an answer may say after it.

use std::{collections::BTreeSet, time::Duration};

/// When and by whom something was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// Counts up with each acknowledgement and each start of a server.
    pub(crate) at: u64,
    /// The start of the server that said it.
    pub(crate) by: u64,
}

impl Told {
    /// Whether the server that started at `since` must know it: it said so, or it started later.
    pub(crate) fn is_known_to(self, since: u64) -> bool {
        self.by == since || since > self.at
    }
}

/// One enrollment.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    /// The signs of its embedding.
    pub(crate) signs: u64,
    pub(crate) fact: Fact,
}

#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// Every attempt was refused, or never left.
    Refused,
    /// An attempt had no answer, or the answer that the outcome is unknown.
    Unknown,
    Stored {
        template: String,
        told: Told,
    },
    /// A deletion had no answer.
    PerhapsRemoved {
        template: String,
    },
    Removed {
        template: String,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Life {
    Alive,
    /// A deletion had no answer.
    PerhapsErased,
    Erased(Told),
}

#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) shots: Vec<Shot>,
    pub(crate) life: Life,
    /// Of the latest write that was answered.
    pub(crate) token: Option<String>,
    notes: Vec<String>,
}

impl Person {
    pub(crate) fn new(id: String) -> Self {
        Self { id, shots: Vec::new(), life: Life::Alive, token: None, notes: Vec::new() }
    }

    pub(crate) fn note(&mut self, at: Duration, what: &str) {
        self.notes.push(format!("{:9.3} s  {what}", at.as_secs_f64()));
    }

    pub(crate) fn story(&self) -> String {
        format!("{}\n    {}\n    now: {:?} {:?}", self.id, self.notes.join("\n    "), self.life, self.shots)
    }

    pub(crate) fn is_erased(&self) -> bool {
        matches!(self.life, Life::Erased(_))
    }

    /// Whether any enrollment was acknowledged.
    fn was_there(&self) -> bool {
        self.shots.iter().any(|shot| !matches!(shot.fact, Fact::Refused | Fact::Unknown))
    }

    fn may_be_there(&self) -> bool {
        self.shots.iter().any(|shot| !matches!(shot.fact, Fact::Refused))
    }

    /// What is wrong with the list of the person's templates; `None` stands for "there is no such person".
    pub(crate) fn wrong_list(&self, listed: Option<&BTreeSet<String>>) -> Option<String> {
        let Some(listed) = listed else {
            let must = self.was_there() && matches!(self.life, Life::Alive);
            return must.then(|| "acknowledged, and not there".to_owned());
        };
        if self.is_erased() {
            return Some("erased, and there".to_owned());
        }
        if !self.may_be_there() {
            return Some("refused, and there".to_owned());
        }
        let (mut more, mut unknown) = (listed.clone(), 0);
        for shot in &self.shots {
            match &shot.fact {
                Fact::Refused => {}
                Fact::Unknown => unknown += 1,
                Fact::PerhapsRemoved { template } => drop(more.remove(template)),
                Fact::Removed { template } if listed.contains(template) => {
                    return Some(format!("{template} was deleted, and is there"));
                }
                Fact::Removed { .. } => {}
                Fact::Stored { template, .. } => {
                    if !more.remove(template) && matches!(self.life, Life::Alive) {
                        return Some(format!("{template} was acknowledged, and is not there"));
                    }
                }
            }
        }
        (more.len() > unknown).then(|| format!("{} templates too many: {more:?}", more.len() - unknown))
    }

    /// Whether a search for the embedding of a shot must, or must not, find the person on the server that started at
    /// `since`; by the token that it was given, too.
    pub(crate) fn expected(&self, shot: &Shot, since: u64, token: Token) -> Expected {
        let knows = |told: Told| match token {
            Token::None => told.is_known_to(since),
            Token::Own => true,
            Token::After(at) => at > told.at || told.is_known_to(since),
        };
        match (self.life, &shot.fact) {
            (Life::Erased(told), _) => {
                // The token of an enrollment is older than the deletion.
                let knows = if matches!(token, Token::Own) { told.is_known_to(since) } else { knows(told) };
                if knows { Expected::Absent } else { Expected::Either }
            }
            (Life::Alive, Fact::Stored { told, .. }) if knows(*told) => Expected::Found,
            _ if !self.may_be_there() => Expected::Absent,
            _ => Expected::Either,
        }
    }
}

/// The consistency token of a read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Token {
    None,
    /// Of the person's own latest write.
    Own,
    /// Of a write that began after this moment.
    After(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Found,
    Absent,
    Either,
}
