//! The stack machine: the supported opcodes and their effects on the arena.

use std::collections::HashMap;

use super::{Global, Object, ObjectId, Pickle, Storage};
use crate::{DIMENSIONS_MAX, WeightsError, strided::Layout};

/// Maximum number of objects and members in a pickle; a checkpoint with optimizer state has about 20 per tensor.
const OBJECTS_MAX: usize = 4_000_000;

/// Opcodes by their names in Python's pickletools.
mod op {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const POP: u8 = b'0';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const BYTEARRAY8: u8 = 0x96;
    pub(super) const EMPTY_SET: u8 = 0x8f;
    pub(super) const ADDITEMS: u8 = 0x90;
    pub(super) const FROZENSET: u8 = 0x91;
    pub(super) const NEWOBJ: u8 = 0x81;
    pub(super) const NEWOBJ_EX: u8 = 0x92;
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const SETITEM: u8 = b's';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const FRAME: u8 = 0x95;
}

const PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

pub(super) struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    objects: Vec<Object<'a>>,
    /// Objects and members created so far.
    spent: usize,
    stack: Vec<ObjectId>,
    marks: Vec<usize>,
    memo: HashMap<u32, ObjectId>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, objects: Vec::new(), spent: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Executes the pickle to its end.
    pub(super) fn run(mut self) -> Result<Pickle<'a>, WeightsError> {
        loop {
            if let Some(root) = self.step()? {
                return Ok(Pickle { objects: self.objects, root, length: self.at });
            }
        }
    }

    /// Executes one opcode; returns the root object at the end.
    fn step(&mut self) -> Result<Option<ObjectId>, WeightsError> {
        let at = self.at;
        let [opcode] = self.take_array()?;
        match opcode {
            op::PROTO => self.protocol()?,
            op::FRAME => drop(self.take_array::<8>()?),
            op::STOP => return self.pop().map(Some),
            op::POP => drop(self.pop()?),
            op::MARK => self.marks.push(self.stack.len()),

            op::NONE | op::EMPTY_SET => self.push(Object::Other)?,
            op::NEWTRUE => self.push(Object::Bool(true))?,
            op::NEWFALSE => self.push(Object::Bool(false))?,
            op::BINFLOAT => self.skip_value(8)?,
            op::BININT | op::BININT1 | op::BININT2 | op::LONG1 => self.integer(opcode)?,
            op::BINSTRING | op::BINUNICODE => self.text(Width::Four)?,
            op::SHORT_BINSTRING | op::SHORT_BINUNICODE => self.text(Width::One)?,
            op::BINBYTES => self.bytes(Width::Four)?,
            op::SHORT_BINBYTES => self.bytes(Width::One)?,
            op::BINBYTES8 | op::BYTEARRAY8 => self.bytes(Width::Eight)?,

            op::ADDITEMS => drop(self.pop_to_mark()?),
            op::FROZENSET => {
                self.pop_to_mark()?;
                self.push(Object::Other)?;
            }
            op::EMPTY_LIST => self.push(Object::List(Vec::new()))?,
            op::EMPTY_DICT => self.push(Object::Dict(Vec::new()))?,
            op::EMPTY_TUPLE => self.push(Object::Tuple(Vec::new()))?,
            op::TUPLE1 => self.tuple(1)?,
            op::TUPLE2 => self.tuple(2)?,
            op::TUPLE3 => self.tuple(3)?,
            op::TUPLE => {
                let members = self.pop_to_mark()?;
                self.push(Object::Tuple(members))?;
            }
            op::APPEND => {
                let member = self.pop()?;
                self.append(vec![member])?;
            }
            op::APPENDS => {
                let members = self.pop_to_mark()?;
                self.append(members)?;
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            op::SETITEMS => {
                let members = self.pop_to_mark()?;
                self.set_items(&members)?;
            }

            op::BINGET | op::LONG_BINGET => self.recall(opcode)?,
            op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.remember(opcode)?,

            op::GLOBAL => self.global()?,
            op::STACK_GLOBAL => self.stack_global()?,
            op::BINPERSID => self.persistent_id()?,
            op::REDUCE => self.reduce()?,
            op::NEWOBJ => self.new_object(1)?,
            op::NEWOBJ_EX => self.new_object(2)?,
            op::BUILD => self.build()?,
            _ => return Err(WeightsError::ForbiddenOpcode { opcode, at }),
        }
        Ok(None)
    }

    fn malformed(&self, why: &'static str) -> WeightsError {
        WeightsError::Malformed { at: self.at, why }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WeightsError> {
        let taken = self.input[self.at..].get(..length).ok_or(WeightsError::Truncated("its pickle"))?;
        self.at += length;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WeightsError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take gives as many bytes as asked for"))
    }

    fn take_length(&mut self, width: Width) -> Result<usize, WeightsError> {
        Ok(match width {
            Width::One => usize::from(self.take_array::<1>()?[0]),
            Width::Four => u32::from_le_bytes(self.take_array()?) as usize,
            Width::Eight => usize::try_from(u64::from_le_bytes(self.take_array()?))
                .map_err(|_| WeightsError::Truncated("its pickle"))?,
        })
    }

    fn take_line(&mut self) -> Result<&'a str, WeightsError> {
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(WeightsError::Truncated("its pickle"))?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| self.malformed("a name is not text"))
    }

    fn spend(&mut self, count: usize) -> Result<(), WeightsError> {
        self.spent += count;
        if self.spent > OBJECTS_MAX { Err(WeightsError::TooManyObjects(OBJECTS_MAX)) } else { Ok(()) }
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), WeightsError> {
        self.spend(1)?;
        let id = ObjectId(u32::try_from(self.objects.len()).expect("OBJECTS_MAX is below 2^32"));
        self.objects.push(object);
        self.stack.push(id);
        Ok(())
    }

    /// The stack below the last mark is not accessible.
    fn pop(&mut self) -> Result<ObjectId, WeightsError> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(self.malformed("the stack is empty"));
        }
        Ok(self.stack.pop().expect("it is longer than its mark"))
    }

    fn top(&self) -> Result<ObjectId, WeightsError> {
        self.stack.last().copied().ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<ObjectId>, WeightsError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("there is no mark"))?;
        self.spend(self.stack.len() - mark)?;
        Ok(self.stack.split_off(mark))
    }

    fn object(&self, id: ObjectId) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }

    fn protocol(&mut self) -> Result<(), WeightsError> {
        let [protocol] = self.take_array()?;
        if PROTOCOLS.contains(&protocol) { Ok(()) } else { Err(self.malformed("its protocol is unknown")) }
    }

    fn integer(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let value = match opcode {
            op::BININT => i64::from(i32::from_le_bytes(self.take_array()?)),
            op::BININT1 => i64::from(self.take_array::<1>()?[0]),
            op::BININT2 => i64::from(u16::from_le_bytes(self.take_array()?)),
            _ => return self.long(),
        };
        self.push(Object::Int(value))
    }

    fn long(&mut self) -> Result<(), WeightsError> {
        let length = self.take_length(Width::One)?;
        let bytes = self.take(length)?;
        if length > 8 {
            return self.push(Object::Long(bytes));
        }
        let sign = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..length].copy_from_slice(bytes);
        self.push(Object::Int(i64::from_le_bytes(wide)))
    }

    fn skip_value(&mut self, length: usize) -> Result<(), WeightsError> {
        self.take(length)?;
        self.push(Object::Other)
    }

    fn text(&mut self, width: Width) -> Result<(), WeightsError> {
        let length = self.take_length(width)?;
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed("a text is not UTF-8"))?;
        self.push(Object::Text(text))
    }

    fn bytes(&mut self, width: Width) -> Result<(), WeightsError> {
        let length = self.take_length(width)?;
        self.skip_value(length)
    }

    fn tuple(&mut self, length: usize) -> Result<(), WeightsError> {
        let mut members = Vec::with_capacity(length);
        for _ in 0..length {
            members.push(self.pop()?);
        }
        members.reverse();
        self.push(Object::Tuple(members))
    }

    fn append(&mut self, members: Vec<ObjectId>) -> Result<(), WeightsError> {
        let target = self.top()?;
        match &mut self.objects[target.0 as usize] {
            Object::List(list) => list.extend(members),
            Object::Foreign { .. } => {}
            _ => return Err(self.malformed("only lists are appended to")),
        }
        Ok(())
    }

    fn set_items(&mut self, members: &[ObjectId]) -> Result<(), WeightsError> {
        let (pairs, []) = members.as_chunks::<2>() else {
            return Err(self.malformed("a key has no value"));
        };
        let target = self.top()?;
        match &mut self.objects[target.0 as usize] {
            Object::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Object::Foreign { .. } => {}
            _ => return Err(self.malformed("only dicts have items set")),
        }
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let width = if opcode == op::BINGET { Width::One } else { Width::Four };
        let slot = self.take_length(width)?;
        let found = u32::try_from(slot).ok().and_then(|slot| self.memo.get(&slot)).copied();
        let id = found.ok_or_else(|| self.malformed("it loads an empty memo slot"))?;
        self.spend(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let slot = match opcode {
            op::BINPUT => self.take_length(Width::One)?,
            op::LONG_BINPUT => self.take_length(Width::Four)?,
            _ => self.memo.len(),
        };
        let top = self.top()?;
        let slot = u32::try_from(slot).map_err(|_| self.malformed("its memo is too large"))?;
        self.spend(1)?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn global(&mut self) -> Result<(), WeightsError> {
        let (module, name) = (self.take_line()?, self.take_line()?);
        self.push(Object::Global(Global::find(module, name)))
    }

    fn stack_global(&mut self) -> Result<(), WeightsError> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Object::Text(module), Object::Text(name)) = (self.object(module), self.object(name)) else {
            return Err(self.malformed("a global has no name"));
        };
        let global = Global::find(module, name);
        self.push(Object::Global(global))
    }

    /// `("storage", type, key, device, elements)`, and in the legacy format a sixth member that describes a view.
    fn persistent_id(&mut self) -> Result<(), WeightsError> {
        let id = self.pop()?;
        let Object::Tuple(members) = self.object(id) else {
            return Err(self.malformed("a persistent id is not a tuple"));
        };
        let mut members = members.iter().map(|member| self.object(*member));
        let mut next = || members.next().unwrap_or(&Object::Other);
        let (
            Object::Text("storage"),
            Object::Global(Global::Storage(dtype)),
            Object::Text(key),
            Object::Text(_device),
            Object::Int(elements),
            Object::Other,
        ) = (next(), next(), next(), next(), next(), next())
        else {
            return Err(self.malformed("a persistent id does not describe a whole storage"));
        };
        let elements = usize::try_from(*elements).map_err(|_| self.malformed("a storage has a negative length"))?;
        let storage = Storage { dtype: *dtype, key, elements };
        self.push(Object::Storage(storage))
    }

    fn reduce(&mut self) -> Result<(), WeightsError> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        if let Object::Foreign { .. } | Object::Global(Global::Foreign { .. }) = self.object(callable) {
            return self.foreign(callable);
        }
        let (Object::Global(global), Object::Tuple(arguments)) = (self.object(callable), self.object(arguments)) else {
            return Err(self.malformed("it calls an object that is not a function"));
        };
        match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Object::Dict(Vec::new())),
            (Global::OrderedDict, [pairs]) => {
                let dict = self.pairs(*pairs)?;
                self.spend(dict.len())?;
                self.push(Object::Dict(dict))
            }
            // The seventh argument holds flags of the tensor, such as `{"neg": True}`: its storage holds other numbers.
            (Global::RebuildTensor, [_, _, _, _, _, _, flags, ..]) if self.is_filled(*flags) => {
                Err(WeightsError::FlaggedTensor)
            }
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor([*storage, *offset, *shape, *strides])?;
                self.push(tensor)
            }
            (Global::RebuildParameter | Global::Size, [inner, ..]) => {
                let inner = *inner;
                self.spend(1)?;
                self.stack.push(inner);
                Ok(())
            }
            _ => Err(self.malformed("a call has the wrong arguments")),
        }
    }

    /// An object of a class; `arguments` values lie above the class on the stack.
    fn new_object(&mut self, arguments: usize) -> Result<(), WeightsError> {
        for _ in 0..arguments {
            self.pop()?;
        }
        let class = self.pop()?;
        self.foreign(class)
    }

    /// What `maker` would build, without building it.
    fn foreign(&mut self, maker: ObjectId) -> Result<(), WeightsError> {
        let (Object::Foreign { module, name } | Object::Global(Global::Foreign { module, name })) = *self.object(maker)
        else {
            return Err(self.malformed("it builds an object of no class"));
        };
        self.push(Object::Foreign { module, name })
    }

    fn is_filled(&self, dict: ObjectId) -> bool {
        matches!(self.object(dict), Object::Dict(members) if !members.is_empty())
    }

    /// The members of a list of pairs: Python 2's form of an ordered dict.
    fn pairs(&self, list: ObjectId) -> Result<Vec<(ObjectId, ObjectId)>, WeightsError> {
        let malformed = || self.malformed("an ordered dict is not made of pairs");
        let Object::List(list) = self.object(list) else {
            return Err(malformed());
        };
        if self.spent + list.len() > OBJECTS_MAX {
            return Err(WeightsError::TooManyObjects(OBJECTS_MAX));
        }
        let pair = |id: &ObjectId| {
            let (Object::List(pair) | Object::Tuple(pair)) = self.object(*id) else { return None };
            pair.as_array().map(|[key, value]| (*key, *value))
        };
        list.iter().map(pair).collect::<Option<_>>().ok_or_else(malformed)
    }

    fn tensor(&self, [storage, offset, shape, strides]: [ObjectId; 4]) -> Result<Object<'a>, WeightsError> {
        let (Object::Storage(storage), Object::Int(offset)) = (self.object(storage), self.object(offset)) else {
            return Err(self.malformed("a tensor has no storage"));
        };
        let offset = usize::try_from(*offset).map_err(|_| self.malformed("a tensor's offset is negative"))?;
        let layout = Layout { offset, shape: self.sizes(shape)?, strides: self.sizes(strides)? };
        Ok(Object::Tensor(*storage, layout))
    }

    fn sizes(&self, tuple: ObjectId) -> Result<Vec<usize>, WeightsError> {
        let size = |id: &ObjectId| {
            let Object::Int(size) = self.object(*id) else { return None };
            usize::try_from(*size).ok()
        };
        let malformed = || self.malformed("a tensor's shape or strides are not a few natural numbers");
        let Object::Tuple(members) = self.object(tuple) else { return Err(malformed()) };
        if members.len() > DIMENSIONS_MAX {
            return Err(malformed());
        }
        members.iter().map(size).collect::<Option<_>>().ok_or_else(malformed)
    }

    /// Ordered dicts have attributes (a state dict's `_metadata`), and tensors may have some; they affect no numbers.
    fn build(&mut self) -> Result<(), WeightsError> {
        let state = self.pop()?;
        match (self.object(self.top()?), self.object(state)) {
            (Object::Dict(_), Object::Dict(_)) | (Object::Tensor(..) | Object::Foreign { .. }, _) => Ok(()),
            _ => Err(self.malformed("it sets the state of an object")),
        }
    }
}

#[derive(Clone, Copy)]
enum Width {
    One,
    Four,
    Eight,
}
