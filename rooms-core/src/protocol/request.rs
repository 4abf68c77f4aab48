//! What a client asks for.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Fault;
use crate::{join_options::JoinOptions, room_key::RoomKey};

/// The longest `ref`, in bytes: a number or a UUID, with something around it. It is repeated in each answer.
pub(super) const MAX_REF: usize = 128;

pub(super) const LONG_REF: &str = "a `ref` has at most 128 bytes";

/// What a client says, and what its answer repeats.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) command: Result<Command<'a>, Fault>,
    pub(crate) reference: Option<Ref>,
}

#[derive(Debug)]
pub(crate) enum Command<'a> {
    Ping,
    /// A new token.
    Refresh(Cow<'a, str>),
    Join(RoomKey, JoinOptions),
    Leave(RoomKey),
    /// The data is JSON, and its bounds are not looked at: whether the client may publish is asked before.
    Publish(RoomKey, &'a RawValue),
    /// Any other type: the application's, which is given the whole text. Without a room it is for the only one.
    Application(Option<RoomKey>),
}

/// What a client gave a command to know its answer by: JSON that is repeated as it came.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Ref(pub(super) Box<RawValue>);
