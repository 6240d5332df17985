//! TorchScript: networks that are programs, for architectures that are not built in.
//!
//! A program is executed and can do whatever libtorch can: install it only if you trust its author. Its outputs are not
//! trusted: it runs on trial inputs when loaded, and every output's shape is checked.

use tch::{CModule, IValue, Kind, TchError, Tensor};

pub use super::error::ScriptError;
use super::{error::NetworkError, runtime, trial_run};
use weights::FILE_BYTES_MAX;

/// A program with a method `forward` that takes a batch.
#[derive(Debug)]
pub struct Script {
    module: CModule,
    signature: Signature,
}

/// The declared input and output of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The shape of one input; a batch is `[N, ..input]`, f32.
    pub input: [usize; 3],
    /// Number of values per output over all parts: `[N, dimension]`.
    pub dimension: usize,
    /// `None`: the output is that tensor. Otherwise it is a tuple of that tensor, part after part, and the visibility
    /// of each part, `[N, parts]`, 0 to 1.
    pub parts: Option<usize>,
}

/// The output of a program for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Row-major `[N, dimension]`, not normalised.
    pub embeddings: Vec<f32>,
    /// Row-major `[N, parts]`, if the program has parts.
    pub visibility: Option<Vec<f32>>,
}

impl Script {
    /// Loads a program on the calling thread's device and runs it on trial inputs.
    ///
    /// # Errors
    ///
    /// See [`ScriptError`] and [`TrialRunError`](super::trial_run::TrialRunError).
    pub fn load(bytes: &[u8], signature: Signature) -> Result<Self, NetworkError> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ScriptError::TooLarge.into());
        }
        let _gradients_off = tch::no_grad_guard();
        let module = CModule::load_data_on_device(&mut &*bytes, runtime::device());
        let mut module = module.map_err(|error| ScriptError::Unreadable(message(&error)))?;
        // A program exported in training mode may still apply dropout and batch statistics.
        module.f_set_eval()?;
        let script = Self { module, signature };
        let run = |batch: &[f32], count| Ok(script.forward(batch, count)?.joined(count));
        trial_run::is_sound(signature.input, run)?;
        Ok(script)
    }

    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// Runs `batch` inputs at once; `input` is row-major `[batch, ..signature.input]`.
    ///
    /// # Errors
    ///
    /// See [`NetworkError`].
    pub fn forward(&self, input: &[f32], batch: usize) -> Result<Answers, NetworkError> {
        if batch == 0 {
            return Err(NetworkError::EmptyBatch);
        }
        let shape = self.signature.input;
        let expected = batch.saturating_mul(shape.iter().product());
        if input.len() != expected {
            return Err(NetworkError::WrongInput { expected, found: input.len() });
        }
        let sides: Vec<i64> = std::iter::once(batch).chain(shape).map(side).collect();
        let _gradients_off = tch::no_grad_guard();
        // Full precision on every device: a program computes in its exported precision.
        let input = Tensor::f_from_slice(input)?.f_reshape(sides)?.f_to_device(runtime::device())?;
        let failed = |error| ScriptError::Failed { batch, input: shape, problem: message(&error) };
        let answer = self.module.forward_is(&[IValue::Tensor(input)]).map_err(failed)?;
        self.read(answer, batch)
    }

    fn read(&self, answer: IValue, batch: usize) -> Result<Answers, NetworkError> {
        let Signature { dimension, parts, .. } = self.signature;
        let expected = if parts.is_some() { "a tuple of two tensors" } else { "one tensor" };
        match (answer, parts) {
            (IValue::Tensor(embeddings), None) => {
                Ok(Answers { embeddings: numbers(&embeddings, "answer", [batch, dimension])?, visibility: None })
            }
            (IValue::Tuple(both), Some(parts)) => match &both[..] {
                [IValue::Tensor(embeddings), IValue::Tensor(visibility)] => {
                    let embeddings = numbers(embeddings, "answer", [batch, dimension])?;
                    let visibility = numbers(visibility, "visibility", [batch, parts])?;
                    match visibility.iter().find(|visible| !(0.0..=1.0).contains(*visible)) {
                        Some(wrong) => Err(ScriptError::Visibility(*wrong).into()),
                        None => Ok(Answers { embeddings, visibility: Some(visibility) }),
                    }
                }
                _ => Err(ScriptError::WrongAnswer { expected, found: "another tuple" }.into()),
            },
            (other, _) => Err(ScriptError::WrongAnswer { expected, found: kind(&other) }.into()),
        }
    }
}

impl Answers {
    /// All values of each row: embedding, then visibility.
    fn joined(self, batch: usize) -> Vec<f32> {
        let Some(visibility) = self.visibility else { return self.embeddings };
        let embeddings = self.embeddings.chunks_exact(self.embeddings.len() / batch);
        let rows = embeddings.zip(visibility.chunks_exact(visibility.len() / batch));
        rows.flat_map(|(embedding, visible)| embedding.iter().chain(visible)).copied().collect()
    }
}

/// The numbers of a tensor of this shape.
fn numbers(tensor: &Tensor, what: &'static str, expected: [usize; 2]) -> Result<Vec<f32>, NetworkError> {
    if !tensor.defined() {
        return Err(ScriptError::NotNumbers(what).into());
    }
    let found = tensor.size();
    if found != expected.map(side) {
        return Err(ScriptError::WrongShape { what, expected, found }.into());
    }
    if matches!(tensor.f_kind()?, Kind::ComplexHalf | Kind::ComplexFloat | Kind::ComplexDouble) {
        return Err(ScriptError::NotNumbers(what).into());
    }
    Ok(runtime::to_host(tensor)?)
}

fn side(side: usize) -> i64 {
    i64::try_from(side).expect("no tensor has 2^63 numbers")
}

fn kind(answer: &IValue) -> &'static str {
    match answer {
        IValue::Tensor(_) => "one tensor",
        IValue::Tuple(_) => "a tuple",
        IValue::TensorList(_) | IValue::GenericList(_) => "a list",
        IValue::GenericDict(_) => "a dictionary",
        _ => "something else",
    }
}

/// The message: the error that the program raised, or the first line of libtorch's.
fn message(error: &TchError) -> String {
    let text = error.to_string();
    let raised = text.lines().rev().find(|line| line.starts_with("RuntimeError: "));
    raised.or_else(|| text.lines().next()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
