//! The schema says again what commands and error codes there are: here the two are compared.

use serde_json::{Value, json};

use super::{Command, ErrorCode, multi};

const SCHEMA: &str = include_str!("../schema/protocol.json");

/// What a command is called. Whoever adds one adds it to the list of the test, too, and to the schema.
fn name(command: &Command<'_>) -> Option<&'static str> {
    match command {
        Command::Ping => Some("ping"),
        Command::Refresh(_) => Some("refresh"),
        Command::Join(..) => Some("join"),
        Command::Leave(_) => Some("leave"),
        Command::Publish(..) => Some("publish"),
        Command::Application(_) => None,
    }
}

/// The code after this one, in the order of the declaration: every one is reached, or this does not compile.
fn after(code: ErrorCode) -> Option<ErrorCode> {
    match code {
        ErrorCode::BadMessage => Some(ErrorCode::UnknownType),
        ErrorCode::UnknownType => Some(ErrorCode::Unsupported),
        ErrorCode::Unsupported => Some(ErrorCode::BadRoom),
        ErrorCode::BadRoom => Some(ErrorCode::NotAllowed),
        ErrorCode::NotAllowed => Some(ErrorCode::NotJoined),
        ErrorCode::NotJoined => Some(ErrorCode::TooManyRooms),
        ErrorCode::TooManyRooms => Some(ErrorCode::TooBig),
        ErrorCode::TooBig => Some(ErrorCode::Refused),
        ErrorCode::Refused => Some(ErrorCode::BadToken),
        ErrorCode::BadToken => Some(ErrorCode::Unavailable),
        ErrorCode::Unavailable => Some(ErrorCode::RateLimited),
        ErrorCode::RateLimited => None,
    }
}

#[test]
fn the_schema_has_every_command_and_what_it_calls_one_is_read_as_that() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let titles: Vec<_> = schema["client"].as_array().unwrap().iter().map(|it| it["title"].as_str().unwrap()).collect();
    // `auth` is read before a connection has rooms, by `first_message`.
    assert_eq!(titles, ["auth", "join", "leave", "publish", "refresh", "ping"]);
    for (title, command) in titles.iter().zip(schema["client"].as_array().unwrap()) {
        assert_eq!(command["properties"]["type"]["const"], **title);
        let said = json!({"type": title, "room": "post:42", "data": 1, "token": "t"}).to_string();
        let read = multi::read(&said).command.unwrap();
        assert_eq!(name(&read), (*title != "auth").then_some(*title));
    }
}

#[test]
fn the_schema_has_every_error_code() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let events = schema["server"].as_array().unwrap();
    let error = events.iter().find(|event| event["title"] == "error").unwrap();
    let codes: Vec<_> = std::iter::successors(Some(ErrorCode::BadMessage), |code| after(*code)).collect();
    assert_eq!(error["properties"]["code"]["anyOf"][0]["enum"], json!(codes));
}
