//! The threads of a model: each owns its module and serves batches until the queue closes.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use metrics::{Histogram, histogram};
use tracing::error;

use super::{
    EncoderError,
    queue::{EntryFailure, Queue, QueueEntry},
};
use torch::{network::NetworkError, runtime};

/// A model counts as failing after this many consecutive failures.
const FAILURES_MAX: u32 = 8;

/// A model that processes batches: one output per input, in order. Only one thread uses it, and it must remain usable
/// after a panic: the worker continues.
pub(super) trait InferenceModel {
    type Input: Send + 'static;
    type Output: Send + 'static;

    fn infer(&mut self, inputs: &[&Self::Input]) -> Result<Vec<Self::Output>, NetworkError>;
}

type QueueOf<M> = Arc<Queue<<M as InferenceModel>::Input, <M as InferenceModel>::Output>>;

/// Health of a model, as its workers observe it.
#[derive(Debug, Default)]
pub(super) struct ModelHealth {
    failures_in_a_row: AtomicU32,
}

impl ModelHealth {
    /// Whether one of the last batches succeeded. A failing model continues to serve: the next success resets it.
    pub(super) fn is_good(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) < FAILURES_MAX
    }

    fn note(&self, succeeded: bool) {
        if succeeded {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        } else {
            // Overflow would take 2^32 consecutive failed batches.
            self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts a thread that builds its module with `build` and serves the queue. Blocks until the module is built.
///
/// # Errors
/// When the thread does not start or the module cannot be built.
pub(super) fn start<M, B>(
    model: &str,
    number: usize,
    queue: QueueOf<M>,
    health: Arc<ModelHealth>,
    build: B,
) -> Result<JoinHandle<()>, EncoderError>
where
    M: InferenceModel,
    B: FnOnce() -> Result<M, NetworkError> + Send + 'static,
{
    let (built, is_built) = mpsc::sync_channel(1);
    let name = model.to_owned();
    let body = move || {
        let _inference = runtime::prepare_thread();
        match build() {
            Ok(module) => {
                let inference_seconds = histogram!(domain::metric::INFERENCE_DURATION, "model" => name.clone());
                if built.send(Ok(())).is_ok() {
                    Worker { model: name, module, queue, health, inference_seconds }.serve();
                }
            }
            // The starting thread waits for this message.
            Err(problem) => drop(built.send(Err(problem))),
        }
    };
    let thread = thread::Builder::new()
        .name(format!("{model}-{number}"))
        .spawn(body)
        .map_err(|source| EncoderError::NoThread { model: model.to_owned(), source })?;
    match is_built.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(source)) => Err(EncoderError::Unbuildable { model: model.to_owned(), source }),
        Err(mpsc::RecvError) => Err(EncoderError::BuildPanicked { model: model.to_owned() }),
    }
}

struct Worker<M: InferenceModel> {
    model: String,
    module: M,
    queue: QueueOf<M>,
    health: Arc<ModelHealth>,
    inference_seconds: Histogram,
}

impl<M: InferenceModel> Worker<M> {
    fn serve(mut self) {
        while let Some(batch) = self.queue.next_batch() {
            let (began, count) = (Instant::now(), batch.len());
            self.answer(batch);
            self.queue.served(count, began.elapsed());
        }
    }

    /// Answers a batch. If a batch of several entries fails, each entry is tried alone: a sample that breaks the model
    /// does not fail the others.
    fn answer(&mut self, batch: Vec<QueueEntry<M::Input, M::Output>>) {
        match self.infer(&batch) {
            Ok(outputs) => {
                for (entry, output) in batch.into_iter().zip(outputs) {
                    entry.answer(Ok(output));
                }
            }
            Err(_) if batch.len() > 1 => {
                for entry in batch {
                    for entry in self.queue.still_wanted(vec![entry]) {
                        self.answer(vec![entry]);
                    }
                }
            }
            Err(problem) => {
                for entry in batch {
                    entry.answer(Err(EntryFailure::Failed(problem.clone())));
                }
            }
        }
    }

    fn infer(&mut self, batch: &[QueueEntry<M::Input, M::Output>]) -> Result<Vec<M::Output>, String> {
        let inputs: Vec<&M::Input> = batch.iter().map(|entry| &entry.input).collect();
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.module.infer(&inputs)));
        self.inference_seconds.record(began.elapsed().as_secs_f64());
        let outputs = match outcome {
            Ok(Ok(outputs)) if outputs.len() == inputs.len() => Ok(outputs),
            Ok(Ok(outputs)) => Err(format!("it returned {} outputs for {} inputs", outputs.len(), inputs.len())),
            Ok(Err(problem)) => Err(problem.to_string()),
            Err(panic) => Err(format!("it panicked: {}", PanicMessage(&*panic))),
        };
        self.health.note(outputs.is_ok());
        if let Err(problem) = &outputs {
            error!(model = self.model, batch = inputs.len(), problem, "a batch failed");
        }
        outputs
    }
}

/// The message of a panic.
struct PanicMessage<'a>(&'a (dyn Any + Send));

impl fmt::Display for PanicMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            self.0.downcast_ref::<&str>().copied().or_else(|| self.0.downcast_ref::<String>().map(String::as_str));
        f.write_str(text.unwrap_or("no message"))
    }
}

#[cfg(test)]
mod tests;
