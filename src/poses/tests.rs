#![expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers that the test makes itself"
)]

use serde_json::{Value, json};

use super::*;
use domain::PoseLayout;

const FRAMES: usize = 12;

/// A made-up walker: joint `joint` of frame `frame`.
fn joint(frame: usize, joint: usize) -> [f64; 3] {
    let swing = (frame as f64 / 2.0).sin() * if joint > 12 { 20.0 } else { 3.0 };
    let side = if joint % 2 == 1 { swing } else { -swing };
    [300.0 + 5.0 * frame as f64 + side, 100.0 + 20.0 * joint as f64, 0.5 + 0.02 * joint as f64]
}

fn coco(frame: usize) -> Vec<[f64; 3]> {
    (0..JOINTS).map(|number| joint(frame, number)).collect()
}

/// The walker's joints in a layout; a joint that COCO-17 lacks is the middle of the hips.
fn in_layout(layout: PoseLayout, frame: usize) -> Vec<[f64; 3]> {
    let count = layout.joints().expect("a number of joints");
    let numbers: Vec<Numbers> = (0..count).map(|number| [number as f32 + 1.0, 1.0, 1.0]).collect();
    let places = layout::Layout::Known(layout).coco(&numbers, |[x, y, score]| Joint { x, y, score });
    let mut joints = vec![joint(frame, 11); count];
    for (number, place) in places.iter().enumerate().filter(|(_, place)| place.is_seen()) {
        joints[place.x as usize - 1] = joint(frame, number);
    }
    joints
}

fn flat(joints: &[[f64; 3]]) -> Vec<f64> {
    joints.concat()
}

fn read_value(file: &Value) -> Result<Skeleton, PoseError> {
    read(file.to_string().as_bytes(), &PoseOptions::default(), 3600)
}

fn read_as(file: &Value, options: &PoseOptions) -> Result<Skeleton, PoseError> {
    read(file.to_string().as_bytes(), options, 3600)
}

fn every(frame: impl Fn(usize) -> Value) -> Value {
    Value::from((0..FRAMES).map(frame).collect::<Vec<_>>())
}

/// The frames of the walker in the order of time, as every form should give them.
fn expected() -> Vec<Frame> {
    let joint_at = |frame, number| {
        let [x, y, score] = joint(frame, number).map(|number| number as f32);
        Joint { x, y, score }
    };
    (0..FRAMES).map(|frame| Frame { joints: std::array::from_fn(|number| joint_at(frame, number)) }).collect()
}

fn assert_walker(form: &str, read: Result<Skeleton, PoseError>) -> WalkReport {
    let walk = read.unwrap_or_else(|problem| panic!("{form}: {problem}"));
    let expected = expected();
    assert_eq!(walk.frames.len(), expected.len(), "{form}");
    for (frame, expected) in walk.frames.iter().zip(&expected) {
        for (joint, expected) in frame.joints.iter().zip(&expected.joints).filter(|(joint, _)| joint.is_seen()) {
            let apart = (joint.x - expected.x).abs().max((joint.y - expected.y).abs());
            assert!(apart < 0.01 && (joint.score - expected.score).abs() < 1e-3, "{form}: {joint:?} {expected:?}");
        }
    }
    walk.report.expect("a pose file")
}

#[test]
fn one_walk_in_every_form_has_the_same_joints() {
    let person = |frame: usize| json!({"keypoints": flat(&coco(frame))});
    let mmpose = |frame: usize| {
        let joints = coco(frame);
        let places: Vec<_> = joints.iter().map(|[x, y, _]| [x, y]).collect();
        let scores: Vec<_> = joints.iter().map(|[_, _, score]| score).collect();
        json!({"keypoints": places, "keypoint_scores": scores, "bbox": [[0, 0, 9, 9]], "bbox_score": 0.9})
    };
    let ultralytics = |frame: usize| {
        let column = |axis: usize| coco(frame).iter().map(|joint| joint[axis]).collect::<Vec<_>>();
        let keypoints = json!({"x": column(0), "y": column(1), "visible": column(2)});
        json!({"name": "person", "class": 0, "confidence": 0.9, "box": {"x1": 0, "y1": 0}, "keypoints": keypoints})
    };
    let openpose = |layout: PoseLayout| {
        move |frame: usize| {
            let person = json!({"person_id": [-1], "pose_keypoints_2d": flat(&in_layout(layout, frame))});
            json!({"version": 1.3, "people": [person]})
        }
    };
    let alphapose = |frame: usize| {
        json!({"image_id": format!("{frame}.jpg"), "category_id": 1, "keypoints": flat(&coco(frame)), "score": 2.9,
               "box": [0, 0, 9, 9], "idx": [0.0]})
    };
    let tfjs = |frame: usize| {
        let mark = |(number, [x, y, score]): (usize, &[f64; 3])| json!({"x": x, "y": y, "score": score, "name": domain::JOINT_NAMES[number].replace(' ', "_")});
        json!([{"score": 0.9, "keypoints": coco(frame).iter().enumerate().map(mark).collect::<Vec<_>>()}])
    };
    let names: Vec<String> = domain::JOINT_NAMES.iter().map(|name| name.replace(' ', "_")).collect();
    let by_file = |key: &str, joints: &str| {
        let frame =
            |at: usize| (format!("{at}.jpg"), json!({key: [{joints: flat(&in_layout(PoseLayout::Openpose18, at))}]}));
        Value::Object((0..FRAMES).map(frame).collect())
    };
    let annotation = |frame: usize| json!({"id": frame, "image_id": 100 + frame, "keypoints": flat(&coco(frame))});
    let image = |frame: usize| json!({"id": 100 + frame, "file_name": format!("{frame}.png")});
    let files = [
        ("keypoints", every(person)),
        ("flat list", every(|frame| json!(flat(&coco(frame))))),
        ("nested list", every(|frame| json!(coco(frame)))),
        ("triples", every(|frame| json!({"keypoints": coco(frame)}))),
        ("object of frames", json!({"frames": every(person)})),
        ("skeleton", json!({"skeleton": {"frames": every(person)}})),
        ("AlphaPose", every(alphapose)),
        ("AlphaPose, out of order", Value::from((0..FRAMES).rev().map(alphapose).collect::<Vec<_>>())),
        ("AlphaPose open", by_file("people", "pose_keypoints_2d")),
        ("AlphaPose cmu", by_file("bodies", "joints")),
        ("COCO results", every(|frame| json!({"image_id": frame, "category_id": 1, "keypoints": flat(&coco(frame))}))),
        (
            "COCO annotations",
            json!({"images": every(image), "annotations": every(annotation), "categories": [{"keypoints": names}]}),
        ),
        ("MMPose of a video", every(|frame| json!({"frame_id": frame, "instances": [mmpose(frame)]}))),
        (
            "MMPose with meta_info",
            json!({"meta_info": {"dataset_name": "coco"},
                   "instance_info": every(|frame| json!({"frame_id": frame, "instances": [mmpose(frame)]}))}),
        ),
        ("ultralytics by frame", every(|frame| json!([ultralytics(frame)]))),
        ("ultralytics in a row", every(ultralytics)),
        ("TensorFlow.js", every(tfjs)),
        ("OpenPose BODY_25", every(openpose(PoseLayout::Openpose25))),
        ("OpenPose COCO", every(openpose(PoseLayout::Openpose18))),
        ("Halpe 26", every(|frame| json!({"keypoints": flat(&in_layout(PoseLayout::Halpe26, frame))}))),
        ("Halpe 136", every(|frame| json!({"keypoints": flat(&in_layout(PoseLayout::Halpe136, frame))}))),
        ("COCO-WholeBody", every(|frame| json!({"keypoints": flat(&in_layout(PoseLayout::Wholebody133, frame))}))),
    ];
    for (form, file) in files {
        assert_walker(form, read_value(&file));
    }
    let lines: Vec<String> = (0..FRAMES).map(|frame| person(frame).to_string()).collect();
    assert_walker("JSON lines", read(lines.join("\n").as_bytes(), &PoseOptions::default(), 3600));
    let frames: Vec<String> = (0..FRAMES).map(|frame| openpose(PoseLayout::Openpose25)(frame).to_string()).collect();
    assert_walker("OpenPose files in a row", read(frames.concat().as_bytes(), &PoseOptions::default(), 3600));
}

#[test]
fn shares_of_the_picture_need_its_size() {
    let share = |frame: usize| {
        let mark =
            |[x, y, visibility]: [f64; 3]| json!({"x": x / 640.0, "y": y / 480.0, "z": 0.0, "visibility": visibility});
        let marks: Vec<_> = in_layout(PoseLayout::Mediapipe33, frame).into_iter().map(mark).collect();
        json!({"pose_landmarks": [marks]})
    };
    let mediapipe = every(share);
    assert_eq!(read_value(&mediapipe), Err(PoseError::Normalised));
    let options = PoseOptions { width: Some(640), height: Some(480), ..PoseOptions::default() };
    let report = assert_walker("MediaPipe", read_as(&mediapipe, &options));
    assert_eq!(report.layout, PoseLayout::Mediapipe33);
    let coco_shares =
        every(|frame| json!(coco(frame).iter().map(|[x, y, s]| [x / 640.0, y / 480.0, *s]).collect::<Vec<_>>()));
    assert_eq!(read_value(&coco_shares), Err(PoseError::Normalised));
    assert_walker("shares", read_as(&coco_shares, &options));
}

#[test]
fn joints_that_were_not_seen_take_no_part_however_they_are_written() {
    for absent in [
        json!([0, 0, 0]),
        json!([0, 0, 0.9]),
        json!([-1, -1, 0.3]),
        json!([null, null, null]),
        json!([null, null, 0.8]),
        json!([150.0, 90.0, 0.0]),
    ] {
        let frame = |at: usize| {
            let mut joints: Vec<Value> = coco(at).iter().map(|joint| json!(joint)).collect();
            joints[3] = absent.clone();
            json!({"keypoints": joints})
        };
        let walk = read_value(&every(frame)).expect("a walk");
        assert!(walk.frames.iter().all(|frame| frame.joints[3] == Joint::UNSEEN), "{absent}");
        assert_walker("a joint is missing", Ok(walk));
    }
    let text = every(|at| json!({"keypoints": coco(at)})).to_string().replacen("300.0", "NaN", 1);
    let walk = read(text.as_bytes(), &PoseOptions::default(), 3600).expect("Python writes NaN");
    assert!(!walk.frames[0].joints[0].is_seen());
}

#[test]
fn frames_without_anybody_are_counted_and_refuse_nothing() {
    for empty in
        [json!({"image_id": "1.jpg", "keypoints": []}), json!({"people": []}), json!([]), json!(null), json!({})]
    {
        let mut frames: Vec<Value> = (0..FRAMES).map(|at| json!({"keypoints": coco(at)})).collect();
        frames.insert(5, empty.clone());
        let report = assert_walker(&empty.to_string(), read_value(&Value::from(frames)));
        assert_eq!(report.frames_empty, 1, "{empty}");
    }
}

#[test]
fn two_people_are_split_by_track_and_the_largest_is_taken() {
    let small = |frame: usize| -> Vec<[f64; 3]> {
        coco(frame).iter().map(|[x, y, score]| [900.0 + x / 3.0, 50.0 + y / 3.0, *score]).collect()
    };
    let entry = |frame: usize, idx: Value, joints: &[[f64; 3]]| json!({"image_id": format!("{frame}.jpg"), "idx": idx, "keypoints": flat(joints)});
    let file = |ids: [Value; 2]| {
        let both = |frame| [entry(frame, ids[1].clone(), &small(frame)), entry(frame, ids[0].clone(), &coco(frame))];
        Value::from((0..FRAMES).flat_map(both).collect::<Vec<_>>())
    };
    let tracked = file([json!(7), json!([3.0])]);
    let report = assert_walker("tracked", read_value(&tracked));
    assert_eq!((report.track.as_deref(), report.tracks), (Some("7"), 2));
    let other = read_as(&tracked, &PoseOptions { track: Some("3".to_owned()), ..PoseOptions::default() });
    assert_eq!(other.expect("there is one").frames[0].joints[0].x, 1000.0);
    let none = read_as(&tracked, &PoseOptions { track: Some("9".to_owned()), ..PoseOptions::default() });
    assert_eq!(none, Err(PoseError::NoTrack { asked: "9".to_owned(), found: "3, 7".to_owned() }));
    // AlphaPose without tracking writes one number for everybody.
    for ids in [[json!([0.0]), json!([0.0])], [json!(null), json!(null)]] {
        let report = assert_walker("followed", read_value(&file(ids)));
        assert_eq!((report.track.as_deref(), report.tracks), (Some("2"), 2));
    }
}

#[test]
fn one_person_twice_in_a_frame_is_refused() {
    let entry = |frame: usize, idx: usize| json!({"image_id": frame, "idx": idx, "keypoints": flat(&coco(frame))});
    let entries: Vec<Value> = (0..FRAMES).flat_map(|at| [entry(at, 1), entry(at, 2)]).chain([entry(4, 1)]).collect();
    let refused = read_value(&Value::from(entries)).expect_err("twice");
    assert_eq!(refused, PoseError::Twice { frame: "4".to_owned(), track: "1".to_owned() });
}

#[test]
fn scores_of_other_scales_are_read_or_refused() {
    let scored =
        |score: f64| every(|frame| json!(coco(frame).iter().map(|[x, y, _]| [*x, *y, score]).collect::<Vec<_>>()));
    assert_eq!(read_value(&scored(2.0)).expect("visibility").frames[0].joints[4].score, 1.0);
    assert_eq!(read_value(&scored(1.03)).expect("a heat map").frames[0].joints[4].score, 1.0);
    assert_eq!(read_value(&scored(87.0)), Err(PoseError::Score { found: "87.0".to_owned() }));
    let pairs = every(|frame| json!(coco(frame).iter().map(|[x, y, _]| [x, y]).collect::<Vec<_>>()));
    assert_eq!(read_value(&pairs).expect("no scores").frames[3].joints[2].score, 1.0);
}

#[test]
fn what_is_no_pose_file_is_refused_with_what_was_found() {
    let refused = |text: &str| read(text.as_bytes(), &PoseOptions::default(), 3600).expect_err(text).to_string();
    for (text, said) in [
        ("", "empty"),
        ("  \n", "empty"),
        ("[]", "nobody"),
        ("[{\"keypoints\": [1, 2", "ends before"),
        ("[{keypoints: 1}]", "not JSON at line 1, column 3"),
        ("{\"a\": 1, \"b\": 2}", "an object with \"a\", \"b\""),
        ("[1, 2, 3]", "a list of 3 numbers"),
        ("[\"x\"]", "a text"),
        ("[{\"keypoints\": [1, 2, 3, 4]}]", "frame 0 has 4 numbers"),
        ("[{\"keypoints\": \"x\"}]", "a text"),
        ("true", "true or false"),
    ] {
        let message = refused(text);
        assert!(message.contains(said), "{text}: {message}");
    }
    let mixed = json!([{"keypoints": flat(&coco(0))}, {"keypoints": flat(&in_layout(PoseLayout::Halpe26, 1))}]);
    assert_eq!(read_value(&mixed), Err(PoseError::MixedLayouts { frame: 1 }));
    let other = PoseOptions { layout: Some(PoseLayout::Halpe26), ..PoseOptions::default() };
    let expected = PoseError::OtherLayout { frame: 0, found: 17, layout: "halpe_26", expected: 26 };
    assert_eq!(read_as(&every(|at| json!(flat(&coco(at)))), &other), Err(expected));
}

#[test]
fn a_file_of_too_many_lists_or_numbers_is_refused_before_it_takes_memory() {
    let text = format!("[{}[]]", "[],".repeat(1_000_001));
    let refused = read(text.as_bytes(), &PoseOptions::default(), 3600).expect_err("too many lists");
    assert_eq!(refused, PoseError::TooLarge { limit: 1_000_000 });
    let text = format!("[{}0]", "0,".repeat(8_000_001));
    let refused = read(text.as_bytes(), &PoseOptions::default(), 3600).expect_err("too many numbers");
    assert_eq!(refused, PoseError::TooManyNumbers { limit: 8_000_000 });
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_or_gives_a_walk_of_no_frames(text in "[\\[\\]{}\",:a-z0-9. -]{0,80}") {
        if let Ok(walk) = read(text.as_bytes(), &PoseOptions::default(), 3600) {
            proptest::prop_assert!(!walk.frames.is_empty());
        }
    }
}
