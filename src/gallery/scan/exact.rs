//! Scan over the original values, for spaces without codes.

use super::{
    filter::CandidateFilter,
    top::{Hit, TopIdentities},
};
use crate::rows::Rows;

/// Offers every row that passes the filter. Exact.
pub(crate) fn scan(rows: &Rows, probe: &[f32], candidate_filter: &CandidateFilter<'_>, top: &mut TopIdentities) {
    if candidate_filter.is_selective() {
        return scan_admitted(rows, probe, candidate_filter, top);
    }
    let mut similarities = Vec::new();
    for (first, values) in rows.blocks() {
        rows.measure().of_all(probe, values, &mut similarities);
        for (row, similarity) in (first..).zip(&similarities) {
            // The comparison discards nearly all rows before their owner is looked up.
            if *similarity >= top.floor() && candidate_filter.admits(rows.owner(row)) {
                top.offer(Hit { similarity: *similarity, template: rows.template(row), owner: rows.owner(row) });
            }
        }
    }
}

/// The same when the filter discards most rows: their values are not read.
fn scan_admitted(rows: &Rows, probe: &[f32], candidate_filter: &CandidateFilter<'_>, top: &mut TopIdentities) {
    for row in (0..rows.len()).filter(|row| candidate_filter.admits(rows.owner(*row))) {
        let similarity = rows.measure().of(probe, rows.values(row));
        top.offer(Hit { similarity, template: rows.template(row), owner: rows.owner(row) });
    }
}
