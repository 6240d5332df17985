//! JSON lines with a checksum: eight hexadecimal digits, a space, the JSON.

use serde::{Serialize, de::DeserializeOwned};

/// Byte that replaces every byte of an erased line.
pub(super) const ERASED: u8 = b'-';

/// One line with its line end.
pub(super) fn encode_line<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// The value of a line without its line end; `None` when its checksum or JSON is wrong.
pub(super) fn decode_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    // Compares text, because `from_str_radix` also accepts capital digits and a sign.
    if sum != format!("{:08x}", crc32fast::hash(json)) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

pub(super) fn is_erased(line: &[u8]) -> bool {
    !line.is_empty() && line.iter().all(|byte| *byte == ERASED)
}
