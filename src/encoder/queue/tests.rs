use std::{collections::HashSet, thread};

use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

use super::*;

const LONG: Duration = Duration::from_hours(1);

fn limits() -> QueueLimits {
    QueueLimits { slots_max: 64, batch_max: 4, linger_max: Duration::ZERO, workers: 1 }
}

fn queue(limits: QueueLimits) -> Arc<Queue<u32, Vec<f32>>> {
    Queue::new("fake", limits)
}

fn soon() -> Instant {
    Instant::now() + LONG
}

fn schedule(urgency: Urgency, deadline: Instant) -> Schedule {
    Schedule { urgency, deadline }
}

fn put(queue: &Arc<Queue<u32, Vec<f32>>>, urgency: Urgency, input: u32) -> Receiver<EntryResult<Vec<f32>>> {
    queue.take_slot().expect("a free slot").put(input, schedule(urgency, soon()))
}

fn inputs(batch: &[QueueEntry<u32, Vec<f32>>]) -> Vec<u32> {
    batch.iter().map(|entry| entry.input).collect()
}

fn next(queue: &Queue<u32, Vec<f32>>) -> Vec<u32> {
    inputs(&queue.next_batch().expect("an entry is queued"))
}

#[test]
fn a_full_queue_refuses_at_once_and_recovers() {
    let queue = queue(QueueLimits { slots_max: 2, ..limits() });
    let first = queue.take_slot().expect("the first of two");
    let _second = put(&queue, Urgency::Interactive, 2);
    assert_eq!(queue.take_slot().err(), Some(QueueRefusal::Full { retry_after: RETRY_AFTER_UNMEASURED }));
    drop(first);
    assert!(queue.take_slot().is_ok(), "a returned slot is free");
    drop(queue.next_batch());
    let _two = (queue.take_slot().expect("free"), queue.take_slot().expect("answered entries free their slots"));
    assert!(queue.take_slot().is_err());
}

#[test]
fn the_hint_follows_the_drain_rate() {
    let full = |workers| {
        let queue = queue(QueueLimits { slots_max: 8, workers, ..limits() });
        queue.served(4, Duration::from_secs(2));
        let _places: Vec<_> = (0..8).map(|_| queue.take_slot().expect("free")).collect();
        queue.take_slot().err()
    };
    assert_eq!(full(1), Some(QueueRefusal::Full { retry_after: Duration::from_secs(4) }));
    assert_eq!(full(2), Some(QueueRefusal::Full { retry_after: Duration::from_secs(2) }));
}

#[test]
fn the_hint_stays_within_bounds_and_forgets_the_past() {
    let queue = queue(QueueLimits { slots_max: 1, ..limits() });
    let _place = queue.take_slot().expect("free");
    queue.served(1, Duration::from_hours(1));
    assert_eq!(queue.take_slot().err(), Some(QueueRefusal::Full { retry_after: RETRY_AFTER_MAX }));
    for _ in 0..200 {
        queue.served(1, Duration::from_micros(1));
    }
    assert_eq!(queue.take_slot().err(), Some(QueueRefusal::Full { retry_after: RETRY_AFTER_MIN }));
}

#[test]
fn an_abandoned_entry_keeps_its_slot_until_it_is_dropped() {
    let queue = queue(QueueLimits { slots_max: 2, ..limits() });
    drop(put(&queue, Urgency::Interactive, 1));
    let _waits = put(&queue, Urgency::Interactive, 2);
    assert!(queue.take_slot().is_err(), "the abandoned entry is still there");
    assert_eq!(next(&queue), [2], "it is dropped before inference");
    assert!(queue.take_slot().is_ok());
}

#[test]
fn queued_entries_form_a_batch_up_to_its_maximum() {
    let queue = queue(limits());
    let _callers: Vec<_> = (0..6).map(|input| put(&queue, Urgency::Interactive, input)).collect();
    assert_eq!(next(&queue), [0, 1, 2, 3]);
    assert_eq!(next(&queue), [4, 5]);
}

#[test]
fn a_batch_lingers_until_it_is_full() {
    // The linger is longer than any test: only a full batch ends it.
    let queue = queue(QueueLimits { linger_max: LONG, ..limits() });
    let mut callers = vec![put(&queue, Urgency::Interactive, 0)];
    thread::scope(|scope| {
        let batch = scope.spawn(|| next(&queue));
        callers.extend((1..4).map(|input| put(&queue, Urgency::Interactive, input)));
        assert_eq!(batch.join().expect("no panic"), [0, 1, 2, 3]);
    });
}

#[test]
fn the_linger_ends_without_more_entries() {
    let queue = queue(QueueLimits { linger_max: Duration::from_millis(2), ..limits() });
    let _caller = put(&queue, Urgency::Interactive, 7);
    assert_eq!(next(&queue), [7]);
}

#[test]
fn closing_ends_the_linger() {
    let queue = queue(QueueLimits { linger_max: LONG, ..limits() });
    let _caller = put(&queue, Urgency::Interactive, 7);
    thread::scope(|scope| {
        let batch = scope.spawn(|| next(&queue));
        queue.close();
        assert_eq!(batch.join().expect("no panic"), [7]);
    });
}

#[test]
fn interactive_goes_before_bulk() {
    let queue = queue(limits());
    let _bulk: Vec<_> = (10..14).map(|input| put(&queue, Urgency::Bulk, input)).collect();
    let _interactive: Vec<_> = (0..3).map(|input| put(&queue, Urgency::Interactive, input)).collect();
    assert_eq!(next(&queue), [0, 1, 2, 10], "bulk fills what interactive leaves");
    assert_eq!(next(&queue), [11, 12, 13]);
}

#[test]
fn bulk_entries_are_not_starved() {
    let queue = queue(limits());
    let _bulk = put(&queue, Urgency::Bulk, 100);
    let mut callers = Vec::new();
    let mut batches = 0;
    loop {
        callers.extend((0..4).map(|input| put(&queue, Urgency::Interactive, input)));
        batches += 1;
        if next(&queue).contains(&100) {
            break;
        }
    }
    assert_eq!(batches, BULK_PASSED_OVER_MAX + 1);
}

#[tokio::test]
async fn an_expired_entry_gets_an_error_and_is_not_encoded() {
    let queue = queue(limits());
    let late = queue.take_slot().expect("free").put(1, schedule(Urgency::Interactive, Instant::now()));
    let _in_time = put(&queue, Urgency::Interactive, 2);
    assert_eq!(next(&queue), [2]);
    assert_eq!(late.await, Ok(Err(EntryFailure::TooLate)));
}

#[tokio::test]
async fn closing_serves_entries_with_a_slot() {
    let queue = queue(limits());
    let preparing = queue.take_slot().expect("free");
    let _waiting = put(&queue, Urgency::Bulk, 1);
    queue.close();
    assert_eq!(queue.take_slot().err(), Some(QueueRefusal::Closed));
    assert_eq!(next(&queue), [1]);
    let answered = preparing.put(2, schedule(Urgency::Interactive, soon()));
    let batch = queue.next_batch().expect("the slot was taken in time");
    for entry in batch {
        entry.answer(Ok(vec![1.0]));
    }
    assert_eq!(answered.await, Ok(Ok(vec![1.0])));
    assert!(queue.next_batch().is_none());
}

#[test]
fn a_waiting_worker_ends_when_the_last_slot_is_freed() {
    let queue = queue(limits());
    let slot = queue.take_slot().expect("free");
    queue.close();
    thread::scope(|scope| {
        let worker = scope.spawn(|| queue.next_batch().is_none());
        drop(slot);
        assert!(worker.join().expect("no panic"));
    });
}

#[tokio::test]
async fn abandoning_answers_queued_and_late_entries() {
    let queue = queue(limits());
    let preparing = queue.take_slot().expect("free");
    let waiting = put(&queue, Urgency::Interactive, 1);
    queue.abandon();
    assert_eq!(waiting.await, Ok(Err(EntryFailure::Stopped)));
    assert!(queue.next_batch().is_none(), "no slot is awaited");
    assert_eq!(preparing.put(2, schedule(Urgency::Interactive, soon())).await, Ok(Err(EntryFailure::Stopped)));
}

#[test]
fn the_queue_is_measured() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let queue = metrics::with_local_recorder(&recorder, || queue(QueueLimits { slots_max: 5, ..limits() }));
    let abandoned = put(&queue, Urgency::Bulk, 1);
    let _expired = queue.take_slot().expect("free").put(2, schedule(Urgency::Interactive, Instant::now()));
    let _served = [put(&queue, Urgency::Interactive, 3), put(&queue, Urgency::Interactive, 4)];
    let _stopped = put(&queue, Urgency::Bulk, 5);
    assert!(queue.take_slot().is_err());
    drop(abandoned);
    assert!(page.render().contains("semblance_queue_depth{model=\"fake\"} 5"));
    assert_eq!(next(&queue), [3, 4]);
    queue.abandon();
    let page = page.render();
    for line in [
        "semblance_queue_depth{model=\"fake\"} 0",
        "semblance_queue_refused_total{model=\"fake\"} 1",
        "semblance_queue_dropped_total{model=\"fake\",reason=\"abandoned\"} 1",
        "semblance_queue_dropped_total{model=\"fake\",reason=\"expired\"} 1",
        "semblance_queue_dropped_total{model=\"fake\",reason=\"stopped\"} 1",
        "semblance_batch_length_sum{model=\"fake\"} 2",
        "semblance_queue_wait_seconds_count{model=\"fake\"} 2",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

proptest! {
    #[test]
    fn every_entry_is_taken_once_in_the_order_of_its_lane(
        lanes in prop::collection::vec(any::<bool>(), 1..64), batch_max in 1_usize..9,
    ) {
        let queue = queue(QueueLimits { batch_max, ..limits() });
        let urgency = |bulk: bool| if bulk { Urgency::Bulk } else { Urgency::Interactive };
        let callers: Vec<_> = lanes.iter().zip(0..).map(|(bulk, input)| put(&queue, urgency(*bulk), input)).collect();
        queue.close();
        let mut out = Vec::new();
        while let Some(batch) = queue.next_batch() {
            prop_assert!((1..=batch_max).contains(&batch.len()));
            out.extend(inputs(&batch));
        }
        prop_assert_eq!(out.iter().collect::<HashSet<_>>().len(), callers.len());
        for bulk in [false, true] {
            let lane: Vec<u32> = out.iter().copied().filter(|input| lanes[*input as usize] == bulk).collect();
            prop_assert!(lane.is_sorted());
        }
    }
}
