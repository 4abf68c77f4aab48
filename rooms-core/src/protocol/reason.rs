//! Why a member is told to fetch again.

use serde::{Deserialize, Serialize};

use crate::bus::Missing;

/// Why a member may have missed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    BusGap,
    SlowConsumer,
    /// The history does not have all of it any more.
    HistoryGap,
    /// The position is of another log.
    Epoch,
}

impl Reason {
    /// For whoever operates the node.
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::BusGap => "bus_gap: the bus lost messages, or this node did",
            Self::SlowConsumer => "slow_consumer: the client took less than came",
            Self::HistoryGap => "history_gap: the history does not have all of it any more",
            Self::Epoch => "epoch: the history was lost and begun again",
        }
    }

    /// As it is in the event, and in the metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::BusGap => "bus_gap",
            Self::SlowConsumer => "slow_consumer",
            Self::HistoryGap => "history_gap",
            Self::Epoch => "epoch",
        }
    }
}

impl From<Missing> for Reason {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Epoch => Self::Epoch,
            Missing::Trimmed => Self::HistoryGap,
        }
    }
}
