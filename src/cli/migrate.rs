//! `semblance migrate`

use super::print;
use crate::{app, config::PlaceFlags};

pub(super) async fn run(places: &PlaceFlags) -> anyhow::Result<()> {
    let store = app::open_store(places, None).await?;
    store.migrate().await?;
    store.check_schema().await?;
    print(format_args!("the {} database has the schema of this version", store.kind()));
    store.close().await;
    Ok(())
}
