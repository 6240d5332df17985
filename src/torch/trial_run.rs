//! Trial runs: checks a network's outputs before it serves.

pub use super::error::TrialRunError;
use super::{error::NetworkError, runtime};

/// Number of trial inputs.
const INPUTS: usize = 3;
/// Maximum relative difference of two outputs for one input. Batches of other lengths are summed in another order,
/// which changes an output by about 1e-6.
const DIFFERENCE_MAX: f64 = 1e-3;
/// The same on CUDA, where programs may multiply with 10 bits.
const CUDA_DIFFERENCE_MAX: f64 = 1e-2;
/// Minimum relative difference of outputs for unrelated inputs.
const DIFFERENCE_MIN: f64 = 1e-6;

/// Runs a built-in network once. Its layers are tested; its weights may still be so large that the output is not
/// finite.
///
/// # Errors
///
/// [`TrialRunError::NotFinite`], or the error of `run`.
pub(super) fn is_finite(
    input: [usize; 3],
    run: impl FnOnce(&[f32], usize) -> Result<Vec<f32>, NetworkError>,
) -> Result<(), NetworkError> {
    finite(&run(&inputs(input, 1), 1)?)
}

/// Runs an unknown network: outputs must be finite, repeatable, independent of the batch, and different for different
/// inputs. `run` takes a row-major batch and its length, and returns as many rows.
///
/// # Errors
///
/// See [`TrialRunError`], or the error of `run`.
pub(super) fn is_sound(
    input: [usize; 3],
    mut run: impl FnMut(&[f32], usize) -> Result<Vec<f32>, NetworkError>,
) -> Result<(), NetworkError> {
    let batch = inputs(input, INPUTS);
    let together = run(&batch, INPUTS)?;
    finite(&together)?;
    one_answer(&together, &run(&batch, INPUTS)?).map_err(TrialRunError::Random)?;
    let rows = || together.chunks_exact(together.len() / INPUTS);
    for (one, among_others) in batch.chunks_exact(batch.len() / INPUTS).zip(rows()) {
        one_answer(among_others, &run(one, 1)?).map_err(TrialRunError::BatchDependent)?;
    }
    let mut pairs = rows().zip(rows().skip(1));
    if pairs.all(|(one, other)| difference(one, other) <= DIFFERENCE_MIN) {
        return Err(TrialRunError::Constant.into());
    }
    Ok(())
}

/// # Errors
/// The relative difference, when it is too large.
fn one_answer(one: &[f32], other: &[f32]) -> Result<(), f64> {
    let difference = difference(one, other);
    let difference_max = if runtime::device().is_cuda() { CUDA_DIFFERENCE_MAX } else { DIFFERENCE_MAX };
    // NaN counts as a difference.
    if difference <= difference_max { Ok(()) } else { Err(difference) }
}

fn finite(answer: &[f32]) -> Result<(), NetworkError> {
    if answer.iter().all(|number| number.is_finite()) { Ok(()) } else { Err(TrialRunError::NotFinite.into()) }
}

/// The norm of the difference relative to the larger norm.
fn difference(one: &[f32], other: &[f32]) -> f64 {
    let length = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|number| number * number).sum::<f64>().sqrt();
    let of = |numbers: &[f32]| length(&mut numbers.iter().map(|number| f64::from(*number)));
    let between = length(&mut one.iter().zip(other).map(|(one, other)| f64::from(*one) - f64::from(*other)));
    if between == 0.0 { 0.0 } else { between / of(one).max(of(other)) }
}

/// Noise in -1..1, each input with another mean, so that a network that normalises mean or variance still distinguishes
/// some of them. The noise is constant.
fn inputs(shape: [usize; 3], count: usize) -> Vec<f32> {
    let length: usize = shape.iter().product();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).flat_map(|input| vec![input as f32 / 4.0; length]).map(|mean| mean + noise() * (1.0 - mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: [usize; 3] = [1, 2, 4];

    /// Tests a network that maps each input to a row, given the batch and the number of earlier runs.
    fn tried(row: impl Fn(&[f32], &[f32], usize) -> Vec<f32>) -> Result<(), NetworkError> {
        let mut runs = 0;
        is_sound(INPUT, |batch, count| {
            runs += 1;
            assert_eq!(batch.len(), count * 8);
            Ok(batch.chunks_exact(8).flat_map(|input| row(input, batch, runs)).collect())
        })
    }

    #[test]
    fn a_sound_network_passes_and_each_flaw_has_its_name() {
        assert!(tried(|input, _, _| input.to_vec()).is_ok());
        assert!(tried(|input, _, _| vec![0.0, input[3], 0.0]).is_ok());
        let rounded = |input: &[f32], batch: &[f32], run: usize| {
            input.iter().map(|number| number * (1.0 + 1e-6 * (batch.len() + run) as f32)).collect()
        };
        assert!(tried(rounded).is_ok(), "rounding of batches of other lengths");
        let flaw = |outcome: Result<(), NetworkError>| match outcome.expect_err("it is flawed") {
            NetworkError::TrialRun(flaw) => flaw,
            other => panic!("{other}"),
        };
        assert_eq!(flaw(tried(|input, _, _| vec![input[0], f32::NAN])), TrialRunError::NotFinite);
        assert_eq!(flaw(tried(|input, _, _| vec![input[0], f32::INFINITY])), TrialRunError::NotFinite);
        let random = |input: &[f32], _: &[f32], run: usize| vec![input[0], run as f32 / 100.0];
        assert!(matches!(flaw(tried(random)), TrialRunError::Random(difference) if difference > 1e-3));
        let batch_mean =
            |input: &[f32], batch: &[f32], _| vec![input[0] - batch.iter().sum::<f32>() / batch.len() as f32, 1.0];
        assert!(matches!(flaw(tried(batch_mean)), TrialRunError::BatchDependent(_)));
        assert_eq!(flaw(tried(|_, _, _| vec![0.5, 0.25])), TrialRunError::Constant);
        assert_eq!(flaw(tried(|_, _, _| vec![0.0, 0.0])), TrialRunError::Constant);
        // Finite in a batch, and not alone.
        let alone = |input: &[f32], batch: &[f32], _| vec![if batch.len() == 8 { f32::NAN } else { input[0] }];
        assert!(matches!(flaw(tried(alone)), TrialRunError::BatchDependent(_)));
    }

    #[test]
    fn a_network_that_fails_says_why_itself() {
        let failing = |_: &[f32], _| Err(NetworkError::EmptyBatch);
        assert!(matches!(is_sound(INPUT, failing), Err(NetworkError::EmptyBatch)));
        assert!(matches!(is_finite(INPUT, |_, _| Ok(vec![1.0, f32::NAN])), Err(NetworkError::TrialRun(_))));
        assert!(is_finite(INPUT, |input, _| Ok(input.to_vec())).is_ok());
    }

    #[test]
    fn trial_inputs_are_the_same_every_time_and_differ_from_each_other() {
        let batch = inputs([3, 16, 16], INPUTS);
        assert_eq!(batch, inputs([3, 16, 16], INPUTS));
        assert!(batch.iter().all(|number| (-1.0..=1.0).contains(number)));
        let means: Vec<f32> = batch.chunks_exact(768).map(|input| input.iter().sum::<f32>() / 768.0).collect();
        assert!(means.windows(2).all(|pair| pair[1] - pair[0] > 0.1), "{means:?}");
    }
}
