//! What Redis means where it does not carry a command out, though the connection is as good as before.

use std::error::Error;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::{access::Address, history};

/// Where the slot of a channel is, if that is what the error says; a server that names no host means its own.
pub(crate) fn moved_to(error: &RedisError, host: &str) -> Option<(u16, Address)> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    elsewhere(error, host)
}

/// Where this one command is to go, as the slot is on its way there, if that is what the error says.
pub(crate) fn asked_at(error: &RedisError, host: &str) -> Option<Address> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Ask) {
        return None;
    }
    Some(elsewhere(error, host)?.1)
}

fn elsewhere(error: &RedisError, host: &str) -> Option<(u16, Address)> {
    let (address, slot) = error.redirect_node()?;
    let (name, port) = address.rsplit_once(':')?;
    let name = if name.is_empty() { host } else { name };
    Some((slot, (name.to_owned(), port.parse().ok()?)))
}

/// Whether Redis refused one command, and the connection is as good as before: for want of rights, or because the command
/// is disabled, as with `rename-command SUBSCRIBE ""`.
pub(crate) fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        // Redis: "unknown command 'X'", "unknown subcommand 'X'", "Unknown subcommand or wrong number of arguments".
        ErrorKind::Server(ServerErrorKind::ResponseError) => error.detail().is_some_and(|detail| {
            let mut words = detail.split_ascii_whitespace().map(str::to_ascii_lowercase);
            words.next().as_deref() == Some("unknown")
                && matches!(words.next().as_deref(), Some("command" | "subcommand"))
        }),
        _ => false,
    }
}

/// What Redis refused about a room, said so that whoever reads it knows which right is missing.
pub(crate) fn of_room(error: RedisError, channel: &str) -> Box<dyn Error + Send + Sync> {
    // Redis names the command, and not the key.
    let keys = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        && error.detail().is_some_and(|detail| detail.contains("one of the keys"));
    if keys { Box::new(KeysRefused { channel: channel.to_owned(), cause: error }) } else { Box::new(error) }
}

/// What histories and states need.
#[derive(Debug, thiserror::Error)]
#[error("{} are the keys that are needed: {cause}", names(channel))]
struct KeysRefused {
    channel: String,
    cause: RedisError,
}

fn names(channel: &str) -> String {
    ["log", "mark", "keys", "state"].map(|part| history::key(part, channel)).join(", ")
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn error(text: &str) -> RedisError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => error.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_that_names_no_host_means_its_own() {
        let here = |name: &str| (name.to_owned(), 7001);
        assert_eq!(moved_to(&error("MOVED 7 b:7001"), "a"), Some((7, here("b"))));
        assert_eq!(moved_to(&error("MOVED 7 :7001"), "a"), Some((7, here("a"))));
        assert_eq!(asked_at(&error("ASK 7 b:7001"), "a"), Some(here("b")));
        assert_eq!(asked_at(&error("ASK 7 :7001"), "a"), Some(here("a")));
        for text in ["ASK", "ASK 7", "ASK 7 b", "ASK 7 b:x", "TRYAGAIN later", "MOVED 7 b:7001"] {
            assert_eq!(asked_at(&error(text), "a"), None, "{text}");
        }
    }

    #[test]
    fn a_command_without_the_right_and_one_that_is_disabled_are_refused_and_the_connection_is_as_good() {
        for text in [
            "NOPERM this user has no permissions to run the 'subscribe' command",
            "ERR unknown command 'SUBSCRIBE', with args beginning with: 'a'",
            "ERR unknown command `SUBSCRIBE`, with args beginning with: `a`",
            "ERR unknown subcommand 'SETNAME'. Try CLIENT HELP.",
            "ERR Unknown subcommand or wrong number of arguments for 'SETNAME'. Try CLIENT HELP.",
        ] {
            assert!(is_refusal(&error(text)), "{text}");
        }
        for text in ["ERR Protocol error: unknown command", "ERR", "LOADING unknown command", "MOVED 1 unknown:1"] {
            assert!(!is_refusal(&error(text)), "{text}");
        }
    }
}
