//! Devices that models run on.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Device {
    #[default]
    Cpu,
    /// A GPU, by its CUDA device number.
    Cuda(u16),
}

/// The text is not a device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a device; use cpu or cuda:N")]
pub struct UnknownDevice(String);

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let number = |digits: &str| digits.parse().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let device = match text.strip_prefix("cuda:") {
            Some(digits) => number(digits).map(Self::Cuda),
            None => (text == "cpu").then_some(Self::Cpu),
        };
        device.ok_or_else(|| UnknownDevice(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_device_is_refused() {
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:65536", "cuda:1 ", "CPU", "cpu:0"] {
            assert_eq!(text.parse::<Device>(), Err(UnknownDevice(text.to_owned())), "{text}");
        }
        assert_eq!("cpu".parse(), Ok(Device::Cpu));
    }

    proptest! {
        #[test]
        fn a_device_is_read_as_it_is_written(number: u16) {
            let device = Device::Cuda(number);
            prop_assert_eq!(device.to_string().parse(), Ok(device));
        }
    }
}
