//! What is broadcast, and what members publish: the one place that says it, for this program and for its page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens on a board.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum BoardEvent {
    /// Somebody has put a card up, or changed it.
    CardChanged { card: Card, by: String },
    /// A card is gone.
    CardRemoved { id: u64 },
}

/// What a board is about: its state, which the server keeps for whoever comes later.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Topic {
    pub(crate) title: String,
}

/// What is for one user.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// Somebody has given the user a card.
    Assigned { board: String, card: u64 },
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Card {
    pub(crate) id: u64,
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) state: CardState,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CardState {
    #[default]
    Todo,
    Done,
}

/// What members publish on a board.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum BoardCommand {
    Put { card: Card },
    Remove { id: u64 },
}
