//! Review cases over gRPC.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, review_service_server::ReviewService},
        wire::{self, CollectionName, PageRequest, ReviewCaseName},
    },
    matcher::{Fault, LEASE, LEASE_MAX, Learning, Removal, ReviewClaim, ReviewVerdict},
};

#[tonic::async_trait]
impl ReviewService for Services {
    async fn get_review_case(
        &self,
        request: Request<proto::GetReviewCaseRequest>,
    ) -> Result<Response<proto::ReviewCase>, Status> {
        respond(self.answer_get_review_case(&request.into_inner().name).await)
    }

    async fn list_review_cases(
        &self,
        request: Request<proto::ListReviewCasesRequest>,
    ) -> Result<Response<proto::ListReviewCasesResponse>, Status> {
        respond(self.answer_list_review_cases(request.into_inner()).await)
    }

    async fn claim_review_case(
        &self,
        request: Request<proto::ClaimReviewCaseRequest>,
    ) -> Result<Response<proto::ReviewCase>, Status> {
        respond(self.answer_claim_review_case(request.into_inner()).await)
    }

    async fn decide_review_case(
        &self,
        request: Request<proto::DecideReviewCaseRequest>,
    ) -> Result<Response<proto::DecideReviewCaseResponse>, Status> {
        respond(self.answer_decide_review_case(request).await)
    }

    async fn reopen_review_case(
        &self,
        request: Request<proto::ReopenReviewCaseRequest>,
    ) -> Result<Response<proto::DecideReviewCaseResponse>, Status> {
        respond(self.answer_reopen_review_case(&request).await)
    }

    async fn delete_review_case(
        &self,
        request: Request<proto::DeleteReviewCaseRequest>,
    ) -> Result<Response<proto::DeleteReviewCaseResponse>, Status> {
        respond(self.answer_delete_review_case(&request.into_inner().name).await)
    }
}

impl Services {
    async fn answer_get_review_case(&self, name: &str) -> Result<proto::ReviewCase, Fault> {
        let ReviewCaseName { collection, case } = ReviewCaseName::parse("name", name)?;
        Ok(wire::review_case(
            &collection,
            &self.matcher.reviews.review_case(&collection, case).await?,
            self.matcher.now(),
        ))
    }

    async fn answer_list_review_cases(
        &self,
        request: proto::ListReviewCasesRequest,
    ) -> Result<proto::ListReviewCasesResponse, Fault> {
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let stage = wire::stage(request.state)?;
        let list = format!("review cases of {collection} in state {}", request.state);
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(str::parse).transpose()?;
        let found = self.matcher.reviews.review_cases(&collection, stage, after, page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|case| case.id.to_string())).flatten();
        Ok(proto::ListReviewCasesResponse {
            review_cases: found.iter().map(|case| wire::review_case(&collection, case, self.matcher.now())).collect(),
            next_page_token: wire::token(next, &list),
        })
    }

    async fn answer_claim_review_case(
        &self,
        request: proto::ClaimReviewCaseRequest,
    ) -> Result<proto::ReviewCase, Fault> {
        let ReviewCaseName { collection, case } = ReviewCaseName::parse("name", &request.name)?;
        let lease = match u64::try_from(request.lease_seconds) {
            Ok(0) => LEASE,
            Ok(seconds) if Duration::from_secs(seconds) <= LEASE_MAX => Duration::from_secs(seconds),
            Ok(_) | Err(_) => {
                let most = LEASE_MAX.as_secs();
                return Err(Fault::invalid("leaseSeconds", format!("a lease has 1 to {most} seconds")));
            }
        };
        let reviewer = wire::reviewer(request.reviewer)?;
        let claim = ReviewClaim { collection: collection.clone(), case, reviewer, lease };
        Ok(wire::review_case(&collection, &self.matcher.reviews.claim_review_case(claim).await?, self.matcher.now()))
    }

    async fn answer_decide_review_case(
        &self,
        request: Request<proto::DecideReviewCaseRequest>,
    ) -> Result<proto::DecideReviewCaseResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let ReviewCaseName { collection, case } = ReviewCaseName::parse("name", &request.name)?;
        let verdict = ReviewVerdict {
            collection: collection.clone(),
            case,
            reviewer: wire::reviewer(request.reviewer)?,
            verdict: wire::verdict(request.verdict, &request.identity)?,
            learning: if request.link_only { Learning::Link } else { Learning::Enroll },
            expected: wire::expected(&request.etag)?,
        };
        let reviewed = self.matcher.reviews.decide_review_case(&context, verdict).await?;
        Ok(wire::reviewed(&collection, &reviewed, self.matcher.now()))
    }

    async fn answer_reopen_review_case(
        &self,
        request: &Request<proto::ReopenReviewCaseRequest>,
    ) -> Result<proto::DecideReviewCaseResponse, Fault> {
        let context = wire::context(request);
        let ReviewCaseName { collection, case } = ReviewCaseName::parse("name", &request.get_ref().name)?;
        let expected = wire::expected(&request.get_ref().etag)?;
        let reviewed = self.matcher.reviews.reopen_review_case(&context, &collection, case, expected).await?;
        Ok(wire::reviewed(&collection, &reviewed, self.matcher.now()))
    }

    async fn answer_delete_review_case(&self, name: &str) -> Result<proto::DeleteReviewCaseResponse, Fault> {
        let ReviewCaseName { collection, case } = ReviewCaseName::parse("name", name)?;
        let removal = self.matcher.reviews.delete_review_case(&collection, case).await?;
        Ok(proto::DeleteReviewCaseResponse { pending_removal: removal == Removal::Pending })
    }
}
