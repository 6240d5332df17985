//! Use cases with a fake encoder: an embedding, an error, and an answer after the deadline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};

use crate::matcher::{
    CollectionDraft, Context, Matcher, ScanLimits,
    options::MatcherOptions,
    recognition::sample_encoders::{SampleEncoder, SampleEncoders},
    request::fault::Fault,
    testbed::{self, Testbed},
    use_cases::{enroll::Enrollment, resolve::Resolution, resolve_result::ResolveMode, search::Search},
};
use domain::{
    CollectionId, DecisionKind, Embedding, EmbeddingSpace, Geometry, IdentityId, ImageBytes, Labels, Modality,
    ModelDigest, PackageCalibration, Picture, Sample, SampleContent, SampleReport, SpaceName,
};
use encoder::{EncodeParameters, EncoderError, Encoding, LoadedModel};

/// A face encoder whose answer follows from the first byte of the picture.
#[derive(Debug)]
struct FakeEncoder {
    name: SpaceName,
}

/// Two directions, orthogonal to each other.
const ALICE: u8 = 0;
const BOB: u8 = 1;
/// The encoder fails.
const BROKEN: u8 = 2;
/// The encoder never answers.
const STUCK: u8 = 3;

impl SampleEncoder for FakeEncoder {
    fn name(&self) -> &SpaceName {
        &self.name
    }

    fn space(&self) -> EmbeddingSpace {
        EmbeddingSpace::whole(Modality::Face, ModelDigest([9; 32]), 2)
    }

    fn calibration(&self) -> Option<&PackageCalibration> {
        None
    }

    fn encode(&self, sample: Sample, parameters: EncodeParameters) -> BoxFuture<'_, Result<Encoding, EncoderError>> {
        async move {
            let SampleContent::Image(picture) = sample.content else { panic!("the tests send pictures") };
            let values = match picture.bytes.0[0] {
                ALICE => [1.0, 0.0],
                BOB => [0.0, 1.0],
                BROKEN => return Err(EncoderError::PreparationPanicked),
                _stuck => {
                    // As the real encoder does: it ends with the deadline of the request.
                    tokio::time::sleep_until(parameters.deadline.into()).await;
                    return Err(EncoderError::DeadlinePassed);
                }
            };
            let embedding = Embedding::new(self.space(), &values).expect("finite and not zero");
            Ok(Encoding { embedding, report: SampleReport::default() })
        }
        .boxed()
    }

    fn encode_all(
        &self,
        sample: Sample,
        parameters: EncodeParameters,
    ) -> BoxFuture<'_, Result<Vec<Encoding>, EncoderError>> {
        async move { Ok(vec![self.encode(sample, parameters).await?]) }.boxed()
    }
}

#[derive(Debug)]
struct FakeEncoders(FakeEncoder);

impl SampleEncoders for FakeEncoders {
    fn for_modality(&self, modality: Modality) -> Option<&dyn SampleEncoder> {
        (modality == Modality::Face).then_some(&self.0 as &dyn SampleEncoder)
    }

    fn by_name(&self, name: &SpaceName) -> Option<&dyn SampleEncoder> {
        (*name == self.0.name).then_some(&self.0 as &dyn SampleEncoder)
    }

    fn by_digest(&self, digest: ModelDigest) -> Option<&dyn SampleEncoder> {
        (digest == self.0.space().digest).then_some(&self.0 as &dyn SampleEncoder)
    }

    fn models(&self) -> Vec<LoadedModel> {
        Vec::new()
    }
}

/// A matcher with the fake encoder.
async fn matcher() -> Matcher {
    let encoders = FakeEncoders(FakeEncoder { name: SpaceName::new("fake").expect("a name") });
    let options = MatcherOptions { scans: ScanLimits { threads: 1, ..ScanLimits::default() }, ..testbed::options(8) };
    Box::pin(Testbed::with(options, CollectionDraft::default(), Arc::new(encoders))).await.matcher
}

fn staff() -> CollectionId {
    CollectionId::new("staff").expect("an id")
}

fn sample(picture: u8) -> Sample {
    let picture = Picture { bytes: ImageBytes(vec![picture].into()), geometry: Geometry::default() };
    Sample { modality: Modality::Face, content: SampleContent::Image(picture) }
}

fn enrollment(identity: &str, picture: u8) -> Enrollment {
    Enrollment {
        collection: staff(),
        identity: IdentityId::new(identity).expect("an id"),
        samples: vec![sample(picture)],
        labels: Labels::default(),
    }
}

fn search(picture: u8) -> Search {
    Search {
        collection: staff(),
        samples: vec![sample(picture)],
        limit: 2,
        filter: None,
        min_similarity: None,
        includes_provisional: false,
        token: None,
    }
}

fn resolution(picture: u8) -> Resolution {
    Resolution {
        collection: staff(),
        samples: vec![sample(picture)],
        mode: ResolveMode::EnrollIfNew,
        limit: 2,
        min_similarity: None,
        labels: Labels::default(),
        token: None,
    }
}

/// A request whose deadline is so near that only an answer without a wait is in time.
fn short() -> Context {
    Context { deadline: Instant::now() + Duration::from_millis(20), ..testbed::context(None) }
}

async fn templates(matcher: &Matcher) -> u64 {
    matcher.replica.open(&staff()).await.expect("open").index.stats().templates
}

#[tokio::test]
async fn search_finds_the_enrolled_identity_and_passes_on_encoder_faults() {
    let matcher = matcher().await;
    for (name, picture) in [("alice", ALICE), ("bob", BOB)] {
        matcher.enroll(&testbed::context(None), enrollment(name, picture)).await.expect("enrolled");
    }
    let found = matcher.search(&testbed::context(None), search(BOB)).await.expect("found");
    let names: Vec<&str> = found.candidates.iter().map(|candidate| candidate.identity.as_str()).collect();
    assert_eq!(
        (names, found.gallery_identities, found.model.to_string()),
        (vec!["bob", "alice"], 2, "fake".to_owned())
    );

    let broken = matcher.search(&testbed::context(None), search(BROKEN)).await;
    assert!(matches!(broken, Err(Fault::Internal(_))), "{broken:?}");
    let late = matcher.search(&short(), search(STUCK)).await;
    assert!(matches!(late, Err(Fault::TooLate)), "{late:?}");
}

#[tokio::test]
async fn enroll_writes_nothing_when_the_encoder_fails_or_is_too_slow() {
    let matcher = matcher().await;
    let broken = matcher.enroll(&testbed::context(None), enrollment("alice", BROKEN)).await;
    assert!(matches!(broken, Err(Fault::Internal(_))), "{broken:?}");
    let late = matcher.enroll(&short(), enrollment("alice", STUCK)).await;
    assert!(matches!(late, Err(Fault::TooLate)), "{late:?}");
    assert_eq!(templates(&matcher).await, 0);

    let enrolled = matcher.enroll(&testbed::context(None), enrollment("alice", ALICE)).await.expect("enrolled");
    assert_eq!((enrolled.templates.len(), enrolled.templates[0].model.to_string()), (1, "fake".to_owned()));
    assert_eq!(templates(&matcher).await, 1);
}

#[tokio::test]
async fn resolve_enrolls_a_new_person_once_and_changes_nothing_on_encoder_faults() {
    let matcher = matcher().await;
    let broken = matcher.resolve(&testbed::context(None), resolution(BROKEN)).await;
    assert!(matches!(broken, Err(Fault::Internal(_))), "{broken:?}");
    let late = matcher.resolve(&short(), resolution(STUCK)).await;
    assert!(matches!(late, Err(Fault::TooLate)), "{late:?}");
    assert_eq!(templates(&matcher).await, 0);

    let new = matcher.resolve(&testbed::context(None), resolution(ALICE)).await.expect("resolved");
    assert_eq!((new.kind, new.enrolled), (DecisionKind::New, true), "{:?}", new.reasons);
    assert_eq!(templates(&matcher).await, 1);
    let again = matcher.resolve(&testbed::context(None), resolution(ALICE)).await.expect("resolved");
    assert!(!again.enrolled, "{:?}", again.reasons);
    assert_eq!(templates(&matcher).await, 1);
}
