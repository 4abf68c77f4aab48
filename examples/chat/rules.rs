//! The kinds of rooms: who may join, and what becomes of what is published.

use std::time::{Duration, SystemTime};

use rooms::{Close, HookError, Kind, Overflow, RoomManagerBuilder, bus::Retention};
use serde_json::{Value, json};

/// The longest text, in characters.
const MAX_TEXT: usize = 500;

/// How long somebody who left is still shown: by then a reload of the page is over, and whoever was on a process that was
/// restarted is back on another one.
const GRACE: Duration = Duration::from_secs(10);

/// What a channel keeps for who comes later, or comes back.
const KEPT: Retention = Retention::messages(100).age(Duration::from_secs(86_400));

pub(crate) fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    // The client's word for who speaks is not taken: the server writes it.
    let channel = Kind::authenticated().list_members().leave_grace(GRACE).history(KEPT).allow_publish();
    let channel = channel.on_publish(|member, said| {
        let who = member.identity().user().to_owned();
        async move { said_by(&who, &said.json()?) }
    });
    // One room for each channel, `typing:general` beside `channel:general`. Only the newest signal is of interest, so
    // a slow member is not closed for signals that it did not take.
    let typing = Kind::authenticated()
        .overflow(Overflow::Latest)
        .allow_publish()
        .on_publish(|member, _| async move { Ok(json!({"type": "typing", "from": member.identity().user()})) });
    // Joined by the server for every tab of its owner; direct messages arrive there.
    rooms.kind("channel", channel).kind("typing", typing).kind("user", Kind::owner_only())
}

/// What the channel hears of `{"text":..}`.
fn said_by(who: &str, said: &Value) -> Result<Value, HookError> {
    let text = said.get("text").and_then(Value::as_str).unwrap_or_default();
    let text = text_of(text).map_err(HookError::refused)?;
    Ok(stamped("said", who, text).ok_or(Close::INTERNAL)?)
}

/// A text without the space around it, or what is wrong with it.
pub(crate) fn text_of(text: &str) -> Result<&str, String> {
    let text = text.trim();
    match text.chars().count() {
        1..=MAX_TEXT => Ok(text),
        length => Err(format!("text: 1 to {MAX_TEXT} characters, and there are {length}")),
    }
}

/// A message as everybody sees it. Its id is random, so that processes that know nothing of each other give no number
/// twice.
pub(crate) fn stamped(kind: &str, from: &str, text: &str) -> Option<Value> {
    let id = getrandom::u64().inspect_err(|error| tracing::error!(%error, "no random number for a message")).ok()?;
    let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    Some(json!({"type": kind, "id": format!("{id:016x}"), "from": from, "text": text, "at": at}))
}
