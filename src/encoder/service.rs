//! One loaded model: its queue, its threads and its health.

use std::{fmt, sync::Arc, thread::JoinHandle};

use super::{
    EncoderError,
    queue::{EntryFailure, Queue, QueueLimits, QueueRefusal, QueueSlot, Schedule},
    worker::{self, InferenceModel, ModelHealth},
};
use domain::SpaceName;
use torch::{
    network::NetworkError,
    runtime::{self, ThreadPlacement},
};

pub(super) struct Service<I, O> {
    name: SpaceName,
    queue: Arc<Queue<I, O>>,
    health: Arc<ModelHealth>,
}

/// Queue limits and thread placement of a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServingOptions {
    pub(super) limits: QueueLimits,
    pub(super) placement: ThreadPlacement,
}

impl<I: Send + 'static, O: Send + 'static> Service<I, O> {
    /// Starts the model's threads and adds them to `threads`. Blocks until each thread has built its module with
    /// `build`.
    ///
    /// # Errors
    /// When a thread does not start or a module cannot be built; threads that already run end by themselves.
    pub(super) fn start<M: InferenceModel<Input = I, Output = O>>(
        name: &SpaceName,
        ServingOptions { limits, placement }: ServingOptions,
        build: impl Fn() -> Result<M, NetworkError> + Clone + Send + 'static,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<Self, EncoderError> {
        let service = Self { name: name.clone(), queue: Queue::new(name.as_str(), limits), health: Arc::default() };
        for number in 0..limits.workers {
            let (queue, health) = (Arc::clone(&service.queue), Arc::clone(&service.health));
            let build = build.clone();
            let placed = move || {
                runtime::run_on(placement)?;
                build()
            };
            match worker::start(name.as_str(), number, queue, health, placed) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    service.abandon();
                    return Err(error);
                }
            }
        }
        Ok(service)
    }

    /// Takes a slot for one input.
    pub(super) fn take_slot(&self) -> Result<QueueSlot<I, O>, EncoderError> {
        self.queue.take_slot().map_err(|refused| match refused {
            QueueRefusal::Full { retry_after } => EncoderError::QueueFull { model: self.name.clone(), retry_after },
            QueueRefusal::Closed => EncoderError::ShuttingDown,
        })
    }

    /// Runs the model on one input. Dropping the future cancels it.
    pub(super) async fn answer(&self, slot: QueueSlot<I, O>, input: I, schedule: Schedule) -> Result<O, EncoderError> {
        match slot.put(input, schedule).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(EntryFailure::TooLate)) => Err(EncoderError::DeadlinePassed),
            Ok(Err(EntryFailure::Stopped)) => Err(EncoderError::ShuttingDown),
            Ok(Err(EntryFailure::Failed(problem))) => Err(self.failed(problem)),
            Err(_) => Err(self.failed("its thread ended".to_owned())),
        }
    }

    pub(super) fn failed(&self, problem: String) -> EncoderError {
        EncoderError::ModelFailed { model: self.name.clone(), problem }
    }
}

impl<I, O> Service<I, O> {
    pub(super) fn name(&self) -> &SpaceName {
        &self.name
    }

    /// False after several consecutive failures. The model continues to serve; the next success resets it.
    pub(super) fn is_healthy(&self) -> bool {
        self.health.is_good()
    }

    /// Refuses new inputs and serves those that hold a slot.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Drops the queued entries.
    pub(super) fn abandon(&self) {
        self.queue.abandon();
    }
}

impl<I, O> fmt::Debug for Service<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.name).finish()
    }
}
