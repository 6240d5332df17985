//! The forms of pose files, recognised by their members.

use std::fmt;

use super::{Numbers, PoseError, layout::Layout, node::Node};
use domain::{PoseLayout, PoseOptions};

/// One person in one frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detection {
    pub(super) frame: FrameKey,
    pub(super) track: Option<String>,
    /// In the estimator's order.
    pub(super) joints: Vec<Numbers>,
}

/// The content of a file.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) layout: Layout,
    /// The form has coordinates as shares of the picture.
    pub(super) is_normalised: bool,
    /// Frames that show nobody.
    pub(super) frames_empty: u32,
    pub(super) detections: Vec<Detection>,
}

/// The place of a frame in time: the numbers in its name, then the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FrameKey(Vec<u64>, String);

impl FrameKey {
    fn numbered(number: usize) -> Self {
        Self(vec![number as u64], String::new())
    }

    fn named(name: &str) -> Self {
        let digits = name.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
        Self(digits.map(|digits| digits.parse().unwrap_or(u64::MAX)).collect(), name.to_owned())
    }
}

impl fmt::Display for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0[..], self.1.as_str()) {
            ([number], "") => write!(f, "{number}"),
            (_, name) => f.write_str(name),
        }
    }
}

const FRAME_KEYS: [&str; 6] = ["image_id", "frame_id", "frame", "frame_idx", "frame_index", "image"];
const TRACK_KEYS: [&str; 5] = ["track_id", "idx", "track", "person_id", "instance_id"];
const POINT_KEYS: [&str; 6] =
    ["keypoints", "pose_keypoints_2d", "joints", "pose_landmarks", "poseLandmarks", "landmarks"];
const PEOPLE_KEYS: [&str; 5] = ["people", "bodies", "instances", "predictions", "poses"];
const SCORE_KEYS: [&str; 4] = ["keypoint_scores", "keypoints_scores", "scores", "keypoints_visible"];
const POINT_SCORE_KEYS: [&str; 5] = ["score", "visibility", "confidence", "visible", "conf"];
/// Numbers of MediaPipe's flattened landmarks: x, y, z, visibility.
const MEDIAPIPE_FLAT: usize = 4 * 33;

/// Reads the tree of a file.
///
/// # Errors
/// See [`PoseError`].
pub(super) fn read(file: &Node, options: &PoseOptions) -> Result<Form, PoseError> {
    let mut reader = Reader { said: options.layout, layout: None, is_normalised: false, empty: 0, found: Vec::new() };
    reader.file(file)?;
    let layout = match (reader.layout, options.layout) {
        (Some(layout), _) => layout,
        (None, Some(said)) => Layout::Known(said),
        (None, None) => return Err(PoseError::Nobody),
    };
    Ok(Form { layout, is_normalised: reader.is_normalised, frames_empty: reader.empty, detections: reader.found })
}

struct Reader {
    said: Option<PoseLayout>,
    layout: Option<Layout>,
    is_normalised: bool,
    empty: u32,
    found: Vec<Detection>,
}

/// Joints as they stand in the file.
struct Points {
    numbers: Vec<Numbers>,
    names: Vec<String>,
}

impl Reader {
    fn file(&mut self, file: &Node) -> Result<(), PoseError> {
        match file {
            Node::List(frames) => self.frames(frames),
            Node::Numbers(numbers) if numbers.is_empty() => Err(PoseError::Nobody),
            Node::Record(members) => {
                if let Some(inner) = file.any(&["skeleton", "frames", "instance_info"]) {
                    self.meta(file)?;
                    return self.file(inner);
                }
                if file.get("annotations").is_some() {
                    return self.coco(file);
                }
                let is_frame = |node: &Node| node.any(&PEOPLE_KEYS).is_some() || node.any(&POINT_KEYS).is_some();
                if is_frame(file) {
                    return self.frame(file, FrameKey::numbered(0));
                }
                // AlphaPose's OpenPose and CMU forms: an object for each picture, by its name.
                if !members.is_empty() && members.iter().all(|(_, frame)| is_frame(frame)) {
                    return members.iter().try_for_each(|(name, frame)| self.frame(frame, FrameKey::named(name)));
                }
                Err(unknown(file))
            }
            _ => Err(unknown(file)),
        }
    }

    fn frames(&mut self, frames: &[Node]) -> Result<(), PoseError> {
        frames.iter().enumerate().try_for_each(|(number, frame)| self.frame(frame, FrameKey::numbered(number)))
    }

    /// A frame, or an entry of one person that names its frame.
    fn frame(&mut self, frame: &Node, order: FrameKey) -> Result<(), PoseError> {
        let key = frame.any(&FRAME_KEYS).and_then(name).map_or(order, |name| FrameKey::named(&name));
        if let Some(people) = frame.any(&PEOPLE_KEYS) {
            return self.people(people, &key);
        }
        match frame {
            Node::Null => self.nobody(),
            Node::Numbers(numbers) if numbers.is_empty() => self.nobody(),
            Node::Record(members) => match frame.any(&POINT_KEYS) {
                Some(points) => self.person(frame, points, &key)?,
                None if members.is_empty() || frame.any(&FRAME_KEYS).is_some() || has_null_points(members) => {
                    self.nobody();
                }
                None => return Err(unknown(frame)),
            },
            // A list of people, or the joints of one.
            Node::List(entries) if entries.iter().all(|entry| entry.any(&POINT_KEYS).is_some()) => {
                self.people(frame, &key)?;
            }
            Node::List(_) | Node::Numbers(_) => self.person(&Node::Null, frame, &key)?,
            Node::Flag | Node::Number(_) | Node::Text(_) => return Err(unknown(frame)),
        }
        Ok(())
    }

    fn nobody(&mut self) {
        self.empty = self.empty.saturating_add(1);
    }

    fn people(&mut self, people: &Node, key: &FrameKey) -> Result<(), PoseError> {
        match people {
            node if node.is_empty() => self.nobody(),
            Node::List(people) => {
                for person in people {
                    self.frame(person, key.clone())?;
                }
            }
            _ => return Err(unknown(people)),
        }
        Ok(())
    }

    fn person(&mut self, person: &Node, points: &Node, key: &FrameKey) -> Result<(), PoseError> {
        if points.is_empty() {
            self.nobody();
            return Ok(());
        }
        // MediaPipe: a list of people, each a list of landmarks.
        if let Node::List(people) = points
            && people.iter().all(|one| matches!(one, Node::List(marks) if marks.iter().all(|m| m.get("x").is_some())))
        {
            return people.iter().try_for_each(|one| self.person(&Node::Null, one, key));
        }
        let Some(points) = self::points(points, person.any(&SCORE_KEYS)) else {
            return Err(match points {
                Node::Numbers(numbers) => PoseError::UnknownJoints { frame: self.found.len(), found: numbers.len() },
                other => unknown(other),
            });
        };
        self.settle_layout(&points)?;
        let track = person.any(&TRACK_KEYS).and_then(name).filter(|track| track != "-1");
        self.found.push(Detection { frame: key.clone(), track, joints: points.numbers });
        Ok(())
    }

    /// The layout of the first person holds for the file.
    fn settle_layout(&mut self, points: &Points) -> Result<(), PoseError> {
        let (frame, found) = (self.found.len(), points.numbers.len());
        let expected = match &self.layout {
            Some(Layout::Known(layout)) => layout.joints(),
            Some(Layout::Named(_)) => self.found.first().map(|first| first.joints.len()),
            None => None,
        };
        if let Some(expected) = expected {
            return match self.said {
                Some(said) if expected != found => {
                    Err(PoseError::OtherLayout { frame, found, layout: said.word(), expected })
                }
                None if expected != found => Err(PoseError::MixedLayouts { frame }),
                _ => Ok(()),
            };
        }
        if self.layout.is_some() {
            return Ok(());
        }
        self.layout = Some(match self.said {
            Some(said) => match said.joints() {
                Some(expected) if expected != found => {
                    return Err(PoseError::OtherLayout { frame, found, layout: said.word(), expected });
                }
                _ => Layout::Known(said),
            },
            None if !points.names.is_empty() => Layout::named(&points.names)?,
            None => {
                let known = Layout::of_count(found);
                Layout::Known(known.ok_or(PoseError::UnknownJoints { frame, found: 3 * found })?)
            }
        });
        self.is_normalised |= self.layout == Some(Layout::Known(PoseLayout::Mediapipe33));
        Ok(())
    }

    /// MMPose: the names of the joints stand beside the frames.
    fn meta(&mut self, file: &Node) -> Result<(), PoseError> {
        let names = file.get("meta_info").and_then(|meta| meta.get("keypoint_id2name"));
        if let (Some(Node::Record(members)), None) = (names, self.said) {
            let mut members: Vec<(usize, String)> =
                members.iter().filter_map(|(id, name)| Some((id.parse().ok()?, self::name(name)?))).collect();
            members.sort();
            self.layout = Some(named_or_coco(&members.into_iter().map(|(_, name)| name).collect::<Vec<_>>())?);
        }
        Ok(())
    }

    /// COCO's file of annotations: names of joints in `categories`, names of pictures in `images`.
    fn coco(&mut self, file: &Node) -> Result<(), PoseError> {
        if let (Some(Node::List(categories)), None) = (file.get("categories"), self.said) {
            let names = categories.iter().find_map(|category| match category.get("keypoints") {
                Some(Node::List(names)) => Some(names.iter().filter_map(name).collect::<Vec<_>>()),
                _ => None,
            });
            if let Some(names) = names {
                self.layout = Some(named_or_coco(&names)?);
            }
        }
        let images = match file.get("images") {
            Some(Node::List(images)) => &images[..],
            _ => &[],
        };
        let files: std::collections::BTreeMap<String, String> =
            images.iter().filter_map(|image| Some((name(image.get("id")?)?, name(image.get("file_name")?)?))).collect();
        match file.get("annotations") {
            Some(Node::List(entries)) => {
                for (number, entry) in entries.iter().enumerate() {
                    let id = entry.get("image_id").and_then(name);
                    let file = id.as_ref().and_then(|id| files.get(id)).or(id.as_ref());
                    let key = file.map_or(FrameKey::numbered(number), |file| FrameKey::named(file));
                    let points = entry.any(&POINT_KEYS).ok_or_else(|| unknown(entry))?;
                    self.person(entry, points, &key)?;
                }
                Ok(())
            }
            _ => Err(PoseError::Nobody),
        }
    }
}

/// Names in COCO's own order are COCO-17.
fn named_or_coco(names: &[String]) -> Result<Layout, PoseError> {
    match Layout::named(names)? {
        Layout::Named(places) if places.iter().enumerate().all(|(at, place)| *place == Some(at)) => {
            Ok(Layout::Known(Layout::of_count(names.len()).unwrap_or(PoseLayout::Coco17)))
        }
        layout => Ok(layout),
    }
}

fn has_null_points(members: &[(String, Node)]) -> bool {
    members.iter().any(|(name, member)| POINT_KEYS.contains(&name.as_str()) && *member == Node::Null)
}

fn unknown(found: &Node) -> PoseError {
    PoseError::UnknownForm { found: found.described() }
}

/// An id as text; `[0.0]` and `[[1.0, 2.0]]`, as AlphaPose writes them, by their first number.
fn name(node: &Node) -> Option<String> {
    match node {
        Node::Text(text) => Some(text.clone()),
        Node::Number(number) => Some(number.to_string()),
        Node::Numbers(numbers) => numbers.first().map(f32::to_string),
        Node::List(nodes) => nodes.first().and_then(name),
        _ => None,
    }
}

/// Joints as triples, pairs, or objects, with scores inside or beside them. Without scores every joint has score 1.
fn points(node: &Node, scores: Option<&Node>) -> Option<Points> {
    let mut points = match node {
        Node::Numbers(numbers) => Points { numbers: flat(numbers)?, names: Vec::new() },
        Node::List(joints)
            if joints.iter().all(|joint| joint.get("x").is_some() || joint.get("position").is_some()) =>
        {
            let numbers = joints.iter().map(|joint| {
                let place = joint.get("position").unwrap_or(joint);
                let score = joint.any(&POINT_SCORE_KEYS).map_or(Some(1.0), number)?;
                Some([number(place.get("x")?)?, number(place.get("y")?)?, score])
            });
            let names = joints.iter().map(|joint| joint.any(&["name", "part"]).and_then(name)).collect::<Option<_>>();
            Points { numbers: numbers.collect::<Option<_>>()?, names: names.unwrap_or_default() }
        }
        Node::List(joints) => {
            let triple = |joint: &Node| match joint {
                Node::Numbers(numbers) => match numbers[..] {
                    [x, y] => Some([x, y, 1.0]),
                    // The third of four numbers is the depth.
                    [x, y, score] | [x, y, _, score] => Some([x, y, score]),
                    _ => None,
                },
                Node::Null => Some([f32::NAN; 3]),
                _ => None,
            };
            Points { numbers: joints.iter().map(triple).collect::<Option<_>>()?, names: Vec::new() }
        }
        Node::Record(members) => match (node.get("x"), node.get("y")) {
            (Some(Node::Numbers(x)), Some(Node::Numbers(y))) if x.len() == y.len() => {
                let numbers = x.iter().zip(y).map(|(x, y)| [*x, *y, 1.0]).collect();
                let beside = node.any(&POINT_SCORE_KEYS);
                let mut points = Points { numbers, names: Vec::new() };
                apply_scores(&mut points.numbers, beside)?;
                points
            }
            _ => {
                // Joints by name: `{"left_hip": [x, y, score], ...}`.
                let joint = |(name, place): &(String, Node)| match place {
                    Node::Numbers(numbers) => match numbers[..] {
                        [x, y] => Some((name.clone(), [x, y, 1.0])),
                        [x, y, score] => Some((name.clone(), [x, y, score])),
                        _ => None,
                    },
                    _ => None,
                };
                let (names, numbers) = members.iter().map(joint).collect::<Option<Vec<_>>>()?.into_iter().unzip();
                Points { numbers, names }
            }
        },
        _ => return None,
    };
    apply_scores(&mut points.numbers, scores)?;
    Some(points)
}

fn apply_scores(joints: &mut [Numbers], scores: Option<&Node>) -> Option<()> {
    match scores {
        Some(Node::Numbers(scores)) if scores.len() == joints.len() => {
            joints.iter_mut().zip(scores).for_each(|(joint, score)| joint[2] = *score);
            Some(())
        }
        // The score of the whole person, or none.
        None | Some(Node::Number(_)) => Some(()),
        Some(_) => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "coordinates and scores are f32 everywhere")]
fn number(node: &Node) -> Option<f32> {
    match node {
        Node::Number(number) => Some(*number as f32),
        Node::Null => Some(f32::NAN),
        _ => None,
    }
}

/// Numbers in a row: triples of a known layout, else pairs of one.
fn flat(numbers: &[f32]) -> Option<Vec<Numbers>> {
    if numbers.len() == MEDIAPIPE_FLAT {
        return Some(numbers.chunks_exact(4).map(|joint| [joint[0], joint[1], joint[3]]).collect());
    }
    let is_known = |joints: usize| Layout::of_count(joints).is_some();
    let (triples, rest) = numbers.as_chunks::<3>();
    if rest.is_empty() && is_known(triples.len()) {
        return Some(triples.to_vec());
    }
    let (pairs, rest) = numbers.as_chunks::<2>();
    (rest.is_empty() && is_known(pairs.len())).then(|| pairs.iter().map(|[x, y]| [*x, *y, 1.0]).collect())
}
