//! The modalities of a probe that can decide in a collection, and the thresholds of that decision.

use std::sync::Arc;

use super::{
    Judging,
    calibrations_in_force::{CalibratedSpace, InForce, WaitLimits},
    fusion::{FusionInput, FusionScale},
};
use crate::matcher::{
    collection::collection_handle::CollectionHandle,
    recognition::probe::{Probe, ProbeView},
};
use decision::{Calibration, Thresholds};
use domain::{Modality, Reason};

/// The modalities of a probe that decide.
#[derive(Debug, Clone)]
pub(crate) struct UsableModalities {
    /// The only modality that decides, or the first of several.
    pub(crate) view: ProbeView,
    /// `None` when one modality decides alone.
    pub(crate) fusion: Option<Arc<FusionInput>>,
    pub(crate) thresholds: Thresholds,
}

impl Judging {
    /// The modalities of the probe that have templates and a calibration here.
    pub(crate) async fn usable_modalities(&self, handle: &CollectionHandle, probe: &Probe) -> UsableModalities {
        let first = || probe.first().clone();
        if !probe.is_fused() {
            let thresholds = self.thresholds(handle, first().embedding.space()).await;
            return UsableModalities { view: first(), fusion: None, thresholds };
        }
        // A modality without templates in this collection cannot decide, whatever its calibration.
        let enrolled: Vec<&ProbeView> =
            probe.views.iter().filter(|view| handle.index.templates_in(view.embedding.space()) > 0).collect();
        let mut calibrated: Vec<(&ProbeView, InForce)> = Vec::new();
        for view in &enrolled {
            let in_force = self.in_force(handle, view.embedding.space(), WaitLimits::Request).await;
            calibrated.extend(
                in_force
                    .filter(|i| i.calibration.log_likelihood_ratio_max().is_some())
                    .map(|in_force| (*view, in_force)),
            );
        }
        let has_uncalibrated = calibrated.len() < enrolled.len();
        if let ([view], _) | (_, [(view, _)]) = (&enrolled[..], &calibrated[..]) {
            // One modality decides by its thresholds, as if the probe had no other.
            let mut thresholds = self.thresholds(handle, view.embedding.space()).await;
            if has_uncalibrated && enrolled.len() > 1 {
                thresholds.resolve_reasons.push(Reason::ModalityUncalibrated);
                thresholds.verify_reasons.push(Reason::ModalityUncalibrated);
            }
            return UsableModalities { view: (*view).clone(), fusion: None, thresholds };
        }
        let sum: u64 = enrolled.iter().map(|view| handle.index.identities_in(view.embedding.space())).sum();
        let identities = sum.min(handle.index.stats().identities);
        let policy = handle.collection.policy;
        let spaces: Vec<CalibratedSpace> = calibrated
            .iter()
            .map(|(view, in_force)| CalibratedSpace { space: view.embedding.space(), in_force: in_force.clone() })
            .collect();
        let fusion = self.fusion(handle, &spaces).await;
        let calibrations: Vec<&Calibration> = calibrated.iter().map(|(_, in_force)| &*in_force.calibration).collect();
        let mut thresholds = fusion.thresholds(policy, identities, &calibrations, has_uncalibrated);
        if calibrated.iter().any(|(_, in_force)| in_force.is_stale)
            && !thresholds.resolve_reasons.contains(&Reason::CalibrationStale)
        {
            thresholds.resolve_reasons.push(Reason::CalibrationStale);
        }
        let scale = |(view, in_force): (&ProbeView, InForce)| {
            let is_body = view.modality() == Modality::Person;
            let half_life = if is_body { policy.person_half_life.as_secs_f64() } else { 0.0 };
            FusionScale { view: view.clone(), calibration: in_force.calibration, half_life }
        };
        let scales = calibrated.into_iter().map(scale).collect();
        let input = Arc::new(FusionInput::new(scales, fusion, identities));
        UsableModalities { view: first(), fusion: Some(input), thresholds }
    }
}
