//! A place in the history of a topic.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A place in a topic's history: which log, and how far in it.
///
/// A log that was lost and begun again has another epoch, so a position of the old one never matches by accident. As text
/// it is `<epoch>.<offset>`, the epoch in hexadecimal: one opaque string for clients. With serde it is that text.
///
/// ```
/// use rooms_core::bus::Position;
///
/// let position = Position::new(0x2a, 7);
/// assert_eq!(position.to_string(), "2a.7");
/// assert_eq!("2a.7".parse(), Ok(position));
/// assert!("2a.-1".parse::<Position>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    epoch: u64,
    offset: u64,
}

/// A text that is no [`Position`]: `<epoch>.<offset>`, a hexadecimal and a decimal number of up to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is `<epoch>.<offset>`, a hexadecimal and a decimal number of up to 64 bits")]
#[non_exhaustive]
pub struct PositionError;

impl Position {
    /// The place of message number `offset` in the log that `epoch` names.
    #[must_use]
    pub const fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// Which log.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// How far in it: the number of the message, from 1.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.split_once('.').ok_or(PositionError)?;
        // `from_str_radix` and `parse` take a sign, which no position is written with.
        if epoch.starts_with('+') || offset.starts_with('+') {
            return Err(PositionError);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| PositionError)?;
        Ok(Self { epoch, offset: offset.parse().map_err(|_| PositionError)? })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_as_it_prints_and_nothing_else_does() {
        for position in [Position::new(0, 0), Position::new(u64::MAX, u64::MAX)] {
            assert_eq!(position.to_string().parse(), Ok(position));
            let json = serde_json::to_string(&position).unwrap();
            assert_eq!(json, format!("\"{position}\""));
            assert_eq!(serde_json::from_str::<Position>(&json).unwrap(), position);
        }
        for bad in
            ["", ".", "1", "1.", ".1", "1.1.1", "x.1", "1.x", "1.-1", "+1.1", "1.+1", "1. 1", "10000000000000000.1"]
        {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad}");
        }
    }
}
