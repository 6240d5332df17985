//! Timestamps on the wire.

use prost_types::Timestamp as Wire;

use crate::matcher::Fault;
use domain::Timestamp;

pub(in crate::api) fn to_wire(time: Timestamp) -> Wire {
    let mut wire = Wire { seconds: time.as_second(), nanos: time.subsec_nanosecond() };
    // Protobuf counts nanoseconds forward, also before 1970.
    wire.normalize();
    wire
}

/// Rounded down to the microsecond, as the store keeps it.
pub(in crate::api) fn from_wire(field: &str, time: &Wire) -> Result<Timestamp, Fault> {
    let whole = Timestamp::new(time.seconds, time.nanos).map_err(|problem| Fault::invalid(field, problem))?;
    Timestamp::from_microsecond(whole.as_microsecond()).map_err(|problem| Fault::invalid(field, problem))
}
