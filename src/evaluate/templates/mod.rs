//! Compares pooling and re-ranking methods for several templates per person, also with one wrong template.
//!
//! The same persons are enrolled with one, two and four samples each, and with four of which one is swapped; other
//! samples of them are probes. Galleries contain only these persons, or all persons of the set. Pooling and re-ranking
//! are the server's code.

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

/// Samples of persons.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleSet {
    pub name: String,
    /// Unit vectors.
    pub embeddings: Vec<Vec<f32>>,
    /// The person of each sample.
    pub people: Vec<String>,
    /// Quality of each sample, 0 to 1; NaN if unknown.
    pub qualities: Vec<f32>,
}

/// The enrolled samples of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EnrolledSamples {
    /// This number of own samples.
    Own(usize),
    /// Four samples, the last one of the next person: mixed-up files.
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

/// How candidates are ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RankingMethod {
    Pooled(Pooling),
    /// The unweighted mean of all templates, the baseline.
    PlainMean,
    /// By the best template, then re-ranked.
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

/// The outcome of one search by one method.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SearchOutcome {
    /// Rank of the correct identity, counted from 1.
    rank: usize,
    /// Average precision over templates, if templates are ranked and none is swapped.
    precision: Option<f64>,
    is_reranked: bool,
}

/// Measures `draws` draws of a set. `None` when fewer than two persons have five samples.
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

/// Sums of each person's searches over all draws.
#[derive(Debug, Clone)]
struct Tally {
    first: Vec<Share>,
    /// Reciprocal rank of the correct identity.
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
            rank_1: estimate(&self.first, seed).expect("there is a search"),
            map: estimate(&self.identities, seed).expect("there is a search"),
            map_of_templates: estimate(&self.templates, seed),
            reranked: matches!(way, RankingMethod::Reranked(_)).then(|| self.reranked / searches),
        }
    }

    /// Difference of each person's correct searches between two galleries, and their number.
    fn lost(one: &Self, other: &Self) -> Vec<Share> {
        one.first.iter().zip(&other.first).map(|(one, other)| (one.0 - other.0, one.1)).collect()
    }
}

fn estimate(shares: &[Share], seed: u64) -> Option<Estimate> {
    let total = |of: fn(&Share) -> f64| shares.iter().map(of).sum::<f64>();
    let trials = total(|share| share.1);
    (trials > 0.0).then(|| Estimate { value: total(|share| share.0) / trials, interval: metrics::people(shares, seed) })
}

/// The loss of a method, also relative to the plain mean's loss, with persons resampled jointly.
fn lost_share(lost: &[Share], of_mean: &[Share], seed: u64) -> SwapLoss {
    let pairs: Vec<Share> = lost.iter().zip(of_mean).map(|(own, mean)| (own.0, mean.0)).collect();
    // Without a loss of the plain mean there is no relative loss.
    let any = pairs.iter().any(|(_, mean)| *mean > 0.0);
    let rank_1 = estimate(lost, seed).expect("there is a search");
    SwapLoss { rank_1, of_plain_mean: any.then(|| estimate(&pairs, seed)).flatten() }
}
