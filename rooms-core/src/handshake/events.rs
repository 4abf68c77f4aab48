//! What the request for an event stream asks for.

use http::HeaderMap;

use crate::{percent, room_key::RoomKey};

/// The most rooms of one event stream: with the longest names its `id`, which comes back in one header, is 4 KiB.
pub(crate) const MAX_ROOMS: usize = 16;

/// The parameter that names a room; there may be several.
const ROOM: &str = "room";

/// The same for a room to be observed.
const OBSERVED: &str = "observed";

#[derive(Debug)]
pub(crate) struct Asked {
    /// The `id` of the last event that the client has had; empty where it comes for the first time.
    pub(crate) last_id: Box<str>,
    /// The rooms that its URL names, one more than there may be at most; `None` where one is none.
    pub(crate) rooms: Option<Vec<RoomKey>>,
    /// Those of them that it is to observe.
    pub(crate) observed: Vec<RoomKey>,
}

impl Asked {
    /// A browser that comes back sends the id in a header. A page that begins with a position gives it in the URL, as
    /// `since`.
    pub(super) fn read(query: &str, headers: &HeaderMap) -> Self {
        // One that can't be read names no position, and is not that of a client which comes for the first time.
        let header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("none").into());
        let since = || values(query, |name| name == "since").next().map(|(_, id)| id.unwrap_or_else(|| "none".into()));
        let last_id: Option<Box<str>> = header.or_else(since);
        let mut observed = Vec::new();
        let named = values(query, Self::is_parameter).take(MAX_ROOMS + 1).map(|(name, room)| {
            let room: RoomKey = room?.parse().ok()?;
            if *name == *OBSERVED {
                observed.push(room.clone());
            }
            Some(room)
        });
        let rooms = named.collect();
        Self { last_id: last_id.unwrap_or_default(), rooms, observed }
    }

    /// Whether a parameter says what is read here.
    pub(super) fn is_parameter(name: &str) -> bool {
        name == ROOM || name == OBSERVED
    }
}

/// Some parameters and their values, decoded; `None` for a value that can't be.
fn values(query: &str, is_asked: impl Fn(&str) -> bool) -> impl Iterator<Item = (Box<str>, Option<Box<str>>)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(move |(name, value)| {
        let name = percent::decode(name).filter(|name| is_asked(name))?;
        Some((Box::from(&*name), percent::decode(value).map(|value| Box::from(&*value))))
    })
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
        let asked = Asked::read("room=post:42&observed=post:43&observe=true", &headers);
        let rooms: Vec<String> = asked.rooms.unwrap().iter().map(ToString::to_string).collect();
        let observed: Vec<String> = asked.observed.iter().map(ToString::to_string).collect();
        assert_eq!((rooms, observed), (vec!["post:42".to_owned(), "post:43".to_owned()], vec!["post:43".to_owned()]));
        headers.insert("last-event-id", HeaderValue::from_static("2a.9"));
        assert_eq!(&*Asked::read("since=2a.7", &headers).last_id, "2a.9", "it came later");
        headers.insert("last-event-id", HeaderValue::from_bytes(b"2a.9\xFF").unwrap());
        assert_eq!(&*Asked::read("since=2a.7", &headers).last_id, "none");
        assert_eq!(&*Asked::read("since=%ff", &HeaderMap::new()).last_id, "none");
        assert_eq!(Asked::read("", &headers).rooms, Some(Vec::new()));
        for broken in ["room=post", "room=post:42&room=%ff", "room=a:*"] {
            assert_eq!(Asked::read(broken, &headers).rooms, None, "{broken}");
        }
        assert_eq!(Asked::read(&"room=post:42&".repeat(1_000), &headers).rooms.unwrap().len(), MAX_ROOMS + 1);
        let long = Asked::read(&format!("since={}", "x".repeat(10_000)), &HeaderMap::new());
        assert_eq!(long.last_id.len(), 10_000, "which is no position");
    }
}
