//! Tells pose files from requests: both are JSON.

use std::{fmt, ops::ControlFlow};

use prost_reflect::MessageDescriptor;
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// Members of pose files, none of which is a field of a request.
const MEMBERS: [&str; 14] = [
    "people",
    "bodies",
    "instances",
    "instance_info",
    "meta_info",
    "annotations",
    "keypoints",
    "pose_keypoints_2d",
    "pose_landmarks",
    "poseLandmarks",
    "poses",
    "predictions",
    "frames",
    "skeleton",
];
/// Endings of pictures, by which AlphaPose names the frames of its OpenPose form.
const PICTURES: [&str; 5] = [".jpg", ".jpeg", ".png", ".bmp", ".webp"];
/// Members of one frame in OpenPose's files.
const FRAME: &str = "people";

/// Whether a body is a pose file: a list, or an object with a member of pose files where the request has no such field.
pub(super) fn is_pose_file(json: &[u8], input: &MessageDescriptor) -> bool {
    let text = json.trim_ascii_start();
    if text.starts_with(b"[") {
        return true;
    }
    let is_field = |name: &str| input.get_field_by_json_name(name).or(input.get_field_by_name(name)).is_some();
    let is_picture = |name: &str| PICTURES.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    has_member(text, &|name| !is_field(name) && (MEMBERS.contains(&name) || is_picture(name)))
}

/// Whether a part holds one frame: an object with the people in it.
pub(super) fn is_one_frame<'j>(mut pieces: impl Iterator<Item = &'j [u8]>) -> bool {
    // The members stand before the joints, so the first piece shows them.
    let first = pieces.next().unwrap_or_default().trim_ascii_start();
    first.starts_with(b"{") && has_member(first, &|name| name == FRAME)
}

/// Whether the first document is an object with such a member; what comes after the member is not read.
fn has_member(json: &[u8], is_sought: &dyn Fn(&str) -> bool) -> bool {
    let mut found = ControlFlow::Continue(());
    let visitor = Members { is_sought, found: &mut found };
    // An error beyond the member, or in a cut-off piece, changes nothing: the reader of the file reports it.
    let _ = serde_json::Deserializer::from_slice(json).deserialize_map(visitor);
    found.is_break()
}

struct Members<'a> {
    is_sought: &'a dyn Fn(&str) -> bool,
    found: &'a mut ControlFlow<()>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            if (self.is_sought)(&name) {
                *self.found = ControlFlow::Break(());
                return Ok(());
            }
            members.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
