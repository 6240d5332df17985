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

/// So many who were right, evenly from one posterior up to another.
fn right(count: u16, from: f64, to: f64) -> Vec<ReviewTrial> {
    (0..count).map(|n| trial(from + (to - from) * f64::from(n) / f64::from(count), true)).collect()
}

fn wrong(count: usize, posterior: f64) -> Vec<ReviewTrial> {
    vec![trial(posterior, false); count]
}

fn doubtful(posterior: f64) -> Doubtful {
    Doubtful { posterior: Some(posterior), margin: Some(0.1) }
}

#[test]
fn nothing_is_settled_before_verdicts_carry_it() {
    assert_eq!(Levels::of(&[]), Levels { accept: None, keep: 0.0 });
    assert_eq!(Levels::of(&right(298, 0.9, 1.0)).accept, None);
    assert_eq!(Levels::of(&right(299, 0.9, 1.0)).accept, Some(0.9));
    // With one error among them it takes more.
    let with_error = |count| [right(count, 0.9, 1.0), wrong(1, 0.95)].concat();
    assert_eq!(Levels::of(&with_error(471)).accept, None);
    assert!(Levels::of(&with_error(472)).accept.is_some_and(|level| (level - 0.9).abs() < 1e-9));
}

#[test]
fn the_level_is_the_lowest_from_which_on_all_is_shown() {
    // Below .9 one in two is wrong.
    let mixed = [right(400, 0.9, 1.0), right(50, 0.5, 0.9), wrong(50, 0.7)].concat();
    let accept = Levels::of(&mixed).accept.expect("four hundred without an error");
    assert!((0.7..0.9).contains(&accept), "{accept}");
    let tied = [right(400, 0.9, 0.9), wrong(50, 0.9)].concat();
    assert_eq!(Levels::of(&tied).accept, None, "those of one posterior are settled together or not at all");
    // A lucky run of thousands far below does not bring the level down again.
    let lucky = [mixed, right(9000, 0.1, 0.2)].concat();
    assert_eq!(Levels::of(&lucky).accept, Some(accept));
}

#[test]
fn those_who_are_close_neither_count_nor_are_settled() {
    let close = |mut trial: ReviewTrial| {
        trial.doubt.margin = Some(0.019);
        trial
    };
    assert_eq!(Levels::of(&right(400, 0.9, 1.0).into_iter().map(close).collect::<Vec<_>>()).accept, None);
    let sure = [right(400, 0.9, 1.0), wrong(400, 0.99).into_iter().map(close).collect()].concat();
    let level = Levels::of(&sure).accept.expect("the others are right");
    assert!(doubtful(0.95).reaches(level) && !doubtful(0.89).reaches(level));
    assert!(!Doubtful { margin: Some(0.019), ..doubtful(0.95) }.reaches(level));
    assert!(Doubtful { margin: None, ..doubtful(0.95) }.reaches(level), "there is no runner-up");
    assert!(!Doubtful { posterior: None, ..doubtful(0.95) }.reaches(level));
}

#[test]
fn what_was_settled_stays_until_verdicts_contradict_it() {
    let seen = right(300, 0.5, 1.0);
    assert_eq!(Levels::of(&seen), Levels { accept: Some(0.5), keep: 0.0 });
    let once = Levels::of(&[seen.clone(), wrong(1, 0.6)].concat());
    assert_eq!((once.accept, once.keep), (None, 0.0), "nothing is proven any more, and nothing contradicted");
    let level = Levels::of(&[seen.clone(), wrong(4, 0.6)].concat());
    assert!((0.6..0.61).contains(&level.keep), "{level:?}");
    assert_eq!(Levels::of(&[seen, wrong(4, 1.0)].concat()), Levels { accept: None, keep: f64::INFINITY });
}

#[test]
fn questions_go_to_those_nearest_to_even_odds() {
    // None can be settled, and a fifth may be asked: those up to .85 and some by lot.
    let (mut pace, mut asked) = (Pace::default(), Vec::new());
    for n in 0..5000_u32 {
        let posterior = f64::from(n * 7919 % 1000) / 1000.0;
        pace.see();
        let step = pace.step(doubtful(posterior), None, 0.2, lot((0, n.into())));
        if let Step::Ask(selection) = step {
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
    assert!((0.2..0.3).contains(&mean), "lots fall on all alike: {mean}");
}

#[test]
fn what_could_be_settled_is_asked_now_and_then() {
    let mut pace = Pace::default();
    let mut asked = 0;
    for n in 0..4000 {
        pace.see();
        match pace.step(doubtful(0.95), Some(0.9), 0.2, lot((0, n))) {
            Step::Ask(_) => asked += 1,
            Step::Accept => {}
            Step::Leave => panic!("it is settled or asked"),
        }
    }
    assert!((150..250).contains(&asked), "{asked} of 4000");
    assert_eq!(pace.step(doubtful(0.95), Some(0.9), 0.0, 0.0), Step::Accept, "without room none is");
}

#[test]
fn lots_are_even() {
    let below: usize = (0..10_000).filter(|n| lot((7, *n)) < 0.25).count();
    assert!((2300..2700).contains(&below), "{below}");
}

proptest! {
    #[test]
    fn a_level_is_kept_at_which_answers_are_settled(
        trials in prop::collection::vec((0_u8..20, prop::bool::weighted(0.995)), 0..2000),
    ) {
        let trials: Vec<_> = trials.into_iter().map(|(tenth, was_right)| trial(f64::from(tenth) / 20.0, was_right)).collect();
        let Levels { accept, keep } = Levels::of(&trials);
        prop_assert!(accept.is_none_or(|accept| keep <= accept), "{:?} {}", accept, keep);
        if let Some(accept) = accept {
            let above: Vec<_> = trials.iter().filter(|trial| trial.doubt.posterior >= Some(accept)).collect();
            let errors = above.iter().filter(|trial| !trial.was_right).count();
            prop_assert!(above.len() >= 299 && errors as f64 <= 0.01 * above.len() as f64);
        }
    }

    #[test]
    fn questions_keep_to_their_share_in_every_window(
        answers in prop::collection::vec((0.0_f64..1.0, 0.0_f64..1.0, 0_u8..4), 1..3000),
        share in 0.0_f64..1.0,
        accept in prop::option::of(0.0_f64..1.0),
    ) {
        let mut pace = Pace::default();
        let mut asked = Vec::new();
        for (posterior, lot, kind) in answers {
            pace.see();
            // Three of four can be told.
            let is_asked = kind == 0 && matches!(pace.step(doubtful(posterior), accept, share, lot), Step::Ask(_));
            asked.push(u32::from(is_asked));
            let window = &asked[asked.len().saturating_sub(1000)..];
            prop_assert!(f64::from(window.iter().sum::<u32>()) <= share * window.len() as f64 + 1e-9);
        }
    }
}
