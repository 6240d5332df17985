//! An encoder model: the views of a sample go in, one vector comes out.

use std::num::NonZeroUsize;

use super::{
    package::{EncoderArchitecture, EncoderManifest, Weights},
    prepare::NetworkInput,
    worker::InferenceModel,
};
use torch::{
    network::{Folding, Network, NetworkError},
    script::{Answers, Script, ScriptError},
};

/// The network of an encoder and its shapes.
#[derive(Debug)]
pub(super) struct EncoderModel {
    network: LoadedNetwork,
    /// Number of values per view.
    input: usize,
    /// Number of heat map values among them, zero for a sample without keypoints.
    heat_maps: usize,
    /// Number of values in an output.
    dimension: usize,
    /// Number of parts of an output; parts are compared one by one.
    parts: NonZeroUsize,
}

#[derive(Debug)]
enum LoadedNetwork {
    BuiltIn(Network),
    Script(Script),
}

impl EncoderModel {
    /// Builds the network and runs trial inputs through it. This detects weights that do not fit, outputs that are not
    /// finite, and a broken libtorch.
    pub(super) fn build(manifest: &EncoderManifest, weights: Weights) -> Result<Self, NetworkError> {
        let (network, parts, heat_maps) = match (manifest.architecture, weights) {
            (EncoderArchitecture::BuiltIn(architecture), Weights::Tensors(tensors)) => {
                let network = Network::build(architecture, tensors, Folding::Folded)?;
                network.try_out()?;
                (LoadedNetwork::BuiltIn(network), architecture.parts(), 0)
            }
            (EncoderArchitecture::TorchScript(script), Weights::Program(bytes)) => {
                let signature = script.signature(manifest.dimension);
                (LoadedNetwork::Script(Script::load(&bytes, signature)?), script.parts.unwrap_or(1), script.heat_maps())
            }
            (EncoderArchitecture::BuiltIn(_), Weights::Program(_))
            | (EncoderArchitecture::TorchScript(_), Weights::Tensors(_)) => return Err(ScriptError::Misplaced.into()),
        };
        Ok(Self {
            network,
            input: manifest.architecture.input_shape().iter().product(),
            heat_maps,
            dimension: manifest.dimension as usize,
            parts: NonZeroUsize::new(parts).expect("an answer has at least one part"),
        })
    }

    fn forward(&self, input: &[f32], batch: usize) -> Result<Answers, NetworkError> {
        match &self.network {
            LoadedNetwork::BuiltIn(network) => {
                Ok(Answers { embeddings: network.forward(input, batch)?, visibility: None })
            }
            LoadedNetwork::Script(script) => script.forward(input, batch),
        }
    }

    /// Concatenates the views.
    fn input<'a>(&self, views: impl Iterator<Item = &'a Vec<f32>>) -> Vec<f32> {
        let mut numbers = Vec::new();
        for view in views {
            numbers.extend_from_slice(view);
            if view.len() + self.heat_maps == self.input {
                numbers.resize(numbers.len() + self.heat_maps, 0.0);
            }
        }
        numbers
    }
}

impl InferenceModel for EncoderModel {
    type Input = NetworkInput;
    type Output = Vec<f32>;

    /// The vector of a sample is the sum over its views. A model without parts does not normalise it,
    /// [`domain::Embedding`] does; for a model with parts see [`balance`].
    fn infer(&mut self, inputs: &[&NetworkInput]) -> Result<Vec<Vec<f32>>, NetworkError> {
        let views = || inputs.iter().flat_map(|prepared| &prepared.views);
        let mut answers = self.forward(&self.input(views()), views().count())?;
        if let Some(visibility) = &answers.visibility {
            hide(&mut answers.embeddings, visibility, self.dimension / self.parts);
        }
        let mut rows = answers.embeddings.chunks_exact(self.dimension);
        let vectors = inputs.iter().map(|prepared| sum(rows.by_ref().take(prepared.views.len())));
        Ok(match self.parts.get() {
            1 => vectors.collect(),
            parts => vectors.map(|vector| balance(vector, parts)).collect(),
        })
    }
}

fn sum<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let add = |mut total: Vec<f32>, row: &[f32]| {
        total.iter_mut().zip(row).for_each(|(total, number)| *total += number);
        total
    };
    rows.map(<[f32]>::to_vec).reduce(|total, row| add(total, &row)).unwrap_or_default()
}

/// Minimum visibility of a part, 0 to 1.
const VISIBLE_MIN: f32 = 0.5;

/// Sets invisible parts to zero. `part` is the number of values per part.
fn hide(embeddings: &mut [f32], visibility: &[f32], part: usize) {
    let parts = embeddings.chunks_exact_mut(part).zip(visibility);
    parts.filter(|(_, visible)| **visible < VISIBLE_MIN).for_each(|(numbers, _)| numbers.fill(0.0));
}

/// Scales every visible part to length 1 / sqrt(number of visible parts). The whole vector then has length 1, invisible
/// parts are zero, and the cosine of two vectors with the same visible parts is the mean of the cosines of their parts.
/// A vector without visible parts stays zero.
fn balance(mut vector: Vec<f32>, parts: usize) -> Vec<f32> {
    let length = |part: &[f32]| part.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    let part = vector.len() / parts;
    // A part with NaN stays NaN, and the embedding is refused.
    let visible = vector.chunks_exact(part).filter(|part| length(part) != 0.0).count();
    for part in vector.chunks_exact_mut(part) {
        let length = length(part) * (visible as f64).sqrt();
        if length != 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "a number of a vector of length 1")]
            for number in part {
                *number = (f64::from(*number) / length) as f32;
            }
        }
    }
    vector
}

#[cfg(test)]
mod tests;
