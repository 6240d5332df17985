//! Cross-validated accuracy over folds, as LFW's View 2 requires.

use serde::Serialize;

use super::curve::Sorted;

/// The genuine and impostor scores of one fold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fold {
    pub genuine: Vec<f32>,
    pub impostor: Vec<f32>,
}

/// Accuracy over folds (Huang et al. 2007).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Folds {
    /// Mean accuracy of the folds.
    pub accuracy: f64,
    /// Standard error: sample standard deviation over the square root of the number of folds.
    pub standard_error: f64,
    pub folds: Vec<FoldAccuracy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FoldAccuracy {
    pub accuracy: f64,
    /// The best threshold on all other folds.
    pub threshold: f32,
}

/// Measures each fold at the best threshold of the others.
///
/// # Panics
/// With less than two folds, when the other folds lack a kind of pair, or when a score is not finite.
#[must_use]
pub fn folds(folds: &[Fold]) -> Folds {
    assert!(folds.len() > 1, "cross-validation needs two folds");
    let measured: Vec<FoldAccuracy> = (0..folds.len())
        .map(|held_out| {
            let others = || folds.iter().enumerate().filter(|(fold, _)| *fold != held_out).map(|(_, fold)| fold);
            let genuine: Vec<f32> = others().flat_map(|fold| &fold.genuine).copied().collect();
            let impostor: Vec<f32> = others().flat_map(|fold| &fold.impostor).copied().collect();
            let threshold = best_threshold(&Sorted::new(&genuine, &impostor));
            FoldAccuracy { accuracy: folds[held_out].accuracy(threshold), threshold }
        })
        .collect();
    let count = measured.len() as f64;
    let accuracy = measured.iter().map(|fold| fold.accuracy).sum::<f64>() / count;
    let squares: f64 = measured.iter().map(|fold| (fold.accuracy - accuracy).powi(2)).sum();
    Folds { accuracy, standard_error: (squares / (count - 1.0) / count).sqrt(), folds: measured }
}

impl Fold {
    fn accuracy(&self, threshold: f32) -> f64 {
        let accepted = self.genuine.iter().filter(|score| **score >= threshold).count();
        let refused = self.impostor.iter().filter(|score| **score < threshold).count();
        (accepted + refused) as f64 / (self.genuine.len() + self.impostor.len()).max(1) as f64
    }
}

/// The lowest threshold with the highest accuracy.
fn best_threshold(sorted: &Sorted) -> f32 {
    let mut best = (0, f32::NEG_INFINITY);
    sorted.sweep(|threshold, missed, refused| {
        let right = sorted.genuine.len() - missed + refused;
        if right > best.0 {
            best = (right, threshold);
        }
    });
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_by_hand() {
        let fold = |genuine: &[f32], impostor: &[f32]| Fold { genuine: genuine.into(), impostor: impostor.into() };
        // The third fold has higher scores; the others' threshold of .5 accepts its impostor.
        let measured = folds(&[fold(&[0.6], &[0.2]), fold(&[0.5], &[0.1]), fold(&[0.9], &[0.7])]);
        // On the other two: .5 or .9 of (.5 .9 | .1 .7); .6 or .9 of (.6 .9 | .2 .7): each has one error at best.
        let thresholds: Vec<f32> = measured.folds.iter().map(|fold| fold.threshold).collect();
        assert_eq!(thresholds, [0.5, 0.6, 0.5]);
        let accuracies: Vec<f64> = measured.folds.iter().map(|fold| fold.accuracy).collect();
        assert_eq!(accuracies, [1.0, 0.5, 0.5]);
        assert!((measured.accuracy - 2.0 / 3.0).abs() < 1e-12);
        // Deviations of 1/3, 1/6 and 1/6: a variance of 1/12, over three folds.
        assert!((measured.standard_error - (1.0_f64 / 36.0).sqrt()).abs() < 1e-12, "{measured:?}");
    }
}
