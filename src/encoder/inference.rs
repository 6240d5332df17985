//! A network as an encoder: several views of a sample go in, one vector comes out.

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

/// What runs for an encoder.
#[derive(Debug)]
pub(super) struct EncoderModel {
    network: LoadedNetwork,
    /// How many numbers a view has.
    input: usize,
    /// How many of them are heat maps of keypoints, blank in a sample that says nothing of keypoints.
    heat_maps: usize,
    /// How many numbers an answer has.
    dimension: usize,
    /// How many parts those are; each is compared by itself.
    parts: NonZeroUsize,
}

#[derive(Debug)]
enum LoadedNetwork {
    BuiltIn(Network),
    Script(Script),
}

impl EncoderModel {
    /// Builds the network and tries it: weights that do not fit, answers that make no sense, and a libtorch that does
    /// not work show here.
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

    /// All views one behind the other.
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

    /// The vector of a sample is the sum over its views. Of a model without parts its length is nobody's concern until it
    /// becomes an embedding; of one with parts, see [`balance`].
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

/// How visible a part must be to count.
const VISIBLE_MIN: f32 = 0.5;

/// Makes zeros of the parts that are not visible. `part` is how many numbers one has.
fn hide(embeddings: &mut [f32], visibility: &[f32], part: usize) {
    let parts = embeddings.chunks_exact_mut(part).zip(visibility);
    parts.filter(|(_, visible)| **visible < VISIBLE_MIN).for_each(|(numbers, _)| numbers.fill(0.0));
}

/// Gives every visible part the length 1 / sqrt(how many are visible). The whole has length 1 then, parts that are not
/// visible can be told by their zeros, and of two vectors with the same parts the cosine is the mean over the parts'
/// cosines. Nothing becomes of a vector without visible parts: all of it is zero.
fn balance(mut vector: Vec<f32>, parts: usize) -> Vec<f32> {
    let length = |part: &[f32]| part.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    let part = vector.len() / parts;
    // A part that is not a number stays so, and the embedding made of it is refused.
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
