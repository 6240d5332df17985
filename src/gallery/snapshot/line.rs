//! Lines of JSON that carry a checksum: eight hexadecimal digits, a blank, the JSON.

use serde::{Serialize, de::DeserializeOwned};

/// What stands in the place of a line that was erased, as often as the line had bytes.
pub(super) const ERASED: u8 = b'-';

/// One line, its end included.
pub(super) fn sealed<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// The JSON of a line without its end; `None` when it is not what was written.
pub(super) fn opened<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    // Exactly as it was written: `from_str_radix` would also take capitals or a sign.
    if sum != format!("{:08x}", crc32fast::hash(json)) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

pub(super) fn is_erased(line: &[u8]) -> bool {
    !line.is_empty() && line.iter().all(|byte| *byte == ERASED)
}
