//! One encoder: the way of a sample through it, from bytes to an embedding with a report of what was seen.
//!
//! Every model that a sample will need gives it a place before anything is done for it. A photo goes to the detector, the
//! face that is meant is aligned and encoded, and beside that judged alive where that was asked for; a track goes this way
//! frame by frame and is pooled.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    EncoderError, Limits, ModelCard, SampleError,
    faces::{self, Finder, Judge, LookedAt},
    preparation::Pool,
    prepare::{self, AlignError, Photo, Prepared, Preprocessing, Ready},
    queue::{Place, Urgency},
    service::Service,
    track,
};
use domain::{
    Alignment, Device, Embedding, EmbeddingError, EmbeddingSpace, Face, Geometry, Modality, PackageCalibration, Pad,
    Picture, PixelBox, Quality, Sample, SampleContent, SampleReport, SpaceName,
};
use torch::detector::Detection;

/// Frames of one track that are under way at once: enough to fill a batch, few enough to leave places to others.
const FRAMES_AT_ONCE: usize = 16;
/// The most faces of one photo that are encoded.
const FACES_MAX: usize = 64;

/// One loaded encoder.
#[derive(Debug)]
pub struct Encoder {
    pub(super) space: EmbeddingSpace,
    pub(super) card: ModelCard,
    pub(super) calibration: Option<PackageCalibration>,
    pub(super) preprocessing: Arc<Preprocessing>,
    /// How many channels of its input are heat maps of keypoints.
    pub(super) keypoint_channels: usize,
    pub(super) pool: Arc<Pool>,
    pub(super) limits: Limits,
    pub(super) service: Service<Prepared, Vec<f32>>,
    pub(super) device: Device,
    /// Both are there for face encoders that align, where their packages are installed.
    pub(super) finder: Option<Arc<Finder>>,
    pub(super) judge: Option<Arc<Judge>>,
}

/// How a sample is to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub urgency: Urgency,
    /// The answer is of no use after this.
    pub deadline: Instant,
    /// The score from which a face counts as bona fide; absent when nobody asks whether it is alive.
    pub pad_score_min: Option<f32>,
}

/// What an encoder made of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    pub embedding: Embedding,
    pub report: SampleReport,
}

/// The places that one face needs.
struct Places {
    encode: Place<Prepared, Vec<f32>>,
    judge: Option<Place<[Vec<f32>; 2], f32>>,
}

/// A face that is ready to be encoded, and to be judged where that was asked for.
struct ReadyFace {
    face: Face,
    ready: Ready,
    crops: Option<[Vec<f32>; 2]>,
}

impl Encoder {
    /// The id of its package.
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

    /// The quantiles that its package brought.
    #[must_use]
    pub fn calibration(&self) -> Option<&PackageCalibration> {
        self.calibration.as_ref()
    }

    /// False after several failures in a row. It goes on serving, and the next success heals it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.service.is_healthy()
    }

    /// Makes the embedding of a sample: of the face that is meant where a photo shows several. Dropping the future gives
    /// the work up.
    pub async fn encode(&self, sample: Sample, ask: Ask) -> Result<Encoding, EncoderError> {
        self.check_modality(&sample)?;
        let encoding = async {
            match sample.content {
                SampleContent::Track(pictures) if self.space.modality != Modality::Gait => {
                    self.track(pictures, ask).await
                }
                SampleContent::Image(picture) => self.picture(picture, ask).await,
                content => self.plain(content, ask).await,
            }
        };
        in_time(ask.deadline, encoding).await
    }

    /// Makes an embedding of every face of a photo, the largest first; of any other sample the one that it has.
    pub async fn encode_all(&self, sample: Sample, ask: Ask) -> Result<Vec<Encoding>, EncoderError> {
        match sample.content {
            SampleContent::Image(picture)
                if self.looks_for_faces(&picture.geometry) && picture.geometry.selection.is_none() =>
            {
                in_time(ask.deadline, self.all_faces(picture, ask)).await
            }
            content => Ok(vec![self.encode(Sample { content, ..sample }, ask).await?]),
        }
    }

    fn check_modality(&self, sample: &Sample) -> Result<(), EncoderError> {
        let (expected, found) = (self.space.modality, sample.modality);
        if expected == found {
            return Ok(());
        }
        Err(SampleError::OtherModality { model: self.name().clone(), expected, found }.into())
    }

    /// Whether the face of a picture has to be found first.
    fn looks_for_faces(&self, geometry: &Geometry) -> bool {
        let asked = match (geometry.alignment, &geometry.landmarks) {
            (Some(Alignment::Detect), _) => true,
            (None, None) => self.finder.is_some(),
            (Some(Alignment::Landmarks | Alignment::Aligned | Alignment::LfwFunneled), _) | (None, Some(_)) => false,
        };
        asked && self.preprocessing.aligns()
    }

    async fn picture(&self, picture: Picture, ask: Ask) -> Result<Encoding, EncoderError> {
        if self.looks_for_faces(&picture.geometry) {
            self.photo(picture, ask).await
        } else {
            self.plain(SampleContent::Image(picture), ask).await
        }
    }

    /// A sample that shows its subject and nothing else.
    async fn plain(&self, content: SampleContent, ask: Ask) -> Result<Encoding, EncoderError> {
        let place = self.service.take_place()?;
        let (how, limits, keypoints) = (Arc::clone(&self.preprocessing), self.limits, self.keypoint_channels);
        let work = move || prepare::prepare_prompted(&how, keypoints, &content, &limits);
        let (place, Ready { prepared, quality }) = self.pool.run(ask.urgency, place, work).await?;
        self.encoding(place, prepared, (quality, ask)).await
    }

    async fn photo(&self, picture: Picture, ask: Ask) -> Result<Encoding, EncoderError> {
        let selection = picture.geometry.selection.unwrap_or_default();
        let places = self.places(ask)?;
        let (photo, found) = self.find(picture, ask).await?;
        let face = faces::choose(&faces::encodable(&photo, &found)?, selection, photo.centre())?;
        let how = Arc::clone(&self.preprocessing);
        let is_judged = places.judge.is_some();
        let work = move || ready_face(&how, &photo, face, is_judged);
        let (places, ready) = self.pool.run(ask.urgency, places, work).await?;
        self.face(places, ready, ask).await
    }

    async fn all_faces(&self, picture: Picture, ask: Ask) -> Result<Vec<Encoding>, EncoderError> {
        let first = self.places(ask)?;
        let (photo, found) = self.find(picture, ask).await?;
        let mut faces = faces::encodable(&photo, &found)?;
        if faces.len() > FACES_MAX {
            return Err(SampleError::TooManyFaces { found: faces.len(), limit: FACES_MAX }.into());
        }
        faces.sort_by(|a, b| b.area().total_cmp(&a.area()));
        let how = Arc::clone(&self.preprocessing);
        let is_judged = first.judge.is_some();
        let work = move || {
            let ready = faces.into_iter().map(|face| ready_face(&how, &photo, face, is_judged));
            // A head from behind or in profile has landmarks that no template takes: it is no face to be told of.
            Ok::<_, SampleError>(ready.filter_map(Result::ok).collect::<Vec<_>>())
        };
        let (first, ready) = self.pool.run(ask.urgency, first, work).await?;
        if ready.is_empty() {
            return Err(SampleError::NoFace.into());
        }
        let mut places = vec![first];
        while places.len() < ready.len() {
            places.push(self.places(ask)?);
        }
        let encodings = places.into_iter().zip(ready).map(|(places, ready)| self.face(places, ready, ask));
        futures::future::try_join_all(encodings).await
    }

    /// Frames that show nobody are dropped and counted; one that is no picture is the sender's mistake.
    async fn track(&self, pictures: Vec<Picture>, ask: Ask) -> Result<Encoding, EncoderError> {
        let (all, limit) = (pictures.len(), self.limits.track_frames_max);
        if all == 0 {
            return Err(SampleError::EmptyTrack.into());
        }
        if all > limit {
            return Err(SampleError::TooManyFrames { found: all, limit }.into());
        }
        let frame = async |(at, picture): (usize, Picture)| match self.picture(picture, ask).await {
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
        Ok(track::pool(seen, dropped, ask.pad_score_min)?)
    }

    fn places(&self, ask: Ask) -> Result<Places, EncoderError> {
        let judge = self.judge.as_ref().filter(|_| ask.pad_score_min.is_some());
        let judge = judge.map(|judge| judge.take_place()).transpose()?;
        Ok(Places { encode: self.service.take_place()?, judge })
    }

    /// Decodes a photo and looks for its faces.
    async fn find(&self, picture: Picture, ask: Ask) -> Result<(Photo, Vec<Detection>), EncoderError> {
        let finder = self.finder.as_ref().ok_or(SampleError::Unfit(AlignError::NoDetector.into()))?;
        if picture.geometry.landmarks.is_some() {
            return Err(SampleError::Unfit(AlignError::LandmarksUnused.into()).into());
        }
        let place = finder.take_place()?;
        let limits = self.limits;
        let work = move || {
            let photo =
                Photo::decode(&picture.bytes, &picture.geometry, &limits).map_err(prepare::PrepareError::from)?;
            let looked_at = LookedAt(photo.to_look_at());
            Ok::<_, SampleError>((photo, looked_at))
        };
        let (place, (photo, looked_at)) = self.pool.run(ask.urgency, place, work).await?;
        let found = finder.answer(place, looked_at, (ask.urgency, ask.deadline)).await?;
        Ok((photo, found))
    }

    async fn face(&self, places: Places, ready: ReadyFace, ask: Ask) -> Result<Encoding, EncoderError> {
        let ReadyFace { face, ready: Ready { prepared, quality }, crops } = ready;
        let judged = async {
            match (&self.judge, places.judge, crops) {
                (Some(judge), Some(place), Some(crops)) => {
                    judge.answer(place, crops, (ask.urgency, ask.deadline)).await.map(Some)
                }
                _ => Ok(None),
            }
        };
        let encoded = self.encoding(places.encode, prepared, (quality, ask));
        let (mut encoding, score) = tokio::try_join!(encoded, judged)?;
        encoding.report.face = Some(face);
        if let Some((score, least)) = score.zip(ask.pad_score_min) {
            encoding.report.pad = Pad::of(score, least);
        }
        Ok(encoding)
    }

    async fn encoding(
        &self,
        place: Place<Prepared, Vec<f32>>,
        prepared: Prepared,
        (quality, ask): (Quality, Ask),
    ) -> Result<Encoding, EncoderError> {
        let views = prepared.views.len().max(1);
        let numbers = self.service.answer(place, prepared, (ask.urgency, ask.deadline)).await?;
        let embedding = Embedding::new(self.space, &numbers).map_err(|problem| match problem {
            EmbeddingError::NoDirection => SampleError::Featureless.into(),
            EmbeddingError::NotFinite(_) | EmbeddingError::WrongDimension { .. } => {
                self.service.failed(problem.to_string())
            }
        })?;
        // Of several parts each was scaled by itself before: their length says nothing.
        let norm = numbers.iter().map(|number| number * number).sum::<f32>().sqrt() / views as f32;
        let embedding_norm = (self.space.parts <= 1).then_some(norm);
        let report = SampleReport { quality: Some(Quality { embedding_norm, ..quality }), ..SampleReport::default() };
        Ok(Encoding { embedding, report })
    }
}

fn ready_face(how: &Preprocessing, photo: &Photo, face: Face, is_judged: bool) -> Result<ReadyFace, SampleError> {
    let ready = prepare::prepare_face(how, photo, &face)?;
    let PixelBox { left, top, width, height } = face.bounds;
    let crops = is_judged.then(|| prepare::liveness::crops(photo.picture(), [left, top, width, height]));
    Ok(ReadyFace { face, ready, crops })
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = Result<T, EncoderError>>) -> Result<T, EncoderError> {
    tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| EncoderError::DeadlinePassed)?
}

#[cfg(test)]
mod tests;
