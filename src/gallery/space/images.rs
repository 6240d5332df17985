//! The templates of one identity: copies of one image, mean direction, similarity among each other.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use crate::{roster::Slot, rows::Rows};
use domain::{OwnCosines, SAME_IMAGE, TemplateId};

/// Whether the row has the image of another row of its identity.
pub(super) fn is_copy(rows: &Rows, its_rows: &[usize], row: usize) -> bool {
    let is_same = |other: &usize| rows.measure().of(rows.values(row), rows.values(*other)) >= SAME_IMAGE;
    its_rows.iter().filter(|other| **other != row).any(is_same)
}

/// The rows without those that have the image of an earlier one.
pub(crate) fn distinct_images(rows: &Rows, its_rows: &[usize]) -> Vec<usize> {
    let mut distinct: Vec<usize> = Vec::with_capacity(its_rows.len());
    for row in its_rows {
        if !is_copy(rows, &distinct, *row) {
            distinct.push(*row);
        }
    }
    distinct
}

/// Templates with the image of an earlier template of the same identity.
pub(super) fn copies(
    rows: &Rows,
    row_numbers: &HashMap<TemplateId, u32>,
    owned: &HashMap<Slot, Vec<TemplateId>>,
) -> HashSet<TemplateId> {
    let of_identity = |templates: &Vec<TemplateId>| -> Vec<TemplateId> {
        let its_rows: Vec<usize> = templates.iter().map(|template| row_numbers[template] as usize).collect();
        let distinct = distinct_images(rows, &its_rows);
        its_rows.iter().filter(|row| !distinct.contains(row)).map(|row| rows.template(*row)).collect()
    };
    owned.par_iter().filter(|(_, templates)| templates.len() > 1).flat_map_iter(|(_, each)| of_identity(each)).collect()
}

/// Cosine between a probe and the mean direction of some rows; 0 when the rows cancel each other out.
pub(crate) fn centroid_cosine(rows: &Rows, probe: &[f32], its_rows: &[usize]) -> f32 {
    let mut sum = vec![0.0; probe.len()];
    for row in its_rows {
        for (sum, value) in sum.iter_mut().zip(rows.values(*row)) {
            *sum += value;
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    // Templates that cancel each other out have no mean direction.
    if length < f32::EPSILON {
        return 0.0;
    }
    for value in &mut sum {
        *value /= length;
    }
    rows.measure().of(probe, &sum)
}

/// Similarity of a row to the other rows of its identity; `None` when there is no other.
pub(crate) fn own_cosines(rows: &Rows, its_rows: &[usize], row: usize) -> Option<OwnCosines> {
    let others = its_rows.iter().filter(|other| **other != row);
    let cosines: Vec<f32> = others.map(|other| rows.measure().of(rows.values(row), rows.values(*other))).collect();
    let nearest = cosines.iter().copied().max_by(f32::total_cmp)?;
    Some(OwnCosines { nearest, mean: cosines.iter().sum::<f32>() / cosines.len() as f32 })
}
