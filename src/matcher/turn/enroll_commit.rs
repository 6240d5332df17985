//! Enrolls that share a commit: the leader of the queue takes the turn and writes for all.

use std::{collections::HashSet, sync::Arc};

use tokio::time::timeout_at;
use tracing::Instrument;

use super::{Writes, collection_turn::CollectionTurn, turn_span};
use crate::matcher::{
    collection::{
        collection_handle::CollectionHandle,
        group_commit::{CommitLimits, EnrollResult, EnrollWrite, PendingWrite, QueueMembership, shared_fault},
    },
    request::consistency_token::ConsistencyToken,
    request::context::Context,
    request::fault::Fault,
};
use domain::{CollectionId, IdentityId};

impl Writes {
    /// Writes an enroll in the turn of the collection, together with the others that wait.
    ///
    /// A caller that hangs up while it waits leaves the queue; after that the write continues to its end.
    pub(crate) async fn enroll(
        &self,
        context: &Context,
        collection: &CollectionId,
        write: EnrollWrite,
    ) -> Result<EnrollResult, Fault> {
        self.enroll_with_others(context, collection, write).instrument(turn_span()).await
    }

    async fn enroll_with_others(
        &self,
        context: &Context,
        collection: &CollectionId,
        write: EnrollWrite,
    ) -> Result<EnrollResult, Fault> {
        let handle = self.replica.open(collection).await?;
        let (membership, mut answer) = handle.group_commit.join(context, write);
        let led = tokio::select! {
            biased;
            answered = &mut answer => return answered.map_err(Fault::internal)?,
            led = timeout_at(context.deadline.into(), self.turn_as_leader(&handle, &membership)) => led,
        };
        match led {
            Err(_late) if membership.leave() => return Err(Fault::TooLate),
            // Another leader is writing it now.
            Err(_late) => {}
            Ok(Ok(turn)) => {
                let limits = CommitLimits {
                    writes: self.options.commit_writes_max,
                    templates: self.options.commit_templates_max,
                };
                let writes = membership.take(limits);
                self.detached(async move { turn.enroll_all(writes).await }).await?;
            }
            Ok(Err(fault)) => {
                if matches!(fault, Fault::StoreUnavailable(_)) {
                    // Each of them would wait as long for the same fault.
                    membership.fail_others(&fault);
                }
                return Err(fault);
            }
        }
        answer.await.map_err(Fault::internal)?
    }

    /// Waits until this write is the leader, then takes the turn.
    async fn turn_as_leader(
        &self,
        handle: &CollectionHandle,
        membership: &QueueMembership<'_>,
    ) -> Result<CollectionTurn, Fault> {
        membership.chosen().await;
        let writer = Arc::clone(&handle.writers).lock_owned().await;
        self.begin_turn(handle, writer).await
    }
}

impl CollectionTurn {
    /// Writes all enrolls, commits, and answers each.
    async fn enroll_all(mut self, mut writes: Vec<PendingWrite>) -> Result<(), Fault> {
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
                    let _ = write.answer.send(Err(shared_fault(&fault)));
                }
                if let Some(leader) = leader {
                    let _ = leader.answer.send(Err(fault));
                }
            }
        }
        Ok(())
    }

    /// Plans each enroll, keeps its answer, and appends all changes. Fails only when the store fails.
    async fn write_all(&mut self, writes: &mut [PendingWrite]) -> Result<Vec<Result<EnrollResult, Fault>>, Fault> {
        let ids: HashSet<&IdentityId> = writes.iter().map(|pending| &pending.write.identity).collect();
        let ids: Vec<IdentityId> = ids.into_iter().cloned().collect();
        let mut plan = self.plan(&ids).await?;
        let mut answers = Vec::with_capacity(writes.len());
        for PendingWrite { context, write, .. } in writes {
            // Inside the turn, so that the second of two equal requests finds the answer of the first.
            let answer = match self.answered(context).await? {
                Err(fault) => Err(fault),
                Ok(Some(before)) => Ok(before),
                Ok(None) => {
                    if let Some(templates) = self.repeated(&plan, context, write).await? {
                        answers.push(Ok(EnrollResult {
                            identity: write.identity.clone(),
                            templates,
                            token: ConsistencyToken::at(self.handle().collection.uid, plan.end()),
                            samples: std::mem::take(&mut write.samples),
                        }));
                        continue;
                    }
                    let encoded = std::mem::take(&mut write.encoded);
                    let planned = plan.admit(self.writes(), &write.identity, &write.labels, encoded);
                    let answer = planned.map(|templates| EnrollResult {
                        identity: write.identity.clone(),
                        templates,
                        token: ConsistencyToken::at(self.handle().collection.uid, plan.end()),
                        samples: std::mem::take(&mut write.samples),
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

#[cfg(test)]
mod tests;
