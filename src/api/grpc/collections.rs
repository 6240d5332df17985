//! Collections over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, answer};
use crate::{
    api::{
        proto::{self, collection_service_server::CollectionService},
        wire::{self, CollectionName, PageRequest},
    },
    matcher::{CollectionDraft, CollectionPatch, DeclaredSpace, Fault},
};
use domain::{CollectionId, Policy, SpaceName};

const LIST: &str = "collections";
/// What an update mask may name.
const UPDATABLE: [&str; 14] = [
    "display_name",
    "policy",
    "policy.target_fpir",
    "policy.target_fmr",
    "policy.max_uncertain",
    "policy.quality",
    "policy.pad",
    "policy.pooling",
    "policy.open_set",
    "policy.review",
    "policy.person_half_life_seconds",
    "policy.reranking",
    "policy.review_share",
    "spaces",
];

#[tonic::async_trait]
impl CollectionService for Services {
    async fn create_collection(
        &self,
        request: Request<proto::CreateCollectionRequest>,
    ) -> Result<Response<proto::Collection>, Status> {
        answer(self.create(request).await)
    }

    async fn get_collection(
        &self,
        request: Request<proto::GetCollectionRequest>,
    ) -> Result<Response<proto::Collection>, Status> {
        answer(self.get(&request.into_inner().name).await)
    }

    async fn list_collections(
        &self,
        request: Request<proto::ListCollectionsRequest>,
    ) -> Result<Response<proto::ListCollectionsResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    async fn update_collection(
        &self,
        request: Request<proto::UpdateCollectionRequest>,
    ) -> Result<Response<proto::Collection>, Status> {
        answer(self.update(request.into_inner()).await)
    }

    async fn delete_collection(
        &self,
        request: Request<proto::DeleteCollectionRequest>,
    ) -> Result<Response<()>, Status> {
        answer(self.delete(request.into_inner()).await)
    }
}

impl Services {
    async fn create(&self, mut request: Request<proto::CreateCollectionRequest>) -> Result<proto::Collection, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "CreateCollection", &request_id, request.get_ref())?;
        let proto::CreateCollectionRequest { collection_id, collection, .. } = request.into_inner();
        let given = collection.unwrap_or_default();
        let id = match collection_id.as_str() {
            "" => None,
            id => Some(CollectionId::new(id).map_err(|e| Fault::invalid("collectionId", e))?),
        };
        let policy = wire::policy(&given.policy.unwrap_or_default(), Policy::default())?;
        let spaces = declared(&given.spaces)?;
        let draft = CollectionDraft { id, display_name: given.display_name, policy, spaces };
        let made = self.0.create_collection(&context, draft).await?;
        Ok(wire::collection(&made, self.0.stats(&made.id)))
    }

    async fn get(&self, name: &str) -> Result<proto::Collection, Fault> {
        let CollectionName(id) = CollectionName::parse("name", name)?;
        Ok(wire::collection(&self.0.collection(&id).await?, self.0.stats(&id)))
    }

    async fn list(&self, request: proto::ListCollectionsRequest) -> Result<proto::ListCollectionsResponse, Fault> {
        let page = PageRequest::parse(request.page_size, &request.page_token, LIST)?;
        let after = page.after.as_deref().map(CollectionId::new).transpose()?;
        let found = self.0.collections(after.as_ref(), page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|c| c.id.to_string())).flatten();
        Ok(proto::ListCollectionsResponse {
            collections: found.iter().map(|c| wire::collection(c, self.0.stats(&c.id))).collect(),
            next_page_token: wire::token(next, LIST),
        })
    }

    async fn update(&self, request: proto::UpdateCollectionRequest) -> Result<proto::Collection, Fault> {
        let given = request.collection.unwrap_or_default();
        let mask = request.update_mask.as_ref();
        wire::check_mask(mask, &UPDATABLE)?;
        let CollectionName(id) = CollectionName::parse("collection.name", &given.name)?;
        let display_name =
            wire::writes(mask, "display_name", !given.display_name.is_empty()).then_some(given.display_name);
        let asked = given.policy.unwrap_or_default();
        let standard = Policy::default();
        // A mask that names the whole policy sets what the request leaves out back to its default.
        let whole = wire::writes(mask, "policy", false);
        let target = |field: &str, asked: Option<f64>, standard: f64| match asked {
            None if whole => Some(standard),
            asked => asked.filter(|_| whole || wire::writes(mask, field, true)),
        };
        // The parts that are replaced as a whole.
        let part = |field: &str, carried: bool| whole || wire::writes(mask, field, carried);
        let patch = CollectionPatch {
            display_name,
            target_fpir: target("policy.target_fpir", asked.target_fpir, standard.target_fpir),
            target_fmr: target("policy.target_fmr", asked.target_fmr, standard.target_fmr),
            max_uncertain: part("policy.max_uncertain", asked.max_uncertain.is_some()).then_some(asked.max_uncertain),
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
            reranking: part("policy.reranking", asked.reranking != 0)
                .then(|| wire::reranking(asked.reranking))
                .transpose()?
                .map(Option::unwrap_or_default),
            review_share: target("policy.review_share", asked.review_share, standard.review_share),
            spaces: if wire::writes(mask, "spaces", true) { declared(&given.spaces)? } else { Vec::new() },
            expected: wire::expected(&given.etag)?,
        };
        let updated = self.0.update_collection(&id, patch).await?;
        Ok(wire::collection(&updated, self.0.stats(&id)))
    }

    async fn delete(&self, request: proto::DeleteCollectionRequest) -> Result<(), Fault> {
        let CollectionName(id) = CollectionName::parse("name", &request.name)?;
        self.0.delete_collection(&id, wire::expected(&request.etag)?).await
    }
}

/// The external spaces that a client declares. Spaces of models are the server's own and pass by unread, so that a
/// collection that was read can be sent back.
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
