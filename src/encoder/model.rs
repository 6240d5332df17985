//! One encoder: from the bytes of a sample to an embedding and a report.
//!
//! A sample waits for its admission; then every model that it needs gives it a queue slot before any work. A photo goes to the detector; the selected
//! face is aligned and encoded, and scored for presentation attacks if requested. The frames of a track follow the same
//! path and are pooled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use tracing::{Instrument, debug_span, field::Empty};

use super::{
    EncoderError, ModelCard, SampleError, SampleLimits,
    admission::{Admission, ShareId},
    faces::{self, DetectorImage, FaceDetector, PadService},
    preparation::PreparationPool,
    prepare::{self, AlignError, NetworkInput, Photo, PictureError, PreparedSample, Preprocessing, Turn},
    queue::{QueueSlot, Schedule, Urgency},
    service::Service,
    track,
};
use domain::{
    Alignment, Device, Embedding, EmbeddingError, EmbeddingSpace, Face, Geometry, MemoryBudget, MemoryShare, Modality,
    PackageCalibration, Pad, Picture, PixelBox, Quality, Sample, SampleContent, SampleReport, SpaceName,
};
use torch::detector::Detection;

/// A face that is found upright with this score is not looked for in the turned picture. Upright faces of photos have
/// .9999 (median); what is taken for one in pictures upside down has .90.
const UPRIGHT_SCORE_MIN: f32 = 0.99;
/// The lowest score of a face in a turned picture.
const TURNED_SCORE_MIN: f32 = 0.999;
/// When to try again if no memory is left to turn a photo.
const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a face is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// In frames of tracks, where a frame without a face is common, and in regions, which their sender knows.
    Upright,
    /// In the turned picture too, when no face is found upright.
    Turned,
}

/// Frames of one track in progress at once: enough to fill a batch, few enough to leave slots for others.
const FRAMES_AT_ONCE: usize = 16;
/// Maximum number of encoded faces per photo.
const FACES_MAX: usize = 64;

/// One loaded encoder.
#[derive(Debug)]
pub struct Encoder {
    pub(super) space: EmbeddingSpace,
    pub(super) card: ModelCard,
    pub(super) calibration: Option<PackageCalibration>,
    pub(super) preprocessing: Arc<Preprocessing>,
    /// Number of keypoint heat map channels in its input.
    pub(super) keypoint_channels: usize,
    pub(super) pool: Arc<PreparationPool>,
    pub(super) admission: Arc<Admission>,
    /// What pictures take while they are decoded.
    pub(super) memory: MemoryBudget,
    pub(super) limits: SampleLimits,
    pub(super) service: Service<NetworkInput, Vec<f32>>,
    pub(super) device: Device,
    /// Present for face encoders that align, if their packages are installed.
    pub(super) detector: Option<Arc<FaceDetector>>,
    pub(super) pad_service: Option<Arc<PadService>>,
}

/// How to encode a sample.
#[derive(Debug, Clone, Copy)]
pub struct EncodeParameters {
    pub urgency: Urgency,
    /// After this time the answer is useless and the sample is dropped.
    pub deadline: Instant,
    /// Minimum PAD score of a bona fide face; `None` requests no PAD score.
    pub pad_score_min: Option<f32>,
    /// The admitted request of the sample. `None`: the sample does not wait for others.
    pub share: Option<ShareId>,
}

impl EncodeParameters {
    fn schedule(self) -> Schedule {
        Schedule { urgency: self.urgency, deadline: self.deadline }
    }
}

/// The embedding of a sample and its report.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    pub embedding: Embedding,
    pub report: SampleReport,
}

/// The queue slots for one face.
struct QueueSlots {
    encode: QueueSlot<NetworkInput, Vec<f32>>,
    pad_service: Option<QueueSlot<[Vec<f32>; 2], f32>>,
}

/// A face prepared for encoding and, if requested, for PAD.
struct PreparedFace {
    face: Face,
    ready: PreparedSample,
    crops: Option<[Vec<f32>; 2]>,
}

impl Encoder {
    /// The id of the model package.
    #[must_use]
    pub fn name(&self) -> &SpaceName {
        self.service.name()
    }

    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        self.space
    }

    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// The score quantiles from the model package.
    #[must_use]
    pub fn calibration(&self) -> Option<&PackageCalibration> {
        self.calibration.as_ref()
    }

    /// False after several consecutive failures. The model continues to serve; the next success resets it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.service.is_healthy()
    }

    /// Encodes a sample. Of a photo with several faces, the selected face is encoded. Dropping the future cancels the
    /// work.
    ///
    /// # Errors
    ///
    /// See [`EncoderError`].
    pub async fn encode(&self, sample: Sample, parameters: EncodeParameters) -> Result<Encoding, EncoderError> {
        self.check_modality(&sample)?;
        let encoding = async {
            match sample.content {
                SampleContent::Track(pictures) if self.space.modality != Modality::Gait => {
                    self.track(pictures, parameters).await
                }
                SampleContent::Image(picture) => self.picture(picture, parameters, Looks::Turned).await,
                content => self.plain(content, parameters).await,
            }
        };
        in_time(parameters.deadline, encoding).await
    }

    /// Encodes every face of a photo, the largest first; for other samples the result has one element.
    ///
    /// # Errors
    ///
    /// See [`EncoderError`].
    pub async fn encode_all(
        &self,
        sample: Sample,
        parameters: EncodeParameters,
    ) -> Result<Vec<Encoding>, EncoderError> {
        match sample.content {
            SampleContent::Image(picture)
                if self.looks_for_faces(&picture.geometry) && picture.geometry.selection.is_none() =>
            {
                in_time(parameters.deadline, self.all_faces(picture, parameters)).await
            }
            content => Ok(vec![self.encode(Sample { content, ..sample }, parameters).await?]),
        }
    }

    fn check_modality(&self, sample: &Sample) -> Result<(), EncoderError> {
        let (expected, found) = (self.space.modality, sample.modality);
        if expected == found {
            return Ok(());
        }
        Err(SampleError::OtherModality { model: self.name().clone(), expected, found }.into())
    }

    /// Whether the picture needs face detection.
    fn looks_for_faces(&self, geometry: &Geometry) -> bool {
        let asked = match (geometry.alignment, &geometry.landmarks) {
            (Some(Alignment::Detect), _) => true,
            (None, None) => self.detector.is_some(),
            (Some(Alignment::Landmarks | Alignment::Aligned | Alignment::LfwFunneled), _) | (None, Some(_)) => false,
        };
        asked && self.preprocessing.aligns()
    }

    async fn picture(
        &self,
        picture: Picture,
        parameters: EncodeParameters,
        looks: Looks,
    ) -> Result<Encoding, EncoderError> {
        if self.looks_for_faces(&picture.geometry) {
            self.photo(picture, parameters, looks).await
        } else {
            self.plain(SampleContent::Image(picture), parameters).await
        }
    }

    /// Encodes a sample without face detection.
    async fn plain(&self, content: SampleContent, parameters: EncodeParameters) -> Result<Encoding, EncoderError> {
        let _permit = self.admission.enter(parameters.share).await?;
        let slot = self.service.take_slot()?;
        let (memory, _) = self.decoding_memory(prepare::pictures(&content)).await?;
        let (how, limits, keypoints) = (Arc::clone(&self.preprocessing), self.limits, self.keypoint_channels);
        let work = move || prepare::prepare_prompted(&how, keypoints, &content, &limits);
        let span = debug_span!("decode", wait_ms = Empty);
        let prepared = self.pool.run(parameters.urgency, (slot, memory), work).instrument(span).await?;
        let ((slot, memory), PreparedSample { prepared, quality, walk }) = prepared;
        drop(memory);
        let mut encoding = self.encoding(slot, prepared, quality, parameters).await?;
        encoding.report.walk = walk;
        Ok(encoding)
    }

    async fn photo(
        &self,
        picture: Picture,
        parameters: EncodeParameters,
        looks: Looks,
    ) -> Result<Encoding, EncoderError> {
        let selection = picture.geometry.selection.unwrap_or_default();
        let _permit = self.admission.enter(parameters.share).await?;
        let slots = self.slots(parameters)?;
        let (photo, found, memory) = self.find(picture, parameters, looks).await?;
        let face = faces::choose(&faces::encodable(&photo, &found)?, selection, photo.centre())?;
        let how = Arc::clone(&self.preprocessing);
        let checks_liveness = slots.pad_service.is_some();
        let work = move || prepare_face_and_crops(&how, &photo, face, checks_liveness);
        let span = debug_span!("align", wait_ms = Empty);
        let held = (slots, memory);
        let ((slots, memory), ready) = self.pool.run(parameters.urgency, held, work).instrument(span).await?;
        drop(memory);
        self.face(slots, ready, parameters).await
    }

    async fn all_faces(&self, picture: Picture, parameters: EncodeParameters) -> Result<Vec<Encoding>, EncoderError> {
        let _permit = self.admission.enter(parameters.share).await?;
        let first = self.slots(parameters)?;
        let (photo, found, memory) = self.find(picture, parameters, Looks::Turned).await?;
        let mut faces = faces::encodable(&photo, &found)?;
        if faces.len() > FACES_MAX {
            return Err(SampleError::TooManyFaces { found: faces.len(), limit: FACES_MAX }.into());
        }
        faces.sort_by(|a, b| b.area().total_cmp(&a.area()));
        let how = Arc::clone(&self.preprocessing);
        let checks_liveness = first.pad_service.is_some();
        let work = move || {
            let ready = faces.into_iter().map(|face| prepare_face_and_crops(&how, &photo, face, checks_liveness));
            // A head seen from behind or in profile has landmarks that do not fit the template: it is left out.
            Ok::<_, SampleError>(ready.filter_map(Result::ok).collect::<Vec<_>>())
        };
        let span = debug_span!("align", wait_ms = Empty);
        let held = (first, memory);
        let ((first, memory), ready) = self.pool.run(parameters.urgency, held, work).instrument(span).await?;
        drop(memory);
        if ready.is_empty() {
            return Err(SampleError::NoFace.into());
        }
        let mut slots = vec![first];
        while slots.len() < ready.len() {
            slots.push(self.slots(parameters)?);
        }
        let encodings = slots.into_iter().zip(ready).map(|(slots, ready)| self.face(slots, ready, parameters));
        futures::future::try_join_all(encodings).await
    }

    /// Frames without a usable subject are dropped and counted; a frame that is no valid picture is an error.
    async fn track(&self, pictures: Vec<Picture>, parameters: EncodeParameters) -> Result<Encoding, EncoderError> {
        let (all, limit) = (pictures.len(), self.limits.track_frames_max);
        if all == 0 {
            return Err(SampleError::EmptyTrack.into());
        }
        if all > limit {
            return Err(SampleError::TooManyFrames { found: all, limit }.into());
        }
        let frame =
            async |(at, picture): (usize, Picture)| match self.picture(picture, parameters, Looks::Upright).await {
                Ok(encoding) => Ok(Some(encoding)),
                Err(EncoderError::BadSample(problem)) if problem.is_a_poor_frame() => Ok(None),
                Err(EncoderError::BadSample(problem)) => {
                    Err(EncoderError::BadSample(SampleError::Frame { frame: at, problem: Box::new(problem) }))
                }
                Err(error) => Err(error),
            };
        let frames = stream::iter(pictures.into_iter().enumerate()).map(frame).buffered(FRAMES_AT_ONCE);
        let frames: Vec<Option<Encoding>> = frames.try_collect().await?;
        let seen: Vec<Encoding> = frames.into_iter().flatten().collect();
        let dropped = all - seen.len();
        Ok(track::pool(seen, dropped, parameters.pad_score_min)?)
    }

    fn slots(&self, parameters: EncodeParameters) -> Result<QueueSlots, EncoderError> {
        let pad_service = self.pad_service.as_ref().filter(|_| parameters.pad_score_min.is_some());
        let pad_service = pad_service.map(|pad_service| pad_service.take_slot()).transpose()?;
        Ok(QueueSlots { encode: self.service.take_slot()?, pad_service })
    }

    /// The memory for decoding pictures one after the other, and the part of it that is not needed once one is decoded. Waits
    /// while other pictures hold it.
    async fn decoding_memory(&self, pictures: &[Picture]) -> Result<(MemoryShare, usize), EncoderError> {
        let [meanwhile, afterwards] = prepare::decoding_memory(pictures, &self.limits);
        let mut memory = self.memory.share();
        let too_large = |_| SampleError::Unfit(PictureError::TooMuchMemory { bytes: meanwhile }.into());
        memory.grow_when_free(meanwhile).await.map_err(too_large)?;
        Ok((memory, meanwhile - afterwards))
    }

    /// Decodes a photo and detects its faces. The memory is that of the decoded photo.
    async fn find(
        &self,
        picture: Picture,
        parameters: EncodeParameters,
        looks: Looks,
    ) -> Result<(Photo, Vec<Detection>, MemoryShare), EncoderError> {
        let detector = self.detector.as_ref().ok_or(SampleError::Unfit(AlignError::NoDetector.into()))?;
        if picture.geometry.landmarks.is_some() {
            return Err(SampleError::Unfit(AlignError::LandmarksUnused.into()).into());
        }
        let looks = if picture.geometry.region.is_some() { Looks::Upright } else { looks };
        let slot = detector.take_slot()?;
        let (memory, spare) = self.decoding_memory(std::slice::from_ref(&picture)).await?;
        let limits = self.limits;
        let work = move || {
            let photo =
                Photo::decode(&picture.bytes, &picture.geometry, &limits).map_err(prepare::PrepareError::from)?;
            let detector_image = DetectorImage(photo.detector_picture());
            Ok::<_, SampleError>((photo, detector_image))
        };
        let span = debug_span!("decode", wait_ms = Empty);
        let held = (slot, memory);
        let (held, decoded) = self.pool.run(parameters.urgency, held, work).instrument(span).await?;
        let ((slot, mut memory), (photo, detector_image)) = (held, decoded);
        memory.shrink(spare);
        let span = debug_span!("detect", model = %detector.name(), wait_ms = Empty, batch = Empty);
        let found = detector.answer(slot, detector_image, parameters.schedule()).instrument(span).await?;
        if looks == Looks::Upright || best_score(&found) >= UPRIGHT_SCORE_MIN {
            return Ok((photo, found, memory));
        }
        self.find_turned(detector, (photo, found, memory), parameters).await
    }

    /// Looks at the turned photo, because some programs remove the orientation: at most three more detections. What was
    /// found upright stays unless a turn shows a face with a higher score, and a high one.
    async fn find_turned(
        &self,
        detector: &FaceDetector,
        (mut photo, found, mut memory): (Photo, Vec<Detection>, MemoryShare),
        parameters: EncodeParameters,
    ) -> Result<(Photo, Vec<Detection>, MemoryShare), EncoderError> {
        let mut best: Option<(Turn, Vec<Detection>)> = None;
        for turn in Turn::ALL {
            let slot = detector.take_slot()?;
            let work = move || {
                let turned = DetectorImage(photo.turned_detector_picture(turn));
                Ok::<_, SampleError>((photo, turned))
            };
            let span = debug_span!("turn", wait_ms = Empty);
            let held = self.pool.run(parameters.urgency, (slot, memory), work).instrument(span).await?;
            let ((slot, held_memory), (same, turned)) = held;
            (photo, memory) = (same, held_memory);
            let span = debug_span!("detect", model = %detector.name(), wait_ms = Empty, batch = Empty);
            let seen = detector.answer(slot, turned, parameters.schedule()).instrument(span).await?;
            let least = best.as_ref().map_or(best_score(&found).max(TURNED_SCORE_MIN), |(_, best)| best_score(best));
            if best_score(&seen) >= least {
                best = Some((turn, seen));
            }
        }
        let Some((turn, mut seen)) = best else { return Ok((photo, found, memory)) };
        // A weak detection in a turned picture is rarely a face.
        seen.retain(|face| face.score >= TURNED_SCORE_MIN);
        let bytes = photo.bytes();
        let full = |_| EncoderError::QueueFull { model: detector.name().clone(), retry_after: MEMORY_RETRY_AFTER };
        memory.grow(bytes).map_err(full)?;
        let work = move || Ok::<_, SampleError>(photo.turned(turn));
        let span = debug_span!("turn", wait_ms = Empty);
        let (mut memory, photo) = self.pool.run(parameters.urgency, memory, work).instrument(span).await?;
        memory.shrink(bytes);
        Ok((photo, seen, memory))
    }

    async fn face(
        &self,
        slots: QueueSlots,
        ready: PreparedFace,
        parameters: EncodeParameters,
    ) -> Result<Encoding, EncoderError> {
        let PreparedFace { face, ready: PreparedSample { prepared, quality, walk: _ }, crops } = ready;
        let pad_score = async {
            match (&self.pad_service, slots.pad_service, crops) {
                (Some(pad_service), Some(slot), Some(crops)) => {
                    let span = debug_span!("liveness", model = %pad_service.name(), wait_ms = Empty, batch = Empty);
                    pad_service.answer(slot, crops, parameters.schedule()).instrument(span).await.map(Some)
                }
                _ => Ok(None),
            }
        };
        let encoded = self.encoding(slots.encode, prepared, quality, parameters);
        let (mut encoding, score) = tokio::try_join!(encoded, pad_score)?;
        encoding.report.face = Some(face);
        if let Some((score, least)) = score.zip(parameters.pad_score_min) {
            encoding.report.pad = Pad::of(score, least);
        }
        Ok(encoding)
    }

    async fn encoding(
        &self,
        slot: QueueSlot<NetworkInput, Vec<f32>>,
        prepared: NetworkInput,
        quality: Quality,
        parameters: EncodeParameters,
    ) -> Result<Encoding, EncoderError> {
        let views = prepared.views.len().max(1);
        let span = debug_span!("encode", model = %self.name(), wait_ms = Empty, batch = Empty);
        let numbers = self.service.answer(slot, prepared, parameters.schedule()).instrument(span).await?;
        let embedding = Embedding::new(self.space, &numbers).map_err(|problem| match problem {
            EmbeddingError::NoDirection => SampleError::Featureless.into(),
            EmbeddingError::NotFinite(_) | EmbeddingError::WrongDimension { .. } => {
                self.service.failed(problem.to_string())
            }
        })?;
        // Parts are normalised one by one, so the length of the whole carries no information.
        let norm = numbers.iter().map(|number| number * number).sum::<f32>().sqrt() / views as f32;
        let embedding_norm = (self.space.parts <= 1).then_some(norm);
        let atypicality = self.calibration.as_ref().and_then(|measured| measured.atypicality(embedding.values()));
        let quality = Quality { embedding_norm, ..quality }.with_atypicality(atypicality);
        let report = SampleReport { quality: Some(quality), ..SampleReport::default() };
        Ok(Encoding { embedding, report })
    }
}

fn prepare_face_and_crops(
    how: &Preprocessing,
    photo: &Photo,
    face: Face,
    checks_liveness: bool,
) -> Result<PreparedFace, SampleError> {
    let ready = prepare::prepare_face(how, photo, &face)?;
    let PixelBox { left, top, width, height } = face.bounds;
    let crops = checks_liveness.then(|| prepare::liveness::crops(photo.picture(), [left, top, width, height]));
    Ok(PreparedFace { face: photo.as_sent(face), ready, crops })
}

fn best_score(found: &[Detection]) -> f32 {
    found.iter().map(|face| face.score).fold(0.0, f32::max)
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = Result<T, EncoderError>>) -> Result<T, EncoderError> {
    tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| EncoderError::DeadlinePassed)?
}

#[cfg(test)]
mod tests;
