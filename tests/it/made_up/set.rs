//! Writes the made-up set anew: drawn faces and bodies, simulated walks and embeddings, under the names of the real sets.

use std::{
    collections::BTreeMap,
    io::Cursor,
    path::{Path, PathBuf},
};

use half::f16;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};

/// The set's files, by their path in its folder.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

const FACE_NAMES: [&str; 10] = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hal", "Ida", "Jon"];
const FACES_EACH: u64 = 3;
const BODIES: u64 = 8;
const CAMERAS: u64 = 3;
const WALKERS: u64 = 4;
const WALK_FRAMES: usize = 30;
const EMBEDDED_PEOPLE: u64 = 40;
const EMBEDDINGS_EACH: u64 = 4;
const DIMENSION: usize = 32;
/// Side of a gait-energy image.
const ENERGY_SIDE: u32 = 128;

pub(super) fn written() -> Files {
    let mut files = Files::new();
    faces(&mut files);
    bodies(&mut files);
    walks(&mut files);
    embeddings(&mut files);
    files
}

/// A colour between two of each channel.
fn colour(random: &mut Random, [low, high]: [[f32; 3]; 2]) -> Rgb<u8> {
    Rgb([0, 1, 2].map(|channel| byte(random.between(low[channel], high[channel]))))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
fn byte(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// Fills an ellipse about `centre` with the half axes `radii`, in pixels.
fn ellipse(picture: &mut RgbImage, [centre_x, centre_y]: [f32; 2], [radius_x, radius_y]: [f32; 2], fill: Rgb<u8>) {
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (dx, dy) = ((x as f32 - centre_x) / radius_x, (y as f32 - centre_y) / radius_y);
        if dx * dx + dy * dy <= 1.0 {
            *pixel = fill;
        }
    }
}

fn file(picture: RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture).write_to(&mut bytes, format).expect("in memory");
    bytes.into_inner()
}

/// LFW's layout: pictures of 250 x 250 pixels, eyes, nose and mouth where deep funneling puts them; both pairs files.
fn faces(files: &mut Files) {
    let mut pairs = Vec::new();
    for (person, name) in (0_u64..).zip(FACE_NAMES) {
        let name = format!("{name}_Drawn");
        let next = format!("{}_Drawn", FACE_NAMES[(usize::try_from(person).expect("few") + 1) % FACE_NAMES.len()]);
        for number in 1..=FACES_EACH {
            let path = format!("face/lfw_devtest/images/{name}/{name}_{number:04}.jpg");
            files.insert(path.into(), file(face(person, number), ImageFormat::Jpeg));
        }
        pairs.push(format!("{name}\t1\t2\n{name}\t2\t3\n"));
        pairs.push(format!("{name}\t1\t{next}\t2\n{name}\t3\t{next}\t1\n"));
    }
    let genuine = || pairs.iter().step_by(2).map(String::as_str);
    let impostor = || pairs.iter().skip(1).step_by(2).map(String::as_str);
    let view_one =
        format!("{}\n{}{}", FACE_NAMES.len() * 2, genuine().collect::<String>(), impostor().collect::<String>());
    files.insert("face/lfw_devtest/pairsDevTest.txt".into(), view_one.into_bytes());
    // Two folds: the first half of the people, then the second.
    let half = FACE_NAMES.len() / 2;
    let fold = |skipped: usize| {
        let (genuine, impostor) = (genuine().skip(skipped).take(half), impostor().skip(skipped).take(half));
        genuine.chain(impostor).collect::<String>()
    };
    let view_two = format!("2\t{}\n{}{}", FACE_NAMES.len(), fold(0), fold(half));
    files.insert("face/lfw_devtest/pairs.txt".into(), view_two.into_bytes());
}

fn face(person: u64, number: u64) -> RgbImage {
    let (mut own, mut today) = (Random::new(1, person), Random::new(2, person * FACES_EACH + number));
    let skin = colour(&mut own, [[150.0, 100.0, 80.0], [240.0, 200.0, 180.0]]);
    let hair = colour(&mut own, [[20.0, 15.0, 10.0], [200.0, 160.0, 90.0]]);
    let iris = colour(&mut own, [[20.0, 40.0, 30.0], [90.0, 140.0, 160.0]]);
    let [wide, high, eye, nose, mouth] =
        [(46.0, 58.0), (66.0, 80.0), (7.0, 11.0), (5.0, 10.0), (13.0, 22.0)].map(|(low, high)| own.between(low, high));
    let wall = colour(&mut today, [[60.0, 60.0, 60.0], [230.0, 230.0, 230.0]]);
    let [right, down] = [today.between(-3.0, 3.0), today.between(-3.0, 3.0)];
    let open = today.between(2.0, 7.0);
    let mut picture = RgbImage::from_pixel(250, 250, wall);
    let mut draw = |x: f32, y: f32, radii: [f32; 2], fill: Rgb<u8>| {
        ellipse(&mut picture, [x + right, y + down], radii, fill);
    };
    draw(125.0, 118.0, [wide + 10.0, high + 12.0], hair);
    draw(125.0, 132.0, [wide, high], skin);
    for x in [103.0, 147.0] {
        draw(x, 113.0, [eye, eye * 0.6], Rgb([245, 245, 245]));
        draw(x, 113.0, [eye * 0.45, eye * 0.5], iris);
    }
    draw(125.0, 138.0, [nose, 9.0], Rgb(skin.0.map(|value| value / 5 * 4)));
    draw(125.0, 162.0, [mouth, open], Rgb([170, 50, 60]));
    picture
}

/// Market-1501's layout: crops of 64 x 128 pixels, person and camera in the name.
fn bodies(files: &mut Files) {
    for person in 0..BODIES {
        for camera in 1..=CAMERAS {
            let path =
                format!("person/market1501_query_subset/{person:04}_c{camera}s1_{:06}_00.jpg", person * 100 + camera);
            files.insert(path.into(), file(body(person, camera), ImageFormat::Jpeg));
        }
    }
}

fn body(person: u64, camera: u64) -> RgbImage {
    let (mut own, mut place) = (Random::new(3, person), Random::new(4, camera));
    let any = [[20.0; 3], [235.0; 3]];
    let [shirt, trousers, hair] = [(); 3].map(|()| colour(&mut own, any));
    let wide = own.between(12.0, 18.0);
    let mut picture = RgbImage::from_pixel(64, 128, colour(&mut place, [[90.0; 3], [170.0; 3]]));
    ellipse(&mut picture, [32.0, 50.0], [wide, 26.0], shirt);
    for x in [26.0, 38.0] {
        ellipse(&mut picture, [x, 96.0], [wide * 0.4, 28.0], trousers);
    }
    ellipse(&mut picture, [32.0, 16.0], [8.0, 10.0], Rgb([210, 170, 150]));
    ellipse(&mut picture, [32.0, 10.0], [8.0, 6.0], hair);
    picture
}

/// The joints of one moment as COCO orders them, each x and y in pixels.
type Pose = [[f32; 2]; 17];

/// PsyMo's layout: skeletons and gait-energy images of walks, `PERSON_VIEW_DIRECTION_RUN_VARIATION`.
fn walks(files: &mut Files) {
    for person in 0..WALKERS {
        for view in [0, 90] {
            for (run, variation) in [(0, "nm"), (1, "nm"), (0, "bg")] {
                let name = format!("{person:03}_{view:02}_0_{run}_{variation}");
                let poses = walk(person, view == 90, run + 2 * u64::from(variation == "bg"));
                let path = |folder: &str, ending: &str| format!("gait/psymo_subset/{folder}/{person}/{name}{ending}");
                files.insert(path("skeletons", ".json").into(), keypoints(&poses).into_bytes());
                files.insert(path("gei", "_gei.png").into(), file(energy(&poses), ImageFormat::Png));
            }
        }
    }
}

/// A stick figure whose legs and arms swing, seen from the side or from the front.
fn walk(person: u64, is_from_the_side: bool, number: u64) -> Vec<Pose> {
    let mut own = Random::new(5, person);
    let mut today = Random::new(6, person * 10 + number);
    let [legs, trunk, shoulders, hips] =
        [(80.0, 100.0), (55.0, 70.0), (18.0, 26.0), (10.0, 16.0)].map(|(low, high)| own.between(low, high));
    let [stride, period, begin] = [own.between(18.0, 34.0), own.between(20.0, 28.0), today.between(0.0, 20.0)];
    let [along, across] = if is_from_the_side { [1.0, 0.2] } else { [0.1, 1.0] };
    let mut pose = |frame: usize| {
        // From -1 to 1 and back: a triangle, whose numbers are the same on every machine.
        let phase = ((frame as f32 + begin) / period).fract();
        let swing = along * stride * (4.0 * (phase - 0.5).abs() - 1.0);
        let [hip, shoulder] = [280.0 - legs, 280.0 - legs - trunk];
        let mut joint = |x: f32, y: f32| [320.0 + x + today.between(-0.5, 0.5), y + today.between(-0.5, 0.5)];
        let (wide, narrow) = (shoulders * across, hips * across);
        [
            joint(0.0, shoulder - 18.0),
            joint(3.0, shoulder - 21.0),
            joint(-3.0, shoulder - 21.0),
            joint(6.0, shoulder - 18.0),
            joint(-6.0, shoulder - 18.0),
            joint(wide, shoulder),
            joint(-wide, shoulder),
            joint(wide - swing * 0.4, shoulder + trunk * 0.5),
            joint(-wide + swing * 0.4, shoulder + trunk * 0.5),
            joint(wide - swing * 0.8, hip),
            joint(-wide + swing * 0.8, hip),
            joint(narrow, hip),
            joint(-narrow, hip),
            joint(narrow + swing * 0.5, hip + legs * 0.5),
            joint(-narrow - swing * 0.5, hip + legs * 0.5),
            joint(narrow + swing, 280.0),
            joint(-narrow - swing, 280.0),
        ]
    };
    (0..WALK_FRAMES).map(&mut pose).collect()
}

/// As pose estimators write it, rounded to tenths of a pixel.
fn keypoints(walk: &[Pose]) -> String {
    let frames = walk.iter().map(|pose| {
        let joints = pose.map(|[x, y]| format!("{x:.1},{y:.1},0.9"));
        format!("{{\"keypoints\":[{}]}}", joints.join(","))
    });
    format!("[{}]\n", frames.collect::<Vec<_>>().join(",\n"))
}

/// How often each pixel is near a joint. No silhouette, but a picture of a walk.
fn energy(walk: &[Pose]) -> RgbImage {
    let near = |x: f32, y: f32, [joint_x, joint_y]: [f32; 2]| {
        let (dx, dy) = (64.0 + (joint_x - 320.0) * 0.5 - x, 122.0 + (joint_y - 280.0) * 0.5 - y);
        dx * dx + dy * dy <= 16.0
    };
    let grey = |x: u32, y: u32| {
        let often = walk.iter().filter(|pose| pose.iter().any(|joint| near(x as f32, y as f32, *joint))).count();
        byte(often as f32 / walk.len() as f32 * 255.0)
    };
    RgbImage::from_fn(ENERGY_SIDE, ENERGY_SIDE, |x, y| Rgb([grey(x, y); 3]))
}

/// Embeddings of simulated people, once under names of LFW and once under names of Market-1501.
fn embeddings(files: &mut Files) {
    for (set, stream) in [("lfw_made_up", 7), ("market_made_up", 8)] {
        let (mut rows, mut names) = (Vec::new(), Vec::new());
        for person in 0..EMBEDDED_PEOPLE {
            let mut random = Random::new(stream, person);
            let own: Vec<f32> = (0..DIMENSION).map(|_| random.normal()).collect();
            for number in 1..=EMBEDDINGS_EACH {
                let row: Vec<f32> = own.iter().map(|value| value + 0.5 * random.normal()).collect();
                let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                rows.extend(row.iter().flat_map(|value| f16::from_f32(value / length).to_le_bytes()));
                names.push(match set {
                    "lfw_made_up" => format!("Person_{}_{number:04}.jpg\n", letters(person)),
                    _ => format!("{person:04}_c{number}s1_{:06}_00.jpg\n", person * 10 + number),
                });
            }
        }
        let path = |ending: &str| Path::new("embeddings").join(format!("{set}.{ending}"));
        files.insert(path("names.txt"), names.concat().into_bytes());
        files.insert(path("npy"), npy(&rows, DIMENSION));
    }
}

/// A name of two letters.
fn letters(number: u64) -> String {
    let letter = |number: u64| char::from(b'a' + u8::try_from(number % 26).expect("below 26"));
    [letter(number / 26).to_ascii_uppercase(), letter(number)].iter().collect()
}

/// NumPy's format, version 1, float16, `columns` numbers a row.
fn npy(numbers: &[u8], columns: usize) -> Vec<u8> {
    let rows = numbers.len() / 2 / columns;
    let header = format!("{{'descr': '<f2', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version and length take 10 bytes; the numbers begin at a multiple of 64.
    let header = format!("{header:<width$}\n", width = (header.len() + 11).next_multiple_of(64) - 11);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers);
    bytes
}

/// Numbers that follow from a seed and a stream.
struct Random(Xoshiro256PlusPlus);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed << 32 | stream))
    }

    /// Evenly from `low` up to, but not, `high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.0.next_u64() >> 40) as f32 / (1_u64 << 24) as f32)
    }

    /// Nearly normal with mean 0 and spread 1: the sum of twelve even numbers.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.between(-0.5, 0.5)).sum()
    }
}
