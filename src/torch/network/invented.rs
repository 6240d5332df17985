//! Weights made up for tests that have no real ones: of the layout that the networks ask for, the same every time.

use super::{
    Folding, NetworkError, minifasnet,
    mtcnn::Nets,
    parameters::{Parameters, Source},
};
use weights::{RawTensor, StateDict};

/// The three nets of the detector.
pub(crate) fn mtcnn() -> StateDict {
    invented(|parameters| Nets::new(parameters).map(drop))
}

/// The two nets of liveness.
pub(crate) fn minifasnet() -> StateDict {
    invented(|parameters| minifasnet::nets(parameters, minifasnet::PUBLISHED).map(drop))
}

fn invented(build: impl FnOnce(&mut Parameters<'_>) -> Result<(), NetworkError>) -> StateDict {
    let mut invention = Invention(StateDict::default());
    build(&mut Parameters::new(&mut invention, Folding::Folded)).expect("every tensor is there that is asked for");
    invention.0
}

/// Has every tensor that is asked for, and keeps it.
struct Invention(StateDict);

impl Source for Invention {
    fn has(&self, _key: &str) -> bool {
        false
    }

    fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        let count: usize = shape.iter().product();
        let fan_in: usize = shape[1..].iter().product();
        // Weights keep the size of what goes through them; what scales a channel is near one.
        let [least, spread] = match key {
            _ if key.ends_with("running_var") || (shape.len() == 1 && key.contains("bn")) => [0.5, 1.0],
            _ if shape.len() == 1 => [-0.2, 0.4],
            _ => [-(3.0 / fan_in as f32).sqrt(), 2.0 * (3.0 / fan_in as f32).sqrt()],
        };
        let unit = |at: usize| ((at as f32 * 12.9898 + count as f32).sin() * 43_758.547).rem_euclid(1.0);
        let numbers: Vec<f32> = (0..count).map(|at| least + spread * unit(at)).collect();
        let tensor = RawTensor::from_f32(shape.to_vec(), &numbers).expect("as many as the shape says");
        self.0.insert(key.to_owned(), tensor).expect("every tensor is asked for once");
        Ok(numbers)
    }
}
