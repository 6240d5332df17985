//! Weight files: PyTorch checkpoints in both of their forms, and safetensors, read without Python.
//!
//! What comes out is a [`StateDict`]: names and plain tensors, the same for every form of file. Nothing in a file is
//! ever executed, and memory stays within a small multiple of the file's own length.

mod checkpoint;
mod pickle;
mod safetensors;
mod strided;

use std::{
    collections::{BTreeMap, btree_map},
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The longest weight file that is read.
pub const FILE_BYTES_MAX: u64 = 2 << 30;
/// The most dimensions a tensor may have.
pub const DIMENSIONS_MAX: usize = 8;

/// Names and tensors of one model, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateDict(BTreeMap<String, RawTensor>);

/// Numbers of one type in row-major order, little-endian, without gaps.
#[derive(Clone, PartialEq, Eq)]
pub struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// What can be wrong with a weight file.
#[derive(Debug, Error)]
pub enum WeightsError {
    #[error("cannot read the weight file {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write the weight file {path}: {source}")]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the weight file is longer than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("this is neither a PyTorch checkpoint nor a safetensors file")]
    UnknownForm,
    #[error("the weight file ends within {0}: it is cut off or damaged")]
    Truncated(&'static str),
    #[error("the weight file is damaged: {0}")]
    Damaged(&'static str),
    #[error("the checkpoint's archive cannot be read: {0}")]
    Archive(#[from] zip::result::ZipError),
    #[error("the archive member {0:?} is compressed, which PyTorch never does")]
    Compressed(String),
    #[error("the checkpoint comes from a big-endian machine; save it again on a little-endian one")]
    BigEndian,
    #[error("the pickle holds opcode {opcode:#04x} at byte {at}, which no state dict needs; save the state dict alone")]
    ForbiddenOpcode { opcode: u8, at: usize },
    #[error("the pickle names {module}.{name}, which no state dict needs; save the state dict alone")]
    ForbiddenGlobal { module: String, name: String },
    #[error("the pickle is malformed at byte {at}: {why}")]
    Malformed { at: usize, why: &'static str },
    #[error("the pickle holds more than {0} objects")]
    TooManyObjects(usize),
    #[error("the tensors take more than {0} times the file's length")]
    Expands(usize),
    #[error("there is no state dict under {entry:?}; entries that may be one: {candidates:?}")]
    NoEntry { entry: String, candidates: Vec<String> },
    #[error("{key:?} is not a tensor; name the entry that holds the state dict, one of {candidates:?}")]
    NotATensor { key: String, candidates: Vec<String> },
    #[error("a state dict maps names to tensors, and this file holds something else")]
    NotAStateDict,
    #[error("{0:?} occurs twice")]
    Duplicate(String),
    #[error("the tensor {key:?} is malformed: {why}")]
    BadTensor { key: String, why: &'static str },
    #[error("the safetensors file is malformed: {0}")]
    Safetensors(#[from] ::safetensors::SafeTensorError),
}

impl StateDict {
    /// Reads a PyTorch checkpoint (zip or legacy form) or a safetensors file, told apart by their first bytes.
    ///
    /// `entry` is the key under which a checkpoint keeps its state dict (`"model_state_dict"`); `None` when the file is
    /// the state dict. Everything else in the checkpoint (optimizer, epoch, losses) is passed over.
    pub fn read(path: &Path, entry: Option<&str>) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::read_bytes(&bytes, entry)
    }

    /// As [`StateDict::read`], from memory.
    pub fn read_bytes(bytes: &[u8], entry: Option<&str>) -> Result<Self, WeightsError> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(WeightsError::TooLarge);
        }
        if checkpoint::is_zip(bytes) {
            checkpoint::read_zip(bytes, entry)
        } else if checkpoint::is_legacy(bytes) {
            checkpoint::read_legacy(bytes, entry)
        } else if safetensors::is_safetensors(bytes) {
            safetensors::read(bytes, entry)
        } else {
            Err(WeightsError::UnknownForm)
        }
    }

    /// Writes a safetensors file; the same tensors always give the same bytes.
    pub fn write_safetensors(&self, path: &Path) -> Result<(), WeightsError> {
        let bytes = safetensors::write(self)?;
        fs::write(path, bytes).map_err(|source| WeightsError::Unwritable { path: path.to_owned(), source })
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn insert(&mut self, key: String, tensor: RawTensor) -> Result<(), WeightsError> {
        match self.0.entry(key) {
            btree_map::Entry::Occupied(taken) => Err(WeightsError::Duplicate(taken.key().clone())),
            btree_map::Entry::Vacant(free) => {
                free.insert(tensor);
                Ok(())
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&RawTensor> {
        self.0.get(key)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, key: &str) -> Option<RawTensor> {
        self.0.remove(key)
    }

    /// Names and tensors in the order of the names: what a digest goes over.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawTensor)> {
        self.0.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes `prefix` from the names that begin with it: `"module."` is what data-parallel training leaves.
    ///
    /// # Errors
    /// When two names become one.
    pub fn strip_prefix(self, prefix: &str) -> Result<Self, WeightsError> {
        let mut stripped = Self::default();
        for (key, tensor) in self.0 {
            let key = key.strip_prefix(prefix).map_or_else(|| key.clone(), str::to_owned);
            stripped.insert(key, tensor)?;
        }
        Ok(stripped)
    }

    /// Puts `prefix` before every name: how the networks of one model are kept apart.
    #[must_use]
    pub fn add_prefix(self, prefix: &str) -> Self {
        Self(self.0.into_iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor)).collect())
    }

    /// Adds the tensors of another.
    ///
    /// # Errors
    /// When a name is in both.
    pub fn join(&mut self, other: Self) -> Result<(), WeightsError> {
        other.0.into_iter().try_for_each(|(key, tensor)| self.insert(key, tensor))
    }

    /// Leaves out the tensors whose names begin with one of `prefixes`: `"classifier."` serves training alone.
    #[must_use]
    pub fn without(mut self, prefixes: &[impl AsRef<str>]) -> Self {
        self.0.retain(|key, _| !prefixes.iter().any(|prefix| key.starts_with(prefix.as_ref())));
        self
    }
}

impl RawTensor {
    /// # Errors
    /// When the bytes are not as many as type and shape say.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, &'static str> {
        if shape.len() > DIMENSIONS_MAX {
            return Err("it has too many dimensions");
        }
        let expected = shape.iter().try_fold(dtype.bytes(), |product, side| product.checked_mul(*side));
        if expected != Some(bytes.len()) {
            return Err("its bytes are not as many as its shape says");
        }
        Ok(Self { dtype, shape, bytes })
    }

    /// A tensor of f32.
    ///
    /// # Errors
    /// When the numbers are not as many as the shape says.
    pub fn from_f32(shape: Vec<usize>, numbers: &[f32]) -> Result<Self, &'static str> {
        Self::new(Dtype::F32, shape, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many numbers there are.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }
}

impl fmt::Debug for RawTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// The number types that weight files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// The length of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The word that goes into digests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
