//! `semblance doctor`

mod gallery;

use std::io::IsTerminal;

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use self::gallery::{SnapshotAudit, SnapshotFinding};
use super::print;
use crate::{app, config::PlaceFlags};
use store::{Audited, Finding, Repairs, Store};

#[derive(Debug, Args)]
pub(super) struct DoctorFlags {
    /// Repair derived data: head positions, missing checksums, gallery snapshots. Templates and identities stay as they
    /// are.
    #[arg(long)]
    repair: bool,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// The result of the command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DoctorReport {
    database: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Repairs>,
    store: Audited,
    gallery: SnapshotAudit,
}

impl DoctorReport {
    fn findings(&self) -> &[Finding] {
        &self.store.findings
    }
}

pub(super) async fn run(places: &PlaceFlags, flags: &DoctorFlags) -> anyhow::Result<()> {
    let store = app::open_store(places, None).await?;
    store.check_schema().await?;
    let report = audit(&*store, places, flags).await;
    store.close().await;
    let report = report?;
    if flags.json {
        print(serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    let snapshots = report.gallery.findings.len();
    let derived = snapshots + report.findings().iter().filter(|finding| finding.kind.is_derived()).count();
    match (report.findings().len() + snapshots, derived) {
        (0, _) => Ok(()),
        (found, 0) => bail!("{found} findings"),
        (found, derived) => bail!("{found} findings, {derived} of them repaired by --repair"),
    }
}

/// Repairs first, so that the report shows the remaining findings.
async fn audit(store: &dyn Store, places: &PlaceFlags, flags: &DoctorFlags) -> anyhow::Result<DoctorReport> {
    let repaired = if flags.repair { Some(store.repair().await?) } else { None };
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    let watch = |templates: u64| {
        if let Some(bar) = &bar {
            bar.set_message(format!("{templates} templates"));
            bar.tick();
        }
    };
    let audited = store.audit(&watch).await?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    // Snapshots are compared with the store, so the store must be consistent.
    let gallery = if audited.findings.is_empty() {
        gallery::audit(store, &places.snapshots_dir(), flags.repair).await?
    } else {
        SnapshotAudit::default()
    };
    Ok(DoctorReport { database: store.kind(), repaired, store: audited, gallery })
}

fn print_report(report: &DoctorReport) {
    if let Some(Repairs { head_positions, checksums }) = report.repaired {
        print(format_args!("repaired: {head_positions} head positions, {checksums} checksums"));
    }
    for finding in report.findings() {
        print(line(finding));
    }
    let Audited { collections, identities, templates, checksums_missing, findings } = &report.store;
    let sound = if findings.is_empty() { ", no findings" } else { "" };
    print(format_args!(
        "{}: {collections} collections, {identities} identities, {templates} templates{sound}",
        report.database
    ));
    let SnapshotAudit { snapshots, in_use, removed, findings } = &report.gallery;
    for SnapshotFinding { kind, collection, template, detail } in findings {
        let template = template.as_ref().map(|template| format!(" template {template}")).unwrap_or_default();
        let kind = kind.as_str();
        print(format_args!(
            "{kind} {collection}{template}: {detail}; --repair removes the snapshot, and the next start writes a new one"
        ));
    }
    if *in_use {
        print("gallery snapshots: in use by a server, not compared");
    } else if *snapshots > 0 {
        print(format_args!("gallery snapshots: {snapshots} compared, {removed} removed"));
    }
    if *checksums_missing > 0 {
        print(format_args!("{checksums_missing} templates have no checksum; --repair adds it"));
    }
}

/// `checksum_mismatch staff/alice template ... at 7: what is wrong; what to do`
fn line(finding: &Finding) -> String {
    let kind = serde_json::to_value(finding.kind).ok();
    let mut line = kind.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned();
    let place: Vec<&str> = [&finding.collection, &finding.identity].into_iter().flatten().map(String::as_str).collect();
    if !place.is_empty() {
        line.push(' ');
        line.push_str(&place.join("/"));
    }
    if let Some(template) = &finding.template {
        line.push_str(" template ");
        line.push_str(template);
    }
    if let Some(position) = finding.position {
        line.push_str(" at ");
        line.push_str(&position.to_string());
    }
    format!("{line}: {}; {}", finding.detail, finding.kind.remedy())
}
