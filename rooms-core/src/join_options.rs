//! What a join says besides the room.

use serde_json::{Map, Value};

use crate::{bus::Position, message::Form, payload::Payload, percent};

/// What a join says besides the room: where the page stood, and what the application wants to know.
///
/// A client says it in the command `join`, or in the URL of a connection that is for one room; see
/// [`protocol`](crate::protocol). This is for who calls [`Connection::join_with`](crate::Connection::join_with) or
/// [`RoomManager::serve_room_with`](crate::RoomManager::serve_room_with).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct JoinOptions {
    pub(crate) since: Option<Since>,
    pub(crate) newest: usize,
    pub(crate) with: Option<Payload>,
    /// It is not to be counted.
    pub(crate) observes: bool,
    /// It is to be given no messages for now.
    pub(crate) paused: bool,
    /// The connection is to be told positions, also where it is for one room.
    pub(crate) positions: bool,
}

/// Where a page that comes back stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Position(Position),
    /// At no position of any log.
    Nowhere,
    /// Anywhere: it missed what no log has.
    Lost,
}

impl Since {
    pub(crate) const fn position(self) -> Option<Position> {
        match self {
            Self::Position(position) => Some(position),
            Self::Nowhere | Self::Lost => None,
        }
    }
}

/// The longest `with`, in bytes.
pub(crate) const MAX_WITH: usize = 4096;

impl JoinOptions {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for what came after a position, which is the text of a [`Position`]: the `offset` of the last message that the
    /// client has, or the `position` of its `room_joined`. Any other text is a position of no log, and is answered with
    /// `resync`. An empty one asks for nothing, and is for a client that has no position yet and wants to be told them.
    pub fn since(self, position: impl AsRef<str>) -> Self {
        let since = match position.as_ref() {
            "" => None,
            text => Some(text.parse().map_or(Since::Nowhere, Since::Position)),
        };
        Self { since, positions: true, ..self }
    }

    /// Asks for the newest `count` messages, if nothing is to be resumed or it can't be. At most as many as are kept, and
    /// fit into three quarters of an outbox.
    pub fn newest(self, count: usize) -> Self {
        Self { newest: count, positions: true, ..self }
    }

    /// Says something to the rule and to `on_join`; see [`Member::with`](crate::Member::with).
    pub fn with(self, with: Payload) -> Self {
        Self { with: Some(with), ..self }
    }

    /// Asks for positions, whatever else is asked for.
    pub(crate) const fn told_positions(mut self) -> Self {
        self.positions = true;
        self
    }

    /// Asks to be in the room without being counted or named, which the kind's [`observe_rule`](crate::Kind::observe_rule)
    /// decides.
    pub fn observe(self) -> Self {
        Self { observes: true, ..self }
    }

    /// Asks to be in the room without being given its messages, as for a page that nobody looks at: it is counted, and is told
    /// who comes and goes. What it misses it is given, or is told that it missed something, when it joins once more without
    /// this; see [`protocol`](crate::protocol).
    pub fn paused(self) -> Self {
        Self { paused: true, ..self }
    }

    /// How a connection that is for one room is told what happens in it.
    pub(crate) const fn form(&self) -> Form {
        if self.positions { Form::Positioned } else { Form::Single }
    }

    /// What the query of a URL says, but for the parameters in which tokens are. Text that can't be decoded is left out; but
    /// a `since` that can't be is a position of no log, so that the page is told.
    pub(crate) fn from_query(query: &str, is_token: impl Fn(&str) -> bool) -> Self {
        let mut options = Self::new();
        let mut with = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = percent::decode(name).filter(|name| !is_token(name)) else { continue };
            let Some(value) = percent::decode(value) else {
                if name == "since" {
                    options = Self { since: Some(Since::Nowhere), ..options.told_positions() };
                }
                continue;
            };
            match &*name {
                "since" => options = options.since(value),
                "newest" => options = options.newest(value.parse().unwrap_or_default()),
                // Any other value is the application's.
                "observe" if value == "true" => options = options.observe(),
                _ => _ = with.insert(name.into_owned(), Value::String(value.into_owned())),
            }
        }
        if with.is_empty() {
            return options;
        }
        let with = Payload::from(Value::Object(with));
        let fits = with.as_str().len() <= MAX_WITH;
        Self { with: fits.then_some(with), ..options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_where_the_page_stood_and_the_token_is_nobody_elses() {
        let read = |query| JoinOptions::from_query(query, |name| name == "token");
        let options = read("token=secret&since=2a.7&tab=a%20b&x&newest=50");
        assert_eq!(options.since, Some(Since::Position(Position::new(42, 7))));
        assert_eq!((options.newest, options.positions), (50, true));
        assert_eq!(options.with.unwrap().as_str(), r#"{"tab":"a b","x":""}"#);
        let plain = read("token=secret");
        assert!(plain.since.is_none() && plain.with.is_none() && !plain.positions);
        let observer = read("observe=true&x=1");
        assert!(
            observer.observes
                && !observer.positions
                && observer.with.is_some_and(|with| with.as_str() == r#"{"x":"1"}"#)
        );
        assert!(!read("observe=1").observes && !read("observe").observes);
        let first = read("since=");
        assert!(first.since.is_none() && first.positions);
        for broken in ["x", "-1.1", "1.-1", "2a.7.7", "2a", "2a.", "%00", &"1".repeat(10_000)] {
            let options = JoinOptions::from_query(&format!("since={broken}"), |_| false);
            assert_eq!(options.since, Some(Since::Nowhere), "{broken:.20}");
        }
        for broken in ["since=%ff", "since=%zz", "since=2a.7%", "sinc%65=%ff"] {
            let options = read(broken);
            assert_eq!((options.since, options.positions), (Some(Since::Nowhere), true), "{broken}");
        }
        assert!(read("x=%ff").with.is_none(), "what else can't be decoded is not there");
        assert_eq!(read("newest=99999999999999999999999").newest, 0);
        let long = JoinOptions::from_query(&format!("x={}", "y".repeat(5_000)), |_| false);
        assert!(long.with.is_none(), "what is too long is left out");
    }
}
