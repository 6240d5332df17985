//! Enrolls that share a commit.
//!
//! Making a write durable costs a trip to the disk, whatever its length. So who waits for a collection's turn is not
//! only waiting: the next who gets it writes for all who wait, each with an answer or a fault of its own, and nobody is
//! answered before the commit. Nothing is held back for company: a write that finds nobody before it goes alone.
//!
//! Only enrolls travel together. Resolve looks in the gallery, which shows a write only once it is committed, so its
//! decision must not stand behind writes of the same turn.

use std::{collections::HashSet, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout_at,
};

use super::{ConsistencyToken, Context, Enrolled, Fault, Matcher, directory::Open, turn::Turn};
use domain::{CollectionId, Encoded, IdentityId, Labels, SampleReport};
use store::StoreError;

/// What an enroll wants written, encoded already.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) identity: IdentityId,
    pub(super) labels: Labels,
    pub(super) encoded: Vec<Encoded>,
    pub(super) samples: Vec<SampleReport>,
}

/// A wish that waits, and where its answer goes.
#[derive(Debug)]
struct Write {
    number: u64,
    context: Context,
    wish: Wish,
    answer: oneshot::Sender<Result<Enrolled, Fault>>,
    /// Told when this one shall get the turn, for itself and all others.
    chosen: Arc<Notify>,
}

/// The writes that wait for a collection's turn. As many as there are requests in flight, which are limited: each leaves
/// when its request does.
#[derive(Debug, Default)]
pub(super) struct Company(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    joined: u64,
    writes: Vec<Write>,
    /// Who of them waits for the turn. One at a time: if all did, each would be woken for a turn that it needs no more.
    leader: Option<u64>,
}

impl Waiting {
    /// Chooses a leader where there is none and somebody to lead.
    fn choose(&mut self) {
        if self.leader.is_none()
            && let Some(first) = self.writes.first()
        {
            self.leader = Some(first.number);
            first.chosen.notify_one();
        }
    }
}

/// How much one commit takes.
#[derive(Debug, Clone, Copy)]
struct Room {
    writes: usize,
    templates: usize,
}

impl Matcher {
    /// Writes it in the collection's turn, together with others that wait for it too.
    ///
    /// Who hangs up while waiting leaves; once the turn is held, the write goes on to its end.
    pub(super) async fn enroll_together(
        &self,
        context: &Context,
        collection: &CollectionId,
        wish: Wish,
    ) -> Result<Enrolled, Fault> {
        let open = self.open(collection).await?;
        let (place, mut answer) = open.company.join(context, wish);
        let led = tokio::select! {
            biased;
            answered = &mut answer => return answered.map_err(Fault::internal)?,
            led = timeout_at(context.deadline.into(), self.lead(&open, &place)) => led,
        };
        match led {
            Err(_late) if place.leave() => return Err(Fault::TooLate),
            // Somebody is just writing it.
            Err(_late) => {}
            Ok(Ok(turn)) => {
                let room =
                    Room { writes: self.options.commit_writes_max, templates: self.options.commit_templates_max };
                let writes = open.company.take(place.number, room);
                self.detached(async move { turn.enroll_all(writes).await }).await?;
            }
            Ok(Err(fault)) => {
                if matches!(fault, Fault::StoreUnavailable(_)) {
                    // Each of them would wait as long to hear the same.
                    open.company.fail(place.number, &fault);
                }
                return Err(fault);
            }
        }
        answer.await.map_err(Fault::internal)?
    }

    /// The turn, for who is chosen to get it.
    async fn lead(&self, open: &Open, place: &Place<'_>) -> Result<Turn, Fault> {
        place.chosen.notified().await;
        let writer = Arc::clone(&open.writers).lock_owned().await;
        self.begin_turn(open, writer).await
    }
}

impl Turn {
    /// Writes them all and answers each of them, once it is durable.
    async fn enroll_all(mut self, mut writes: Vec<Write>) -> Result<(), Fault> {
        metrics::histogram!(domain::metric::COMMIT_LENGTH).record(writes.len() as f64);
        let written = async {
            let answers = self.write_all(&mut writes).await?;
            self.commit().await?;
            Ok::<_, Fault>(answers)
        };
        match written.await {
            Ok(answers) => {
                for (write, answer) in writes.into_iter().zip(answers) {
                    let _ = write.answer.send(answer); // its caller may have hung up
                }
            }
            Err(fault) => {
                let mut writes = writes.into_iter();
                let leader = writes.next();
                for write in writes {
                    let _ = write.answer.send(Err(shared(&fault)));
                }
                if let Some(leader) = leader {
                    let _ = leader.answer.send(Err(fault));
                }
            }
        }
        Ok(())
    }

    /// Plans each, keeps its answer, and appends what they come to. Fails where the store does.
    async fn write_all(&mut self, writes: &mut [Write]) -> Result<Vec<Result<Enrolled, Fault>>, Fault> {
        let ids: HashSet<&IdentityId> = writes.iter().map(|write| &write.wish.identity).collect();
        let ids: Vec<IdentityId> = ids.into_iter().cloned().collect();
        let mut plan = self.plan(&ids).await?;
        let mut answers = Vec::with_capacity(writes.len());
        for Write { context, wish, .. } in writes {
            // Within the turn, so that of two that are the same the second finds the answer of the first.
            let answer = match self.answered(context).await? {
                Err(fault) => Err(fault),
                Ok(Some(before)) => Ok(before),
                Ok(None) => {
                    let encoded = std::mem::take(&mut wish.encoded);
                    let planned = plan.admit(self.matcher(), &wish.identity, &wish.labels, encoded);
                    let answer = planned.map(|templates| Enrolled {
                        identity: wish.identity.clone(),
                        templates,
                        token: ConsistencyToken::at(self.open().collection.uid, plan.end()),
                        samples: std::mem::take(&mut wish.samples),
                    });
                    if let Ok(enrolled) = &answer {
                        self.keep_answer(context, enrolled).await?;
                    }
                    answer
                }
            };
            answers.push(answer);
        }
        self.carry_out(plan).await?;
        Ok(answers)
    }
}

/// What went wrong for all who shared a turn. None of it was written, and alone each of them may succeed: ask again.
fn shared(fault: &Fault) -> Fault {
    let mut causes = fault.to_string();
    let mut source = std::error::Error::source(fault);
    while let Some(cause) = source {
        causes = format!("{causes}: {cause}");
        source = cause.source();
    }
    Fault::StoreUnavailable(StoreError::Unavailable(causes.into()))
}

/// A place among those who wait; given up when it is dropped.
struct Place<'c> {
    company: &'c Company,
    number: u64,
    chosen: Arc<Notify>,
}

impl Place<'_> {
    /// Answers whether there still was a place to leave.
    fn leave(&self) -> bool {
        let mut waiting = self.company.0.lock();
        let before = waiting.writes.len();
        waiting.writes.retain(|write| write.number != self.number);
        let left = waiting.writes.len() < before;
        if waiting.leader == Some(self.number) {
            waiting.leader = None;
            waiting.choose();
        }
        left
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Company {
    fn join(&self, context: &Context, wish: Wish) -> (Place<'_>, oneshot::Receiver<Result<Enrolled, Fault>>) {
        let (answer, answered) = oneshot::channel();
        let chosen = Arc::new(Notify::new());
        let mut waiting = self.0.lock();
        waiting.joined += 1;
        let number = waiting.joined;
        waiting.writes.push(Write { number, context: context.clone(), wish, answer, chosen: Arc::clone(&chosen) });
        waiting.choose();
        (Place { company: self, number, chosen }, answered)
    }

    /// The leader's write, then those that waited longest, as many as there is room for; another leads the rest. Whose
    /// time is up is left: its own request says so.
    fn take(&self, leader: u64, room: Room) -> Vec<Write> {
        let now = Instant::now();
        let mut waiting = self.0.lock();
        let writes = std::mem::take(&mut waiting.writes);
        let (mut taken, others): (Vec<Write>, Vec<Write>) =
            writes.into_iter().partition(|write| write.number == leader);
        let mut templates: usize = taken.iter().map(|write| write.wish.encoded.len()).sum();
        let mut full = false;
        for write in others {
            let more = write.wish.encoded.len();
            full |= taken.len() >= room.writes || templates + more > room.templates;
            if full || write.context.deadline <= now {
                waiting.writes.push(write);
            } else {
                templates += more;
                taken.push(write);
            }
        }
        waiting.leader = None;
        waiting.choose();
        taken
    }

    /// Tells all who wait, except the leader, who knows, that the turn cannot be had.
    fn fail(&self, leader: u64, fault: &Fault) {
        let writes = std::mem::take(&mut self.0.lock().writes);
        for write in writes.into_iter().filter(|write| write.number != leader) {
            let _ = write.answer.send(Err(shared(fault)));
        }
    }
}

#[cfg(test)]
mod tests;
