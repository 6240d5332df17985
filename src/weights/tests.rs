use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

/// Writes pickles opcode by opcode, as Python does.
#[derive(Default)]
struct Pickler(Vec<u8>);

impl Pickler {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).expect("short").to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    fn int(self, number: usize) -> Self {
        self.raw(b"J").raw(&u32::try_from(number).expect("small").to_le_bytes())
    }

    fn ints(mut self, numbers: &[usize]) -> Self {
        self = self.raw(b"(");
        for number in numbers {
            self = self.int(*number);
        }
        self.raw(b"t")
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn ordered_dict(self) -> Self {
        self.global("collections", "OrderedDict").raw(b")R")
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`
    fn tensor(self, storage: &Stored, view: &View) -> Self {
        let storage_type = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage");
        let storage_type = storage_type.global("torch", storage.kind).text(storage.key).text("cpu");
        let storage = storage_type.int(storage.elements).raw(b"tQ");
        storage.int(view.offset).ints(view.shape).ints(view.strides).raw(b"\x89").ordered_dict().raw(b"tR")
    }

    fn done(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

struct Stored {
    key: &'static str,
    kind: &'static str,
    elements: usize,
    bytes: &'static [u8],
}

struct View {
    name: &'static str,
    storage: usize,
    offset: usize,
    shape: &'static [usize],
    strides: &'static [usize],
}

const STORED: [Stored; 2] = [
    Stored { key: "0", kind: "ShortStorage", elements: 6, bytes: &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0] },
    Stored { key: "1", kind: "ByteStorage", elements: 2, bytes: &[8, 9] },
];

const VIEWS: [View; 4] = [
    View { name: "module.whole", storage: 0, offset: 0, shape: &[2, 3], strides: &[3, 1] },
    View { name: "module.transposed", storage: 0, offset: 0, shape: &[3, 2], strides: &[1, 3] },
    View { name: "classifier.weight", storage: 0, offset: 4, shape: &[2], strides: &[1] },
    View { name: "module.scalar", storage: 1, offset: 1, shape: &[], strides: &[] },
];

fn i16s(shape: &[usize], numbers: &[i16]) -> RawTensor {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    RawTensor::new(Dtype::I16, shape.to_vec(), bytes).expect("the shape matches")
}

/// What [`VIEWS`] are.
fn expected() -> StateDict {
    let scalar = RawTensor::new(Dtype::U8, vec![], vec![9]).expect("one number");
    StateDict(BTreeMap::from([
        ("module.whole".to_owned(), i16s(&[2, 3], &[1, 2, 3, 4, 5, 6])),
        ("module.transposed".to_owned(), i16s(&[3, 2], &[1, 4, 2, 5, 3, 6])),
        ("classifier.weight".to_owned(), i16s(&[2], &[5, 6])),
        ("module.scalar".to_owned(), scalar),
    ]))
}

/// Appends the state dict of [`VIEWS`] with PyTorch's attribute.
fn state_dict(mut pickle: Pickler) -> Pickler {
    pickle = pickle.ordered_dict().raw(b"q\x01(");
    for view in &VIEWS {
        pickle = pickle.text(view.name).tensor(&STORED[view.storage], view);
    }
    pickle.raw(b"u}").text("_metadata").ordered_dict().raw(b"sb")
}

fn plain() -> Vec<u8> {
    state_dict(Pickler::new()).done()
}

/// A checkpoint with all entries around a state dict.
fn wrapped() -> Vec<u8> {
    let pickle = Pickler::new().raw(b"}(").text("epoch").int(7).text("loss").raw(b"G@\x09\x21\xfb\x54\x44\x2d\x18");
    let pickle = pickle.text("history").raw(b"](").int(1).raw(b"N\x88e").text("optimizer").raw(b"}").int(3);
    let pickle = pickle.raw(b"}").text("betas").raw(b"NN\x86ss").text("weights");
    state_dict(pickle).raw(b"u").done()
}

fn zip_of(pickle: &[u8], order: &[u8], compression: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(compression);
    let mut member = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("model/{name}"), options).expect("a member");
        zip.write_all(bytes).expect("in memory");
    };
    member("data.pkl", pickle);
    member("byteorder", order);
    for storage in &STORED {
        member(&format!("data/{}", storage.key), storage.bytes);
    }
    zip.finish().expect("in memory").into_inner()
}

fn zipped(pickle: &[u8]) -> Vec<u8> {
    zip_of(pickle, b"little", CompressionMethod::Stored)
}

fn legacy_of(pickle: &[u8], little_endian: u8) -> Vec<u8> {
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let machine = Pickler::new().raw(b"}").text("little_endian").raw(&[little_endian]).raw(b"s");
    let keys = Pickler::new().raw(b"](").text("0").text("1").raw(b"e");
    let parts = [Pickler::new().raw(magic), Pickler::new().raw(b"M\xe9\x03"), machine];
    let mut file: Vec<u8> = parts.into_iter().flat_map(Pickler::done).collect();
    file.extend_from_slice(pickle);
    file.extend(keys.done());
    for storage in &STORED {
        file.extend((storage.elements as u64).to_le_bytes());
        file.extend(storage.bytes);
    }
    file
}

fn legacy(pickle: &[u8]) -> Vec<u8> {
    legacy_of(pickle, 0x88)
}

fn read(file: &[u8]) -> Result<StateDict, WeightsError> {
    StateDict::read_bytes(file, None)
}

#[test]
fn every_form_gives_the_same_tensors() {
    assert_eq!(read(&zipped(&plain())).expect("zip form"), expected());
    assert_eq!(read(&legacy(&plain())).expect("legacy form"), expected());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    expected().write_safetensors(&path).expect("a fresh folder");
    assert_eq!(StateDict::read(&path, None).expect("safetensors form"), expected());
    let first = fs::read(&path).expect("just written");
    expected().write_safetensors(&path).expect("written again");
    assert_eq!(fs::read(&path).expect("just written"), first);
}

#[test]
fn a_state_dict_is_found_in_its_checkpoint() {
    for file in [zipped(&wrapped()), legacy(&wrapped())] {
        assert_eq!(StateDict::read_bytes(&file, Some("weights")).expect("the entry"), expected());
        let Err(WeightsError::NoEntry { entry, candidates }) = StateDict::read_bytes(&file, Some("nothing")) else {
            panic!("there is no such entry");
        };
        assert_eq!((entry.as_str(), candidates), ("nothing", vec!["optimizer".to_owned(), "weights".to_owned()]));
        let Err(WeightsError::NotATensor { key, candidates }) = read(&file) else {
            panic!("the checkpoint is no state dict");
        };
        assert_eq!((key.as_str(), candidates.len()), ("epoch", 2));
    }
}

/// PyTorch keeps `-x` of some views as `x` and a flag, and `_rebuild_tensor_v2` gets the flag as its seventh argument.
#[test]
fn a_tensor_that_is_stored_negated_is_refused() {
    let flagged = |flags: &[u8]| {
        let view = &VIEWS[0];
        let tensor = Pickler(Vec::new()).tensor(&STORED[view.storage], view).0;
        let arguments = tensor.strip_suffix(b"tR").expect("a call");
        let pickle = Pickler::new().ordered_dict().raw(b"(").text(view.name).raw(arguments).raw(flags).raw(b"tRu");
        read(&zipped(&pickle.done()))
    };
    flagged(b"}").expect("no flag is set");
    flagged(b"N").expect("no flags");
    let refused = flagged(b"}(X\x03\0\0\0neg\x88u").expect_err("the numbers have the other sign");
    assert!(matches!(refused, WeightsError::FlaggedTensor), "{refused}");
}

/// What stands beside the state dict is passed over; nothing of it is built.
#[test]
fn objects_beside_the_state_dict_are_passed_over_and_never_built() {
    let beside: [(&str, &[u8]); 7] = [
        (
            "a NumPy scalar",
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87RC\x08\0\0\0\0\0\0\xf0?tR",
        ),
        ("a Counter", b"ccollections\nCounter\n}K\x14K\x01s\x85R"),
        ("a defaultdict", b"ccollections\ndefaultdict\ncbuiltins\ndict\n\x85RK\x01K\x02s"),
        ("a namespace", b"cargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb"),
        ("a set", b"\x8f(K\x01K\x02\x90"),
        ("bytes", b"C\x03abc"),
        ("a device", b"ctorch\ndevice\nX\x03\0\0\0cpu\x85R"),
    ];
    for (what, object) in beside {
        let pickle = Pickler::new().raw(b"}(").text("beside").raw(object).text("weights");
        let file = zipped(&state_dict(pickle).raw(b"u").done());
        let found = StateDict::read_bytes(&file, Some("weights")).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found, expected(), "{what}");
        let refused = StateDict::read_bytes(&file, Some("beside")).expect_err(what).to_string();
        assert!(refused.contains("weights") || refused.contains("not a state dict"), "{what}: {refused}");
    }
    let module = Pickler::new().global("models.net", "Net").raw(b")\x81}b");
    let refused = read(&zipped(&module.done())).expect_err("a whole module").to_string();
    assert!(refused.contains("models.net.Net") && refused.contains("state_dict()"), "{refused}");
}

#[test]
fn a_state_dict_two_levels_down_is_found_and_suggested() {
    let inner = Pickler::new().raw(b"}(").text("model").raw(b"}(").text("net.weights");
    let file = zipped(&state_dict(inner).raw(b"uu").done());
    assert_eq!(StateDict::read_bytes(&file, Some("model.net.weights")).expect("the path"), expected());
    let Err(WeightsError::NoEntry { candidates, .. }) = StateDict::read_bytes(&file, Some("weights")) else {
        panic!("there is no such entry");
    };
    assert_eq!(candidates, ["model.net.weights"]);
}

#[test]
fn names_are_stripped_and_left_out() {
    let dict = expected().strip_prefix("module.").expect("no two become one").without(&["classifier."]);
    assert_eq!(dict.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["scalar", "transposed", "whole"]);
    let mut twice = expected();
    twice.insert("whole".to_owned(), i16s(&[1], &[1])).expect("a new name");
    assert!(matches!(twice.strip_prefix("module."), Err(WeightsError::Duplicate(name)) if name == "whole"));
}

#[test]
fn files_without_a_state_dict_have_an_error_with_the_reason() {
    let refused = |pickle: Pickler| read(&zipped(&pickle.done())).expect_err("no state dict").to_string();
    let system = Pickler::new().global("posix", "system").text("true").raw(b"\x85R");
    assert!(refused(system).contains("posix.system"));
    let stacked = Pickler::new().text("builtins").text("eval").raw(b"\x93");
    assert!(refused(stacked).contains("builtins.eval"));
    let loaded = Pickler::new().global("torch.storage", "_load_from_bytes");
    assert!(refused(loaded).contains("torch.storage._load_from_bytes"));
    // INST, OBJ, EXT1 and PERSID create objects in other ways.
    for opcode in *b"io\x82P" {
        assert!(refused(Pickler::new().raw(&[opcode])).contains(&format!("{opcode:#04x} at byte 2")));
    }
    assert!(refused(Pickler::new().global("torch", "FloatStorage").raw(b")R")).contains("wrong arguments"));
    assert!(refused(Pickler::new().raw(b"]}b")).contains("sets the state"));
    assert!(refused(Pickler::new().raw(b"]")).contains("names to tensors"));
}

#[test]
fn big_endian_and_compressed_archives_are_refused() {
    let big = zip_of(&plain(), b"big", CompressionMethod::Stored);
    assert!(matches!(read(&big), Err(WeightsError::BigEndian)));
    assert!(matches!(read(&legacy_of(&plain(), 0x89)), Err(WeightsError::BigEndian)));
    let bomb = zip_of(&plain(), b"little", CompressionMethod::Deflated);
    assert!(matches!(read(&bomb), Err(WeightsError::Compressed(_))));
    for other in [b"".as_slice(), b"PK", b"GIF89a", b"\x80\x02}.", b"not weights at all", &[0; 64]] {
        assert!(matches!(read(other), Err(WeightsError::UnknownForm)), "{other:?}");
    }
}

#[test]
fn tensors_do_not_expand_without_limit() {
    let refused = |view: &View| {
        let pickle = Pickler::new().raw(b"}").text("weight").tensor(&STORED[0], view).raw(b"s").done();
        read(&zipped(&pickle)).expect_err("refused")
    };
    let spread = View { name: "", storage: 0, offset: 0, shape: &[1 << 30, 1 << 30], strides: &[0, 0] };
    assert!(matches!(refused(&spread), WeightsError::Expands(_)));
    let overflowing = View { shape: &[1 << 30; 8], strides: &[0; 8], ..spread };
    assert!(matches!(refused(&overflowing), WeightsError::Expands(_)));
    let beyond = View { name: "", storage: 0, offset: 5, shape: &[2], strides: &[1] };
    assert!(matches!(refused(&beyond), WeightsError::BadTensor { .. }));
}

#[test]
fn deep_and_cyclic_pickles_end() {
    let mut deep = Pickler::new().raw(b")");
    deep.0.extend(std::iter::repeat_n(0x85, 1_000_000));
    assert!(matches!(read(&zipped(&deep.done())), Err(WeightsError::NotAStateDict)));
    let mut endless = Pickler::new();
    endless.0.extend(std::iter::repeat_n(b']', 5_000_000));
    assert!(matches!(read(&zipped(&endless.done())), Err(WeightsError::TooManyObjects(_))));
    let itself = Pickler::new().raw(b"}q\x00").text("a").raw(b"h\x00s").done();
    assert!(matches!(read(&zipped(&itself)), Err(WeightsError::NotATensor { .. })));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for file in [zipped(&plain()), legacy(&plain()), super::safetensors::write(&expected()).expect("writes")] {
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length} of {}", file.len());
        }
    }
}

#[test]
fn a_flipped_byte_in_an_archive_is_detected() {
    let mut file = zipped(&plain());
    let at = file.windows(12).position(|bytes| bytes == STORED[0].bytes).expect("stored as it is");
    file[at] ^= 1;
    assert!(matches!(read(&file), Err(WeightsError::Damaged(_))));
}

proptest! {
    /// A damaged file gives an error or the right tensors, and never another failure.
    #[test]
    fn a_flipped_byte_is_an_error_or_changes_nothing(form in 0..3, place in 0.0_f64..1.0, mask in 1_u8..) {
        let mut file = match form {
            0 => zipped(&wrapped()),
            1 => legacy(&wrapped()),
            _ => super::safetensors::write(&expected()).expect("writes"),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the file")]
        let at = (place * file.len() as f64) as usize;
        file[at] ^= mask;
        for entry in [None, Some("weights")] {
            if let Ok(dict) = StateDict::read_bytes(&file, entry) {
                prop_assert!(dict.iter().all(|(_, tensor)| tensor.bytes().len() <= 8 * file.len()));
            }
        }
    }

    #[test]
    fn noise_is_not_a_state_dict(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        for head in [b"".as_slice(), b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."] {
            let file = [head, &noise].concat();
            prop_assert!(read(&file).is_err());
        }
    }

    /// Opcodes in random order, far more valid ones than in noise.
    #[test]
    fn shuffled_opcodes_are_an_error_or_a_value(
        opcodes in prop::collection::vec(prop::sample::select(OPCODES.as_slice()), 0..200),
        entry in prop::option::of(Just("a")),
    ) {
        let mut pickle = Pickler::new();
        for opcode in opcodes {
            pickle = pickle.raw(opcode);
        }
        let dict = StateDict::read_bytes(&zipped(&pickle.done()), entry);
        prop_assert!(dict.map_or(true, |dict| dict.len() < 200));
    }
}

const OPCODES: [&[u8]; 29] = [
    b"(",
    b"0",
    b"N",
    b"\x88",
    b"K\x01",
    b"M\x01\x02",
    b"J\xff\xff\xff\xff",
    b"\x8a\x09123456789",
    b"\x8a\x01\xff",
    b"U\x01a",
    b"X\x01\0\0\0a",
    b"]",
    b"}",
    b")",
    b"\x85",
    b"\x86",
    b"\x87",
    b"t",
    b"a",
    b"e",
    b"s",
    b"u",
    b"q\x01",
    b"h\x01",
    b"\x94",
    b"ccollections\nOrderedDict\n",
    b"R",
    b"b",
    b"Q",
];

/// Published checkpoints and the entries of their state dicts.
const PUBLISHED: [(&str, Option<&str>); 9] = [
    ("face/weights/mobilefacenet_xiaoccer_068.ckpt", Some("net_state_dict")),
    ("face/weights/pnet.pt", None),
    ("face/weights/rnet.pt", None),
    ("face/weights/onet.pt", None),
    ("face/weights/retinaface_mobilenet0.25_Final.pth", None),
    ("face/weights/2.7_80x80_MiniFASNetV2.pth", None),
    ("person/weights/osnet_x0_25_market1501.pth", None),
    ("person/weights/osnet_x0_25_msmt17.pth", None),
    ("gait/weights/gaitgraph_resgcn_n39_r8_ep100.pth", Some("model_state_dict")),
];

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn published_checkpoints_have_the_tensors_that_python_finds_on_real_data() {
    let data = testing::data();
    for (file, entry) in PUBLISHED {
        let dict = StateDict::read(&data.join(file), entry).expect(file);
        let found: Vec<String> = dict.iter().map(|(key, tensor)| described(key, tensor)).collect();
        let name = file.rsplit('/').next().expect("a path");
        let listed = fs::read_to_string(data.join(format!("keys/{name}.txt"))).expect("a list of keys");
        let mut listed: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
        listed.sort_by_key(|line| line.split('\t').next());
        assert_eq!(found, listed, "{file}");
    }
}

/// A tensor in Python's notation: name, shape, type.
fn described(key: &str, tensor: &RawTensor) -> String {
    let sides: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
    let shape = if sides.len() == 1 { format!("{},", sides[0]) } else { sides.join(", ") };
    let dtypes = [(Dtype::F32, "float32"), (Dtype::I64, "int64")];
    let (_, dtype) = dtypes.iter().find(|(dtype, _)| *dtype == tensor.dtype()).expect("no others are published");
    format!("{key}\t({shape})\t{dtype}")
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn a_checkpoint_survives_flipped_bytes_on_real_data() {
    let data = testing::data();
    let file = fs::read(data.join("face/weights/pnet.pt")).expect("a checkpoint");
    // The pickles are in about the first 2,500 bytes, before the numbers.
    for at in (0..2500).chain((2500..file.len()).step_by(997)) {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(dict) = read(&flipped) {
            assert!(dict.iter().map(|(_, tensor)| tensor.bytes().len()).sum::<usize>() <= 8 * file.len());
        }
    }
}
