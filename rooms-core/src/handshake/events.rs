//! What the request for an event stream asks for.

use http::HeaderMap;

use crate::{percent, room_key::RoomKey};

/// The most rooms of one event stream: with the longest names its `id`, which comes back in one header, is 4 KiB.
pub(crate) const MAX_ROOMS: usize = 16;

/// The parameter that names a room; there may be several.
const ROOM: &str = "room";

#[derive(Debug)]
pub(crate) struct Asked {
    /// The `id` of the last event that the client has had; empty where it comes for the first time.
    pub(crate) last_id: Box<str>,
    /// The rooms that its URL names, one more than there may be at most; `None` where one is none.
    pub(crate) rooms: Option<Vec<RoomKey>>,
}

impl Asked {
    /// A browser that comes back sends the id in a header. A page that begins with a position gives it in the URL, as
    /// `since`.
    pub(super) fn read(query: &str, headers: &HeaderMap) -> Self {
        // One that is no text names no position, and is not that of a client which comes for the first time.
        let header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("none"));
        let last_id = header.map(Into::into).or_else(|| values(query, "since").next().flatten());
        let rooms = values(query, ROOM).take(MAX_ROOMS + 1).map(|room| room?.parse().ok()).collect();
        Self { last_id: last_id.unwrap_or_default(), rooms }
    }

    /// Whether a parameter says what is read here.
    pub(super) fn is_parameter(name: &str) -> bool {
        name == ROOM
    }
}

/// The values of a parameter, decoded; `None` for one that can't be.
fn values(query: &str, name: &str) -> impl Iterator<Item = Option<Box<str>>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(move |(key, _)| percent::decode(key).is_some_and(|key| key == name));
    values.map(|(_, value)| percent::decode(value).map(|value| Box::from(&*value)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rooms_are_named_in_the_url_and_the_last_id_in_the_header_or_there() {
        let mut headers = HeaderMap::new();
        let asked = Asked::read("room=post:42&a=b&room=post%3A43&since=2a.7", &headers);
        let rooms: Vec<String> = asked.rooms.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!((rooms, &*asked.last_id), (vec!["post:42".to_owned(), "post:43".to_owned()], "2a.7"));
        headers.insert("last-event-id", HeaderValue::from_static("2a.9"));
        assert_eq!(&*Asked::read("since=2a.7", &headers).last_id, "2a.9", "it came later");
        headers.insert("last-event-id", HeaderValue::from_bytes(b"2a.9\xFF").unwrap());
        assert_eq!(&*Asked::read("since=2a.7", &headers).last_id, "none");
        assert_eq!(Asked::read("", &headers).rooms, Some(Vec::new()));
        for broken in ["room=post", "room=post:42&room=%ff", "room=a:*"] {
            assert_eq!(Asked::read(broken, &headers).rooms, None, "{broken}");
        }
        assert_eq!(Asked::read(&"room=post:42&".repeat(1_000), &headers).rooms.unwrap().len(), MAX_ROOMS + 1);
        let long = Asked::read(&format!("since={}", "x".repeat(10_000)), &HeaderMap::new());
        assert_eq!(long.last_id.len(), 10_000, "which is no position");
    }
}
