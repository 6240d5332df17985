//! Rows in batches, read on a thread of their own while the server works.

use anyhow::Context;
use tokio::sync::mpsc;

use domain::SampleContent;
use transfer::{BadRow, ImportRow, ImportRows, TransferError};

/// The most rows of a batch: what a server works on at once. More would wait there, against the time of a request.
const BATCH_ROWS_MAX: usize = 64;
/// How many embeddings a picture counts for: a batch of pictures must be encoded within the time of a request.
const PICTURE_ROWS: usize = 4;
/// From this many bytes on a batch is full, far below what a server takes at once.
const BATCH_BYTES: usize = 2 << 20;
/// Rows after which a batch ends that has nothing but bad ones.
const BAD_ROWS_MAX: usize = 1000;
/// Batches that are read ahead.
const AHEAD_MAX: usize = 1;

/// A batch as it was read.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) rows: Vec<ImportRow>,
    pub(super) bad: Vec<BadRow>,
    /// The number of the last row that was read for it, good or bad.
    pub(super) through: u64,
}

/// Where batches come from. The thread ends with the file, or when nobody takes from it any more.
pub(super) struct Feed(mpsc::Receiver<Result<Next, TransferError>>);

impl Feed {
    pub(super) fn start(mut rows: ImportRows) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD_MAX);
        tokio::task::spawn_blocking(move || {
            while let Some(next) = batch(&mut rows).transpose() {
                let is_over = next.is_err();
                if sender.blocking_send(next).is_err() || is_over {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next batch; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Next>> {
        self.0.recv().await.transpose().context("the rows before this were taken in; the file ends here")
    }
}

fn batch(rows: &mut ImportRows) -> Result<Option<Next>, TransferError> {
    let (mut next, mut weight, mut bytes) = (Next::default(), 0, 0);
    for row in rows.by_ref() {
        match row? {
            Ok(row) => {
                let (counts, size) = size(&row);
                next.through = row.number;
                next.rows.push(row);
                weight += counts;
                bytes += size;
            }
            Err(bad) => {
                next.through = bad.number;
                next.bad.push(bad);
            }
        }
        if weight >= BATCH_ROWS_MAX || bytes >= BATCH_BYTES || next.bad.len() >= BAD_ROWS_MAX {
            break;
        }
    }
    Ok((next.through > 0).then_some(next))
}

fn size(row: &ImportRow) -> (usize, usize) {
    match &row.sample.content {
        SampleContent::Embedding { values, .. } => (1, 4 * values.len()),
        SampleContent::Image(picture) => (PICTURE_ROWS, picture.bytes.0.len()),
        SampleContent::Track(_) | SampleContent::Skeleton(_) => (PICTURE_ROWS, 0),
    }
}
