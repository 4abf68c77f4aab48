//! What a client may say on a connection that is for one room.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Command, ErrorCode, Fault, Request};
use crate::json;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

pub(crate) fn read(text: &str) -> Request {
    let command = parse(text).map_err(|fault| Fault::new(ErrorCode::BadMessage, fault));
    Request { command, reference: None }
}

fn parse(text: &str) -> Result<Command, &'static str> {
    check(text)?;
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "a message has one `type`, a string",
        _ => "not JSON",
    })?;
    if envelope.kind == "ping" {
        return Ok(Command::Ping);
    }
    serde_json::from_str(text).map(|message| Command::Application(None, message)).map_err(|_| "not JSON")
}

/// What is looked at before a text is parsed.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    json::check_depth(text.as_bytes()).map_err(|_| "nested too deep")?;
    if text.trim_ascii_start().starts_with('{') { Ok(()) } else { Err("a message is a JSON object") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_parsed_strictly() {
        let command = |text: &str| read(text).command;
        assert_eq!(command(r#" {"type":"ping","extra":[1]}"#), Ok(Command::Ping));
        assert_eq!(command(r#"{"type":"p\u0069ng"}"#), Ok(Command::Ping));
        let vote = json!({"type": "vote", "for": 1});
        assert_eq!(command(&vote.to_string()), Ok(Command::Application(None, vote)));
        for bad in [
            "",
            "ping",
            "1",
            "null",
            "[]",
            "[\"ping\"]",
            "{",
            "{}",
            r#"{"type":5}"#,
            r#"{"type":null}"#,
            r#"{"type":"ping"} x"#,
            r#"{"type":"ping","type":"ping"}"#,
            &format!("{{\"type\":{}", "[".repeat(50_000)),
        ] {
            assert!(command(bad).is_err(), "{bad:.40}");
        }
    }
}
