//! What a request asks for.

use std::borrow::Cow;

use crate::{percent, room_key::RoomKey};

pub(super) const NO_USER: &str = "`user` is to be the id of a user: 1 to 200 of `A-Z a-z 0-9 - _ . ~ @ | + = / :`";

/// The longest query, in bytes. 4 KiB: a room, a user and a reason, each of whose bytes is encoded, take half of it.
const LONGEST: usize = 4096;

/// The parameters of a URL, decoded.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("the query is longer than 4,096 bytes");
        }
        let pairs =
            text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let pairs = pairs.map(|(name, value)| Some((percent::decode(name)?, percent::decode(value)?)));
        pairs.collect::<Option<_>>().map(Self).ok_or("the query is not percent-encoded UTF-8")
    }

    /// A parameter; `None` where it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(of, _)| of == name).map(|(_, value)| &**value);
        value.filter(|value| !value.is_empty())
    }

    /// The room that it names, if it names one.
    pub(super) fn room(&self) -> Result<Option<RoomKey>, &'static str> {
        let wrong = "`room` is not the key of a room, `kind:id`";
        self.text("room").map(|room| room.parse().map_err(|_| wrong)).transpose()
    }
}
