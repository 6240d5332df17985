//! Joints of estimators, mapped to COCO-17 by number or by name.

use super::{Numbers, PoseError};
use domain::{JOINTS, Joint, PoseLayout};

/// For each joint in COCO order, its number in the layout.
type Places = [Option<usize>; JOINTS];

/// The joints of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    Known(PoseLayout),
    /// The file names its joints.
    Named(Box<Places>),
}

/// `NONE` stands for a joint that a layout lacks.
const NONE: usize = usize::MAX;
const OPENPOSE_18: [usize; JOINTS] = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10];
const OPENPOSE_25: [usize; JOINTS] = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11];
const MEDIAPIPE_33: [usize; JOINTS] = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28];
const H36M_17: [usize; JOINTS] = [9, NONE, NONE, NONE, NONE, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3];

/// The words of joint names, COCO order. `l` and `r` stand for left and right.
const NAMES: [[&str; 2]; JOINTS] = [
    ["", "nose"],
    ["l", "eye"],
    ["r", "eye"],
    ["l", "ear"],
    ["r", "ear"],
    ["l", "shoulder"],
    ["r", "shoulder"],
    ["l", "elbow"],
    ["r", "elbow"],
    ["l", "wrist"],
    ["r", "wrist"],
    ["l", "hip"],
    ["r", "hip"],
    ["l", "knee"],
    ["r", "knee"],
    ["l", "ankle"],
    ["r", "ankle"],
];
/// Hips, knees and ankles.
const LEGS: std::ops::Range<usize> = 11..17;

impl Layout {
    /// The layout for the report.
    pub(super) fn kind(&self) -> PoseLayout {
        match self {
            Self::Known(layout) => *layout,
            Self::Named(_) => PoseLayout::Named,
        }
    }

    /// The layout of a number of joints; the first of several that share it.
    pub(super) fn of_count(joints: usize) -> Option<PoseLayout> {
        PoseLayout::ALL.into_iter().find(|layout| layout.joints() == Some(joints) && *layout != PoseLayout::H36m17)
    }

    /// Finds the joints by their names, whatever their spelling: `left_ankle`, `LAnkle`, `ankle-L`.
    ///
    /// # Errors
    /// [`PoseError::UnnamedJoint`] when a joint of the legs is missing.
    pub(super) fn named(names: &[String]) -> Result<Self, PoseError> {
        let words: Vec<[String; 2]> = names.iter().map(|name| parts(name)).collect();
        let place = |joint: usize| words.iter().position(|[side, part]| [side.as_str(), part] == NAMES[joint]);
        let places: Places = std::array::from_fn(place);
        match LEGS.into_iter().find(|joint| places[*joint].is_none()) {
            Some(missing) => Err(PoseError::UnnamedJoint { missing: domain::JOINT_NAMES[missing] }),
            None => Ok(Self::Named(Box::new(places))),
        }
    }

    fn places(&self) -> Places {
        let table = |numbers: [usize; JOINTS]| numbers.map(|number| (number != NONE).then_some(number));
        match self {
            Self::Known(layout) => match layout {
                PoseLayout::Openpose18 => table(OPENPOSE_18),
                PoseLayout::Openpose25 => table(OPENPOSE_25),
                PoseLayout::Mediapipe33 => table(MEDIAPIPE_33),
                PoseLayout::H36m17 => table(H36M_17),
                // Their first joints are those of COCO-17.
                PoseLayout::Coco17
                | PoseLayout::Halpe26
                | PoseLayout::Halpe136
                | PoseLayout::Wholebody133
                | PoseLayout::Named => std::array::from_fn(Some),
            },
            Self::Named(places) => **places,
        }
    }

    /// The joints in COCO order; a joint that the layout lacks was not seen.
    pub(super) fn coco(&self, joints: &[Numbers], as_joint: impl Fn(Numbers) -> Joint) -> [Joint; JOINTS] {
        self.places().map(|place| place.and_then(|at| joints.get(at)).map_or(Joint::UNSEEN, |joint| as_joint(*joint)))
    }
}

/// Side and part of a joint's name: `"LeftFoot"` is `["l", "ankle"]`.
fn parts(name: &str) -> [String; 2] {
    let mut words: Vec<String> = Vec::new();
    let mut was_lower = false;
    for letter in name.chars() {
        let starts = letter.is_uppercase() && was_lower;
        if !letter.is_alphabetic() || starts {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            if words.is_empty() {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(letter.to_lowercase());
            }
        }
        was_lower = letter.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    let mut side = String::new();
    let mut part = String::new();
    for word in words {
        match word.as_str() {
            "left" | "l" => "l".clone_into(&mut side),
            "right" | "r" => "r".clone_into(&mut side),
            "foot" => part.push_str("ankle"),
            other => part.push_str(other),
        }
    }
    // `LAnkle` and `lankle` are one word.
    if side.is_empty()
        && let Some((first, rest)) = part.split_at_checked(1)
        && ["l", "r"].contains(&first)
        && NAMES.iter().any(|[_, name]| *name == rest)
    {
        return [first.to_owned(), rest.to_owned()];
    }
    [side, part]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_spelling() {
        for name in ["left_ankle", "LeftAnkle", "LAnkle", "ankle-L", "L_Ankle", "lankle", "Left Ankle", "left_foot"] {
            assert_eq!(parts(name), ["l", "ankle"], "{name}");
        }
        assert_eq!(parts("Nose"), ["", "nose"]);
    }

    #[test]
    fn names_without_legs_are_refused_by_the_missing_one() {
        let names = ["nose", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"].map(str::to_owned);
        assert_eq!(Layout::named(&names), Err(PoseError::UnnamedJoint { missing: "right ankle" }));
    }

    #[test]
    fn every_table_names_each_joint_once() {
        for layout in PoseLayout::ALL {
            let places = Layout::Known(layout).places();
            let mut found: Vec<usize> = places.into_iter().flatten().collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), places.into_iter().flatten().count(), "{layout:?}");
            assert!(found.iter().all(|place| layout.joints().is_none_or(|joints| *place < joints)), "{layout:?}");
        }
    }
}
