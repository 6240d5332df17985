//! Enroll in bulk: one of many that nobody waits for singly.

use super::{Context, Enrolled, Enrollment, Fault, Matcher, Urgency};

impl Matcher {
    /// Enrolls as [`Matcher::enroll`] does, after whatever interactive work waits: it first waits for room among all that
    /// is done in bulk, and its samples take the queues' second lane. In the collection's turn it waits in line like
    /// everybody; the room bounds how many stand there.
    pub async fn enroll_in_bulk(&self, context: &Context, enrollment: Enrollment) -> Result<Enrolled, Fault> {
        let context = Context { urgency: Urgency::Bulk, ..context.clone() };
        let samples = enrollment.samples.len().clamp(1, self.options.bulk_in_flight_max);
        let work = async {
            let room = self.bulk.acquire_many(u32::try_from(samples).unwrap_or(u32::MAX)).await;
            let _room = room.map_err(Fault::internal)?;
            self.enroll(&context, enrollment).await
        };
        tokio::time::timeout_at(context.deadline.into(), work).await.map_err(|_| Fault::TooLate)?
    }
}
