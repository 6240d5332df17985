//! The features of the gait network, computed from joints and scores without learnt parameters.
//!
//! Pose estimators lose joints, swap sides and see people only partly; a person who walks towards the camera grows.
//! Therefore positions are relative to the centre of the trunk in units of the current body height, single outlier
//! frames are pulled back, and joints with low scores have low weights. A joint with score 0 was not seen and has no
//! weight.

use tch::{Kind, TchError, Tensor};

/// Positions, velocities, lengths of [`BONES`], confidence.
pub(super) const MOVING: usize = 2 * JOINTS + 2 * JOINTS + BONES.len() + JOINTS;
/// Means and standard deviations over the walk of positions and lengths, and the mean confidence.
pub(super) const STILL: usize = 2 * (2 * JOINTS + BONES.len()) + JOINTS;

const JOINTS: usize = 17;
/// Shoulders and hips.
const TRUNK: [i64; 4] = [5, 6, 11, 12];
/// Pairs of joints whose distance describes the body or its pose.
const BONES: [(i64, i64); 20] = [
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
    (5, 6),
    (11, 12),
    (5, 11),
    (6, 12),
    (3, 5),
    (4, 6),
    (0, 3),
    (0, 4),
    (3, 4),
    (15, 16),
    (9, 11),
    (10, 12),
];
/// Score of a joint with weight one half.
const SCORE_HALF: f64 = 0.3;
/// Mean joint score of a frame with weight one half: half a body at the picture's edge is estimated as a small whole
/// body, and its few well-scored joints are not reliable.
const BODY_SCORE_HALF: f64 = 0.45;
/// Slope of the weight over the score; 0.1 above the half it is 0.77.
const TRUST_SLOPE: f64 = 12.0;
/// Maximum distance of a joint from the median of its neighbours in time, in units of the body's spread; a swinging
/// foot at 13 frames per second stays below it.
const STRAY_MAX: f64 = 0.25;
/// Frames over which the body's height is averaged.
const HEIGHT_WINDOW: i64 = 15;
/// In pixels of the preparation, where a body is about 100 pixels tall.
const SPREAD_MIN: f64 = 4.0;
const VELOCITY_SCALE: f64 = 2.0;
const LENGTH_MIN: f64 = 1e-6;
/// Axes of a tensor of values.
const BODY: &[i64] = &[2];
const TIME: &[i64] = &[3];
/// Minimum weight.
const TRUST_MIN: f64 = 1e-3;

pub(super) struct Features {
    /// Features per frame: `[batch, MOVING, 1, frames]`.
    pub(super) moving: Tensor,
    /// Features of the whole walk: `[batch, STILL]`.
    pub(super) still: Tensor,
}

impl Features {
    /// Computes the features of joints `[batch, frames, 17, 3]`.
    ///
    /// Time becomes the innermost axis, which suits this arithmetic and the convolutions; inside, values are `[batch,
    /// numbers, joints, frames]`.
    pub(super) fn of(input: &Tensor) -> Result<Self, TchError> {
        let input = input.f_permute([0, 3, 2, 1])?.f_contiguous()?;
        let score = input.f_narrow(1, 2, 1)?.f_clamp(0.0, 1.0)?;
        let whole = half_at(&score.f_mean_dim(BODY, true, None)?, BODY_SCORE_HALF)?;
        let seen = score.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        let trust = half_at(&score, SCORE_HALF)?.f_mul(&whole)?.f_mul(&seen)?;
        let places = input.f_narrow(1, 0, 2)?;
        let places = places.f_sub(&trunk_middle(&places, &trust)?)?;
        let places = without_strays(&places.f_div(&spread(&places, &trust, &whole)?)?)?;
        let velocity = later(&places)?.f_sub(&earlier(&places)?)?.f_mul_scalar(VELOCITY_SCALE)?;
        let (lengths, seen) = lengths(&places, &trust)?;
        let [place, place_spread] = over_time(&places, &trust)?;
        let [length, length_spread] = over_time(&lengths, &seen)?;
        let mean_trust = trust.f_mean_dim(TIME, true, None)?;
        let still = joined(&[place, place_spread, length, length_spread, mean_trust])?;
        let moving = joined(&[places.f_mul(&trust)?, velocity.f_mul(&trust)?, lengths.f_mul(&seen)?, trust])?;
        Ok(Self { moving: moving.f_unsqueeze(2)?, still: still.f_flatten(1, 2)? })
    }
}

/// A sigmoid from 0 to 1, one half at the score `half`.
fn half_at(score: &Tensor, half: f64) -> Result<Tensor, TchError> {
    score.f_sub_scalar(half)?.f_mul_scalar(TRUST_SLOPE)?.f_sigmoid()
}

/// Concatenates: `[batch, numbers * joints, frames]`.
fn joined(parts: &[Tensor]) -> Result<Tensor, TchError> {
    let flat = parts.iter().map(|part| part.f_flatten(1, 2)).collect::<Result<Vec<_>, _>>()?;
    Tensor::f_cat(&flat, 1)
}

/// Weighted mean and standard deviation over the walk: `[batch, numbers, joints, 1]` each.
fn over_time(values: &Tensor, trust: &Tensor) -> Result<[Tensor; 2], TchError> {
    let mean = weighed_mean(values, trust, TIME)?;
    let spread = weighed_mean(&values.f_sub(&mean)?.f_square()?, trust, TIME)?.f_sqrt()?;
    Ok([mean, spread])
}

/// The centre of the trunk in each frame, weighted by the scores of its corners: `[batch, 2, 1, frames]`.
fn trunk_middle(places: &Tensor, trust: &Tensor) -> Result<Tensor, TchError> {
    let corners = Tensor::f_from_slice(&TRUNK)?;
    weighed_mean(&places.f_index_select(2, &corners)?, &trust.f_index_select(2, &corners)?, BODY)
}

/// The vertical spread of the joints, averaged over neighbouring frames with the whole body: `[batch, 1, 1, frames]`.
/// Unlike the distance from the highest to the lowest joint it hardly changes with the step or with one wrong joint.
fn spread(places: &Tensor, trust: &Tensor, whole: &Tensor) -> Result<Tensor, TchError> {
    let heights = places.f_narrow(1, 1, 1)?;
    let about = heights.f_sub(&weighed_mean(&heights, trust, BODY)?)?;
    let spread = weighed_mean(&about.f_square()?, trust, BODY)?.f_sqrt()?;
    let around = |frames: &Tensor| {
        frames.f_squeeze_dim(1)?.f_avg_pool1d([HEIGHT_WINDOW], [1], [HEIGHT_WINDOW / 2], false, false)
    };
    let weight = whole.f_add_scalar(TRUST_MIN)?;
    let smooth = around(&spread.f_mul(&weight)?)?.f_div(&around(&weight)?)?;
    smooth.f_clamp_min(SPREAD_MIN)?.f_unsqueeze(1)
}

/// The weighted mean over time or over the body; unweighted if all weights are zero.
fn weighed_mean(values: &Tensor, trust: &Tensor, over: &[i64]) -> Result<Tensor, TchError> {
    let weight = trust.f_add_scalar(TRUST_MIN)?;
    let sum = values.f_mul(&weight)?.f_sum_dim_intlist(over, true, None)?;
    sum.f_div(&weight.f_sum_dim_intlist(over, true, None)?)
}

/// Pulls a joint that is an outlier in one frame back to its neighbours.
fn without_strays(places: &Tensor) -> Result<Tensor, TchError> {
    let (before, following) = (earlier(places)?, later(places)?);
    let (low, high) = (before.f_minimum(&following)?, before.f_maximum(&following)?);
    let course = low.f_maximum(&high.f_minimum(places)?)?;
    course.f_add(&places.f_sub(&course)?.f_clamp(-STRAY_MAX, STRAY_MAX)?)
}

/// The joints of the previous frame; the first frame is repeated.
fn earlier(places: &Tensor) -> Result<Tensor, TchError> {
    let frames = places.size()[3];
    Tensor::f_cat(&[places.f_narrow(3, 0, 1)?, places.f_narrow(3, 0, frames - 1)?], 3)
}

fn later(places: &Tensor) -> Result<Tensor, TchError> {
    let frames = places.size()[3];
    Tensor::f_cat(&[places.f_narrow(3, 1, frames - 1)?, places.f_narrow(3, frames - 1, 1)?], 3)
}

/// Apparent lengths of the bones, and the confidence of both ends: `[batch, 1, bones, frames]` each.
fn lengths(places: &Tensor, trust: &Tensor) -> Result<(Tensor, Tensor), TchError> {
    let ends = [BONES.map(|(from, _)| from), BONES.map(|(_, to)| to)];
    let [from, to] = [Tensor::f_from_slice(&ends[0])?, Tensor::f_from_slice(&ends[1])?];
    let bones = places.f_index_select(2, &from)?.f_sub(&places.f_index_select(2, &to)?)?;
    let squares = bones.f_square()?.f_sum_dim_intlist([1_i64].as_slice(), true, None)?;
    let seen = trust.f_index_select(2, &from)?.f_mul(&trust.f_index_select(2, &to)?)?;
    Ok((squares.f_add_scalar(LENGTH_MIN)?.f_sqrt()?, seen))
}
