//! Closed-set identification: every sample against all others.

use rayon::prelude::*;

use super::{ProtocolOptions, ProtocolResults, compares};
use crate::{
    EvaluateError,
    labelled::Labelled,
    metrics::{self, RankingOutcome, Share},
    report::{Results, Slice},
};

pub(super) fn measure(set: &Labelled, options: &ProtocolOptions) -> Result<ProtocolResults, EvaluateError> {
    let (probes, gallery) = (options.probes_of(set)?, options.gallery_of(set)?);
    let mut is_searched = vec![false; set.len()];
    for item in &gallery {
        is_searched[*item] = true;
    }
    let searched: Vec<(usize, Option<RankingOutcome>)> =
        probes.par_iter().map(|probe| (*probe, outcome(set, options, *probe, &gallery, &is_searched))).collect();
    // Without a separate gallery, a probe does not search itself.
    let size = gallery.len() - usize::from(options.gallery.is_none());
    let Some(results) = retrieval(set, &searched, size, |_| true, options.seed) else {
        let problem = "no probe has another sample of its person to be found";
        return Err(EvaluateError::Unusable(problem.to_owned()));
    };
    let mut slices = Vec::new();
    for label in &options.slices {
        for value in set.values_of(label)? {
            let of_value = |probe: usize| set.label(probe, label) == Some(&value);
            let results = retrieval(set, &searched, size, of_value, options.seed);
            slices.extend(results.map(|results| Slice { label: label.clone(), value: value.clone(), results }));
        }
    }
    Ok(ProtocolResults { results, slices, notes: Vec::new() })
}

/// `None` if no admitted probe has a mate in the gallery.
fn retrieval(
    set: &Labelled,
    searched: &[(usize, Option<RankingOutcome>)],
    gallery_size: usize,
    admits: impl Fn(usize) -> bool,
    seed: u64,
) -> Option<Results> {
    let mut shares: Vec<Share> = vec![(0.0, 0.0); set.people().len()];
    let mut answered = Vec::new();
    for (probe, outcome) in searched.iter().filter(|(probe, _)| admits(*probe)) {
        let Some(outcome) = outcome else { continue };
        let (right, trials) = &mut shares[set.person(*probe) as usize];
        *trials += 1.0;
        *right += f64::from(u8::from(outcome.first_right == 1));
        answered.push(*outcome);
    }
    if answered.is_empty() {
        return None;
    }
    let mut found = metrics::retrieval_of(&answered, gallery_size);
    found.rank_1_by_person = Some(metrics::people(&shares, seed));
    Some(Results::Retrieval(found))
}

/// The ranks of the correct answers. On ties, wrong answers come first, so that the order of names gives no advantage.
fn outcome(
    set: &Labelled,
    options: &ProtocolOptions,
    probe: usize,
    gallery: &[usize],
    is_searched: &[bool],
) -> Option<RankingOutcome> {
    let person = set.person(probe);
    let own = set.people()[person as usize].iter().copied();
    let own = own.filter(|item| *item != probe && is_searched[*item] && compares(set, options, probe, *item));
    let mut right: Vec<f32> = own.map(|item| set.similarity(probe, item)).collect();
    right.sort_unstable_by(|a, b| b.total_cmp(a));
    if right.is_empty() {
        return None;
    }
    // Number of wrong answers after each number of correct answers.
    let mut wrong_after = vec![0_usize; right.len() + 1];
    for item in gallery.iter().filter(|item| set.person(**item) != person) {
        let similarity = set.similarity(probe, *item);
        wrong_after[right.partition_point(|right| *right > similarity)] += 1;
    }
    let mut wrong = 0;
    let ranks: Vec<usize> = (0..right.len())
        .map(|before| {
            wrong += wrong_after[before];
            before + 1 + wrong
        })
        .collect();
    RankingOutcome::at(&ranks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        PersonRule, Retrieval,
        labelled::fixtures::{embedding, plane},
    };

    fn results(set: &Labelled, options: &ProtocolOptions) -> Retrieval {
        match measure(set, options).expect("measured").results {
            Results::Retrieval(results) => results,
            other => panic!("{other:?}"),
        }
    }

    fn everybody(set: &Labelled, probe: usize) -> Option<RankingOutcome> {
        let all: Vec<usize> = (0..set.len()).collect();
        outcome(set, &ProtocolOptions::default(), probe, &all, &vec![true; set.len()])
    }

    #[test]
    fn probes_search_the_gallery_alone() {
        let set = plane(&[("a", "query", 0.0), ("a", "query", 1.0), ("a", "gallery", 60.0), ("b", "gallery", 20.0)]);
        let part = |text: &str| text.parse().ok();
        let parts = ProtocolOptions {
            probes: part("camera=query"),
            gallery: part("camera=gallery"),
            ..ProtocolOptions::default()
        };
        let found = results(&set, &parts);
        assert_eq!((found.probes, found.gallery, found.rank_1, found.rank_5), (2, 2, 0.0, 1.0));
    }

    #[test]
    fn ranks_are_those_of_a_sorted_list() {
        let samples = [("a", "1", 0.0), ("b", "1", 20.0), ("a", "2", 50.0), ("b", "2", 55.0), ("a", "2", 5.0)];
        let set = plane(&samples);
        for probe in 0..samples.len() {
            let others = (0..samples.len()).filter(|item| *item != probe);
            let sorted =
                crate::rank(others, |item| set.similarity(probe, item), |item| set.person(item) == set.person(probe));
            assert_eq!(everybody(&set, probe), RankingOutcome::of(&sorted), "{probe}: {sorted:?}");
        }
    }

    #[test]
    fn on_ties_wrong_answers_come_first() {
        let set = plane(&[("a", "1", 0.0), ("b", "1", 30.0), ("a", "1", 30.0)]);
        assert_eq!(everybody(&set, 0).expect("found").first_right, 2);
    }

    #[test]
    fn samples_of_the_same_camera_may_be_excluded_and_results_sliced() {
        let set = plane(&[("a", "1", 0.0), ("a", "1", 1.0), ("a", "2", 60.0), ("b", "1", 20.0), ("b", "2", 21.0)]);
        assert!((results(&set, &ProtocolOptions::default()).rank_1 - 0.8).abs() < 1e-12);
        let across = ProtocolOptions { across: vec!["camera".to_owned()], ..ProtocolOptions::default() };
        assert!((results(&set, &across).rank_1 - 0.4).abs() < 1e-12);
        let sliced = ProtocolOptions { slices: vec!["camera".to_owned()], ..ProtocolOptions::default() };
        let slices = measure(&set, &sliced).expect("measured").slices;
        let rank_1 = slices.iter().map(|slice| match &slice.results {
            Results::Retrieval(r) => (r.probes, r.rank_1),
            other => panic!("{other:?}"),
        });
        assert_eq!(rank_1.collect::<Vec<_>>(), [(3, 1.0), (2, 0.5)]);
    }

    fn real(set: &str, rule: &PersonRule) -> Retrieval {
        let (names, rows): (Vec<String>, Vec<Vec<f32>>) = testing::embeddings(set).into_iter().unzip();
        let embeddings = rows.iter().map(|row| Some(embedding(row))).collect();
        let set = Labelled::new(rule.known(&names).expect("names of the set"), embeddings).expect("a set");
        results(&set, &ProtocolOptions::default())
    }

    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn faces_of_lfw_are_identified_on_real_data() {
        let found = real("lfw_mobilefacenet", &PersonRule::Lfw);
        assert!((found.rank_1 - 0.946).abs() <= 0.003, "{}", found.rank_1);
        let interval = found.rank_1_by_person.expect("people are known");
        assert!(interval.low < found.rank_1 && found.rank_1 < interval.high, "{interval:?}");
    }

    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn crops_of_market_are_identified_on_real_data() {
        let found = real("market_osnet", &PersonRule::Market);
        assert!((found.rank_1 - 0.942).abs() <= 0.003, "{}", found.rank_1);
    }
}
