//! Reads weight files without Python and without libtorch: PyTorch checkpoints in both formats, and safetensors.
//!
//! The result is a [`StateDict`]: names and tensors, the same for every format. Nothing in a file is executed, and
//! memory use is bounded by a small multiple of the file's length. This package depends on neither tch nor any package
//! of the server.

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

/// Maximum length of a weight file in bytes.
pub const FILE_BYTES_MAX: u64 = 2 << 30;
/// Maximum number of axes of a tensor.
pub const DIMENSIONS_MAX: usize = 8;

/// The tensors of one model by name, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateDict(BTreeMap<String, RawTensor>);

/// A tensor: numbers of one type, row-major, little-endian, contiguous.
#[derive(Clone, PartialEq, Eq)]
pub struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Why a weight file cannot be used.
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
    #[error("the weight file ends within {0}: it is incomplete or damaged")]
    Truncated(&'static str),
    #[error("the weight file is damaged: {0}")]
    Damaged(&'static str),
    #[error("the checkpoint's archive cannot be read: {0}")]
    Archive(#[from] zip::result::ZipError),
    #[error("the archive member {0:?} is compressed; PyTorch stores members uncompressed")]
    Compressed(String),
    #[error("the checkpoint comes from a big-endian machine; save it again on a little-endian one")]
    BigEndian,
    #[error(
        "the pickle has the opcode {opcode:#04x} at byte {at}, which no state dict needs; save only the state dict"
    )]
    ForbiddenOpcode { opcode: u8, at: usize },
    #[error("{place} is an object of {module}.{name}, not a state dict; save module.state_dict()")]
    ForeignObject { place: String, module: String, name: String },
    #[error("the pickle is malformed at byte {at}: {why}")]
    Malformed { at: usize, why: &'static str },
    #[error(
        "the checkpoint has a tensor that PyTorch stores negated or conjugated; save it again after \
         tensor.resolve_neg().resolve_conj()"
    )]
    FlaggedTensor,
    #[error("the pickle has more than {0} objects")]
    TooManyObjects(usize),
    #[error("the tensors are larger than {0} times the file")]
    Expands(usize),
    #[error("there is no state dict under {entry:?}; possible entries: {candidates:?}")]
    NoEntry { entry: String, candidates: Vec<String> },
    #[error("{key:?} is not a tensor; name the entry of the state dict, one of {candidates:?}")]
    NotATensor { key: String, candidates: Vec<String> },
    #[error("a state dict maps names to tensors, and this file has something else")]
    NotAStateDict,
    #[error("{0:?} occurs twice")]
    Duplicate(String),
    #[error("the tensor {key:?} is malformed: {why}")]
    BadTensor { key: String, why: &'static str },
    #[error("the safetensors file is malformed: {0}")]
    Safetensors(#[from] ::safetensors::SafeTensorError),
}

impl StateDict {
    /// Reads a PyTorch checkpoint (zip or legacy format) or a safetensors file, distinguished by the first bytes.
    ///
    /// `entry` is the key of the state dict in a checkpoint (`"model_state_dict"`); `None` when the file is the state
    /// dict. Everything else in the checkpoint (optimizer, epoch, losses) is ignored.
    ///
    /// # Errors
    ///
    /// See [`WeightsError`].
    pub fn read(path: &Path, entry: Option<&str>) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::read_bytes(&bytes, entry)
    }

    /// Like [`StateDict::read`], from memory.
    ///
    /// # Errors
    ///
    /// See [`WeightsError`].
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
    ///
    /// # Errors
    ///
    /// [`WeightsError::Unwritable`].
    pub fn write_safetensors(&self, path: &Path) -> Result<(), WeightsError> {
        let bytes = safetensors::write(self)?;
        fs::write(path, bytes).map_err(|source| WeightsError::Unwritable { path: path.to_owned(), source })
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// [`WeightsError::Duplicate`].
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

    /// Removes a tensor.
    pub fn remove(&mut self, key: &str) -> Option<RawTensor> {
        self.0.remove(key)
    }

    /// Names and tensors sorted by name, the order of digests.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawTensor)> {
        self.0.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes `prefix` from the names that begin with it: `"module."` comes from data-parallel training.
    ///
    /// # Errors
    /// [`WeightsError::Duplicate`] when two names become equal.
    pub fn strip_prefix(self, prefix: &str) -> Result<Self, WeightsError> {
        let mut stripped = Self::default();
        for (key, tensor) in self.0 {
            let key = key.strip_prefix(prefix).map_or_else(|| key.clone(), str::to_owned);
            stripped.insert(key, tensor)?;
        }
        Ok(stripped)
    }

    /// Adds `prefix` to every name: separates the networks of one model.
    #[must_use]
    pub fn add_prefix(self, prefix: &str) -> Self {
        Self(self.0.into_iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor)).collect())
    }

    /// Adds the tensors of another state dict.
    ///
    /// # Errors
    /// [`WeightsError::Duplicate`].
    pub fn join(&mut self, other: Self) -> Result<(), WeightsError> {
        other.0.into_iter().try_for_each(|(key, tensor)| self.insert(key, tensor))
    }

    /// Removes tensors with one of `prefixes`: `"classifier."` is used in training only.
    #[must_use]
    pub fn without(mut self, prefixes: &[impl AsRef<str>]) -> Self {
        self.0.retain(|key, _| !prefixes.iter().any(|prefix| key.starts_with(prefix.as_ref())));
        self
    }
}

impl RawTensor {
    /// # Errors
    /// When the number of bytes does not match type and shape, or there are too many axes.
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
    /// When the number of values does not match the shape.
    pub fn from_f32(shape: Vec<usize>, numbers: &[f32]) -> Result<Self, &'static str> {
        Self::new(Dtype::F32, shape, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of the numbers, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }
}

impl fmt::Debug for RawTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// The number types of weight files.
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
    /// Bytes per number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name used in digests.
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
