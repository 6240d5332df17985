//! `semblance import`

mod feed;
mod report;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;

use super::print;
use crate::{
    api::client::{BatchStream, Client, ClientError, EnrollmentRow, RowOutcome},
    config::Secret,
    matcher::DeclaredSpace,
};
use domain::{CollectionId, Modality, Sample, SampleContent, SpaceName};
use feed::{Batch, Feed};
use report::ImportReport;
use transfer::{BadRow, ImportProgress, ImportRow, ImportSource, RowDefaults};

#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// Input file: .jsonl, .arrow, .feather, or .npy with --ids.
    file: PathBuf,
    /// Collection to enroll into.
    #[arg(long)]
    collection: String,
    /// URL of a running server, at its gRPC port.
    #[arg(long, env = "SEMBLANCE_SERVER", default_value = "http://127.0.0.1:50051")]
    server: String,
    /// API key of the server.
    #[arg(long, env = "SEMBLANCE_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
    /// Model or external space of embeddings without one.
    #[arg(long)]
    model: Option<String>,
    /// Modality of rows without one.
    #[arg(long)]
    modality: Option<Modality>,
    /// Identities of an .npy, one per line.
    #[arg(long)]
    ids: Option<PathBuf>,
    /// Create the collection if it does not exist, and declare --model as an external space of --modality with the
    /// dimension of the first embedding.
    #[arg(long, requires = "model", requires = "modality")]
    declare: bool,
    /// File for refused rows: one JSON object per line, with the row's number and the reason.
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// Stop at the first refused row.
    #[arg(long)]
    strict: bool,
    /// Progress file; default: beside the input file.
    #[arg(long)]
    progress: Option<PathBuf>,
    /// Import the file again from the start, although it was imported before: each identity gets its templates twice.
    #[arg(long)]
    again: bool,
}

/// The most unanswered batches: the server works on one while the next one arrives.
const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Rows in which the dimension of a declared space is looked for.
const DECLARING_ROWS_MAX: usize = 10_000;
/// The longest wait for a busy or unreachable server. The next run continues the import.
const WAIT_TOTAL_MAX: Duration = Duration::from_mins(2);
/// The first wait before a retry.
const WAIT_MIN: Duration = Duration::from_millis(200);
/// The longest wait before a retry.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) fn run(flags: &ImportFlags) -> anyhow::Result<()> {
    let collection = CollectionId::new(&flags.collection).context("--collection")?;
    let model = flags.model.as_deref().map(SpaceName::new).transpose().context("--model")?;
    let mut source = ImportSource {
        file: flags.file.clone(),
        names: flags.ids.clone(),
        defaults: RowDefaults { model, modality: flags.modality },
        after: 0,
    };
    let progress = open_progress(flags, &collection)?;
    // Reads before it connects: an invalid file is refused without a server.
    let dimension = if flags.declare {
        first_embedding(&source)?
    } else {
        transfer::read(&source)?.next().transpose()?;
        None
    };
    source.after = progress.settled();
    let rows = transfer::read(&source)?;
    if rows.total > 0 && progress.settled() >= rows.total {
        print(format_args!(
            "all {} rows of {} are already imported into {collection}; --again imports them again",
            rows.total,
            flags.file.display()
        ));
        return Ok(());
    }
    let report = ImportReport::begin(rows.total, progress.settled(), flags.rejects.as_deref())?;
    super::reactor()?.block_on(async {
        let client = Client::connect(&flags.server, flags.api_key.as_ref().map(Secret::reveal)).await?;
        if flags.declare {
            client.declare(&collection, &declared(flags, &source, dimension)?).await?;
        }
        let spaces = client.spaces(&collection).await?;
        let stream = client.open_stream(&collection).await?;
        let feed = Feed::start(rows);
        let import = Import {
            client,
            collection,
            spaces,
            stream,
            feed,
            progress,
            report,
            in_flight: VecDeque::new(),
            is_strict: flags.strict,
        };
        import.run().await
    })
}

/// The progress of earlier runs, or none with `--again`.
fn open_progress(flags: &ImportFlags, collection: &CollectionId) -> anyhow::Result<ImportProgress> {
    let files: Vec<_> = [Some(&flags.file), flags.ids.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
    let digest = transfer::digest(&files)?;
    let path = flags.progress.clone().unwrap_or_else(|| {
        let name = flags.file.file_name().unwrap_or_default().to_string_lossy();
        flags.file.with_file_name(format!("{name}.{collection}.progress"))
    });
    let mut progress = ImportProgress::open(&path, &flags.file, &digest, collection)?;
    if flags.again {
        progress.again()?;
    }
    Ok(progress)
}

/// The dimension of the first row with an embedding, among the first rows; rows that cannot be read are passed over, and
/// refused when their turn comes.
///
/// # Errors
/// When no row has an embedding: with the reason of the first row that cannot be read.
fn first_embedding(source: &ImportSource) -> anyhow::Result<Option<u32>> {
    let mut bad = None;
    for row in transfer::read(source)?.take(DECLARING_ROWS_MAX) {
        match row? {
            Ok(ImportRow { sample: Sample { content: SampleContent::Embedding { values, .. }, .. }, .. }) => {
                return Ok(u32::try_from(values.len()).ok());
            }
            Ok(_) => {}
            Err(unreadable) => bad = bad.or(Some(unreadable)),
        }
    }
    match bad {
        Some(BadRow { number, problem }) => bail!("row {number} cannot be read: {problem}"),
        None => Ok(None),
    }
}

fn declared(flags: &ImportFlags, source: &ImportSource, dimension: Option<u32>) -> anyhow::Result<DeclaredSpace> {
    let name = source.defaults.model.clone().context("--declare needs --model")?;
    let modality = flags.modality.context("--declare needs --modality")?;
    let dimension =
        dimension.context("--declare needs an embedding in the first rows, for the dimension of the space")?;
    Ok(DeclaredSpace { name, modality, dimension })
}

/// An import in progress.
struct Import {
    client: Client,
    collection: CollectionId,
    /// The digests of the server's embedding spaces, by name.
    spaces: BTreeMap<String, String>,
    stream: BatchStream,
    feed: Feed,
    progress: ImportProgress,
    report: ImportReport,
    /// Batches without an answer, oldest first.
    in_flight: VecDeque<Vec<ImportRow>>,
    is_strict: bool,
}

impl Import {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut through = self.progress.settled();
        let mut backoff = Backoff::default();
        let mut end = None;
        loop {
            while end.is_none() && self.in_flight.len() < BATCHES_IN_FLIGHT_MAX {
                match self.feed.next().await {
                    Ok(None) => {
                        through = self.report.total();
                        end = Some(Ok(()));
                    }
                    // The rows before the error are enrolled first.
                    Err(error) => end = Some(Err(error)),
                    Ok(Some(Batch { rows, bad, through: read })) => {
                        through = read;
                        for row in bad {
                            self.report.refused(row.number, &row.problem)?;
                            self.check()?;
                        }
                        let rows = self.keep_known_spaces(rows)?;
                        if !rows.is_empty() {
                            self.send(rows, &mut backoff).await?;
                        }
                    }
                }
            }
            if self.in_flight.is_empty() {
                self.progress.settle(through)?;
                let Some(end) = end else { continue };
                print(self.report.end());
                return end;
            }
            self.receive(&mut backoff).await?;
            // The next run skips the rows before the oldest unanswered one.
            let oldest = self.in_flight.iter().filter_map(|rows| rows.first()).map(|row| row.number).min();
            self.progress.settle(oldest.map_or(through, |oldest| oldest - 1))?;
        }
    }

    async fn send(&mut self, rows: Vec<ImportRow>, backoff: &mut Backoff) -> anyhow::Result<()> {
        let sent = self.stream.send(&self.requests(&rows)).await;
        self.in_flight.push_back(rows);
        match sent {
            Ok(()) => Ok(()),
            Err(error) => self.reopen(error, backoff).await,
        }
    }

    async fn receive(&mut self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let outcomes = match self.stream.receive().await {
            Ok(outcomes) => outcomes,
            Err(error) => return self.reopen(error, backoff).await,
        };
        let rows = self.in_flight.pop_front().unwrap_or_default();
        if outcomes.len() != rows.len() {
            bail!(
                "the server answered {} outcomes to {} rows; its version differs from this program's",
                outcomes.len(),
                rows.len()
            );
        }
        let (mut later, mut wait) = (Vec::new(), Duration::ZERO);
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            match outcome {
                RowOutcome::Enrolled => {
                    self.report.enrolled();
                    backoff.reset();
                }
                RowOutcome::Refused { code, detail } => {
                    self.report.refused(row.number, &format!("{code}: {detail}"))?;
                    backoff.reset();
                }
                RowOutcome::Later(after) => {
                    wait = wait.max(after);
                    later.push(row);
                }
            }
        }
        self.check()?;
        if !later.is_empty() {
            backoff.wait(wait, || format!("the server has deferred rows for {} s", WAIT_TOTAL_MAX.as_secs())).await?;
            self.send(later, backoff).await?;
        }
        Ok(())
    }

    /// Opens a new stream after an error and sends the unanswered batches again. Request ids make that safe: a row that took
    /// effect gets its first answer again.
    async fn reopen(&mut self, error: ClientError, backoff: &mut Backoff) -> anyhow::Result<()> {
        let mut error = error;
        'broken: loop {
            if !error.is_transient() {
                return Err(error.into());
            }
            backoff.wait(Duration::ZERO, || format!("{error}; run the same command again to continue")).await?;
            match self.client.open_stream(&self.collection).await {
                Ok(stream) => self.stream = stream,
                Err(again) => {
                    error = again;
                    continue;
                }
            }
            let batches: Vec<Vec<EnrollmentRow>> = self.in_flight.iter().map(|rows| self.requests(rows)).collect();
            for batch in batches {
                if let Err(again) = self.stream.send(&batch).await {
                    error = again;
                    continue 'broken;
                }
            }
            return Ok(());
        }
    }

    fn requests(&self, rows: &[ImportRow]) -> Vec<EnrollmentRow> {
        let request = |row: &ImportRow| EnrollmentRow {
            request_id: self.progress.request_id(row.number),
            identity: row.identity.clone(),
            labels: row.labels.clone(),
            sample: row.sample.clone(),
        };
        rows.iter().map(request).collect()
    }

    /// The rows with embeddings of the server's space. A row with the digest of another model is refused.
    fn keep_known_spaces(&mut self, rows: Vec<ImportRow>) -> anyhow::Result<Vec<ImportRow>> {
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            let SampleContent::Embedding { model, .. } = &row.sample.content else {
                kept.push(row);
                continue;
            };
            match (row.digest, self.spaces.get(model.as_str())) {
                (Some(given), Some(known)) if given.to_string() != *known => {
                    let reason = format!("OTHER_MODEL: the server's model {model} has another digest: {known}");
                    self.report.refused(row.number, &reason)?;
                }
                _ => kept.push(row),
            }
        }
        self.check()?;
        Ok(kept)
    }

    fn check(&self) -> anyhow::Result<()> {
        match self.report.first_refusal() {
            Some(refusal) if self.is_strict => bail!("row {refusal}; --strict stops the import"),
            _ => Ok(()),
        }
    }
}

/// Exponential waits for a busy or unreachable server.
#[derive(Debug, Default)]
struct Backoff {
    since: Option<Instant>,
    next: Duration,
}

impl Backoff {
    /// The server made progress.
    fn reset(&mut self) {
        *self = Self::default();
    }

    /// Waits at least `least`, and longer each time.
    async fn wait(&mut self, least: Duration, timed_out: impl FnOnce() -> String) -> anyhow::Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > WAIT_TOTAL_MAX {
            bail!(timed_out());
        }
        self.next = (self.next * 2).clamp(WAIT_MIN, WAIT_MAX);
        tokio::time::sleep(self.next.max(least).min(WAIT_TOTAL_MAX)).await;
        Ok(())
    }
}
