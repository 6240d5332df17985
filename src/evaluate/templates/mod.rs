//! Several templates of one person: which way of letting them speak together finds people, and which withstands a sample
//! that is somebody else's.
//!
//! The same people are enrolled with one, two and four samples each, and with four of which one was exchanged; the same other
//! samples of them search. Alone, and among everybody else of the set. Pooling and re-ranking are the server's own code.

mod drawn;
mod gallery;
mod report;
mod simulated;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use super::metrics::{self, Share, scored::Estimate};
use domain::{Pooling, Reranking};
use drawn::TemplateDraw;
use gallery::TemplateGallery;

pub use report::{MethodCell, MethodRow, SwapLoss, Templates, TemplatesTable};
pub use simulated::simulated;

/// Samples of people, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleSet {
    pub name: String,
    /// Of unit length.
    pub embeddings: Vec<Vec<f32>>,
    /// Whose each is.
    pub people: Vec<String>,
    /// How good each is, 0 to 1; NaN where nothing is known.
    pub qualities: Vec<f32>,
}

/// What people are enrolled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EnrolledSamples {
    /// So many samples of their own.
    Own(usize),
    /// Four samples, of which the last is the next person's: somebody mixed up the files.
    Swapped,
}

/// The columns of every table.
const ENROLLED: [(EnrolledSamples, &str); 4] = [
    (EnrolledSamples::Own(1), "1 template"),
    (EnrolledSamples::Own(2), "2 templates"),
    (EnrolledSamples::Own(4), "4 templates"),
    (EnrolledSamples::Swapped, "one of 4 swapped"),
];
const WHOLE: usize = 2;
const SWAPPED: usize = 3;

/// How candidates are found.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RankingMethod {
    Pooled(Pooling),
    /// One prototype to which all templates count alike: what others are held against.
    PlainMean,
    /// By the best template, and then in another order.
    Reranked(Reranking),
}

const METHODS: [(RankingMethod, &str); 8] = [
    (RankingMethod::Pooled(Pooling::Best), "best"),
    (RankingMethod::PlainMean, "plain mean"),
    (RankingMethod::Pooled(Pooling::ByQuality), "by quality"),
    (RankingMethod::Pooled(Pooling::Prototype), "prototype"),
    (RankingMethod::Pooled(Pooling::Centralised), "centralised"),
    (RankingMethod::Reranked(Reranking::Off), "best, not re-ranked"),
    (RankingMethod::Reranked(Reranking::Neighbours), "best + neighbours"),
    (RankingMethod::Reranked(Reranking::KReciprocal), "best + k-reciprocal"),
];
const PLAIN_MEAN: usize = 1;

/// What came of one search in one way.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SearchOutcome {
    /// Where the right identity stands; 1 is the first.
    rank: usize,
    /// Over the templates, where these are what is ranked and all are right.
    precision: Option<f64>,
    is_reranked: bool,
}

/// Measures so many draws of each set. `None` for a set in which fewer than two people have five samples.
#[must_use]
pub fn measure(set: &SampleSet, draws: u32, seed: u64) -> Option<Templates> {
    let drawn: Vec<TemplateDraw> =
        (0..draws).map(|number| TemplateDraw::new(set, seed, number)).collect::<Option<_>>()?;
    let mut tables = vec![table(set, &drawn, false, seed)];
    if drawn.iter().any(|drawn| !drawn.others.is_empty()) {
        tables.push(table(set, &drawn, true, seed));
    }
    Some(Templates { name: set.name.clone(), draws, tables })
}

fn table(set: &SampleSet, drawn: &[TemplateDraw], is_among_others: bool, seed: u64) -> TemplatesTable {
    let others = |drawn: &TemplateDraw| if is_among_others { drawn.others.len() } else { 0 };
    let mut tallies: Vec<Vec<Tally>> =
        ENROLLED.iter().map(|_| METHODS.iter().map(|_| Tally::new(drawn[0].people)).collect()).collect();
    for one in drawn {
        for ((enrolled, _), tallies) in ENROLLED.iter().zip(&mut tallies) {
            let gallery = TemplateGallery::new(set, one.identities(*enrolled, is_among_others), *enrolled);
            let outcomes: Vec<[SearchOutcome; METHODS.len()]> =
                one.probes.par_iter().map(|probe| gallery.search(probe.sample, probe.identity)).collect();
            for (probe, outcomes) in one.probes.iter().zip(outcomes) {
                tallies.iter_mut().zip(outcomes).for_each(|(tally, outcomes)| tally.add(probe.person, outcomes));
            }
        }
    }
    let row = |(way, (kind, name)): (usize, &(RankingMethod, &'static str))| {
        let cells = tallies.iter().map(|tallies| tallies[way].cell(*kind, seed)).collect();
        let lost = |way: usize| Tally::lost(&tallies[WHOLE][way], &tallies[SWAPPED][way]);
        MethodRow { way: name, cells, lost: lost_share(&lost(way), &lost(PLAIN_MEAN), seed) }
    };
    let rows =
        METHODS.iter().enumerate().filter(|(_, (way, _))| *way != RankingMethod::Reranked(Reranking::Off)).map(row);
    TemplatesTable {
        identities: drawn[0].enrolled.len() + others(&drawn[0]),
        people: drawn[0].enrolled.len(),
        probes: drawn.iter().map(|drawn| drawn.probes.len()).sum(),
        columns: ENROLLED.map(|(_, name)| name).to_vec(),
        rows: rows.collect(),
    }
}

/// What each person's searches came to, over all draws.
#[derive(Debug, Clone)]
struct Tally {
    first: Vec<Share>,
    /// Of lists of identities: one over the rank of the right one.
    identities: Vec<Share>,
    templates: Vec<Share>,
    reranked: f64,
}

impl Tally {
    fn new(people: usize) -> Self {
        let nothing: Vec<Share> = vec![(0.0, 0.0); people];
        Self { first: nothing.clone(), identities: nothing.clone(), templates: nothing, reranked: 0.0 }
    }

    fn add(&mut self, person: usize, outcomes: SearchOutcome) {
        let count = |share: &mut Share, value: f64| {
            share.0 += value;
            share.1 += 1.0;
        };
        count(&mut self.first[person], f64::from(u8::from(outcomes.rank == 1)));
        count(&mut self.identities[person], 1.0 / outcomes.rank as f64);
        if let Some(precision) = outcomes.precision {
            count(&mut self.templates[person], precision);
        }
        self.reranked += f64::from(u8::from(outcomes.is_reranked));
    }

    fn cell(&self, way: RankingMethod, seed: u64) -> MethodCell {
        let searches: f64 = self.first.iter().map(|(_, trials)| trials).sum();
        MethodCell {
            rank_1: estimate(&self.first, seed).expect("somebody searched"),
            map: estimate(&self.identities, seed).expect("somebody searched"),
            map_of_templates: estimate(&self.templates, seed),
            reranked: matches!(way, RankingMethod::Reranked(_)).then(|| self.reranked / searches),
        }
    }

    /// How many more of each person's searches one found than the other, and of how many.
    fn lost(one: &Self, other: &Self) -> Vec<Share> {
        one.first.iter().zip(&other.first).map(|(one, other)| (one.0 - other.0, one.1)).collect()
    }
}

fn estimate(shares: &[Share], seed: u64) -> Option<Estimate> {
    let total = |of: fn(&Share) -> f64| shares.iter().map(of).sum::<f64>();
    let trials = total(|share| share.1);
    (trials > 0.0).then(|| Estimate { value: total(|share| share.0) / trials, interval: metrics::people(shares, seed) })
}

/// What a way lost, and that as a share of what the plain mean lost, by people who are drawn for both alike.
fn lost_share(lost: &[Share], of_mean: &[Share], seed: u64) -> SwapLoss {
    let pairs: Vec<Share> = lost.iter().zip(of_mean).map(|(own, mean)| (own.0, mean.0)).collect();
    // A mean that lost nothing leaves nothing to be a share of.
    let any = pairs.iter().any(|(_, mean)| *mean > 0.0);
    let rank_1 = estimate(lost, seed).expect("somebody searched");
    SwapLoss { rank_1, of_plain_mean: any.then(|| estimate(&pairs, seed)).flatten() }
}
