//! Reads rows in batches on a thread of its own, while the server works.

use anyhow::Context;
use tokio::sync::mpsc;

use domain::SampleContent;
use transfer::{BadRow, ImportRow, ImportRows, TransferError};

/// The most rows of a batch: as many as a server works on at once. More would wait there and could exceed its deadline.
const BATCH_ROWS_MAX: usize = 64;
/// The weight of a picture in rows: a server must encode a batch of pictures before the deadline of a request.
const PICTURE_ROWS: usize = 4;
/// The size at which a batch is full; far below a server's limit.
const BATCH_BYTES: usize = 2 << 20;
/// The most unreadable rows of a batch.
const BAD_ROWS_MAX: usize = 1000;
/// The most batches read ahead.
const AHEAD_MAX: usize = 1;

/// A batch of rows.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<ImportRow>,
    /// Rows that cannot be read.
    pub(super) bad: Vec<BadRow>,
    /// The number of the last row, readable or not.
    pub(super) through: u64,
}

/// The source of batches. Its thread ends with the file, or when the feed is dropped.
pub(super) struct Feed(mpsc::Receiver<Result<Batch, TransferError>>);

impl Feed {
    pub(super) fn start(mut rows: ImportRows) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD_MAX);
        tokio::task::spawn_blocking(move || {
            while let Some(batch) = read_batch(&mut rows).transpose() {
                let is_last = batch.is_err();
                if sender.blocking_send(batch).is_err() || is_last {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next batch; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        self.0.recv().await.transpose().context("the file cannot be read further; the rows before are enrolled")
    }
}

fn read_batch(rows: &mut ImportRows) -> Result<Option<Batch>, TransferError> {
    let (mut batch, mut weight, mut bytes) = (Batch::default(), 0, 0);
    for row in rows.by_ref() {
        match row? {
            Ok(row) => {
                let size = Size::of(&row);
                batch.through = row.number;
                batch.rows.push(row);
                weight += size.weight;
                bytes += size.bytes;
            }
            Err(bad) => {
                batch.through = bad.number;
                batch.bad.push(bad);
            }
        }
        if weight >= BATCH_ROWS_MAX || bytes >= BATCH_BYTES || batch.bad.len() >= BAD_ROWS_MAX {
            break;
        }
    }
    Ok((batch.through > 0).then_some(batch))
}

/// The share of a row in a batch.
struct Size {
    /// In rows with embeddings.
    weight: usize,
    bytes: usize,
}

impl Size {
    fn of(row: &ImportRow) -> Self {
        match &row.sample.content {
            SampleContent::Embedding { values, .. } => Self { weight: 1, bytes: 4 * values.len() },
            SampleContent::Image(picture) => Self { weight: PICTURE_ROWS, bytes: picture.bytes.0.len() },
            SampleContent::Track(_) | SampleContent::Skeleton(_) | SampleContent::Poses(_) => {
                Self { weight: PICTURE_ROWS, bytes: 0 }
            }
        }
    }
}
