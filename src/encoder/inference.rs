//! A network as an encoder: several views of a sample go in, one vector comes out.

use super::{prepare::Prepared, worker::Encode};
use crate::torch::{
    network::{Architecture, Folding, Network, NetworkError},
    weights::StateDict,
};

/// A network with its batch norms folded.
#[derive(Debug)]
pub(super) struct NetworkEncoder(Network);

impl NetworkEncoder {
    /// Builds the network and runs it once: weights that do not fit, and a libtorch that does not work, show here.
    pub(super) fn new(architecture: Architecture, weights: StateDict) -> Result<Self, NetworkError> {
        let network = Network::build(architecture, weights, Folding::Folded)?;
        let blank = vec![0.0; architecture.input_shape().iter().product()];
        network.forward(&blank, 1)?;
        Ok(Self(network))
    }
}

impl Encode for NetworkEncoder {
    type Input = Prepared;

    /// The vector of a sample is the sum over its views; its length is nobody's concern until it becomes an embedding.
    fn encode(&mut self, inputs: &[&Prepared]) -> Result<Vec<Vec<f32>>, NetworkError> {
        let views = || inputs.iter().flat_map(|prepared| &prepared.views);
        let numbers = views().flatten().copied().collect::<Vec<f32>>();
        let outputs = self.0.forward(&numbers, views().count())?;
        let mut rows = outputs.chunks_exact(self.0.architecture().dimension());
        Ok(inputs.iter().map(|prepared| sum(rows.by_ref().take(prepared.views.len()))).collect())
    }
}

fn sum<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let add = |mut total: Vec<f32>, row: &[f32]| {
        total.iter_mut().zip(row).for_each(|(total, number)| *total += number);
        total
    };
    rows.map(<[f32]>::to_vec).reduce(|total, row| add(total, &row)).unwrap_or_default()
}
