//! Synthetic weights: every tensor that a network needs, the same numbers every time. For tests here and in the
//! packages above.

use weights::{RawTensor, StateDict};

use super::{
    Architecture, Folding, NetworkError, minifasnet,
    mtcnn::Nets,
    parameters::{Parameters, Source},
};

/// Generates every requested tensor and keeps it: a state dict of the network's layout.
#[derive(Default)]
pub(super) struct SyntheticWeights {
    pub(super) made: StateDict,
    /// Their names in the order of requests.
    pub(super) asked: Vec<String>,
    /// All numbers are zero, which is faster.
    blank: bool,
}

impl SyntheticWeights {
    pub(super) fn of(architecture: Architecture, blank: bool) -> Self {
        Self::asked_by(blank, |parameters| architecture.layers(parameters).map(drop))
    }

    fn asked_by(blank: bool, build: impl FnOnce(&mut Parameters<'_>) -> Result<(), NetworkError>) -> Self {
        let mut source = Self { blank, ..Self::default() };
        build(&mut Parameters::new(&mut source, Folding::Folded)).expect("the source has everything");
        source
    }
}

impl Source for SyntheticWeights {
    fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        let count = shape.iter().product();
        let numbers = if self.blank { vec![0.0; count] } else { numbers_of(key, shape) };
        let tensor = RawTensor::from_f32(shape.to_vec(), &numbers).expect("the shape matches");
        self.made.insert(key.to_owned(), tensor).expect("every tensor is asked for once");
        self.asked.push(key.to_owned());
        Ok(numbers)
    }

    fn has(&self, _key: &str) -> bool {
        false
    }
}

/// Numbers that depend only on the tensor's name and shape and preserve the scale of activations, so that rounding does
/// not dominate.
fn numbers_of(key: &str, shape: &[usize]) -> Vec<f32> {
    let mut random = Random::of(key);
    let inputs = match shape {
        // One matrix per part, or per distance in a graph.
        [_, inputs, _] => *inputs,
        _ => shape.iter().skip(1).product(),
    };
    let spread = (12.0 / inputs as f32).sqrt();
    let number = |unit: f32| match shape {
        _ if key.ends_with("running_var") => 0.5 + unit,
        [_] if key.ends_with("weight") => 0.5 + 0.5 * unit,
        [_] => (unit - 0.5) * 0.04,
        _ => (unit - 0.5) * spread,
    };
    (0..shape.iter().product()).map(|_| number(random.unit())).collect()
}

/// xorshift64*: the recorded outputs of PyTorch were computed with its numbers.
pub(super) struct Random(u64);

impl Random {
    /// Seeded with the FNV-1a hash of the name.
    pub(super) fn of(name: &str) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix) | 1)
    }

    pub(super) fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// A state dict of the architecture's layout. It is the same every time.
///
/// # Panics
///
/// Never: the source has every tensor that a network asks for.
#[must_use]
pub fn weights(architecture: Architecture) -> StateDict {
    SyntheticWeights::of(architecture, false).made
}

/// The three networks of the face detector, in one state dict.
#[must_use]
pub fn mtcnn() -> StateDict {
    SyntheticWeights::asked_by(false, |parameters| Nets::new(parameters).map(drop)).made
}

/// The two networks of presentation attack detection, in one state dict.
#[must_use]
pub fn minifasnet() -> StateDict {
    SyntheticWeights::asked_by(false, |parameters| minifasnet::nets(parameters, minifasnet::PUBLISHED).map(drop)).made
}
