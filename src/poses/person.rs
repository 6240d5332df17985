//! The frames of one person among detections of several people.
//!
//! Where the file tells tracks, they split it. Where it does not, people are followed from frame to frame by place and
//! size. The person with the largest total area is taken unless a track is asked for.

use std::collections::BTreeMap;

use super::{PoseError, form::Detection};
use domain::{JOINTS, Joint};

/// A detection and its joints in COCO order.
pub(super) type Found = (Detection, [Joint; JOINTS]);

/// The chosen person.
#[derive(Debug, PartialEq)]
pub(super) struct Walker {
    /// In the order of time.
    pub(super) frames: Vec<[Joint; JOINTS]>,
    /// `None` when the file shows one person and names no track.
    pub(super) track: Option<String>,
    /// Number of people in the file.
    pub(super) tracks: u32,
}

/// Largest distance of one person between two frames, in body sizes per frame.
const STEP_MAX: f32 = 0.6;
/// A person that is not seen for more frames is somebody new.
const PAUSE_MAX: usize = 10;
/// Tracks that are named in a message.
const NAMED_MAX: usize = 8;

/// # Errors
/// [`PoseError::Nobody`], [`PoseError::NoTrack`], [`PoseError::Twice`].
pub(super) fn choose(mut found: Vec<Found>, asked: Option<&str>) -> Result<Walker, PoseError> {
    found.sort_by(|(one, _), (other, _)| one.frame.cmp(&other.frame));
    let mut tracks = match by_track(&found)? {
        Some(tracks) => tracks,
        None => followed(&found),
    };
    let count = u32::try_from(tracks.len()).unwrap_or(u32::MAX);
    let largest = || tracks.iter().max_by(|(_, one), (_, other)| area(one).total_cmp(&area(other)));
    let name = match asked {
        Some(asked) if tracks.contains_key(asked) => asked.to_owned(),
        Some(asked) => return Err(PoseError::NoTrack { asked: asked.to_owned(), found: listed(&tracks) }),
        None => largest().ok_or(PoseError::Nobody)?.0.clone(),
    };
    let frames = tracks.remove(&name).unwrap_or_default();
    let is_named = count > 1 || found.iter().any(|(detection, _)| detection.track.as_ref() == Some(&name));
    Ok(Walker { frames, track: is_named.then_some(name), tracks: count })
}

type Tracks = BTreeMap<String, Vec<[Joint; JOINTS]>>;

/// The tracks that the file tells; `None` when it tells none. An id that never differs and stands twice in a frame is
/// what estimators without tracking write.
fn by_track(found: &[Found]) -> Result<Option<Tracks>, PoseError> {
    let mut tracks: BTreeMap<String, Vec<&Found>> = BTreeMap::new();
    for one in found {
        if let Some(track) = &one.0.track {
            tracks.entry(track.clone()).or_default().push(one);
        }
    }
    if tracks.is_empty() {
        return Ok(None);
    }
    for (name, entries) in &tracks {
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0.frame == pair[1].0.frame) {
            if tracks.len() == 1 {
                return Ok(None);
            }
            return Err(PoseError::Twice { frame: pair[0].0.frame.to_string(), track: name.clone() });
        }
    }
    let frames = |entries: Vec<&Found>| entries.into_iter().map(|(_, joints)| *joints).collect();
    Ok(Some(tracks.into_iter().map(|(name, entries)| (name, frames(entries))).collect()))
}

/// People followed from frame to frame; one person when every frame shows at most one.
fn followed(found: &[Found]) -> Tracks {
    if found.is_empty() {
        return Tracks::new();
    }
    if found.windows(2).all(|pair| pair[0].0.frame != pair[1].0.frame) {
        return Tracks::from([("1".to_owned(), found.iter().map(|(_, joints)| *joints).collect())]);
    }
    let people = follow(found);
    people.into_iter().zip(1..).map(|(frames, number)| (number.to_string(), frames)).collect()
}

/// The frames of each person, in the order of appearance; the nearest pairs first.
fn follow(found: &[Found]) -> Vec<Vec<[Joint; JOINTS]>> {
    struct Followed {
        last: Extent,
        frame: usize,
        frames: Vec<[Joint; JOINTS]>,
    }
    let mut people: Vec<Followed> = Vec::new();
    for (number, frame) in found.chunk_by(|(one, _), (other, _)| one.frame == other.frame).enumerate() {
        let seen: Vec<(Extent, [Joint; JOINTS])> =
            frame.iter().filter_map(|(_, joints)| Extent::of(joints).map(|extent| (extent, *joints))).collect();
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (person, followed) in people.iter().enumerate() {
            let elapsed = number - followed.frame;
            for (entry, (extent, _)) in seen.iter().enumerate() {
                let cost = followed.last.distance(extent);
                if elapsed <= PAUSE_MAX && cost <= STEP_MAX * elapsed as f32 {
                    pairs.push((cost, person, entry));
                }
            }
        }
        pairs.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        let mut owner: Vec<Option<usize>> = vec![None; seen.len()];
        for (_, person, entry) in pairs {
            if owner[entry].is_none() && !owner.contains(&Some(person)) {
                owner[entry] = Some(person);
            }
        }
        for (owner, (extent, joints)) in owner.into_iter().zip(seen) {
            match owner {
                Some(person) => {
                    let followed = &mut people[person];
                    (followed.last, followed.frame) = (extent, number);
                    followed.frames.push(joints);
                }
                None => people.push(Followed { last: extent, frame: number, frames: vec![joints] }),
            }
        }
    }
    people.into_iter().map(|person| person.frames).collect()
}

/// Centre and size of the seen joints.
#[derive(Debug, Clone, Copy)]
struct Extent {
    centre: [f32; 2],
    size: f32,
}

impl Extent {
    fn of(joints: &[Joint; JOINTS]) -> Option<Self> {
        let seen = || joints.iter().filter(|joint| joint.is_seen());
        seen().next()?;
        let range = |axis: fn(&Joint) -> f32| {
            seen().map(axis).fold((f32::MAX, f32::MIN), |(low, high), number| (low.min(number), high.max(number)))
        };
        let ((left, right), (top, bottom)) = (range(|joint| joint.x), range(|joint| joint.y));
        let size = (right - left).max(bottom - top).max(1.0);
        Some(Self { centre: [f32::midpoint(left, right), f32::midpoint(top, bottom)], size })
    }

    /// Distance of the centres in body sizes, and the difference of the sizes.
    fn distance(&self, other: &Self) -> f32 {
        let [x, y] = [0, 1].map(|axis| self.centre[axis] - other.centre[axis]);
        x.hypot(y) / self.size.max(other.size) + (self.size / other.size).ln().abs() / 2.0
    }
}

fn area(frames: &[[Joint; JOINTS]]) -> f32 {
    frames.iter().filter_map(Extent::of).map(|extent| extent.size.powi(2)).sum()
}

fn listed(tracks: &Tracks) -> String {
    let names: Vec<&str> = tracks.keys().take(NAMED_MAX).map(String::as_str).collect();
    let more = tracks.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}
