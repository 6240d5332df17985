//! Collections over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, collection_service_server::CollectionService},
        wire::{self, CollectionName, PageRequest},
    },
    matcher::{CollectionDraft, CollectionPatch, DeclaredSpace, Fault, Removal},
};
use domain::{CollectionId, Policy, SpaceName};

const LIST: &str = "collections";
/// The fields that an update mask may name.
const UPDATABLE: [&str; 17] = [
    "display_name",
    "policy",
    "policy.target_fpir",
    "policy.target_fmr",
    "policy.target_duplicates",
    "policy.quality",
    "policy.pad",
    "policy.pooling",
    "policy.open_set",
    "policy.review",
    "policy.person_half_life_seconds",
    "policy.identity_ttl_seconds",
    "policy.reranking",
    "policy.review_share",
    "policy.uncertain",
    "policy.provisional_ttl_seconds",
    "spaces",
];

#[tonic::async_trait]
impl CollectionService for Services {
    async fn create_collection(
        &self,
        request: Request<proto::CreateCollectionRequest>,
    ) -> Result<Response<proto::Collection>, Status> {
        respond(self.answer_create_collection(request).await)
    }

    async fn get_collection(
        &self,
        request: Request<proto::GetCollectionRequest>,
    ) -> Result<Response<proto::Collection>, Status> {
        respond(self.answer_get_collection(&request.into_inner().name).await)
    }

    async fn list_collections(
        &self,
        request: Request<proto::ListCollectionsRequest>,
    ) -> Result<Response<proto::ListCollectionsResponse>, Status> {
        respond(self.answer_list_collections(request.into_inner()).await)
    }

    async fn update_collection(
        &self,
        request: Request<proto::UpdateCollectionRequest>,
    ) -> Result<Response<proto::Collection>, Status> {
        respond(self.answer_update_collection(request.into_inner()).await)
    }

    async fn delete_collection(
        &self,
        request: Request<proto::DeleteCollectionRequest>,
    ) -> Result<Response<proto::DeleteCollectionResponse>, Status> {
        respond(self.answer_delete_collection(request.into_inner()).await)
    }
}

impl Services {
    async fn answer_create_collection(
        &self,
        request: Request<proto::CreateCollectionRequest>,
    ) -> Result<proto::Collection, Fault> {
        let (context, request) = self.once(request).await?;
        let proto::CreateCollectionRequest { collection_id, collection, .. } = request;
        let given = collection.unwrap_or_default();
        let id = match collection_id.as_str() {
            "" => None,
            id => Some(CollectionId::new(id).map_err(|e| Fault::invalid("collectionId", e))?),
        };
        let policy = wire::policy(&given.policy.unwrap_or_default(), Policy::default())?;
        let spaces = declared(&given.spaces)?;
        let draft = CollectionDraft { id, display_name: given.display_name, policy, spaces };
        let made = self.matcher.create_collection(&context, draft).await?;
        Ok(wire::collection(&made, self.matcher.stats(&made.id)))
    }

    async fn answer_get_collection(&self, name: &str) -> Result<proto::Collection, Fault> {
        let CollectionName(id) = CollectionName::parse("name", name)?;
        Ok(wire::collection(&self.matcher.collection(&id).await?, self.matcher.stats(&id)))
    }

    async fn answer_list_collections(
        &self,
        request: proto::ListCollectionsRequest,
    ) -> Result<proto::ListCollectionsResponse, Fault> {
        let page = PageRequest::parse(request.page_size, &request.page_token, LIST)?;
        let after = page.after.as_deref().map(CollectionId::new).transpose()?;
        let found = self.matcher.collections(after.as_ref(), page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|c| c.id.to_string())).flatten();
        Ok(proto::ListCollectionsResponse {
            collections: found.iter().map(|c| wire::collection(c, self.matcher.stats(&c.id))).collect(),
            next_page_token: wire::token(next, LIST),
        })
    }

    async fn answer_update_collection(
        &self,
        request: proto::UpdateCollectionRequest,
    ) -> Result<proto::Collection, Fault> {
        let given = request.collection.unwrap_or_default();
        let mask = request.update_mask.as_ref();
        wire::check_mask(mask, &UPDATABLE)?;
        let CollectionName(id) = CollectionName::parse("collection.name", &given.name)?;
        let display_name =
            wire::writes(mask, "display_name", !given.display_name.is_empty()).then_some(given.display_name);
        let asked = given.policy.unwrap_or_default();
        let standard = Policy::default();
        // A mask with the whole policy resets the fields that the request leaves out.
        let whole = wire::writes(mask, "policy", false);
        let target = |field: &str, asked: Option<f64>, standard: f64| match asked {
            None if whole => Some(standard),
            asked => asked.filter(|_| whole || wire::writes(mask, field, true)),
        };
        // Fields that are messages are replaced as a whole.
        let part = |field: &str, carried: bool| whole || wire::writes(mask, field, carried);
        let patch = CollectionPatch {
            display_name,
            target_fpir: target("policy.target_fpir", asked.target_fpir, standard.target_fpir),
            target_fmr: target("policy.target_fmr", asked.target_fmr, standard.target_fmr),
            target_duplicates: target("policy.target_duplicates", asked.target_duplicates, standard.target_duplicates),
            quality: part("policy.quality", asked.quality.is_some())
                .then(|| wire::quality(&asked.quality.unwrap_or_default()))
                .transpose()?,
            pad: part("policy.pad", asked.pad.is_some())
                .then(|| wire::pad(&asked.pad.unwrap_or_default()))
                .transpose()?,
            pooling: part("policy.pooling", asked.pooling.is_some())
                .then(|| wire::pooling(&asked.pooling.unwrap_or_default()))
                .transpose()?,
            open_set: part("policy.open_set", asked.open_set != 0)
                .then(|| wire::open_set(asked.open_set))
                .transpose()?
                .map(Option::unwrap_or_default),
            review: part("policy.review", asked.review != 0)
                .then(|| wire::review(asked.review))
                .transpose()?
                .map(Option::unwrap_or_default),
            person_half_life: part("policy.person_half_life_seconds", asked.person_half_life_seconds.is_some())
                .then(|| wire::half_life(asked.person_half_life_seconds))
                .transpose()?
                .map(|asked| asked.unwrap_or(standard.person_half_life)),
            identity_ttl: part("policy.identity_ttl_seconds", asked.identity_ttl_seconds.is_some())
                .then(|| wire::identity_ttl(asked.identity_ttl_seconds))
                .transpose()?,
            reranking: part("policy.reranking", asked.reranking != 0)
                .then(|| wire::reranking(asked.reranking))
                .transpose()?
                .map(Option::unwrap_or_default),
            review_share: target("policy.review_share", asked.review_share, standard.review_share),
            uncertain: part("policy.uncertain", asked.uncertain != 0)
                .then(|| wire::uncertain(asked.uncertain))
                .transpose()?
                .map(Option::unwrap_or_default),
            provisional_ttl: part("policy.provisional_ttl_seconds", asked.provisional_ttl_seconds.is_some())
                .then(|| wire::provisional_ttl(asked.provisional_ttl_seconds))
                .transpose()?
                .map(|asked| asked.unwrap_or(standard.provisional_ttl)),
            spaces: if wire::writes(mask, "spaces", true) { declared(&given.spaces)? } else { Vec::new() },
            expected: wire::expected(&given.etag)?,
        };
        let updated = self.matcher.update_collection(&id, patch).await?;
        Ok(wire::collection(&updated, self.matcher.stats(&id)))
    }

    async fn answer_delete_collection(
        &self,
        request: proto::DeleteCollectionRequest,
    ) -> Result<proto::DeleteCollectionResponse, Fault> {
        let CollectionName(id) = CollectionName::parse("name", &request.name)?;
        let removal = self.matcher.delete_collection(&id, wire::expected(&request.etag)?).await?;
        Ok(proto::DeleteCollectionResponse { pending_removal: removal == Removal::Pending })
    }
}

/// The external spaces of a request. Spaces of models belong to the server and are ignored, so that a client can send a
/// collection back as it read it.
fn declared(spaces: &[proto::EmbeddingSpace]) -> Result<Vec<DeclaredSpace>, Fault> {
    let external = spaces.iter().enumerate().filter(|(_, space)| space.external || space.digest.is_empty());
    external
        .map(|(at, space)| {
            if !space.external {
                let problem =
                    "a space is declared with external: true; those of models appear with the first enrollment";
                return Err(Fault::invalid(format!("spaces[{at}].external"), problem));
            }
            Ok(DeclaredSpace {
                name: SpaceName::new(&space.model).map_err(|e| Fault::invalid(format!("spaces[{at}].model"), e))?,
                modality: wire::modality(&format!("spaces[{at}].modality"), space.modality)?,
                dimension: u32::try_from(space.dimension)
                    .map_err(|e| Fault::invalid(format!("spaces[{at}].dimension"), e))?,
            })
        })
        .collect()
}
