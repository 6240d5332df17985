//! The pairwise protocol: each value of a label against each other value. It is CASIA-B's protocol over viewpoints,
//! which excludes pairs of identical views and reports the mean over the others.

use rayon::prelude::*;

use super::{ProtocolOptions, ProtocolResults, compares};
use crate::{
    EvaluateError,
    labelled::Labelled,
    metrics::{self, ValuePair},
    report::{Results, Slice},
};

/// For one probe and every gallery value: the highest similarity and whether it is of the probe's person.
type BestMatches = Vec<Option<(f32, bool)>>;

/// The samples that are searched, by the value of the pair label.
struct LabelledGallery<'a> {
    samples: &'a [usize],
    /// The value of each sample of the set, as an index; `None` without the label.
    value_of: &'a [Option<usize>],
    /// Number of values.
    values: usize,
}

pub(super) fn measure(set: &Labelled, options: &ProtocolOptions) -> Result<ProtocolResults, EvaluateError> {
    let label = options.pair_label.as_deref().ok_or_else(|| {
        EvaluateError::Unusable("--pair-label must name the label whose values are compared".to_owned())
    })?;
    let values = set.values_of(label)?;
    let of: Vec<Option<usize>> =
        (0..set.len()).map(|sample| values.iter().position(|value| set.label(sample, label) == Some(value))).collect();
    let (probes, gallery) = (options.probes_of(set)?, options.gallery_of(set)?);
    let labelled = LabelledGallery { samples: &gallery, value_of: &of, values: values.len() };
    let firsts: Vec<(usize, BestMatches)> =
        probes.par_iter().map(|probe| (*probe, firsts(set, options, *probe, &labelled))).collect();
    let measured = |admits: &dyn Fn(usize) -> bool| {
        let mut pairs = Vec::new();
        for (probe_value, probe_name) in values.iter().enumerate() {
            for (gallery_value, gallery_name) in values.iter().enumerate().filter(|(other, _)| *other != probe_value) {
                let tried = firsts.iter().filter(|(probe, _)| of[*probe] == Some(probe_value) && admits(*probe));
                let found: Vec<bool> =
                    tried.filter_map(|(_, firsts)| firsts[gallery_value].map(|(_, is_right)| is_right)).collect();
                if !found.is_empty() {
                    let right = found.iter().filter(|right| **right).count();
                    pairs.push(ValuePair {
                        probe: probe_name.clone(),
                        gallery: gallery_name.clone(),
                        probes: found.len(),
                        rank_1: right as f64 / found.len() as f64,
                    });
                }
            }
        }
        (!pairs.is_empty()).then(|| Results::Pairwise(metrics::pairwise(label, pairs)))
    };
    let results = measured(&|_| true)
        .ok_or_else(|| EvaluateError::Unusable(format!("no probe has its person in a gallery of another {label}")))?;
    let mut slices = Vec::new();
    for slice in &options.slices {
        for value in set.values_of(slice)? {
            let results = measured(&|probe| set.label(probe, slice) == Some(&value));
            slices.extend(results.map(|results| Slice { label: slice.clone(), value, results }));
        }
    }
    Ok(ProtocolResults { results, slices, notes: Vec::new() })
}

/// `None` for gallery values without the probe's person. On ties, a wrong answer is first.
fn firsts(set: &Labelled, options: &ProtocolOptions, probe: usize, gallery: &LabelledGallery<'_>) -> BestMatches {
    let mut found: BestMatches = vec![None; gallery.values];
    let mut is_answerable = vec![false; gallery.values];
    for item in gallery.samples.iter().filter(|item| **item != probe && compares(set, options, probe, **item)) {
        let Some(value) = gallery.value_of[*item] else { continue };
        let (similarity, is_right) = (set.similarity(probe, *item), set.person(*item) == set.person(probe));
        is_answerable[value] |= is_right;
        let is_first = found[value].is_none_or(|(best, best_is_right)| {
            similarity > best || (similarity >= best && best_is_right && !is_right)
        });
        if is_first {
            found[value] = Some((similarity, is_right));
        }
    }
    found.into_iter().zip(is_answerable).map(|(first, is_answerable)| first.filter(|_| is_answerable)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labelled::fixtures::plane;

    #[test]
    fn identical_views_are_excluded_and_pairs_have_equal_weight() {
        let set = plane(&[
            ("a", "000", 0.0),
            ("a", "090", 20.0),
            ("b", "000", 90.0),
            ("b", "090", 60.0),
            ("b", "090", 5.0),
            ("c", "090", 180.0),
        ]);
        let options = ProtocolOptions { pair_label: Some("camera".to_owned()), ..ProtocolOptions::default() };
        let Results::Pairwise(found) = measure(&set, &options).expect("measured").results else { panic!("pairwise") };
        let pairs: Vec<(&str, &str, usize, f64)> =
            found.pairs.iter().map(|pair| (&*pair.probe, &*pair.gallery, pair.probes, pair.rank_1)).collect();
        // From 0: a finds b's sample at 5 degrees first; b finds its own at 60. From 90: a is right; b at 60 is right
        // and at 5 is not; c has no sample at 0 and does not count.
        assert_eq!(pairs, [("000", "090", 2, 0.5), ("090", "000", 3, 2.0 / 3.0)]);
        assert!((found.mean_rank_1 - f64::midpoint(0.5, 2.0 / 3.0)).abs() < 1e-12, "{found:?}");
        assert!(measure(&set, &ProtocolOptions::default()).is_err(), "the label is needed");
    }
}
