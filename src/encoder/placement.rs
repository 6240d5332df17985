//! Device and threads of each model. The operator sets them; they are no part of a package because machines differ.

use std::{collections::BTreeMap, num::NonZeroU16};

use thiserror::Error;

use domain::{Device, SpaceName};
use torch::runtime::{self, RuntimeError, ThreadPlacement};

/// Where models run. A model without an entry runs on the CPU with one thread per operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placements {
    pub devices: BTreeMap<SpaceName, Device>,
    /// Threads within one operation; more than one helps one large model on many cores.
    pub threads: BTreeMap<SpaceName, NonZeroU16>,
}

/// Why a placement is refused.
#[derive(Debug, Error)]
pub enum PlacementError {
    #[error("{model} has a placement and is not installed; installed are {installed}")]
    NotInstalled { model: SpaceName, installed: String },
    #[error("{model} cannot run on its device: {source}")]
    Device { model: SpaceName, source: RuntimeError },
}

impl Placements {
    /// The placement of one model.
    pub(super) fn of(&self, model: &SpaceName) -> ThreadPlacement {
        let default = ThreadPlacement::default();
        ThreadPlacement {
            device: self.devices.get(model).copied().unwrap_or(default.device),
            threads: self.threads.get(model).copied().unwrap_or(default.threads),
        }
    }

    /// Checks names and devices at start: a misspelt name would have no effect, and a missing device would fail late.
    pub(super) fn check(&self, installed: &[&SpaceName]) -> Result<(), PlacementError> {
        let mut named = self.devices.keys().chain(self.threads.keys());
        if let Some(model) = named.find(|model| !installed.contains(model)) {
            let names: Vec<&str> = installed.iter().map(|model| model.as_str()).collect();
            let installed = if names.is_empty() { "no models".to_owned() } else { names.join(", ") };
            return Err(PlacementError::NotInstalled { model: model.clone(), installed });
        }
        self.devices.iter().try_for_each(|(model, device)| {
            runtime::check(*device).map_err(|source| PlacementError::Device { model: model.clone(), source })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SpaceName {
        SpaceName::new(text).expect("a name")
    }

    #[test]
    fn a_model_without_an_entry_runs_on_one_thread_of_the_cpu() {
        let three = NonZeroU16::new(3).expect("above zero");
        let placements = Placements {
            devices: BTreeMap::from([(name("card"), Device::Cuda(1))]),
            threads: BTreeMap::from([(name("wide"), three)]),
        };
        assert_eq!(placements.of(&name("other")), ThreadPlacement::default());
        assert_eq!(
            placements.of(&name("card")),
            ThreadPlacement { device: Device::Cuda(1), ..ThreadPlacement::default() }
        );
        assert_eq!(placements.of(&name("wide")), ThreadPlacement { threads: three, ..ThreadPlacement::default() });
    }

    #[test]
    fn a_name_that_is_not_installed_is_reported_with_the_installed_ones() {
        let (face, slip) = (name("face"), name("fase"));
        let on_cpu = |model: &SpaceName| Placements {
            devices: BTreeMap::from([(model.clone(), Device::Cpu)]),
            ..Placements::default()
        };
        assert!(on_cpu(&face).check(&[&face]).is_ok());
        let error = on_cpu(&slip).check(&[&face]).expect_err("a slip").to_string();
        assert!(error.contains("fase") && error.ends_with("installed are face"), "{error}");
        let wide = Placements { threads: BTreeMap::from([(slip, NonZeroU16::MIN)]), ..Placements::default() };
        assert!(wide.check(&[]).expect_err("nothing is installed").to_string().ends_with("installed are no models"));
        let absent =
            Placements { devices: BTreeMap::from([(face.clone(), Device::Cuda(u16::MAX))]), ..Placements::default() };
        let error = absent.check(&[&face]).expect_err("no machine has so many cards").to_string();
        assert!(error.contains("face") && error.contains("cuda:65535"), "{error}");
    }
}
