//! The safetensors format.

use ::safetensors::{Dtype as FileDtype, SafeTensors, tensor::TensorView};

use super::{Dtype, RawTensor, StateDict, WeightsError};

/// The format has no magic number: detect a header length that fits the file, then a JSON object.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.first() == Some(&b'{')
}

pub(super) fn read(bytes: &[u8], entry: Option<&str>) -> Result<StateDict, WeightsError> {
    if let Some(entry) = entry {
        return Err(WeightsError::NoEntry { entry: entry.to_owned(), candidates: Vec::new() });
    }
    let mut dict = StateDict::default();
    for (key, view) in SafeTensors::deserialize(bytes)?.iter() {
        let bad = |why| WeightsError::BadTensor { key: key.to_owned(), why };
        let dtype = from_file(view.dtype()).ok_or_else(|| bad("its number type is not supported"))?;
        let tensor = RawTensor::new(dtype, view.shape().to_vec(), view.data().to_vec()).map_err(bad)?;
        dict.insert(key.to_owned(), tensor)?;
    }
    Ok(dict)
}

pub(super) fn write(dict: &StateDict) -> Result<Vec<u8>, WeightsError> {
    let views = dict.iter().map(|(key, tensor)| {
        TensorView::new(to_file(tensor.dtype()), tensor.shape().to_vec(), tensor.bytes()).map(|view| (key, view))
    });
    Ok(::safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, None)?)
}

const DTYPES: [(Dtype, FileDtype); 10] = [
    (Dtype::F64, FileDtype::F64),
    (Dtype::F32, FileDtype::F32),
    (Dtype::F16, FileDtype::F16),
    (Dtype::Bf16, FileDtype::BF16),
    (Dtype::I64, FileDtype::I64),
    (Dtype::I32, FileDtype::I32),
    (Dtype::I16, FileDtype::I16),
    (Dtype::I8, FileDtype::I8),
    (Dtype::U8, FileDtype::U8),
    (Dtype::Bool, FileDtype::BOOL),
];

fn from_file(file: FileDtype) -> Option<Dtype> {
    DTYPES.iter().find(|(_, theirs)| *theirs == file).map(|(ours, _)| *ours)
}

fn to_file(dtype: Dtype) -> FileDtype {
    DTYPES.iter().find(|(ours, _)| *ours == dtype).expect("the table has every type").1
}
