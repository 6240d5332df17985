//! The first stage: the small network proposes boxes on the image pyramid.

use std::{collections::BTreeMap, ops::Range};

use super::{
    DetectorOptions, UNION_OVERLAP_MAX,
    boxes::{BestCandidates, BoxCandidate, OverlapMeasure, Region, suppress},
    input,
    pyramid::Pyramid,
    sigmoid,
};
use crate::{
    conversion,
    network::{NetworkError, mtcnn::ProposalNet},
};

/// Pixels per forward pass: larger pictures are cut into strips. The activations fit a core's cache.
const PIXELS_MAX: usize = 1 << 16;
/// Maximum boxes per picture and level in non-maximum suppression; the best are kept.
const PROPOSALS_MAX: usize = 4096;
/// Maximum intersection over union within one level.
const LEVEL_OVERLAP_MAX: f32 = 0.5;

type Proposal = BoxCandidate<[f32; 4]>;

/// Face proposals of each picture, as squares.
pub(super) fn propose(
    net: &ProposalNet,
    options: &DetectorOptions,
    pyramids: &[Pyramid<'_>],
) -> Result<Vec<Vec<Region>>, NetworkError> {
    let mut proposed: Vec<Vec<Proposal>> = pyramids.iter().map(|_| Vec::new()).collect();
    for (sides, group) in of_one_size(pyramids) {
        for level in levels(sides, options) {
            for some in group.chunks((PIXELS_MAX / level.pixels()).max(1)) {
                let pictures: Vec<&Pyramid<'_>> = some.iter().map(|at| &pyramids[*at]).collect();
                let boxes = go_over(net, options, &level, &pictures)?;
                for (at, boxes) in some.iter().zip(boxes) {
                    proposed[*at].extend(suppress(
                        boxes,
                        OverlapMeasure::Union,
                        LEVEL_OVERLAP_MAX,
                        options.candidates_max,
                    ));
                }
            }
        }
    }
    let squares = pyramids.iter().zip(proposed).map(|(pyramid, boxes)| {
        let apart = suppress(boxes, OverlapMeasure::Union, UNION_OVERLAP_MAX, options.candidates_max);
        let squares = apart.into_iter().map(|proposal| proposal.region.shifted(proposal.outputs).squared());
        squares.filter(|region| region.is_within_reason(pyramid.sides())).collect()
    });
    Ok(squares.collect())
}

/// The indices of the pictures of each size.
fn of_one_size(pyramids: &[Pyramid<'_>]) -> BTreeMap<[usize; 2], Vec<usize>> {
    let mut groups = BTreeMap::new();
    for (at, pyramid) in pyramids.iter().enumerate() {
        groups.entry(pyramid.sides()).or_insert_with(Vec::new).push(at);
    }
    groups
}

/// One level of the pyramid.
struct Level {
    width: usize,
    height: usize,
    /// The whole picture.
    whole: Region,
}

impl Level {
    fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Output rows of a strip within the pixel limit.
    fn strip(&self) -> usize {
        (PIXELS_MAX / self.width).saturating_sub(ProposalNet::WINDOW) / ProposalNet::STEP + 1
    }

    /// The picture region of one output.
    fn seen(&self, x: usize, y: usize) -> Region {
        let (across, down) = (self.whole.width() / self.width as f32, self.whole.height() / self.height as f32);
        let [left, top] = [x, y].map(|place| (place * ProposalNet::STEP) as f32);
        let side = ProposalNet::WINDOW as f32;
        Region { left: left * across, top: top * down, right: (left + side) * across, bottom: (top + side) * down }
    }
}

/// The levels from the one where the smallest face fills the window to the last one that is not smaller than the
/// window.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between a window and the picture's side")]
fn levels([width, height]: [usize; 2], options: &DetectorOptions) -> Vec<Level> {
    let whole = Region { left: 0.0, top: 0.0, right: width as f32, bottom: height as f32 };
    let scales = std::iter::successors(Some(ProposalNet::WINDOW as f32 / options.face_px_min), |scale| {
        Some(scale * options.pyramid_factor)
    });
    let levels = scales.map(|scale| [width, height].map(|side| (side as f32 * scale).round() as usize));
    levels
        .take_while(|sides| sides.iter().all(|side| *side >= ProposalNet::WINDOW))
        .map(|[width, height]| Level { width, height, whole })
        .collect()
}

/// The proposals in pictures of one level.
fn go_over(
    net: &ProposalNet,
    options: &DetectorOptions,
    level: &Level,
    pictures: &[&Pyramid<'_>],
) -> Result<Vec<Vec<Proposal>>, NetworkError> {
    let mut lists: Vec<_> = pictures.iter().map(|_| BestCandidates::new(PROPOSALS_MAX)).collect();
    let (across, down) = (ProposalNet::places(level.width), ProposalNet::places(level.height));
    let mut pixels = Vec::new();
    for first in (0..down).step_by(level.strip()) {
        let places = first..(first + level.strip()).min(down);
        let rows = rows_of(&places, level.height);
        pixels.clear();
        for picture in pictures {
            picture.read(&level.whole, [level.width, level.height], rows.clone(), &mut pixels);
        }
        let outputs = conversion::numbers(&net.forward(&input(&pixels, [pictures.len(), rows.len(), level.width])?)?)?;
        let outputs = outputs.as_chunks::<{ ProposalNet::OUTPUTS }>().0;
        for (list, outputs) in lists.iter_mut().zip(outputs.chunks_exact(across * places.len())) {
            for (at, [logit, shifts @ ..]) in outputs.iter().enumerate() {
                let score = sigmoid(*logit);
                if score >= options.thresholds[0] {
                    let region = level.seen(at % across, first + at / across);
                    list.push(BoxCandidate { region, score, outputs: *shifts });
                }
            }
        }
    }
    Ok(lists.into_iter().map(BestCandidates::into_best).collect())
}

/// The picture rows for a range of output rows.
fn rows_of(places: &Range<usize>, height: usize) -> Range<usize> {
    let beyond = ProposalNet::WINDOW - ProposalNet::STEP;
    places.start * ProposalNet::STEP..(places.end * ProposalNet::STEP + beyond).min(height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(width: usize, height: usize, face_px_min: f32) -> Vec<[usize; 2]> {
        let options = DetectorOptions { face_px_min, ..DetectorOptions::default() };
        levels([width, height], &options).iter().map(|level| [level.width, level.height]).collect()
    }

    #[test]
    fn levels_go_from_the_smallest_face_to_the_whole_picture() {
        assert_eq!(sizes(250, 250, 50.0), [[60, 60], [43, 43], [30, 30], [21, 21], [15, 15]]);
        assert_eq!(sizes(100, 50, 24.0), [[50, 25], [35, 18], [25, 13]]);
    }

    #[test]
    fn pictures_too_small_for_a_face_have_no_level() {
        for (width, height) in [(1, 1), (38, 38), (10_000, 1), (1, 10_000)] {
            assert_eq!(sizes(width, height, 40.0), [[0; 2]; 0], "{width} x {height}");
        }
        assert_eq!(sizes(40, 40, 40.0), [[12, 12]]);
    }

    #[test]
    fn strips_cover_the_rows_of_the_whole() {
        for height in 12..60 {
            let down = ProposalNet::places(height);
            for strip in 1..=down {
                for first in (0..down).step_by(strip) {
                    let places = first..(first + strip).min(down);
                    let rows = rows_of(&places, height);
                    assert_eq!(ProposalNet::places(rows.len()), places.len(), "{height} {places:?} {rows:?}");
                }
            }
        }
    }

    #[test]
    fn a_strip_stays_within_the_pixel_limit() {
        for width in [12, 250, 1280, 5000] {
            let whole = Region { left: 0.0, top: 0.0, right: 1.0, bottom: 1.0 };
            let level = Level { width, height: 1_000_000, whole };
            let rows = rows_of(&(0..level.strip()), level.height);
            assert!(rows.len() * width <= PIXELS_MAX.max(width * ProposalNet::WINDOW), "{width}: {rows:?}");
        }
    }
}
