//! What a client may say on a connection that is for one room.

use super::{Command, ErrorCode, Fault, Request, head};

pub(crate) fn read(text: &str) -> Request<'_> {
    let command = command(text).map_err(|fault| Fault::new(ErrorCode::BadMessage, fault));
    Request { command, reference: None }
}

fn command(text: &str) -> Result<Command<'_>, &'static str> {
    let [kind] = head::fields(text, ["type"])?;
    match kind.and_then(head::string).ok_or("a message has one `type`, a string")?.as_ref() {
        "ping" => Ok(Command::Ping),
        "refresh" => {
            let [token] = head::fields(text, ["token"])?;
            token.and_then(head::string).map(Command::Refresh).ok_or("`refresh` has a `token`, a string")
        }
        _ => Ok(Command::Application(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed_strictly() {
        let command = |text: &str| read(text).command.map(|command| format!("{command:?}"));
        assert_eq!(command(r#" {"type":"ping","extra":[1]}"#).unwrap(), "Ping");
        assert_eq!(command(r#"{"type":"p\u0069ng"}"#).unwrap(), "Ping");
        assert_eq!(command(r#"{"type":"refresh","token":"a"}"#).unwrap(), "Refresh(\"a\")");
        assert_eq!(command(r#"{"type":"vote","for":1,"for":2}"#).unwrap(), "Application(None)");
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
            r#"{"type":"refresh"}"#,
            r#"{"type":"refresh","token":5}"#,
            r#"{"type":"refresh","token":"a","token":"b"}"#,
            r#"{"type":"ping"} x"#,
            r#"{"type":"ping","type":"ping"}"#,
            &format!("{{\"type\":{}", "[".repeat(50_000)),
        ] {
            assert!(command(bad).is_err(), "{bad:.40}");
        }
    }
}
