use super::*;
use crate::network::{Folding, Network};
use weights::{Dtype, RawTensor};

const WALK: usize = 60 * 17 * 3;
const HOW: ContrastiveStep = ContrastiveStep { rate: 1e-3, decay: 0.05, temperature: 0.1 };
/// Two walks of each of four people.
const PEOPLE: [u32; 8] = [0, 0, 1, 1, 2, 2, 3, 3];

/// Roughly normal numbers from a fixed sequence.
fn normal(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    move || (unit() + unit() + unit() + unit() - 2.0) * 1.7
}

/// Bodies 100 pixels tall; each person has a shape, and each walk moves a little.
fn walks() -> Vec<f32> {
    let mut walks = Vec::new();
    for (number, person) in (0_u32..).zip(PEOPLE) {
        let (mut shape, mut motion) = (normal(900 + person), normal(number));
        let body: [[f32; 2]; 17] =
            std::array::from_fn(|joint| [8.0 * shape(), 6.0 * joint as f32 - 50.0 + 4.0 * shape()]);
        for _ in 0..60 {
            walks.extend(body.iter().flat_map(|[x, y]| [x + motion(), y + motion(), 0.9]));
        }
    }
    walks
}

fn learner() -> GaitLearner {
    GaitLearner::new(&mut normal(1)).expect("draws its weights")
}

fn steps(learner: &mut GaitLearner, walks: &[f32], count: usize) {
    for _ in 0..count {
        learner.step(walks, &PEOPLE, HOW).expect("a batch");
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn repeated_batches_are_learnt() {
    let (mut learner, walks) = (learner(), walks());
    let losses: Vec<f64> = (0..12).map(|_| learner.step(&walks, &PEOPLE, HOW).expect("a batch")).collect();
    assert!(losses[11] < 0.7 * losses[0], "{losses:?}");
    assert_eq!(learner.steps(), 12);
}

#[test]
fn the_trained_network_is_the_served_network() {
    let (mut learner, walks) = (learner(), walks());
    steps(&mut learner, &walks, 5);
    let learnt = learner.embed(&walks, 8).expect("a batch");
    for folding in [Folding::Folded, Folding::Unfolded] {
        let weights = learner.weights().expect("finite");
        let network = Network::build(GaitLearner::ARCHITECTURE, weights, folding).expect("its own layout");
        let served = network.forward(&walks, 8).expect("runs");
        for (learnt, served) in learnt.chunks(128).zip(served.chunks(128)) {
            assert!(cosine(learnt, served) > 0.9999, "{folding:?}");
        }
    }
}

#[test]
fn a_resumed_learner_continues_bit_for_bit() {
    let walks = walks();
    let (mut whole, mut first) = (learner(), learner());
    steps(&mut whole, &walks, 4);
    steps(&mut first, &walks, 2);
    let mut second = GaitLearner::resume(first.state().expect("finite")).expect("its own state");
    steps(&mut second, &walks, 2);
    assert_eq!(second.state().expect("finite"), whole.state().expect("finite"));
}

#[test]
fn invalid_states_are_refused_by_name() {
    let state = learner().state().expect("finite");
    let refused = |change: &dyn Fn(&mut StateDict)| {
        let mut state = state.clone();
        change(&mut state);
        GaitLearner::resume(state).expect_err("is no state").to_string()
    };
    let bias = |number: f32| RawTensor::from_f32(vec![128], &[number; 128]).expect("the shape matches");
    let put = |state: &mut StateDict, key: &str, tensor: RawTensor| {
        state.remove(key);
        state.insert(key.to_owned(), tensor).expect("just removed");
    };
    assert!(refused(&|state| drop(state.remove("optimizer.steps"))).contains("optimizer.steps"));
    assert!(refused(&|state| drop(state.remove("stem.conv.weight"))).contains("stem.conv.weight"));
    assert!(refused(&|state| put(state, "more", bias(0.0))).contains("more"));
    assert!(refused(&|state| put(state, "stem.conv.bias", bias(0.0))).contains("stem.conv.bias"));
    assert!(refused(&|state| put(state, "embedding.linear.bias", bias(f32::NAN))).contains("not finite"));
    let whole = RawTensor::new(Dtype::I32, vec![128], vec![0; 512]).expect("the shape matches");
    assert!(refused(&|state| put(state, "embedding.linear.bias", whole.clone())).contains("number type"));
}

#[test]
fn invalid_batches_are_refused() {
    let (mut learner, walks) = (learner(), walks());
    let mut step = |walks: &[f32], people: &[u32]| learner.step(walks, people, HOW).expect_err("is no batch");
    assert!(matches!(step(&walks[1..], &PEOPLE), LearnError::WrongBatch { walks: 7, people: 8 }));
    assert!(matches!(step(&[], &[]), LearnError::WrongBatch { .. }));
    assert!(matches!(step(&walks[..3 * WALK], &[4, 5, 6]), LearnError::NothingInCommon));
}

#[test]
fn a_number_that_is_not_finite_is_never_saved() {
    let (mut learner, mut walks) = (learner(), walks());
    walks[100] = f32::NAN;
    assert!(matches!(learner.step(&walks, &PEOPLE, HOW), Err(LearnError::Diverged)));
    assert_eq!(learner.steps(), 0);
    assert!(matches!(learner.weights(), Err(LearnError::Diverged)), "the batch's statistics are spoilt");
}

/// Two people, one with three walks, in two dimensions: the loss by its definition.
#[test]
fn the_contrastive_loss_follows_its_definition() {
    const ANGLES: [f32; 5] = [0.1, 0.4, 1.0, 2.0, 2.2];
    let people = [0_u32, 0, 0, 1, 1];
    let rows: Vec<f32> = ANGLES.iter().flat_map(|a| [3.0 * a.cos(), 3.0 * a.sin()]).collect();
    let embeddings = Tensor::f_from_slice(&rows).and_then(|rows| rows.f_reshape([5, 2])).expect("five rows");
    let loss = contrast::supervised(&embeddings, &people, 0.5).expect("a batch");
    let logit = |i: usize, j: usize| f64::from(ANGLES[i] - ANGLES[j]).cos() / 0.5;
    let mut expected = 0.0;
    for i in 0..5 {
        let others = || (0..5).filter(|j| *j != i);
        let all: f64 = others().map(|j| logit(i, j).exp()).sum();
        let own: Vec<usize> = others().filter(|j| people[*j] == people[i]).collect();
        expected -= own.iter().map(|p| logit(i, *p) - all.ln()).sum::<f64>() / own.len() as f64 / 5.0;
    }
    let loss = loss.f_double_value(&[]).expect("one number");
    assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
}
