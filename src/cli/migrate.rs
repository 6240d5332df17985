//! `semblance migrate`

use super::say;
use crate::{app, config::PlaceFlags};

pub(super) async fn run(places: &PlaceFlags) -> anyhow::Result<()> {
    let store = app::open_store(places, None).await?;
    store.migrate().await?;
    store.check_schema().await?;
    say(format_args!("the {} database has this version's schema", store.kind()));
    store.close().await;
    Ok(())
}
