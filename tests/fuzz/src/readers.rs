//! One function per fuzz target whose reader is in a package of its own. Each returns for every input, and panics when the
//! reader breaks a promise. `tests/it/fuzz.rs` runs them on the kept inputs.

use std::{collections::BTreeMap, fs, path::Path};

use domain::{
    CollectionUid, Embedding, EmbeddingSpace, Filter, Geometry, ImageBytes, Labels, Modality, ModelDigest, Picture,
    Pooling, PoseFile, PoseOptions, SampleContent, Timestamp,
};
use encoder::{
    Manifest, Package,
    prepare::{
        Centre, ColourOrder, ImagePreprocessing, Photo, PixelScale, Preprocessing, Resize, SampleLimits,
        SkeletonPreprocessing, decoding_memory, prepare,
    },
};
use gallery::{Gallery, GalleryOptions, Query, Searched, SnapshotInspection};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use weights::StateDict;

/// Small pictures show as much as large ones, and sooner.
const LIMITS: SampleLimits = SampleLimits {
    image_bytes_max: 1 << 20,
    image_pixels_max: 1 << 18,
    skeleton_frames_max: 3_600,
    track_frames_max: 300,
    detect_side_px_max: 64,
};

/// A picture of any format: its memory by its header, the photo for the detector, the network's input.
pub fn picture(bytes: &[u8]) {
    let image = ImageBytes(bytes.to_vec().into());
    let content = SampleContent::Image(Picture { bytes: image.clone(), geometry: Geometry::default() });
    let how = Preprocessing::Image(ImagePreprocessing {
        width: 16,
        height: 16,
        colour: ColourOrder::Rgb,
        scale: PixelScale::Unit,
        mean: [0.5; 3],
        std: [0.5; 3],
        resize: Resize::Bilinear,
        template: None,
        mirror: true,
    });
    let _memory = decoding_memory(encoder::prepare::pictures(&content), &LIMITS);
    let photo = Photo::decode(&image, &Geometry::default(), &LIMITS);
    let prepared = prepare(&how, &content, &LIMITS);
    assert_eq!(photo.is_ok(), prepared.is_ok(), "both decode the same picture");
    if let (Ok(photo), Ok(sample)) = (photo, prepared) {
        let pixels = u64::from(photo.picture().width()) * u64::from(photo.picture().height());
        assert!(pixels <= LIMITS.image_pixels_max, "the limit holds: {pixels} pixels");
        assert!(sample.prepared.views.iter().flatten().all(|number| number.is_finite()), "every pixel is a number");
    }
}

/// A checkpoint or a safetensors file.
pub fn checkpoint(bytes: &[u8]) {
    for entry in [None, Some("state_dict")] {
        let Ok(tensors) = StateDict::read_bytes(bytes, entry) else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.safetensors");
        tensors.write_safetensors(&path).expect("what was read can be written");
        assert_eq!(StateDict::read(&path, None).expect("what was written can be read"), tensors);
    }
}

/// A model package: two bytes with the length of the manifest, the manifest, the weights. The manifest writes `SHA256` for
/// the digest of the weights, which no fuzzer would find.
pub fn model_package(bytes: &[u8]) {
    let Some((manifest, weights)) = section(bytes) else { return };
    let digest = hex::encode(Sha256::digest(weights));
    let manifest = String::from_utf8_lossy(manifest).replace("SHA256", &digest);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).expect("written");
    write("model.toml", manifest.as_bytes());
    write("weights.safetensors", weights);
    write("weights.pt", weights);
    let Ok(package) = Package::load(folder.path()) else { return };
    let written = toml::to_string(&package.manifest).expect("a manifest has only what TOML has");
    write("model.toml", written.as_bytes());
    assert_eq!(Manifest::load(folder.path()).expect("what was written can be read"), package.manifest);
}

/// A snapshot of a collection: two bytes with the length of the manifest, the manifest; the same of the roster; the rows,
/// without the head of their file. The checksums, which no fuzzer would find, are written here.
pub fn gallery_snapshot(bytes: &[u8]) {
    let Some((manifest, rest)) = section(bytes) else { return };
    let Some((roster, rows)) = section(rest) else { return };
    let uid = CollectionUid(Uuid::from_u128(4));
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join(format!("{}-{:020}", uid.0, 7));
    fs::create_dir(&folder).expect("created");
    let write = |name: &str, content: &[u8]| fs::write(folder.join(name), content).expect("written");
    write("manifest", &with_checksums(manifest));
    write("roster", &with_checksums(roster));
    write("0.rows", &rows_file(rows));
    if let Ok(Some(inspection)) = SnapshotInspection::of(root.path(), uid) {
        assert!(inspection.templates().count() <= rows.len(), "no more templates than bytes");
    }
    take_up(root.path(), uid);
}

/// Reads the snapshot as a start does, searches, and deletes it.
fn take_up(root: &Path, uid: CollectionUid) {
    let options = GalleryOptions { snapshots_dir: Some(root.to_owned()), ..GalleryOptions::default() };
    let index = Gallery::new(options).open(uid);
    if let Ok(Some(loaded)) = index.load_snapshot() {
        loaded.install();
        let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), 4);
        let probe = Embedding::new(space, &[1.0, 0.0, 0.0, 0.0]).expect("sound numbers");
        let query = Query {
            limit: 3,
            filter: None,
            now: Timestamp::UNIX_EPOCH,
            pooling: Pooling::Best,
            similarity_min: None,
            searched: Searched::Both,
        };
        assert!(index.search(&probe, &query).len() <= query.limit, "no more candidates than asked for");
    }
    index.clear_snapshots().expect("the folder can be deleted");
    index.discard().expect("the folder can be deleted");
}

/// A pose file.
pub fn skeleton(bytes: &[u8]) {
    let file = PoseFile { bytes: bytes.to_vec().into(), options: PoseOptions::default() };
    let how =
        Preprocessing::Skeleton(SkeletonPreprocessing { frames: 60, body_height_px: 250.0, centre: Centre::Hips });
    if let Ok(sample) = prepare(&how, &SampleContent::Poses(file), &LIMITS) {
        assert!(sample.prepared.views.iter().flatten().all(|number| number.is_finite()), "every joint is a number");
    }
}

/// A filter over labels, with its normal form.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(filter) = Filter::parse(text) else { return };
    let labels = [("site", "north"), ("role", "guest")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = Labels::try_from(BTreeMap::from(labels)).expect("sound labels");
    // Quotes and parentheses of the normal form may take it beyond the limit.
    if let Ok(again) = Filter::parse(&filter.to_string()) {
        assert_eq!(again, filter, "the normal form says the same");
        assert_eq!(again.accepts(&labels), filter.accepts(&labels));
    }
}

/// What stands behind two bytes with its length, and the rest.
fn section(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Lines of JSON as a snapshot writes them. A line of hyphens is an erased one and stays.
fn with_checksums(lines: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let json = line.strip_suffix(b"\n").unwrap_or(line);
        if !json.iter().all(|byte| *byte == b'-') {
            written.extend(format!("{:08x} ", crc32(json)).into_bytes());
        }
        written.extend(line);
    }
    written
}

/// A file of rows: four bytes with the dimension, eight with the number of rows, then the values, the table and the order.
fn rows_file(bytes: &[u8]) -> Vec<u8> {
    let Some((dimension, rest)) = bytes.split_first_chunk::<4>() else { return bytes.to_vec() };
    let Some((rows, rest)) = rest.split_first_chunk::<8>() else { return bytes.to_vec() };
    let mut body = rest.to_vec();
    let number = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (row_count, row_bytes) = (number(u64::from_le_bytes(*rows)), number(u32::from_le_bytes(*dimension).into()) * 4);
    let table = row_count.saturating_mul(row_bytes);
    let order = row_count.saturating_mul(32).saturating_add(table);
    if order <= body.len() {
        for row in 0..row_count {
            let entry = &body[table + row * 32..][..28];
            let sum = crc32(&[entry, &body[row * row_bytes..][..row_bytes]].concat());
            body[table + row * 32 + 28..][..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let mut head = vec![0; 4096];
    head[..8].copy_from_slice(b"SEMBROWS");
    head[8..12].copy_from_slice(&2_u32.to_le_bytes());
    head[16..20].copy_from_slice(dimension);
    head[20..28].copy_from_slice(rows);
    head[28..32].copy_from_slice(&crc32(body.get(order..).unwrap_or_default()).to_le_bytes());
    let sum = crc32(&head[..32]);
    head[32..36].copy_from_slice(&sum.to_le_bytes());
    head.extend(body);
    head
}

/// The checksum of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum: u32, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
