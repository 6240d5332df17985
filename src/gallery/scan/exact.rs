//! A scan over the originals, for spaces without codes.

use super::{
    filter::Sieve,
    top::{Best, Hit},
};
use crate::rows::Rows;

/// Offers every row that the sieve admits. Exact; for spaces without codes.
pub(crate) fn scan(rows: &Rows, probe: &[f32], sieve: &Sieve<'_>, best: &mut Best) {
    if sieve.is_selective() {
        return scan_admitted(rows, probe, sieve, best);
    }
    let mut similarities = Vec::new();
    for (first, values) in rows.blocks() {
        rows.measure().of_all(probe, values, &mut similarities);
        for (row, similarity) in (first..).zip(&similarities) {
            // The comparison turns nearly all rows away before their owner is even looked up.
            if *similarity >= best.floor() && sieve.admits(rows.owner(row)) {
                best.offer(Hit { similarity: *similarity, template: rows.template(row), owner: rows.owner(row) });
            }
        }
    }
}

/// The same when most rows are turned away: their numbers are not even read.
fn scan_admitted(rows: &Rows, probe: &[f32], sieve: &Sieve<'_>, best: &mut Best) {
    for row in (0..rows.len()).filter(|row| sieve.admits(rows.owner(*row))) {
        let similarity = rows.measure().of(probe, rows.values(row));
        best.offer(Hit { similarity, template: rows.template(row), owner: rows.owner(row) });
    }
}
