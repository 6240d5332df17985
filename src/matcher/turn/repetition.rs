//! An enroll that repeats an earlier one without a request id: its client did not get the answer and asks again.

use super::{collection_turn::CollectionTurn, plan::Plan};
use crate::matcher::{collection::group_commit::EnrollWrite, request::context::Context, request::fault::Fault};
use domain::{Embedding, Template, Timestamp};

/// The least cosine of two embeddings of one picture. A batch of another size changes the last bits of an embedding.
const SAME_PICTURE: f32 = 0.999_99;

impl CollectionTurn {
    /// The templates of the earlier enroll. All pictures of this one are those of templates that its identity got a
    /// short while ago, and its labels change nothing. `None` when it is another enroll, or its request id says what it is.
    pub(super) async fn repeated(
        &mut self,
        plan: &Plan,
        context: &Context,
        write: &EnrollWrite,
    ) -> Result<Option<Vec<Template>>, Fault> {
        let window = self.writes().options().repeat_window;
        if context.idempotent.is_some() || window.is_zero() || !plan.has_labels(&write.identity, &write.labels) {
            return Ok(None);
        }
        let since = self.now().checked_sub(window).unwrap_or(Timestamp::MIN);
        let mut templates = Vec::with_capacity(write.encoded.len());
        for part in &write.encoded {
            let template = match plan.template_near(&write.identity, &part.embedding, SAME_PICTURE) {
                Some(planned) => Some(planned.clone()),
                None => self.stored_template_near(write, &part.embedding).await?,
            };
            match template.filter(|template| template.create_time >= since) {
                Some(template) => templates.push(template),
                None => return Ok(None),
            }
        }
        Ok(Some(templates))
    }

    async fn stored_template_near(
        &mut self,
        write: &EnrollWrite,
        embedding: &Embedding,
    ) -> Result<Option<Template>, Fault> {
        match self.handle().index.template_near(&write.identity, embedding, SAME_PICTURE) {
            Some(id) => Ok(self.store().template(id).await?),
            None => Ok(None),
        }
    }
}
