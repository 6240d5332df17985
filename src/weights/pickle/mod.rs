//! A pickle reader for state dicts and nothing else.
//!
//! A pickle is a program for a stack machine that can call any function. This machine has no calls: the few known
//! globals (ordered dicts, tensors, storages) become descriptions, and everything that others would build is a foreign
//! object, known by the name of its maker only. Objects are in one flat arena and refer to each
//! other by index, so neither deep nesting nor cycles cause problems, and each object costs at least one byte of the
//! file.

mod machine;

use self::machine::Machine;
use super::{Dtype, WeightsError, strided::Layout};

/// A parsed pickle.
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: ObjectId,
    /// Number of bytes read from the input.
    pub(super) length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectId(u32);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object<'a> {
    Bool(bool),
    Int(i64),
    /// An integer of more than eight bytes: two's complement, little-endian.
    Long(&'a [u8]),
    Text(&'a str),
    /// None, floats and raw bytes: ignored.
    Other,
    Tuple(Vec<ObjectId>),
    List(Vec<ObjectId>),
    Dict(Vec<(ObjectId, ObjectId)>),
    Global(Global<'a>),
    /// What a global would build that no state dict needs: nothing was built.
    Foreign {
        module: &'a str,
        name: &'a str,
    },
    Storage(Storage<'a>),
    Tensor(Storage<'a>, Layout),
}

/// The storage of a tensor's numbers: a named sequence of `elements` numbers outside of the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    pub(super) key: &'a str,
    pub(super) elements: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global<'a> {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Dtype),
    Foreign { module: &'a str, name: &'a str },
}

impl<'a> Global<'a> {
    fn find(module: &'a str, name: &'a str) -> Self {
        match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size") => Self::Size,
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::Bf16),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::Bool),
            _ => Self::Foreign { module, name },
        }
    }
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the start of `input`.
    pub(super) fn read(input: &'a [u8]) -> Result<Self, WeightsError> {
        Machine::new(input).run()
    }

    pub(super) fn root(&self) -> &Object<'a> {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: ObjectId) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }

    /// The value of a text key in a dict.
    pub(super) fn lookup(&self, dict: &[(ObjectId, ObjectId)], key: &str) -> Option<&Object<'a>> {
        dict.iter().find(|(name, _)| *self.get(*name) == Object::Text(key)).map(|(_, value)| self.get(*value))
    }

    /// Every storage in the pickle.
    pub(super) fn storages(&self) -> impl Iterator<Item = Storage<'a>> {
        self.objects
            .iter()
            .filter_map(|object| if let Object::Storage(storage) = object { Some(*storage) } else { None })
    }
}
