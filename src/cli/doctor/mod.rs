//! `semblance doctor`

mod gallery;

use std::io::IsTerminal;

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use self::gallery::{Flaw, Gallery};
use super::say;
use crate::{app, config::PlaceFlags};
use store::{Audited, Finding, Repairs, Store};

#[derive(Debug, Args)]
pub(super) struct DoctorFlags {
    /// Make anew what follows from the rest: head positions, missing checksums, snapshots of the gallery. Nobody's data is
    /// changed or removed.
    #[arg(long)]
    repair: bool,
    /// Answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the command answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    database: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Repairs>,
    store: Audited,
    /// What is derived from the store.
    gallery: Gallery,
}

impl Report {
    fn findings(&self) -> &[Finding] {
        &self.store.findings
    }
}

pub(super) async fn run(places: &PlaceFlags, flags: &DoctorFlags) -> anyhow::Result<()> {
    let store = app::open_store(places, None).await?;
    store.check_schema().await?;
    let report = look(&*store, places, flags).await;
    store.close().await;
    let report = report?;
    if flags.json {
        say(serde_json::to_string_pretty(&report)?);
    } else {
        tell(&report);
    }
    let snapshots = report.gallery.findings.len();
    let derived = snapshots + report.findings().iter().filter(|finding| finding.kind.is_derived()).count();
    match (report.findings().len() + snapshots, derived) {
        (0, _) => Ok(()),
        (found, 0) => bail!("{found} findings"),
        (found, derived) => bail!("{found} findings, {derived} of which --repair mends"),
    }
}

/// Repairs first, so that what is told is what is left.
async fn look(store: &dyn Store, places: &PlaceFlags, flags: &DoctorFlags) -> anyhow::Result<Report> {
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
    // Only a store that can be read through is worth comparing with.
    let gallery = if audited.findings.is_empty() {
        gallery::look(store, &places.snapshots_dir(), flags.repair).await?
    } else {
        Gallery::default()
    };
    Ok(Report { database: store.kind(), repaired, store: audited, gallery })
}

fn tell(report: &Report) {
    if let Some(Repairs { head_positions, checksums }) = report.repaired {
        say(format_args!("repaired: {head_positions} head positions, {checksums} checksums"));
    }
    for finding in report.findings() {
        say(line(finding));
    }
    let Audited { collections, identities, templates, checksums_missing, findings } = &report.store;
    let sound = if findings.is_empty() { ", all as they should be" } else { "" };
    say(format_args!(
        "{}: {collections} collections, {identities} identities, {templates} templates{sound}",
        report.database
    ));
    let Gallery { snapshots, in_use, removed, findings } = &report.gallery;
    for Flaw { kind, collection, template, detail } in findings {
        let template = template.as_ref().map(|template| format!(" template {template}")).unwrap_or_default();
        let kind = kind.as_str();
        say(format_args!(
            "{kind} {collection}{template}: {detail}; --repair removes it, and the next start makes it anew"
        ));
    }
    if *in_use {
        say("snapshots of the gallery: a server uses them, so they were not looked at");
    } else if *snapshots > 0 {
        say(format_args!("snapshots of the gallery: {snapshots} compared, {removed} removed"));
    }
    if *checksums_missing > 0 {
        say(format_args!("{checksums_missing} templates have no checksum yet; --repair gives them one"));
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
