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

use super::say;
use crate::{
    api::client::{Batches, Client, ClientError, Outcome, Sent},
    config::Secret,
    matcher::DeclaredSpace,
};
use domain::{CollectionId, Modality, SampleContent, SpaceName};
use feed::{Feed, Next};
use report::Report;
use transfer::{ImportProgress, ImportRow, ImportSource, RowDefaults};

#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// The rows: .jsonl, .arrow or .feather, or .npy with --ids.
    file: PathBuf,
    /// Where they are enrolled.
    #[arg(long)]
    collection: String,
    /// A running server, at its gRPC port.
    #[arg(long, env = "SEMBLANCE_SERVER", default_value = "http://127.0.0.1:50051")]
    server: String,
    /// The key that the server asks for.
    #[arg(long, env = "SEMBLANCE_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
    /// The model or external space of embeddings that do not say theirs.
    #[arg(long)]
    model: Option<String>,
    /// The modality of rows that do not say theirs.
    #[arg(long)]
    modality: Option<Modality>,
    /// The identities of an .npy, one a line.
    #[arg(long)]
    ids: Option<PathBuf>,
    /// Make the collection where it is missing, and declare --model in it as an external space of --modality, as long as
    /// the first embedding.
    #[arg(long, requires = "model", requires = "modality")]
    declare: bool,
    /// Write rows that are refused here, one JSON object a line: the row's number and the reason.
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// End at the first row that is refused.
    #[arg(long)]
    strict: bool,
    /// Where it is noted how far the import has come; beside the file when absent.
    #[arg(long)]
    progress: Option<PathBuf>,
    /// Import a file once more that was imported already, or was begun: everybody gets their templates again.
    #[arg(long)]
    again: bool,
}

/// Batches that are sent and not answered: one is worked on while the next one is on its way.
const BATCHES_IN_HAND_MAX: usize = 2;
/// How long a server may be busy or away before the import ends; a second run goes on from there.
const PATIENCE: Duration = Duration::from_mins(2);
const WAIT_MIN: Duration = Duration::from_millis(200);
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
    let files: Vec<_> = [Some(&flags.file), flags.ids.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
    let digest = transfer::digest(&files)?;
    let kept = flags.progress.clone().unwrap_or_else(|| {
        let name = flags.file.file_name().unwrap_or_default().to_string_lossy();
        flags.file.with_file_name(format!("{name}.{collection}.progress"))
    });
    let mut progress = ImportProgress::open(&kept, &flags.file, &digest, &collection)?;
    if flags.again {
        progress.again()?;
    }
    // Opened from the first row: what is declared is told by it, and a file that makes no sense is refused before a
    // server hears of it.
    let first = transfer::read(&source)?.next().transpose()?;
    source.after = progress.settled();
    let rows = transfer::read(&source)?;
    if rows.total > 0 && progress.settled() >= rows.total {
        say(format_args!(
            "{} was imported into {collection} already, all {} rows of it; --again imports it once more",
            flags.file.display(),
            rows.total
        ));
        return Ok(());
    }
    let report = Report::begin(rows.total, progress.settled(), flags.rejects.as_deref())?;
    super::reactor()?.block_on(async {
        let client = Client::connect(&flags.server, flags.api_key.as_ref().map(Secret::reveal)).await?;
        if flags.declare {
            let dimension = first.and_then(Result::ok).and_then(|row| dimension(&row));
            client.declare(&collection, &declared(flags, &source, dimension)?).await?;
        }
        let spaces = client.spaces(&collection).await?;
        let stream = client.open(&collection).await?;
        let feed = Feed::start(rows);
        let import = Import {
            client,
            collection,
            spaces,
            stream,
            feed,
            progress,
            report,
            in_hand: VecDeque::new(),
            is_strict: flags.strict,
        };
        import.run().await
    })
}

fn dimension(row: &ImportRow) -> Option<u32> {
    match &row.sample.content {
        SampleContent::Embedding { values, .. } => u32::try_from(values.len()).ok(),
        _ => None,
    }
}

fn declared(flags: &ImportFlags, source: &ImportSource, dimension: Option<u32>) -> anyhow::Result<DeclaredSpace> {
    let name = source.defaults.model.clone().context("--declare needs --model")?;
    let modality = flags.modality.context("--declare needs --modality")?;
    let dimension = dimension.context("--declare takes the length of the first row's embedding, and it has none")?;
    Ok(DeclaredSpace { name, modality, dimension })
}

/// An import under way.
struct Import {
    client: Client,
    collection: CollectionId,
    /// The digests of the server's embedding spaces, by name.
    spaces: BTreeMap<String, String>,
    stream: Batches,
    feed: Feed,
    progress: ImportProgress,
    report: Report,
    /// What was sent and not answered, oldest first.
    in_hand: VecDeque<Vec<ImportRow>>,
    is_strict: bool,
}

impl Import {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut through = self.progress.settled();
        let mut waits = Waits::default();
        let mut end = None;
        loop {
            while end.is_none() && self.in_hand.len() < BATCHES_IN_HAND_MAX {
                match self.feed.next().await {
                    Ok(None) => {
                        through = self.report.total();
                        end = Some(Ok(()));
                    }
                    // What was read before it is taken in first.
                    Err(error) => end = Some(Err(error)),
                    Ok(Some(Next { rows, bad, through: read })) => {
                        through = read;
                        for row in bad {
                            self.report.refused(row.number, &row.problem)?;
                            self.check()?;
                        }
                        let rows = self.of_known_spaces(rows)?;
                        if !rows.is_empty() {
                            self.send(rows, &mut waits).await?;
                        }
                    }
                }
            }
            if self.in_hand.is_empty() {
                self.progress.settle(through)?;
                let Some(end) = end else { continue };
                say(self.report.end());
                return end;
            }
            self.receive(&mut waits).await?;
            // Rows before the oldest that is still in hand need no second look.
            let oldest = self.in_hand.iter().filter_map(|rows| rows.first()).map(|row| row.number).min();
            self.progress.settle(oldest.map_or(through, |oldest| oldest - 1))?;
        }
    }

    async fn send(&mut self, rows: Vec<ImportRow>, waits: &mut Waits) -> anyhow::Result<()> {
        let sent = self.stream.send(&self.sent(&rows)).await;
        self.in_hand.push_back(rows);
        match sent {
            Ok(()) => Ok(()),
            Err(error) => self.reopen(error, waits).await,
        }
    }

    async fn receive(&mut self, waits: &mut Waits) -> anyhow::Result<()> {
        let outcomes = match self.stream.receive().await {
            Ok(outcomes) => outcomes,
            Err(error) => return self.reopen(error, waits).await,
        };
        let rows = self.in_hand.pop_front().unwrap_or_default();
        if outcomes.len() != rows.len() {
            bail!("the server answered {} outcomes to {} rows; it speaks another version", outcomes.len(), rows.len());
        }
        let (mut later, mut wait) = (Vec::new(), Duration::ZERO);
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Enrolled => {
                    self.report.enrolled();
                    waits.end();
                }
                Outcome::Refused { code, detail } => {
                    self.report.refused(row.number, &format!("{code}: {detail}"))?;
                    waits.end();
                }
                Outcome::Later(after) => {
                    wait = wait.max(after);
                    later.push(row);
                }
            }
        }
        self.check()?;
        if !later.is_empty() {
            waits.wait(wait, || format!("the server has put off rows for {} s", PATIENCE.as_secs())).await?;
            self.send(later, waits).await?;
        }
        Ok(())
    }

    /// Opens another stream for one that broke, and sends again what was not answered: rows that took effect are
    /// answered as they were then.
    async fn reopen(&mut self, error: ClientError, waits: &mut Waits) -> anyhow::Result<()> {
        let mut error = error;
        'broken: loop {
            if !error.may_pass() {
                return Err(error.into());
            }
            waits.wait(Duration::ZERO, || format!("{error}; run the same command again to go on")).await?;
            match self.client.open(&self.collection).await {
                Ok(stream) => self.stream = stream,
                Err(again) => {
                    error = again;
                    continue;
                }
            }
            let batches: Vec<Vec<Sent>> = self.in_hand.iter().map(|rows| self.sent(rows)).collect();
            for batch in batches {
                if let Err(again) = self.stream.send(&batch).await {
                    error = again;
                    continue 'broken;
                }
            }
            return Ok(());
        }
    }

    fn sent(&self, rows: &[ImportRow]) -> Vec<Sent> {
        let sent = |row: &ImportRow| Sent {
            request_id: self.progress.request_id(row.number),
            identity: row.identity.clone(),
            labels: row.labels.clone(),
            sample: row.sample.clone(),
        };
        rows.iter().map(sent).collect()
    }

    /// Those whose embeddings are of the very space that the server knows by their model's name.
    fn of_known_spaces(&mut self, rows: Vec<ImportRow>) -> anyhow::Result<Vec<ImportRow>> {
        let mut of_known = Vec::with_capacity(rows.len());
        for row in rows {
            let SampleContent::Embedding { model, .. } = &row.sample.content else {
                of_known.push(row);
                continue;
            };
            match (row.digest, self.spaces.get(model.as_str())) {
                (Some(given), Some(known)) if given.to_string() != *known => {
                    let reason = format!(
                        "OTHER_MODEL: the server knows another model by the name {model}; its digest is {known}"
                    );
                    self.report.refused(row.number, &reason)?;
                }
                _ => of_known.push(row),
            }
        }
        self.check()?;
        Ok(of_known)
    }

    fn check(&self) -> anyhow::Result<()> {
        match self.report.first_refusal() {
            Some(refusal) if self.is_strict => bail!("row {refusal}; --strict ends the import here"),
            _ => Ok(()),
        }
    }
}

/// Waiting for a server that is busy or away.
#[derive(Debug, Default)]
struct Waits {
    since: Option<Instant>,
    next: Duration,
}

impl Waits {
    /// Something came of it.
    fn end(&mut self) {
        *self = Self::default();
    }

    /// Waits at least this long, and longer each time.
    async fn wait(&mut self, least: Duration, too_long: impl FnOnce() -> String) -> anyhow::Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            bail!(too_long());
        }
        self.next = (self.next * 2).clamp(WAIT_MIN, WAIT_MAX);
        tokio::time::sleep(self.next.max(least).min(PATIENCE)).await;
        Ok(())
    }
}
