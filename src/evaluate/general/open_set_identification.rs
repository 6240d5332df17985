//! Open-set identification: some persons are enrolled, all others are non-enrolled probes.

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};
use rayon::prelude::*;

use super::{ProtocolOptions, ProtocolResults, compares};
use crate::{
    EvaluateError,
    labelled::Labelled,
    metrics::{self, AnswerRate, AnswerRates, Decided, Rate, Share},
    report::{Results, Slice},
    trial_collection::{Answer, TrialCollection},
};
use decision::{Calibration, Thresholds};
use domain::{Policy, Rehearsal, ReviewedSimilarities, Similarity};

/// Target FPIRs for which the server sets thresholds.
const PROMISED: [f64; 4] = [0.03, 0.01, 0.003, 0.001];
/// Target FMR of verification, which is not measured here.
const TARGET_FMR: f64 = 0.001;

/// Enrolled templates and probes.
struct OpenSetGallery {
    /// One sample per enrolled person.
    templates: Vec<usize>,
    mated: Vec<usize>,
    nonmated: Vec<usize>,
}

/// The best match of a search: similarity, and whether it is the probe's person.
#[derive(Debug, Clone, Copy)]
struct BestMatch {
    similarity: f32,
    is_right: bool,
}

pub(super) fn measure(set: &Labelled, options: &ProtocolOptions) -> Result<ProtocolResults, EvaluateError> {
    let gallery = OpenSetGallery::draw(set, options)?;
    let search = |probes: &[usize]| -> Vec<BestMatch> {
        probes.par_iter().map(|probe| first(set, &gallery.templates, options, *probe)).collect()
    };
    let (mated, nonmated) = (search(&gallery.mated), search(&gallery.nonmated));
    let promised = promises(set, &gallery.templates);
    let decided = Decisions::of(set, &gallery);
    let enrolled = gallery.templates.len();
    let measured = |admits: &dyn Fn(usize) -> bool| {
        let of = |probes: &[usize], found: &[BestMatch]| -> Vec<(usize, BestMatch)> {
            probes.iter().copied().zip(found.iter().copied()).filter(|(probe, _)| admits(*probe)).collect()
        };
        let (mated, nonmated) = (of(&gallery.mated, &mated), of(&gallery.nonmated, &nonmated));
        (!mated.is_empty() && !nonmated.is_empty()).then(|| {
            let right: Vec<Option<f32>> =
                mated.iter().map(|(_, first)| first.is_right.then_some(first.similarity)).collect();
            let taken: Vec<f32> = nonmated.iter().map(|(_, first)| first.similarity).collect();
            let mut results = metrics::identification(&right, &taken, enrolled, &promised);
            for at in &mut results.at_fpir {
                let mut shares: Vec<Share> = vec![(0.0, 0.0); set.people().len()];
                for ((probe, _), score) in mated.iter().zip(&right) {
                    let (missed, trials) = &mut shares[set.person(*probe) as usize];
                    *trials += 1.0;
                    *missed += f64::from(u8::from(score.is_none_or(|score| score < at.threshold)));
                }
                at.fnir_by_person = Some(metrics::people(&shares, options.seed));
            }
            results.decided = decided.as_ref().map(|decided| decided.measured(set, options, &admits));
            Results::Identification(Box::new(results))
        })
    };
    let results = measured(&|_| true).expect("both kinds of probes were drawn");
    let mut slices = Vec::new();
    for label in &options.slices {
        for value in set.values_of(label)? {
            let results = measured(&|probe| set.label(probe, label) == Some(&value));
            slices.extend(results.map(|results| Slice { label: label.clone(), value, results }));
        }
    }
    let mut notes = Vec::new();
    if promised.is_empty() {
        notes.push(format!(
            "a gallery of {enrolled} is too small for a threshold estimate: {} searches are needed",
            decision::TRIALS_MIN
        ));
    }
    Ok(ProtocolResults { results, slices, notes })
}

impl OpenSetGallery {
    /// Draws the enrolled persons, each with the first sample. A person with a single sample cannot be a mated probe
    /// and is not enrolled.
    fn draw(set: &Labelled, options: &ProtocolOptions) -> Result<Self, EvaluateError> {
        let mut people: Vec<&[usize]> =
            set.people().iter().map(Vec::as_slice).filter(|samples| samples.len() > 1).collect();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        for last in (1..people.len()).rev() {
            let drawn = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
            people.swap(last, usize::try_from(drawn).expect("at most the last place"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
        let enrolled = (people.len() as f64 * options.enrolled_share.clamp(0.0, 1.0)).round() as usize;
        let mut is_enrolled = vec![false; set.people().len()];
        let (mut templates, mut mated) = (Vec::new(), Vec::new());
        for samples in &people[..enrolled] {
            is_enrolled[set.person(samples[0]) as usize] = true;
            templates.push(samples[0]);
            mated.extend_from_slice(&samples[1..]);
        }
        let nonmated: Vec<usize> = (0..set.len()).filter(|s| !is_enrolled[set.person(*s) as usize]).collect();
        if mated.is_empty() || nonmated.is_empty() {
            let problem = "it needs enrolled people with a second sample, and people who are not enrolled";
            return Err(EvaluateError::Unusable(problem.to_owned()));
        }
        Ok(Self { templates, mated, nonmated })
    }
}

/// The answers of a collection with the default policy.
struct Decisions {
    thresholds: Thresholds,
    /// Each mated probe, its answer, and whether the identity of the answer is its person's.
    mated: Vec<(usize, Answer, bool)>,
    nonmated: Vec<(usize, Answer, bool)>,
}

impl Decisions {
    /// `None` if no enrolled sample could be encoded.
    fn of(set: &Labelled, gallery: &OpenSetGallery) -> Option<Self> {
        let mut collection = TrialCollection::new(Policy::default(), None);
        let mut enrolled: Vec<u32> = Vec::new();
        for template in &gallery.templates {
            if let Some(embedding) = set.embedding(*template) {
                collection.enroll(&[embedding]);
                enrolled.push(set.person(*template));
            }
        }
        let space = gallery.templates.iter().find_map(|template| set.embedding(*template))?.space();
        let thresholds = collection.thresholds(space);
        let answers = |probes: &[usize]| -> Vec<(usize, Answer, bool)> {
            let answer = |probe: &usize| {
                // A photo that cannot be encoded is refused, and nobody is enrolled.
                let answer = set
                    .embedding(*probe)
                    .map_or(Answer::Uncertain, |embedding| collection.answer(&thresholds, embedding));
                let is_right = matches!(answer, Answer::Known(identity) if enrolled[identity] == set.person(*probe));
                (*probe, answer, is_right)
            };
            probes.par_iter().map(answer).collect()
        };
        let (mated, nonmated) = (answers(&gallery.mated), answers(&gallery.nonmated));
        Some(Self { thresholds, mated, nonmated })
    }

    /// The shares of the answers to the admitted probes; there is one of either kind.
    fn measured(&self, set: &Labelled, options: &ProtocolOptions, admits: &dyn Fn(usize) -> bool) -> Decided {
        let rates = |answers: &[(usize, Answer, bool)]| {
            let rate = |counts: &dyn Fn(Answer, bool) -> bool| {
                let mut by_person: Vec<Share> = vec![(0.0, 0.0); set.people().len()];
                let (mut counted, mut trials) = (0, 0);
                for (probe, answer, is_right) in answers.iter().filter(|(probe, ..)| admits(*probe)) {
                    let share = &mut by_person[set.person(*probe) as usize];
                    let is_counted = counts(*answer, *is_right);
                    share.0 += f64::from(u8::from(is_counted));
                    share.1 += 1.0;
                    counted += usize::from(is_counted);
                    trials += 1;
                }
                AnswerRate { rate: Rate::of(counted, trials), by_person: metrics::people(&by_person, options.seed) }
            };
            AnswerRates {
                known_right: rate(&|answer, is_right| matches!(answer, Answer::Known(_)) && is_right),
                known_wrong: rate(&|answer, is_right| matches!(answer, Answer::Known(_)) && !is_right),
                new: rate(&|answer, _| answer == Answer::New),
                uncertain: rate(&|answer, _| answer == Answer::Uncertain),
            }
        };
        let point = &self.thresholds.point;
        Decided {
            target_fpir: point.target_fpir,
            target_duplicates: Policy::default().target_duplicates,
            fpir_upper_bound: point.fpir_upper_bound,
            mated: rates(&self.mated),
            nonmated: rates(&self.nonmated),
        }
    }
}

/// The most similar template; on ties, a wrong one.
fn first(set: &Labelled, templates: &[usize], options: &ProtocolOptions, probe: usize) -> BestMatch {
    let mut first = BestMatch { similarity: Similarity::LOWEST.0, is_right: false };
    for template in templates.iter().filter(|template| compares(set, options, probe, **template)) {
        let found = BestMatch {
            similarity: set.similarity(probe, *template),
            is_right: set.person(probe) == set.person(*template),
        };
        let is_better = found.similarity > first.similarity;
        if is_better || (found.similarity >= first.similarity && first.is_right && !found.is_right) {
            first = found;
        }
    }
    first
}

/// (target FPIR, threshold) as the server derives them: from comparisons within the gallery, before any search.
fn promises(set: &Labelled, templates: &[usize]) -> Vec<(f64, f32)> {
    let best = |(place, template): (usize, &usize)| {
        let others = templates.iter().enumerate().filter(|(other, _)| *other != place);
        let similarities = others.map(|(_, other)| set.similarity(*template, *other));
        Similarity(similarities.fold(Similarity::LOWEST.0, f32::max))
    };
    let neighbours = templates.iter().zip(templates.iter().cycle().skip(1));
    let rehearsal = Rehearsal {
        identities: templates.len() as u64,
        templates: templates.len() as u64,
        nonmated_best: templates.par_iter().enumerate().map(best).collect(),
        impostor: neighbours.map(|(one, other)| Similarity(set.similarity(*one, *other))).collect(),
        impostor_independent: templates.len() as f64,
        mated_best: Vec::new(),
        reviewed: ReviewedSimilarities::default(),
    };
    let Some(calibration) = Calibration::from_rehearsal(&rehearsal, None) else { return Vec::new() };
    let threshold = |target_fpir: f64| {
        let policy = Policy { target_fpir, target_fmr: TARGET_FMR, ..Policy::default() };
        calibration.thresholds(policy, rehearsal.identities).point.threshold_known.map(|known| (target_fpir, known.0))
    };
    PROMISED.into_iter().filter_map(threshold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        PersonRule,
        labelled::fixtures::{embedding, plane},
        metrics::Identification,
    };

    fn results(measured: ProtocolResults) -> Identification {
        match measured.results {
            Results::Identification(results) => *results,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn people_with_one_sample_are_not_enrolled() {
        let samples = [("a", "1", 0.0), ("a", "1", 2.0), ("b", "1", 90.0), ("b", "1", 93.0), ("c", "1", 180.0)];
        let all = ProtocolOptions { enrolled_share: 1.0, ..ProtocolOptions::default() };
        let measured = measure(&plane(&samples), &all).expect("measured");
        assert!(measured.notes[0].contains("too small"), "{:?}", measured.notes);
        let found = results(measured);
        assert_eq!((found.enrolled, found.mated_probes, found.nonmated_probes), (2, 2, 1));
        assert!((found.rank_1 - 1.0).abs() < 1e-12 && found.at_fpir[0].fnir.errors == 0, "{found:?}");
        let half = results(measure(&plane(&samples), &ProtocolOptions::default()).expect("measured"));
        assert_eq!((half.enrolled, half.mated_probes, half.nonmated_probes), (1, 1, 3));
        assert!(measure(&plane(&samples[..4]), &all).is_err(), "there is no nonmated probe");
    }

    #[test]
    fn on_ties_the_wrong_person_is_first() {
        let set = plane(&[("a", "1", 0.0), ("b", "1", 40.0), ("a", "1", 20.0)]);
        // 20 degrees to both.
        let found = first(&set, &[0, 1], &ProtocolOptions::default(), 2);
        let other = first(&set, &[1, 0], &ProtocolOptions::default(), 2);
        let apart = (set.similarity(2, 0) - set.similarity(2, 1)).abs();
        assert!(apart > 0.0 || (!found.is_right && !other.is_right), "{found:?} {other:?}");
        assert!(!first(&set, &[1], &ProtocolOptions::default(), 2).is_right);
    }

    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn non_enrolled_people_are_accepted_about_as_often_as_promised_on_real_data() {
        let rows = testing::embeddings("lfw_mobilefacenet");
        let (names, rows): (Vec<String>, Vec<Vec<f32>>) = rows.into_iter().unzip();
        let embeddings = rows.iter().map(|row| Some(embedding(row))).collect();
        let known = PersonRule::Lfw.known(&names).expect("names of the set");
        let set = Labelled::new(known, embeddings).expect("a set");
        let found = results(measure(&set, &ProtocolOptions::default()).expect("measured"));
        assert_eq!(found.enrolled, 429, "half of the 858 people with two or more");
        let [first, ..] = &found.promised[..] else { panic!("a gallery of 429 promises") };
        assert!((0.01..0.09).contains(&first.fpir.rate), "3 % within a factor of three: {first:?}");
        assert!(found.at_fpir[0].fpir.rate <= 0.01 && found.at_fpir[0].dir > 0.5, "{:?}", found.at_fpir[0]);
        assert!(found.promised.windows(2).all(|two| two[0].threshold <= two[1].threshold), "{:?}", found.promised);
    }
}
