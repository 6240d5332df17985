//! Writes many rows with few statements.

/// Maximum rows per statement: far below the parameter limit of either database, for the widest table.
const ROWS_MAX: usize = 64;

/// Cuts rows into pieces of 64, 32, and so on down to 1. A statement is prepared once per length, so seven prepared
/// statements serve every count; a length for each count would overflow the connection's statement cache.
pub(super) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let power = rest.len().min(ROWS_MAX).checked_ilog2()?;
        let (piece, after) = rest.split_at(1 << power);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_few_lengths_and_hold_every_row_in_order() {
        for (rows, lengths) in [(0, vec![]), (1, vec![1]), (7, vec![4, 2, 1]), (201, vec![64, 64, 64, 8, 1])] {
            let numbers: Vec<usize> = (0..rows).collect();
            assert_eq!(pieces(&numbers).map(<[_]>::len).collect::<Vec<_>>(), lengths);
            assert_eq!(pieces(&numbers).flatten().copied().collect::<Vec<_>>(), numbers);
        }
    }
}
