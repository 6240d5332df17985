#![expect(clippy::float_cmp, reason = "doubling a small number is exact")]

use std::{sync::mpsc::Receiver, time::Duration};

use tokio::sync::oneshot;

use super::{
    super::queue::{EntryResult, QueueLimits, QueueRefusal, Schedule, Urgency},
    *,
};

const POISON: f32 = 13.0;
const BOMB: f32 = 66.0;

/// Doubles numbers; fails on `POISON`, panics on `BOMB`. It reports the start of each batch and waits for permission to
/// continue.
struct Fake {
    began: mpsc::SyncSender<usize>,
    go_on: Receiver<()>,
}

impl InferenceModel for Fake {
    type Input = f32;
    type Output = Vec<f32>;

    fn infer(&mut self, inputs: &[&f32]) -> Result<Vec<Vec<f32>>, NetworkError> {
        // A test that no longer listens, or that permits everything, closed this end.
        let _not_heard = self.began.send(inputs.len());
        let _let_pass = self.go_on.recv();
        assert!(!inputs.contains(&&BOMB), "a bomb");
        if inputs.contains(&&POISON) {
            return Err(NetworkError::Torch("poisoned".to_owned()));
        }
        Ok(inputs.iter().map(|input| vec![**input * 2.0]).collect())
    }
}

struct TestWorker {
    queue: Arc<Queue<f32, Vec<f32>>>,
    health: Arc<ModelHealth>,
    thread: Option<JoinHandle<()>>,
    began: Receiver<usize>,
    go_on: mpsc::SyncSender<()>,
}

impl TestWorker {
    fn new(slots_max: usize) -> Self {
        let limits = QueueLimits { slots_max, batch_max: 8, linger_max: Duration::ZERO, workers: 1 };
        let (queue, health) = (Queue::new("fake", limits), Arc::<ModelHealth>::default());
        let (began_sender, began) = mpsc::sync_channel(1024);
        let (go_on, go_on_receiver) = mpsc::sync_channel(1024);
        let build = move || Ok(Fake { began: began_sender, go_on: go_on_receiver });
        let thread = start("fake", 0, Arc::clone(&queue), Arc::clone(&health), build).expect("a thread");
        Self { queue, health, thread: Some(thread), began, go_on }
    }

    fn put(&self, input: f32) -> oneshot::Receiver<EntryResult<Vec<f32>>> {
        self.put_until(input, Instant::now() + Duration::from_hours(1))
    }

    fn put_until(&self, input: f32, deadline: Instant) -> oneshot::Receiver<EntryResult<Vec<f32>>> {
        self.queue.take_slot().expect("a free place").put(input, Schedule { urgency: Urgency::Interactive, deadline })
    }

    /// Lets the worker start a batch with `input` alone and blocks it there, so that the next entries queue up.
    fn hold(&self, input: f32) -> oneshot::Receiver<EntryResult<Vec<f32>>> {
        let held = self.put(input);
        assert_eq!(self.began.recv(), Ok(1));
        held
    }

    fn allow(&self, batches: usize) {
        for _ in 0..batches {
            self.go_on.send(()).expect("the worker lives");
        }
    }

    /// Permits everything, waits for the end, and returns the lengths of the batches since.
    fn finish(mut self) -> Vec<usize> {
        let (unused, _) = mpsc::sync_channel(1);
        self.go_on = unused;
        self.queue.close();
        let thread = self.thread.take().expect("finished once");
        thread.join().expect("the worker does not panic");
        self.began.try_iter().collect()
    }
}

async fn doubled(answer: oneshot::Receiver<EntryResult<Vec<f32>>>) -> f32 {
    answer.await.expect("answered").expect("encoded")[0]
}

#[tokio::test]
async fn batches_form_while_the_model_is_busy() {
    let rig = TestWorker::new(16);
    let held = rig.hold(1.0);
    let waiting: Vec<_> = (2_u8..7).map(|input| rig.put(f32::from(input))).collect();
    rig.allow(2);
    assert_eq!(doubled(held).await, 2.0);
    for (answer, input) in waiting.into_iter().zip(2_u8..) {
        assert_eq!(doubled(answer).await, f32::from(input) * 2.0);
    }
    assert_eq!(rig.finish(), [5]);
}

#[tokio::test]
async fn one_failing_sample_does_not_fail_its_batch() {
    let rig = TestWorker::new(16);
    let held = rig.hold(1.0);
    let (good, bad, also_good) = (rig.put(2.0), rig.put(POISON), rig.put(3.0));
    rig.allow(5);
    assert_eq!(doubled(held).await, 2.0);
    assert_eq!((doubled(good).await, doubled(also_good).await), (4.0, 6.0));
    let failed = bad.await.expect("answered");
    assert!(matches!(failed, Err(EntryFailure::Failed(problem)) if problem.contains("poisoned")));
    assert_eq!(rig.finish(), [3, 1, 1, 1], "the batch failed, then each was tried alone");
}

#[tokio::test]
async fn a_panic_fails_its_own_sample_and_the_thread_survives() {
    let rig = TestWorker::new(16);
    let held = rig.hold(1.0);
    let (good, bad) = (rig.put(2.0), rig.put(BOMB));
    rig.allow(4);
    assert_eq!((doubled(held).await, doubled(good).await), (2.0, 4.0));
    assert!(matches!(bad.await, Ok(Err(EntryFailure::Failed(problem))) if problem.contains("a bomb")));
    rig.allow(1);
    assert_eq!(doubled(rig.put(4.0)).await, 8.0);
    rig.finish();
}

#[tokio::test]
async fn a_model_that_only_fails_is_unhealthy_until_it_succeeds() {
    let rig = TestWorker::new(16);
    for _ in 0..FAILURES_MAX {
        assert!(rig.health.is_good());
        rig.allow(1);
        assert!(rig.put(BOMB).await.expect("answered").is_err());
    }
    assert!(!rig.health.is_good());
    rig.allow(1);
    assert_eq!(doubled(rig.put(1.0)).await, 2.0);
    assert!(rig.health.is_good());
    rig.finish();
}

#[tokio::test]
async fn overload_refuses_and_recovers() {
    let rig = TestWorker::new(3);
    let held = rig.hold(1.0);
    let waiting = [rig.put(2.0), rig.put(3.0)];
    assert!(matches!(rig.queue.take_slot(), Err(QueueRefusal::Full { .. })), "one is encoded, two wait");
    rig.allow(2);
    doubled(held).await;
    for answer in waiting {
        doubled(answer).await;
    }
    rig.allow(1);
    assert_eq!(doubled(rig.put(4.0)).await, 8.0, "an answered caller finds a free slot");
    rig.finish();
}

#[tokio::test]
async fn abandoned_and_expired_entries_are_not_encoded() {
    let rig = TestWorker::new(16);
    let held = rig.hold(1.0);
    drop(rig.put(2.0));
    let late = rig.put_until(3.0, Instant::now());
    rig.allow(1);
    doubled(held).await;
    assert_eq!(late.await, Ok(Err(EntryFailure::TooLate)));
    assert_eq!(rig.finish(), [0; 0], "no batch began");
}

#[tokio::test]
async fn closing_serves_queued_entries() {
    let rig = TestWorker::new(16);
    let held = rig.hold(1.0);
    let waiting = rig.put(2.0);
    assert_eq!(rig.finish(), [1]);
    assert_eq!((doubled(held).await, doubled(waiting).await), (2.0, 4.0));
}

#[test]
fn a_module_that_cannot_be_built_is_an_error_at_start() {
    let limits = QueueLimits { slots_max: 1, batch_max: 1, linger_max: Duration::ZERO, workers: 1 };
    let queue = || Queue::new("fake", limits);
    let broken = || Err::<Fake, _>(NetworkError::MissingTensor("conv1.weight".to_owned()));
    let error = start("fake", 0, queue(), Arc::default(), broken).expect_err("it cannot be built");
    assert!(matches!(error, EncoderError::Unbuildable { .. }));
    assert!(error.to_string().contains("conv1.weight"));
    let error =
        start("fake", 0, queue(), Arc::default(), || -> Result<Fake, _> { panic!("broken") }).expect_err("it panics");
    assert!(matches!(error, EncoderError::BuildPanicked { .. }));
}

#[test]
fn the_thread_has_the_models_name() {
    let rig = TestWorker::new(1);
    assert_eq!(rig.thread.as_ref().and_then(|thread| thread.thread().name()), Some("fake-0"));
    rig.finish();
}
