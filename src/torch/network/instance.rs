//! Instance normalisation: each channel of each map by its own mean and variance.
//!
//! Its statistics come from the input, so it cannot be folded: the layer before it stays as trained in either folding.

use tch::{TchError, Tensor};

use super::{
    NetworkError,
    layers::{Layer, NORM_EPSILON, channels_last, tensor},
    parameters::Parameters,
};

#[derive(Debug)]
pub(super) struct InstanceNorm {
    weight: Tensor,
    bias: Tensor,
}

impl InstanceNorm {
    pub(super) fn take(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let mut numbers = |name: &str| -> Result<Tensor, NetworkError> {
            tensor(&parameters.take(&format!("{key}.{name}"), &[channels])?, &[channels])
        };
        Ok(Self { weight: numbers("weight")?, bias: numbers("bias")? })
    }
}

impl Layer for InstanceNorm {
    /// A group norm with one group per channel: libtorch's own instance norm does not support channels-last maps and
    /// was several times slower.
    fn forward(&self, map: &Tensor) -> Result<Tensor, TchError> {
        let (groups, cudnn) = (map.size()[1], false);
        channels_last(map)?.f_group_norm(groups, Some(&self.weight), Some(&self.bias), NORM_EPSILON, cudnn)
    }
}
