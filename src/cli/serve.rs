//! `semblance serve`

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{models, print, process_limits};
use crate::{
    app::{self, Server},
    config::{PlaceFlags, ServeFlags},
    telemetry,
};

pub(super) async fn run(places: &PlaceFlags, flags: &ServeFlags) -> anyhow::Result<()> {
    // Before the download of models: a wrong setting is told at once.
    flags.check()?;
    set_process_limits(flags);
    let metrics = telemetry::start_metrics()?;
    if !flags.no_pull {
        let places = places.clone();
        tokio::task::spawn_blocking(move || models::pull_starters_if_none(&places)).await?;
    }
    // Before the sockets open: an early signal must not kill a server that already answers.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut server = tokio::select! {
        started = app::start(places, flags, metrics) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    app::warn_of_missing_models(&server.loaded);
    print_greeting(&server);
    warn_of_missing_key(flags);
    tokio::select! {
        error = server.failed() => return Err(error),
        _ = terminate.recv() => info!("received SIGTERM"),
        _ = interrupt.recv() => info!("received SIGINT"),
    }
    // A second signal does not wait for the drain.
    tokio::select! {
        stopped = server.stop() => stopped,
        _ = terminate.recv() => anyhow::bail!("received SIGTERM twice; requests in flight were cut off"),
        _ = interrupt.recv() => anyhow::bail!("received SIGINT twice; requests in flight were cut off"),
    }
}

/// A system that refuses does not stop the start.
fn set_process_limits(flags: &ServeFlags) {
    match process_limits::raise_open_files() {
        Ok(Some(open_files_max)) => info!(open_files_max, "limit of open files"),
        Ok(None) => info!("no limit of open files"),
        Err(error) => warn!(%error, "the limit of open files stays as it is"),
    }
    if !flags.allow_core_dumps
        && let Err(error) = process_limits::forbid_core_dumps()
    {
        warn!(%error, "a crash may write embeddings and photos to a core dump: the system does not forbid it");
    }
}

fn warn_of_missing_key(flags: &ServeFlags) {
    match flags {
        ServeFlags { api_key: Some(_), .. } => {}
        ServeFlags { allow_anonymous: true, .. } => warn!(
            "EVERYBODY who reaches this server may list, enroll and delete: SEMBLANCE_ALLOW_ANONYMOUS is set and \
             SEMBLANCE_API_KEY is not"
        ),
        _ => warn!(
            "NO KEY: every program of this machine may list, enroll and delete, and so may anybody behind a TCP forwarder \
             or a proxy on this machine that hides itself. For more than a trial, set SEMBLANCE_API_KEY"
        ),
    }
}

/// Prints one screen: addresses, contents, models, and commands to try.
fn print_greeting(server: &Server) {
    let Server { http_addr, grpc_addr, loaded, .. } = server;
    let base = format!("http://{}", reachable(*http_addr));
    print(format_args!("Semblance {}", env!("CARGO_PKG_VERSION")));
    print(format_args!("  REST      {base}   (documentation: {base}/docs)"));
    print(format_args!("  gRPC      {}   (with reflection)", reachable(*grpc_addr)));
    let progress = loaded.progress;
    print(format_args!(
        "  store     {}: {} collections, {} identities, {} templates, read in {:.1} s",
        loaded.store,
        progress.collections,
        progress.identities,
        progress.templates,
        loaded.load_took.as_secs_f64()
    ));
    for (modality, model) in &loaded.models {
        let model = model.as_deref().unwrap_or("no model: embeddings only (see: semblance models list)");
        print(format_args!("  {modality:<9} {model}"));
    }
    if !loaded.finds_faces {
        print("  photos    no face detector: a face must come aligned, or with landmarks");
    }
    let aligned = if loaded.finds_faces { "" } else { "&alignment=aligned" };
    print("\nTry:");
    print(format_args!("  curl -X POST '{base}/v1/collections?collectionId=staff'"));
    print(format_args!(
        "  curl --data-binary @alice.jpg -H 'content-type: image/jpeg' \\\n    '{base}/v1/collections/staff/identities/alice:enroll?modality=face{aligned}'"
    ));
    print(format_args!(
        "  curl --data-binary @someone.jpg -H 'content-type: image/jpeg' \\\n    '{base}/v1/collections/staff/identities:resolve?modality=face{aligned}'"
    ));
}

/// The address for callers on this machine.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], addr.port())) } else { addr }
}
