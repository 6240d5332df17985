//! The calibrations that operators pinned, in memory beside their collection, so that no answer waits for the database.
//!
//! Which they are is read when a collection is opened, and read again when its record has moved: whoever pins one on any
//! replica writes the record too.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{Fault, Matcher, directory::Open};
use decision::Calibration;
use domain::{Collection, EmbeddingSpace, ErrorChain, KeptCalibration, Modality, Revision, Standing};
use gallery::Shelf;

/// What is pinned in a collection, as of a revision of its record.
#[derive(Debug, Default)]
pub(super) struct Pins(RwLock<(Option<Revision>, Vec<Arc<Pin>>)>);

/// A calibration that was pinned, ready to be asked.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) kept: KeptCalibration,
    /// `None` where the program has come to need more trials than were kept.
    pub(super) calibration: Option<Arc<Calibration>>,
}

impl Pins {
    fn of(&self, modality: Modality) -> Option<Arc<Pin>> {
        self.0.read().1.iter().find(|pin| pin.kept.space.modality == modality).map(Arc::clone)
    }

    fn is_as_of(&self, revision: Revision) -> bool {
        self.0.read().0.is_some_and(|read| read >= revision)
    }

    /// Takes in what was read at a revision, unless something newer was.
    fn put(&self, revision: Revision, pins: Vec<Arc<Pin>>) {
        let mut there = self.0.write();
        if there.0.is_none_or(|read| read <= revision) {
            *there = (Some(revision), pins);
        }
    }
}

impl Matcher {
    /// The collection with its gallery, and what is pinned in it.
    pub(super) async fn opened(&self, collection: Collection, shelf: Arc<Shelf>) -> Result<Open, Fault> {
        let open = Open::new(collection, shelf);
        self.read_pins(&open).await?;
        Ok(open)
    }

    /// The calibration that is pinned for the modality. Where the database cannot say what is pinned now, the one that
    /// was pinned before stays in force.
    pub(super) async fn pinned(&self, open: &Open, modality: Modality) -> Option<Arc<Pin>> {
        if !open.pins.is_as_of(open.collection.revision)
            && let Err(fault) = self.read_pins(open).await
        {
            tracing::warn!(error = %ErrorChain(&fault), "which calibration is active cannot be read; the one known before serves");
        }
        open.pins.of(modality)
    }

    /// Reads what is pinned as of the record that `open` shows.
    pub(super) async fn read_pins(&self, open: &Open) -> Result<(), Fault> {
        let kept = self.store.in_collection(open.collection.uid).active_calibrations().await?;
        let matcher = self.clone();
        let pin = move |kept: KeptCalibration| {
            let calibration = Calibration::from_kept(&kept, matcher.package_calibration(kept.space)).map(Arc::new);
            Arc::new(Pin { kept, calibration })
        };
        // Fitting takes milliseconds each, so it is done off the reactor.
        let pins = tokio::task::spawn_blocking(move || kept.into_iter().map(pin).collect());
        open.pins.put(open.collection.revision, pins.await.map_err(Fault::internal)?);
        Ok(())
    }

    /// How many collections have an active calibration that the gallery has moved away from.
    #[must_use]
    pub fn stale_calibrations(&self) -> usize {
        let is_stale = |open: &Open| {
            let pins = open.pins.0.read();
            pins.1.iter().any(|pin| !pin.kept.moved(&standing(open, pin.kept.space)).is_empty())
        };
        self.directory.all().iter().filter(|open| is_stale(open)).count()
    }
}

/// The gallery of a space as it is now.
pub(super) fn standing(open: &Open, space: EmbeddingSpace) -> Standing {
    Standing {
        space: open.collection.active_space(space.modality).map(|active| active.space),
        identities: open.shelf.identities_in(space),
        quality_mean: open.shelf.quality_mean_in(space),
        pooling: open.collection.policy.pooling,
    }
}
