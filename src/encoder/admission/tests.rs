use futures::{FutureExt, future::BoxFuture};

use super::*;

const LONG: Duration = Duration::from_mins(10);

fn admission(in_work_max: usize) -> Arc<Admission> {
    Admission::new(AdmissionLimits { in_work_max, wait_max: Duration::from_secs(2) })
}

fn request(principal: &str, samples: usize) -> WorkRequest {
    WorkRequest { principal: principal.into(), samples, urgency: Urgency::Interactive, deadline: Instant::now() + LONG }
}

fn bulk(samples: usize) -> WorkRequest {
    WorkRequest { urgency: Urgency::Bulk, ..request("importer", samples) }
}

type Entering = BoxFuture<'static, Result<Option<WorkPermit>, EncoderError>>;

/// A sample of a request that waits, and has been polled once.
fn entering(admission: &Arc<Admission>, share: &RequestShare) -> (Entering, Option<WorkPermit>) {
    let (admission, id) = (Arc::clone(admission), share.id());
    let mut entering = async move { admission.enter(id).await }.boxed();
    let now = (&mut entering).now_or_never().map(|entered| entered.expect("in time").expect("a permit"));
    (entering, now)
}

/// A sample that is in work at once.
fn entered(admission: &Arc<Admission>, share: &RequestShare) -> WorkPermit {
    entering(admission, share).1.expect("a place is free")
}

/// A sample that waits.
fn waits(admission: &Arc<Admission>, share: &RequestShare) -> Entering {
    let (entering, now) = entering(admission, share);
    assert!(now.is_none(), "no place is free");
    entering
}

fn permit(entering: Entering) -> Option<WorkPermit> {
    entering.now_or_never().map(|entered| entered.expect("in time").expect("a permit"))
}

#[test]
fn a_request_with_one_photo_does_not_wait_for_the_rest_of_a_large_one() {
    let admission = admission(2);
    let large = admission.admit(request("a", 200)).expect("admitted");
    let running = [entered(&admission, &large), entered(&admission, &large)];
    let mut rest: Vec<Entering> = (0..8).map(|_| waits(&admission, &large)).collect();
    let small = admission.admit(request("a", 1)).expect("admitted");
    let photo = waits(&admission, &small);
    let [first, second] = running;
    drop(first);
    let photo = permit(photo).expect("it is next");
    assert!(permit(rest.remove(0)).is_none());
    drop((second, photo));
    let begun = rest.into_iter().filter_map(permit).collect::<Vec<_>>();
    assert_eq!(begun.len(), 2, "then the large one goes on");
}

#[test]
fn of_two_principals_the_one_with_less_in_work_goes_first() {
    let admission = admission(2);
    let many: Vec<RequestShare> = (0..6).map(|_| admission.admit(request("greedy", 1)).expect("admitted")).collect();
    let running = [entered(&admission, &many[0]), entered(&admission, &many[1])];
    let waiting: Vec<Entering> = many[2..].iter().map(|share| waits(&admission, share)).collect();
    let honest = admission.admit(request("honest", 1)).expect("admitted");
    let photo = waits(&admission, &honest);
    let [first, _second] = running;
    drop(first);
    let _photo = permit(photo).expect("it is next");
    assert!(waiting.into_iter().all(|waiting| permit(waiting).is_none()));
}

/// Makes the queue one that stands.
fn stands(admission: &Arc<Admission>) {
    admission.state.lock().standing_since = Instant::now().checked_sub(2 * BURST_MAX);
}

#[test]
fn a_request_that_would_wait_too_long_for_others_is_refused_before_any_work() {
    let admission = admission(1);
    stands(&admission);
    // 2 s at 50 ms a sample.
    let admitted: Vec<RequestShare> = (0..41).map_while(|_| admission.admit(request("a", 1)).ok()).collect();
    assert_eq!(admitted.len(), 41);
    let refused = admission.admit(request("a", 1));
    let Err(Overloaded { retry_after }) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!(retry_after, RETRY_AFTER_MIN);
    drop(admitted);
    admission.admit(request("a", 1)).expect("the others are gone");
}

#[test]
fn a_burst_may_wait_for_half_its_deadline() {
    let admission = admission(1);
    let request = || WorkRequest { deadline: Instant::now() + Duration::from_secs(10), ..request("a", 1) };
    let admitted: Vec<RequestShare> = (0..200).map_while(|_| admission.admit(request()).ok()).collect();
    assert!((98..=101).contains(&admitted.len()), "5 s at 50 ms a sample: {}", admitted.len());
    let running = entered(&admission, &admitted[0]);
    let waiting = waits(&admission, &admitted[1]);
    assert!(admission.state.lock().standing_since.is_some());
    drop(running);
    drop(permit(waiting));
    assert_eq!(admission.state.lock().standing_since, None, "nobody waits");
}

#[test]
fn a_large_request_is_not_refused_for_its_own_size_and_may_wait_as_long_as_it_works() {
    let admission = admission(1);
    stands(&admission);
    let first = admission.admit(request("a", 300)).expect("an idle server takes what its limits allow");
    let second = admission.admit(request("b", 300)).expect("15 s of others, 15 s of its own");
    let third = admission.admit(request("c", 300));
    assert!(matches!(third, Err(Overloaded { .. })), "{third:?}");
    let short = WorkRequest { deadline: Instant::now() + Duration::from_millis(50), ..request("d", 1) };
    let short = admission.admit(short);
    assert!(matches!(short, Err(Overloaded { .. })), "half its time is not enough: {short:?}");
    drop((first, second));
}

#[test]
fn bulk_waits_is_never_refused_and_leaves_places() {
    let admission = admission(4);
    let import = admission.admit(bulk(1_000_000)).expect("bulk is not refused");
    let running = [entered(&admission, &import), entered(&admission, &import)];
    let third = waits(&admission, &import);
    let photo = admission.admit(request("a", 1)).expect("bulk does not count");
    let photo = entered(&admission, &photo);
    drop(running);
    assert!(permit(third).is_some());
    drop(photo);
}

#[test]
fn bulk_is_passed_over_a_bounded_number_of_times() {
    let admission = admission(1);
    let import = admission.admit(bulk(1)).expect("admitted");
    let many = admission.admit(request("a", 30)).expect("admitted");
    let mut running = entered(&admission, &many);
    let mut imported = waits(&admission, &import);
    for round in 0.. {
        let waiting = waits(&admission, &many);
        drop(running);
        if let Some(entered) = (&mut imported).now_or_never() {
            assert!(entered.expect("in time").is_some());
            assert_eq!(round, BULK_PASSED_OVER_MAX);
            break;
        }
        running = permit(waiting).expect("its turn");
    }
}

#[test]
fn a_sample_that_cannot_be_finished_in_time_is_dropped_before_it_costs_anything() {
    let admission = admission(1);
    let others = admission.admit(request("a", 1)).expect("admitted");
    let running = entered(&admission, &others);
    let late = admission.admit(request("b", 1)).expect("admitted");
    let waiting = waits(&admission, &late);
    admission.state.lock().requests.get_mut(&late.id().expect("admitted")).expect("there").deadline = Instant::now();
    drop(running);
    let dropped = waiting.now_or_never().expect("told at once");
    assert!(matches!(dropped, Err(EncoderError::DeadlinePassed)), "{dropped:?}");
    assert_eq!(admission.state.lock().in_work, 0);
}

#[test]
fn a_caller_that_hangs_up_frees_its_place() {
    let admission = admission(1);
    let share = admission.admit(request("a", 3)).expect("admitted");
    let running = entered(&admission, &share);
    let (gone, stays) = (waits(&admission, &share), waits(&admission, &share));
    drop(gone);
    drop(running);
    let stays = permit(stays).expect("the next one");
    assert_eq!(admission.state.lock().in_work, 1);
    drop((stays, share));
    let state = admission.state.lock();
    assert!(state.in_work == 0 && state.requests.is_empty() && state.in_work_by_principal.is_empty());
}

#[test]
fn the_time_between_two_ends_is_measured_while_all_places_are_taken() {
    let mut times = MeasuredTimes { between_ends: 1.0, in_work: 0.0, last_end: None };
    times.ended(Duration::from_secs(4), false);
    assert!((times.between_ends - 1.0).abs() < 1e-9, "an idle server tells nothing");
    assert!((times.in_work - 0.2).abs() < 1e-9);
    for _ in 0..100 {
        times.ended(Duration::ZERO, true);
    }
    assert!(times.between_ends < 0.05, "{}", times.between_ends);
}
