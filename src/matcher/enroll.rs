//! Enroll: samples become templates of an identity.

use serde::{Deserialize, Serialize};

use super::{
    ConsistencyToken, Context, Fault, Matcher, gate,
    plan::{Plan, Planned},
    together::Wish,
    turn::Turn,
};
use domain::{CollectionId, Encoded, IdentityId, Labels, Sample, SampleReport, Template};

/// Whom to enroll, from what.
#[derive(Debug, Clone)]
pub struct Enrollment {
    pub collection: CollectionId,
    pub identity: IdentityId,
    pub samples: Vec<Sample>,
    /// Written over the labels that the identity has.
    pub labels: Labels,
}

/// What was enrolled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    pub identity: IdentityId,
    pub templates: Vec<Template>,
    pub token: ConsistencyToken,
    /// What was seen in each sample, in order.
    #[serde(default)]
    pub samples: Vec<SampleReport>,
}

impl Matcher {
    /// Adds one template for each sample to the identity, which is made if it is missing. Once this has answered, they
    /// are durable and found by the next search.
    pub async fn enroll(&self, context: &Context, enrollment: Enrollment) -> Result<Enrolled, Fault> {
        let Enrollment { collection, identity, samples, labels } = enrollment;
        let open = self.open(&collection).await?;
        if let Some(answer) = self.answered_before(context, &collection).await? {
            return Ok(answer);
        }
        let encoded = self.encode(context, Some(&open.collection), samples).await?;
        gate::admit(&open.collection.policy, &encoded)?;
        let samples = encoded.iter().map(|part| part.report.clone()).collect();
        self.enroll_together(context, &collection, Wish { identity, labels, encoded, samples }).await
    }
}

impl Turn {
    /// Makes or relabels the identity and appends its templates.
    pub(super) async fn admit(
        &mut self,
        id: &IdentityId,
        labels: &Labels,
        encoded: Vec<Encoded>,
    ) -> Result<Vec<Template>, Fault> {
        let mut plan = self.plan(std::slice::from_ref(id)).await?;
        let templates = plan.admit(self.matcher(), id, labels, encoded)?;
        self.carry_out(plan).await?;
        Ok(templates)
    }

    /// Begins to plan what these identities will get.
    pub(super) async fn plan(&mut self, ids: &[IdentityId]) -> Result<Plan, Fault> {
        let known = self.store().enrolled_identities(ids).await?;
        Ok(Plan::new(self.open().collection.as_ref().clone(), self.token().position(), known))
    }

    /// Appends what was planned.
    pub(super) async fn carry_out(&mut self, plan: Plan) -> Result<(), Fault> {
        let Planned { mut collection, changes } = plan.finish();
        if collection.spaces != self.open().collection.spaces {
            collection.revision = collection.revision.next();
            collection.update_time = self.matcher().clock.now();
            self.put_collection(collection).await?;
        }
        self.append(&changes).await
    }
}
