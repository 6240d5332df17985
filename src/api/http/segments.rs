//! A body as a list of byte strings. Chunks stay as they arrived, so no thread copies 32 MB at once.

use bytes::{Bytes, BytesMut};

/// A smaller chunk is copied into the last segment: a client that sends single bytes must not cost 40 bytes for each.
const COPIED_BELOW_BYTES: usize = 16 << 10;
/// The size at which a segment of copied chunks is full.
const SEGMENT_BYTES: usize = 64 << 10;

/// Bytes in segments, in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    full: Vec<Bytes>,
    /// Copied chunks; stands behind `full`.
    last: BytesMut,
    len: usize,
}

impl Segments {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() >= COPIED_BELOW_BYTES {
            self.close_last();
            self.full.push(chunk);
            return;
        }
        if self.last.len() + chunk.len() > SEGMENT_BYTES {
            self.close_last();
        }
        self.last.extend_from_slice(&chunk);
    }

    pub(super) fn append(&mut self, other: Self) {
        other.into_list().into_iter().for_each(|segment| self.push(segment));
    }

    /// The bytes in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().map(Bytes::as_ref).chain(std::iter::once(self.last.as_ref()))
    }

    /// The segments; none is empty.
    pub(super) fn into_list(mut self) -> Vec<Bytes> {
        self.close_last();
        self.full
    }

    /// The bytes in one piece. Copies them unless they are one segment.
    pub(super) fn into_bytes(self) -> Bytes {
        let mut list = self.into_list();
        if list.len() > 1 { list.concat().into() } else { list.pop().unwrap_or_default() }
    }

    fn close_last(&mut self) {
        if !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(lengths in prop::collection::vec(0..40_000_usize, 0..12)) {
            let mut segments = Segments::default();
            let mut whole = Vec::new();
            for (number, length) in lengths.into_iter().enumerate() {
                let chunk: Vec<u8> = (0..length).map(|at| (at * 31 + number).to_le_bytes()[0]).collect();
                whole.extend_from_slice(&chunk);
                segments.push(chunk.into());
            }
            prop_assert_eq!(segments.len(), whole.len());
            let mut joined = Segments::default();
            joined.push(Bytes::from_static(b"head"));
            joined.append(segments);
            prop_assert_eq!(&joined.into_bytes()[4..], &whole[..]);
        }
    }

    #[test]
    fn single_bytes_share_a_segment() {
        let mut segments = Segments::default();
        for byte in 0..100_000_u32 {
            segments.push(Bytes::copy_from_slice(&byte.to_le_bytes()[..1]));
        }
        assert_eq!(segments.into_list().len(), 100_000_usize.div_ceil(SEGMENT_BYTES));
    }
}
