//! `semblance export`

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::{print, print_error};
use crate::{
    app::{self, SystemClock},
    config::PlaceFlags,
};
use domain::{Clock, CollectionId, Identity, Position, SpaceName, StoredTemplate};
use store::{CollectionHead, OwnedTemplate, Store};
use transfer::{Contents, Exported, Output};

#[derive(Debug, Args)]
pub(super) struct ExportFlags {
    /// Collection to export.
    #[arg(long)]
    collection: String,
    /// Output file: .jsonl, .arrow, .feather, or .npy with the identities in .names.txt beside it.
    #[arg(long)]
    out: PathBuf,
    /// Include the embeddings, for a later import. They are biometric data: the file allows searches for these people.
    #[arg(long)]
    embeddings: bool,
    /// Only templates of this model. A table holds embeddings of one length, an .npy embeddings of one model.
    #[arg(long)]
    model: Option<String>,
}

/// Templates per page of the database.
const PAGE: u32 = 1000;

pub(super) async fn run(places: &PlaceFlags, flags: &ExportFlags) -> anyhow::Result<()> {
    let collection = CollectionId::new(&flags.collection).context("--collection")?;
    let model = flags.model.as_deref().map(SpaceName::new).transpose().context("--model")?;
    let contents = if flags.embeddings { Contents::Embeddings } else { Contents::Names };
    let mut output = Output::begin(&flags.out, contents)?;
    let store = app::open_store(places, None).await?;
    store.check_schema().await?;
    let head = store.heads().await?.into_iter().find(|head| head.id == collection);
    let head = head.with_context(|| format!("the database has no collection {collection}"))?;
    let written = write(&*store, &head, model.as_ref(), &mut output).await;
    store.close().await;
    let written = written?;
    let made = output.finish()?;
    if flags.embeddings {
        print_error(&format!(
            "{} holds the embeddings of {} templates, which are biometric data; only you can read it: keep it so, and \
             delete it after use",
            flags.out.display(),
            written.templates
        ));
    }
    let files: Vec<String> = made.iter().map(|path| path.display().to_string()).collect();
    print(format_args!("{} templates written to {}", written.templates, files.join(" and ")));
    if written.expired > 0 {
        print(format_args!("{} templates of expired identities left out", written.expired));
    }
    if written.provisional > 0 {
        print(format_args!("{} templates of provisional identities left out", written.provisional));
    }
    Ok(())
}

/// The counts of an export.
#[derive(Debug, Default)]
struct ExportCounts {
    templates: u64,
    expired: u64,
    /// An import would enroll them.
    provisional: u64,
}

/// Writes in the order of enrollment, up to the head at the start of the export: an export beside a writing server must end.
async fn write(
    store: &dyn Store,
    head: &CollectionHead,
    model: Option<&SpaceName>,
    output: &mut Output,
) -> anyhow::Result<ExportCounts> {
    let now = SystemClock.now();
    let (mut written, mut after, mut only) = (ExportCounts::default(), Position::START, None);
    loop {
        let page = store.owned_templates(head.uid, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(written);
        };
        after = last.stored.template.position;
        let mut rows = Vec::with_capacity(page.len());
        for OwnedTemplate { stored, identity } in page {
            if stored.template.position > head.position {
                break;
            }
            if model.is_some_and(|model| *model != stored.template.model) {
                continue;
            }
            if identity.is_expired(now) {
                written.expired += 1;
                continue;
            }
            if identity.provisional {
                written.provisional += 1;
                continue;
            }
            rows.push(exported(stored, identity));
        }
        if let Some(mixed) = rows.iter().find(|row| *only.get_or_insert_with(|| row.model.clone()) != row.model)
            && output.is_of_one_model()
        {
            bail!(
                "the collection holds embeddings of several models, {} among them; choose one with --model",
                mixed.model
            );
        }
        written.templates += rows.len() as u64;
        output.write(&rows)?;
        if after >= head.position {
            return Ok(written);
        }
    }
}

fn exported(stored: StoredTemplate, identity: Identity) -> Exported {
    Exported {
        identity: identity.id,
        labels: identity.labels,
        modality: stored.template.space.modality,
        model: stored.template.model,
        digest: stored.template.space.digest,
        embedding: stored.embedding,
    }
}
