//! The two formats of a PyTorch checkpoint: a zip archive, and before PyTorch 1.6 a stream of pickles and storages.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    io::{Cursor, Read},
};

use zip::{CompressionMethod, ZipArchive};

use super::{
    StateDict, WeightsError,
    pickle::{Global, Object, ObjectId, Pickle, Storage},
};

/// Maximum size of all tensors relative to the file. Tied weights are stored once and expand twice; a tensor with
/// stride zero would otherwise expand without limit.
const EXPANSION_MAX: usize = 8;
/// Maximum number of entries in an error message.
const CANDIDATES_MAX: usize = 16;

/// The magic number in the first pickle of a legacy stream, as a `LONG1` value.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_PROTOCOL: i64 = 1001;

pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x80) && bytes.get(4..14) == Some(LEGACY_MAGIC.as_slice())
}

pub(super) fn read_zip(bytes: &[u8], entry: Option<&str>) -> Result<StateDict, WeightsError> {
    let mut archive = Archive::open(bytes)?;
    if archive.member("byteorder")?.is_some_and(|order| order != b"little") {
        return Err(WeightsError::BigEndian);
    }
    let pickle = archive.member("data.pkl")?.ok_or(WeightsError::Damaged("its archive has no data.pkl"))?;
    let pickle = Pickle::read(&pickle)?;
    let mut storages = HashMap::new();
    let tensors = Tensors::find(&pickle, entry)?;
    for storage in tensors.storages() {
        if let hash_map::Entry::Vacant(free) = storages.entry(storage.key) {
            let member = archive.member(&format!("data/{}", storage.key))?;
            free.insert(Cow::Owned(member.ok_or(WeightsError::Damaged("its archive lacks a storage"))?));
        }
    }
    tensors.unfold(&storages, bytes.len())
}

pub(super) fn read_legacy(bytes: &[u8], entry: Option<&str>) -> Result<StateDict, WeightsError> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle<'_>, WeightsError> {
        let pickle = Pickle::read(rest)?;
        rest = &rest[pickle.length..];
        Ok(pickle)
    };
    let (magic, protocol, machine, object, keys) = (next()?, next()?, next()?, next()?, next()?);
    if *magic.root() != Object::Long(&LEGACY_MAGIC) || *protocol.root() != Object::Int(LEGACY_PROTOCOL) {
        return Err(WeightsError::UnknownForm);
    }
    if let Object::Dict(facts) = machine.root()
        && machine.lookup(facts, "little_endian") != Some(&Object::Bool(true))
    {
        return Err(WeightsError::BigEndian);
    }
    let storages = legacy_storages(rest, &object, &keys)?;
    Tensors::find(&object, entry)?.unfold(&storages, bytes.len())
}

type Storages<'a> = HashMap<&'a str, Cow<'a, [u8]>>;

/// After the pickles, the storages follow in the order of `keys`: the number of values (8 bytes), then the values.
fn legacy_storages<'a>(
    mut rest: &'a [u8],
    object: &Pickle<'a>,
    keys: &Pickle<'a>,
) -> Result<Storages<'a>, WeightsError> {
    let described: HashMap<&str, Storage<'_>> = object.storages().map(|storage| (storage.key, storage)).collect();
    let Object::List(order) = keys.root() else {
        return Err(WeightsError::Damaged("its list of storages is missing"));
    };
    let mut storages = HashMap::new();
    for key in order {
        let Object::Text(key) = keys.get(*key) else {
            return Err(WeightsError::Damaged("a storage has no name"));
        };
        let storage = described.get(key).ok_or(WeightsError::Damaged("it has an unused storage"))?;
        let (elements, after) = rest.split_first_chunk::<8>().ok_or(WeightsError::Truncated("a storage"))?;
        if u64::from_le_bytes(*elements) != storage.elements as u64 {
            return Err(WeightsError::Damaged("a storage's length differs from its tensor's"));
        }
        let length = storage.elements.checked_mul(storage.dtype.bytes());
        let numbers = length.and_then(|length| after.split_at_checked(length));
        let (numbers, after) = numbers.ok_or(WeightsError::Truncated("a storage"))?;
        storages.insert(*key, Cow::Borrowed(numbers));
        rest = after;
    }
    Ok(storages)
}

/// Collects the tensors of the requested state dict.
struct Tensors<'p, 'a> {
    pickle: &'p Pickle<'a>,
    members: &'p [(ObjectId, ObjectId)],
    /// The top-level members, for suggestions in errors.
    top: &'p [(ObjectId, ObjectId)],
}

impl<'p, 'a> Tensors<'p, 'a> {
    fn find(pickle: &'p Pickle<'a>, entry: Option<&str>) -> Result<Self, WeightsError> {
        let Object::Dict(top) = pickle.root() else {
            return Err(foreign("the file", pickle.root()).unwrap_or(WeightsError::NotAStateDict));
        };
        let Some(entry) = entry else {
            return Ok(Self { pickle, members: top, top });
        };
        match entry_of(pickle, top, entry) {
            Some(Object::Dict(members)) => Ok(Self { pickle, members, top }),
            found => {
                Err(found.and_then(|object| foreign(&format!("the entry {entry:?}"), object)).unwrap_or_else(|| {
                    WeightsError::NoEntry { entry: entry.to_owned(), candidates: candidates(pickle, top) }
                }))
            }
        }
    }

    /// Whether the members are those of an entry, which should hold tensors only.
    fn is_nested(&self) -> bool {
        !std::ptr::eq(self.members, self.top)
    }

    fn storages(&self) -> impl Iterator<Item = Storage<'a>> {
        self.members.iter().filter_map(|(_, value)| {
            let Object::Tensor(storage, _) = self.pickle.get(*value) else { return None };
            Some(*storage)
        })
    }

    fn unfold(&self, storages: &Storages<'_>, file_bytes: usize) -> Result<StateDict, WeightsError> {
        let mut budget = file_bytes.saturating_mul(EXPANSION_MAX);
        let mut dict = StateDict::default();
        for (key, value) in self.members {
            let Object::Text(key) = *self.pickle.get(*key) else {
                return Err(WeightsError::NotAStateDict);
            };
            let value = self.pickle.get(*value);
            let Object::Tensor(storage, layout) = value else {
                if let (Some(error), true) = (foreign(&format!("{key:?}"), value), self.is_nested()) {
                    return Err(error);
                }
                let candidates = candidates(self.pickle, self.top);
                return Err(WeightsError::NotATensor { key: key.to_owned(), candidates });
            };
            let bad = |why| WeightsError::BadTensor { key: key.to_owned(), why };
            let numbers = storages.get(storage.key).ok_or_else(|| bad("its storage is missing"))?;
            if Some(numbers.len()) != storage.elements.checked_mul(storage.dtype.bytes()) {
                return Err(bad("its storage's length differs from the tensor's"));
            }
            let bytes = layout.elements().and_then(|elements| elements.checked_mul(storage.dtype.bytes()));
            budget = bytes.and_then(|bytes| budget.checked_sub(bytes)).ok_or(WeightsError::Expands(EXPANSION_MAX))?;
            dict.insert(key.to_owned(), layout.materialise(storage.dtype, numbers).map_err(bad)?)?;
        }
        Ok(dict)
    }
}

type Members = [(ObjectId, ObjectId)];

/// An entry by its key, or by the keys on the way to it: `model.state_dict`.
fn entry_of<'p, 'a>(pickle: &'p Pickle<'a>, members: &'p Members, entry: &str) -> Option<&'p Object<'a>> {
    if let Some(found) = pickle.lookup(members, entry) {
        return Some(found);
    }
    // A key may contain dots itself.
    entry.match_indices('.').find_map(|(at, _)| match pickle.lookup(members, &entry[..at]) {
        Some(Object::Dict(inner)) => entry_of(pickle, inner, &entry[at + 1..]),
        _ => None,
    })
}

/// The entries of a checkpoint that are dicts: those that hold a tensor or nothing but values, and the dicts in others.
fn candidates(pickle: &Pickle<'_>, top: &Members) -> Vec<String> {
    let dicts = |members: &Members| -> Vec<(String, ObjectId)> {
        let named = members.iter().filter_map(|(key, value)| match (pickle.get(*key), pickle.get(*value)) {
            (Object::Text(key), Object::Dict(_)) => Some(((*key).to_owned(), *value)),
            _ => None,
        });
        named.take(CANDIDATES_MAX).collect()
    };
    let mut found = Vec::new();
    for (name, dict) in dicts(top) {
        let Object::Dict(members) = pickle.get(dict) else { continue };
        let inner = dicts(members);
        if inner.is_empty() || members.iter().any(|(_, value)| matches!(pickle.get(*value), Object::Tensor(..))) {
            found.push(name);
        } else {
            found.extend(inner.into_iter().map(|(key, _)| format!("{name}.{key}")));
        }
    }
    found.truncate(CANDIDATES_MAX);
    found
}

/// The error about an object that a foreign class or function would build.
fn foreign(place: &str, object: &Object<'_>) -> Option<WeightsError> {
    match object {
        Object::Foreign { module, name } | Object::Global(Global::Foreign { module, name }) => {
            let [place, module, name] = [place, module, name].map(str::to_owned);
            Some(WeightsError::ForeignObject { place, module, name })
        }
        _ => None,
    }
}

/// A zip archive of stored (uncompressed) members in one folder.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
    /// Remaining bytes: stored members together are no longer than the file unless they overlap.
    budget: u64,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let zip = ZipArchive::new(Cursor::new(bytes))?;
        let mut folders = Vec::new();
        for name in zip.file_names() {
            folders.extend(name?.strip_suffix("data.pkl").map(str::to_owned));
        }
        let [folder] = <[String; 1]>::try_from(folders)
            .map_err(|_| WeightsError::Damaged("its archive has not exactly one data.pkl"))?;
        Ok(Self { zip, folder, budget: bytes.len() as u64 })
    }

    /// The bytes of a member, checked by its checksum; `None` if it does not exist.
    fn member(&mut self, name: &str) -> Result<Option<Vec<u8>>, WeightsError> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&name) else {
            return Ok(None);
        };
        let member = self.zip.by_index(index)?;
        if member.compression() != CompressionMethod::Stored {
            return Err(WeightsError::Compressed(name));
        }
        let size = member.size();
        self.budget = self.budget.checked_sub(size).ok_or(WeightsError::Damaged("its archive's members overlap"))?;
        let mut bytes = Vec::new();
        // One byte more than the size: the checksum is verified only at the end of the member.
        let read = member.take(size + 1).read_to_end(&mut bytes);
        read.map_err(|_| WeightsError::Damaged("a member of its archive fails its checksum"))?;
        if bytes.len() as u64 != size {
            return Err(WeightsError::Truncated("a member of its archive"));
        }
        Ok(Some(bytes))
    }
}
