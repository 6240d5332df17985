//! The calibrations that operators activated in a collection, in memory, so that no answer waits for the database.
//!
//! They are read when the collection is opened and again when its record has a new revision: every activation, on any
//! replica, also writes the record.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::matcher::request::fault::Fault;
use decision::{Calibration, PosteriorCalibration};
use domain::{CollectionUid, EmbeddingSpace, Modality, PackageCalibration, Revision, StoredCalibration};
use store::Store;

/// The active calibrations of a collection as of a revision of its record.
#[derive(Debug, Default)]
pub(crate) struct ActiveCalibrations(RwLock<AsRead>);

#[derive(Debug, Default)]
struct AsRead {
    /// `None` before the first read.
    revision: Option<Revision>,
    all: Vec<Arc<ActiveCalibration>>,
}

/// A calibration that an operator activated, fitted.
#[derive(Debug)]
pub(crate) struct ActiveCalibration {
    pub(crate) kept: StoredCalibration,
    /// `None` when this version of the program needs more trials than were kept.
    pub(crate) calibration: Option<Arc<Calibration>>,
    /// `None` in calibrations from before the trials of the decider.
    pub(crate) posterior: Option<Arc<PosteriorCalibration>>,
}

impl ActiveCalibrations {
    pub(crate) fn of(&self, modality: Modality) -> Option<Arc<ActiveCalibration>> {
        self.all().into_iter().find(|active| active.kept.space.modality == modality)
    }

    pub(crate) fn all(&self) -> Vec<Arc<ActiveCalibration>> {
        self.0.read().all.clone()
    }

    /// Whether they were read at this revision or a later one.
    pub(crate) fn is_as_of(&self, revision: Revision) -> bool {
        self.0.read().revision.is_some_and(|read| read >= revision)
    }

    /// Reads the active calibrations of a collection from the store and keeps them as of `revision`, unless a newer
    /// revision was read meanwhile. `package` returns the measurements of the model package of a space.
    pub(crate) async fn read(
        &self,
        store: &dyn Store,
        uid: CollectionUid,
        revision: Revision,
        package: impl Fn(EmbeddingSpace) -> Option<PackageCalibration> + Send + 'static,
    ) -> Result<(), Fault> {
        let kept = store.in_collection(uid).active_calibrations().await?;
        let fit = move |kept: StoredCalibration| {
            let calibration = Calibration::from_kept(&kept, package(kept.space).as_ref()).map(Arc::new);
            let trials = &kept.posterior;
            let posterior = (!trials.is_empty()).then(|| Arc::new(PosteriorCalibration::from_trials(trials)));
            Arc::new(ActiveCalibration { kept, calibration, posterior })
        };
        // A fit takes milliseconds, so it runs on a blocking thread.
        let fitted = tokio::task::spawn_blocking(move || kept.into_iter().map(fit).collect());
        let all = fitted.await.map_err(Fault::internal)?;
        let mut there = self.0.write();
        if there.revision.is_none_or(|read| read <= revision) {
            *there = AsRead { revision: Some(revision), all };
        }
        Ok(())
    }
}
