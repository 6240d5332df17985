//! Calibrations of a collection.

use async_trait::async_trait;

use super::Page;
use crate::Result;
use domain::{CalibrationId, Modality, StoredCalibration};

/// The stored calibrations of one collection.
#[async_trait]
pub trait Calibrations {
    async fn calibration(&mut self, id: CalibrationId) -> Result<Option<StoredCalibration>>;

    /// Calibrations after `after`, in id order.
    async fn calibrations(&mut self, after: Option<CalibrationId>, limit: u32) -> Result<Page<StoredCalibration>>;

    /// The active calibrations, at most one for each modality.
    async fn active_calibrations(&mut self) -> Result<Vec<StoredCalibration>>;

    /// Stores a calibration unless the collection already has `calibrations_max`. Returns whether it is stored. Takes
    /// the collection's lock.
    async fn put_calibration(&mut self, calibration: &StoredCalibration, calibrations_max: u64) -> Result<bool>;

    /// Makes `id` the active calibration of its modality, or none. Takes the collection's lock.
    ///
    /// Followers read the active calibrations again when the collection's revision changes, so the same turn must also
    /// write the collection's record.
    async fn activate_calibration(&mut self, modality: Modality, id: Option<CalibrationId>) -> Result<()>;

    async fn delete_calibration(&mut self, id: CalibrationId) -> Result<()>;
}
