//! TorchScript: networks that come as programs, for what is not built in.
//!
//! A program is run, not read: it can do what libtorch can, so whoever lets one in trusts whoever made it. What it
//! answers is not trusted. It is tried when it is loaded, and every answer's shape is looked at.

use tch::{CModule, IValue, Kind, TchError, Tensor};

pub use super::error::ScriptError;
use super::{error::NetworkError, runtime, trial_run};
use weights::FILE_BYTES_MAX;

/// A program of one method, `forward`, that takes a batch.
#[derive(Debug)]
pub struct Script {
    module: CModule,
    signature: Signature,
}

/// What a program takes and answers, as its package declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The shape of one input; a batch of them is `[N, ..input]`, of f32.
    pub input: [usize; 3],
    /// How many numbers the answer has, of all parts together: `[N, dimension]`.
    pub dimension: usize,
    /// `None`: the answer is that tensor. Else it is a tuple of that tensor, part after part, and of how visible each
    /// part is, `[N, parts]`, from 0 to 1.
    pub parts: Option<usize>,
}

/// What a program answers to a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Row-major `[N, dimension]`, as the program gives it and not scaled to unit length.
    pub embeddings: Vec<f32>,
    /// Row-major `[N, parts]`, where the program has parts.
    pub visibility: Option<Vec<f32>>,
}

impl Script {
    /// Loads a program on the calling thread's device and tries it.
    pub fn load(bytes: &[u8], signature: Signature) -> Result<Self, NetworkError> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ScriptError::TooLarge.into());
        }
        let _gradients_off = tch::no_grad_guard();
        let module = CModule::load_data_on_device(&mut &*bytes, runtime::device());
        let mut module = module.map_err(|error| ScriptError::Unreadable(said(&error)))?;
        // A program that was exported in training may still know dropout and batch normalisation by this.
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
        // In full precision everywhere: a program computes in what it was exported in.
        let input = Tensor::f_from_slice(input)?.f_reshape(sides)?.f_to_device(runtime::device())?;
        let failed = |error| ScriptError::Failed { batch, input: shape, problem: said(&error) };
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
    /// Everything that was answered to a batch, row by row.
    fn joined(self, batch: usize) -> Vec<f32> {
        let Some(visibility) = self.visibility else { return self.embeddings };
        let embeddings = self.embeddings.chunks_exact(self.embeddings.len() / batch);
        let rows = embeddings.zip(visibility.chunks_exact(visibility.len() / batch));
        rows.flat_map(|(embedding, visible)| embedding.iter().chain(visible)).copied().collect()
    }
}

/// The numbers of a tensor that must have this shape.
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

/// What went wrong, of all that libtorch says: the sentence of the error that a program raised, or else the first line.
fn said(error: &TchError) -> String {
    let text = error.to_string();
    let raised = text.lines().rev().find(|line| line.starts_with("RuntimeError: "));
    raised.or_else(|| text.lines().next()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
