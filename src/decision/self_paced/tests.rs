use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use domain::{CandidateEvidence, EmbeddingSpace, Modality, ModelDigest, Pooling, ReviewCaseId, Similarity, Timestamp};

fn trial(posterior: f64, was_right: bool) -> ReviewTrial {
    ReviewTrial {
        case: ReviewCaseId(Uuid::nil()),
        doubt: CandidateEvidence {
            space: EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), 4),
            pooling: Pooling::Best,
            similarity: Similarity(0.5),
            margin: Some(0.1),
            posterior: Some(posterior),
            selection: CaseSelection::Blind,
        },
        was_right,
        time: Timestamp::UNIX_EPOCH,
    }
}

/// Right answers with posteriors evenly between two values.
fn right(count: u16, from: f64, to: f64) -> Vec<ReviewTrial> {
    (0..count).map(|n| trial(from + (to - from) * f64::from(n) / f64::from(count), true)).collect()
}

fn wrong(count: usize, posterior: f64) -> Vec<ReviewTrial> {
    vec![trial(posterior, false); count]
}

fn answer(posterior: f64) -> UncertainAnswer {
    UncertainAnswer { posterior: Some(posterior), margin: Some(0.1) }
}

#[test]
fn nothing_is_accepted_before_verdicts_prove_it() {
    assert_eq!(AcceptanceLevels::of(&[]), AcceptanceLevels { accept: None, keep: 0.0 });
    assert_eq!(AcceptanceLevels::of(&right(298, 0.9, 1.0)).accept, None);
    assert_eq!(AcceptanceLevels::of(&right(299, 0.9, 1.0)).accept, Some(0.9));
    // With one error more trials are needed.
    let with_error = |count| [right(count, 0.9, 1.0), wrong(1, 0.95)].concat();
    assert_eq!(AcceptanceLevels::of(&with_error(471)).accept, None);
    assert!(AcceptanceLevels::of(&with_error(472)).accept.is_some_and(|level| (level - 0.9).abs() < 1e-9));
}

#[test]
fn the_level_is_the_lowest_proven_one() {
    // Below 0.9 half of the answers are wrong.
    let mixed = [right(400, 0.9, 1.0), right(50, 0.5, 0.9), wrong(50, 0.7)].concat();
    let accept = AcceptanceLevels::of(&mixed).accept.expect("four hundred without an error");
    assert!((0.7..0.9).contains(&accept), "{accept}");
    let tied = [right(400, 0.9, 0.9), wrong(50, 0.9)].concat();
    assert_eq!(AcceptanceLevels::of(&tied).accept, None, "equal posteriors are accepted together or not at all");
    // A lucky run of thousands far below does not lower the level again.
    let lucky = [mixed, right(9000, 0.1, 0.2)].concat();
    assert_eq!(AcceptanceLevels::of(&lucky).accept, Some(accept));
}

#[test]
fn answers_with_a_small_margin_neither_count_nor_are_accepted() {
    let close = |mut trial: ReviewTrial| {
        trial.doubt.margin = Some(0.019);
        trial
    };
    assert_eq!(AcceptanceLevels::of(&right(400, 0.9, 1.0).into_iter().map(close).collect::<Vec<_>>()).accept, None);
    let sure = [right(400, 0.9, 1.0), wrong(400, 0.99).into_iter().map(close).collect()].concat();
    let level = AcceptanceLevels::of(&sure).accept.expect("the others are right");
    assert!(answer(0.95).reaches(level) && !answer(0.89).reaches(level));
    assert!(!UncertainAnswer { margin: Some(0.019), ..answer(0.95) }.reaches(level));
    assert!(UncertainAnswer { margin: None, ..answer(0.95) }.reaches(level), "there is no runner-up");
    assert!(!UncertainAnswer { posterior: None, ..answer(0.95) }.reaches(level));
}

#[test]
fn accepted_answers_stay_until_verdicts_contradict_them() {
    let seen = right(300, 0.5, 1.0);
    assert_eq!(AcceptanceLevels::of(&seen), AcceptanceLevels { accept: Some(0.5), keep: 0.0 });
    let once = AcceptanceLevels::of(&[seen.clone(), wrong(1, 0.6)].concat());
    assert_eq!((once.accept, once.keep), (None, 0.0), "nothing is proven any more, and nothing contradicted");
    let level = AcceptanceLevels::of(&[seen.clone(), wrong(4, 0.6)].concat());
    assert!((0.6..0.61).contains(&level.keep), "{level:?}");
    assert_eq!(
        AcceptanceLevels::of(&[seen, wrong(4, 1.0)].concat()),
        AcceptanceLevels { accept: None, keep: f64::INFINITY }
    );
}

#[test]
fn answers_nearest_to_even_odds_are_reviewed() {
    // No answer is acceptable, and a fifth may be reviewed.
    let (mut budget, mut asked) = (ReviewBudget::default(), Vec::new());
    for n in 0..5000_u32 {
        let posterior = f64::from(n * 7919 % 1000) / 1000.0;
        budget.count_resolve();
        let action = budget.decide(answer(posterior), None, 0.2, uniform_from_id(0, n.into()));
        if let ReviewAction::Ask(selection) = action {
            asked.push(((posterior - 0.5).abs(), selection));
        }
    }
    let of = |selection| asked.iter().filter(move |(_, s)| *s == selection).map(|(distance, _)| *distance);
    let (chosen, drawn) = (of(CaseSelection::ByPosterior).count(), of(CaseSelection::Blind).count());
    assert!((600..800).contains(&chosen) && (150..350).contains(&drawn), "{chosen} {drawn}");
    assert!(
        of(CaseSelection::ByPosterior).filter(|distance| *distance > 0.1).count() < 50,
        "15 % are nearer than .075"
    );
    let mean = of(CaseSelection::Blind).sum::<f64>() / drawn as f64;
    assert!((0.2..0.3).contains(&mean), "random selection is uniform: {mean}");
}

#[test]
fn some_acceptable_answers_are_reviewed() {
    let mut budget = ReviewBudget::default();
    let mut asked = 0;
    for n in 0..4000 {
        budget.count_resolve();
        match budget.decide(answer(0.95), Some(0.9), 0.2, uniform_from_id(0, n)) {
            ReviewAction::Ask(_) => asked += 1,
            ReviewAction::Accept => {}
            ReviewAction::Leave => panic!("it is accepted or reviewed"),
        }
    }
    assert!((150..250).contains(&asked), "{asked} of 4000");
    assert_eq!(
        budget.decide(answer(0.95), Some(0.9), 0.0, 0.0),
        ReviewAction::Accept,
        "without budget none is reviewed"
    );
}

#[test]
fn numbers_from_ids_are_uniform() {
    let below: usize = (0..10_000).filter(|n| uniform_from_id(7, *n) < 0.25).count();
    assert!((2300..2700).contains(&below), "{below}");
}

proptest! {
    #[test]
    fn the_keep_level_is_at_most_the_acceptance_level(
        trials in prop::collection::vec((0_u8..20, prop::bool::weighted(0.995)), 0..2000),
    ) {
        let trials: Vec<_> = trials.into_iter().map(|(tenth, was_right)| trial(f64::from(tenth) / 20.0, was_right)).collect();
        let AcceptanceLevels { accept, keep } = AcceptanceLevels::of(&trials);
        prop_assert!(accept.is_none_or(|accept| keep <= accept), "{:?} {}", accept, keep);
        if let Some(accept) = accept {
            let above: Vec<_> = trials.iter().filter(|trial| trial.doubt.posterior >= Some(accept)).collect();
            let errors = above.iter().filter(|trial| !trial.was_right).count();
            prop_assert!(above.len() >= 299 && errors as f64 <= 0.01 * above.len() as f64);
        }
    }

    #[test]
    fn reviews_stay_within_their_share_in_every_window(
        answers in prop::collection::vec((0.0_f64..1.0, 0.0_f64..1.0, 0_u8..4), 1..3000),
        share in 0.0_f64..1.0,
        accept in prop::option::of(0.0_f64..1.0),
    ) {
        let mut budget = ReviewBudget::default();
        let mut asked = Vec::new();
        for (posterior, random, kind) in answers {
            budget.count_resolve();
            // Three of four resolves are not uncertain.
            let is_asked = kind == 0 && matches!(budget.decide(answer(posterior), accept, share, random), ReviewAction::Ask(_));
            asked.push(u32::from(is_asked));
            let window = &asked[asked.len().saturating_sub(1000)..];
            prop_assert!(f64::from(window.iter().sum::<u32>()) <= share * window.len() as f64 + 1e-9);
        }
    }
}
