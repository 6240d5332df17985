//! What the use cases need of encoders. Production uses the models of `encoder`, tests use fakes.

use std::fmt::Debug;

use futures::{FutureExt, future::BoxFuture};

use domain::{EmbeddingSpace, Modality, ModelDigest, PackageCalibration, Sample, SpaceName};
use encoder::{
    EncodeParameters, Encoder, EncoderError, Encoders, Encoding, LoadedModel, Overloaded, RequestShare, WorkRequest,
};

/// One model that makes embeddings.
pub trait SampleEncoder: Debug + Send + Sync {
    /// The id of its model package.
    fn name(&self) -> &SpaceName;

    fn space(&self) -> EmbeddingSpace;

    /// The similarity quantiles of its package.
    fn calibration(&self) -> Option<&PackageCalibration>;

    /// The embedding of a sample; of a photo with several faces that of the selected one.
    fn encode(&self, sample: Sample, parameters: EncodeParameters) -> BoxFuture<'_, Result<Encoding, EncoderError>>;

    /// The embeddings of every face of a photo, the largest first; of any other sample its one embedding.
    fn encode_all(
        &self,
        sample: Sample,
        parameters: EncodeParameters,
    ) -> BoxFuture<'_, Result<Vec<Encoding>, EncoderError>>;
}

/// The loaded models.
pub trait SampleEncoders: Debug + Send + Sync {
    /// The encoder of new samples of a modality.
    fn for_modality(&self, modality: Modality) -> Option<&dyn SampleEncoder>;

    fn by_name(&self, name: &SpaceName) -> Option<&dyn SampleEncoder>;

    fn by_digest(&self, digest: ModelDigest) -> Option<&dyn SampleEncoder>;

    /// Admits a request whose samples need models, or refuses it before any work.
    ///
    /// # Errors
    /// [`Overloaded`].
    fn admit(&self, _request: WorkRequest) -> Result<RequestShare, Overloaded> {
        Ok(RequestShare::none())
    }

    /// Every loaded model, sorted by name.
    fn models(&self) -> Vec<LoadedModel>;
}

impl SampleEncoder for Encoder {
    fn name(&self) -> &SpaceName {
        self.name()
    }

    fn space(&self) -> EmbeddingSpace {
        self.space()
    }

    fn calibration(&self) -> Option<&PackageCalibration> {
        self.calibration()
    }

    fn encode(&self, sample: Sample, parameters: EncodeParameters) -> BoxFuture<'_, Result<Encoding, EncoderError>> {
        self.encode(sample, parameters).boxed()
    }

    fn encode_all(
        &self,
        sample: Sample,
        parameters: EncodeParameters,
    ) -> BoxFuture<'_, Result<Vec<Encoding>, EncoderError>> {
        self.encode_all(sample, parameters).boxed()
    }
}

impl SampleEncoders for Encoders {
    fn for_modality(&self, modality: Modality) -> Option<&dyn SampleEncoder> {
        self.for_modality(modality).map(|encoder| encoder as &dyn SampleEncoder)
    }

    fn by_name(&self, name: &SpaceName) -> Option<&dyn SampleEncoder> {
        self.by_name(name).map(|encoder| encoder as &dyn SampleEncoder)
    }

    fn by_digest(&self, digest: ModelDigest) -> Option<&dyn SampleEncoder> {
        self.by_digest(digest).map(|encoder| encoder as &dyn SampleEncoder)
    }

    fn admit(&self, request: WorkRequest) -> Result<RequestShare, Overloaded> {
        self.admit(request)
    }

    fn models(&self) -> Vec<LoadedModel> {
        self.models()
    }
}
