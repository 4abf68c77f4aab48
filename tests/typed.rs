//! Events that are declared once: the schemas that are made of them, the page's types that are made of those, and the page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc};
use rooms::{Identity, Kind, Message, RoomManager, bus::Retention};
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const HINT: &str = "`apt-get install nodejs npm` installs what it needs";

/// Where the packages of npm are.
fn packages() -> String {
    let fetched = Command::new("scripts/npm-packages").current_dir(ROOT).output().unwrap();
    assert!(fetched.status.success(), "{}; {HINT}", String::from_utf8_lossy(&fetched.stderr));
    String::from_utf8(fetched.stdout).unwrap().trim().to_owned()
}

fn node(words: &[&str], input: &str) -> Output {
    let mut node = Command::new("node");
    node.args(words).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut node = node.spawn().expect(HINT);
    node.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    node.wait_with_output().unwrap()
}

/// What the example prints.
fn example(option: &str) -> String {
    let program = lines::example("typed");
    let said = Command::new(program).arg(option).output();
    let said = said.unwrap_or_else(|error| panic!("{error}: {}", lines::how_to_build("typed")));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

fn types(schema: &str) -> String {
    let generated = node(&["clients/typescript/bin/ws-rooms-types.mjs"], schema);
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    String::from_utf8(generated.stdout).unwrap()
}

/// What the compiler says of the page with these types.
fn compile(types: &str) -> Result<(), String> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let example = Path::new(ROOT).join("examples/typed");
    let config = fs::read_to_string(example.join("tsconfig.json")).unwrap();
    let config = config.replace("../../src", &format!("{ROOT}/src"));
    for (name, text) in [
        ("tsconfig.json", &*config),
        ("page.js", &fs::read_to_string(example.join("page.js")).unwrap()),
        ("rooms-types.d.ts", types),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let tsc = format!("{}/typescript/bin/tsc", packages());
    let compiled = node(&[&tsc, "--project", directory.path().to_str().unwrap()], "");
    if compiled.status.success() { Ok(()) } else { Err(String::from_utf8(compiled.stdout).unwrap()) }
}

#[test]
fn the_pages_types_are_those_of_the_server_and_the_page_holds_to_them() {
    let schema = example("--schema");
    let generated = types(&schema);
    let file = Path::new(ROOT).join("examples/typed/rooms-types.d.ts");
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == generated,
        "examples/typed/rooms-types.d.ts is to be made anew; its main.rs says how:\n{generated}"
    );
    assert!(generated.contains("| {\n      type: \"card_removed\";\n      id: number;\n    }"), "{generated}");
    assert_eq!(compile(&generated), Ok(()));

    // An event more, and a field less.
    let mut changed: Value = serde_json::from_str(&schema).unwrap();
    let events = &mut changed["definitions"]["BoardEvent"]["oneOf"];
    let moved = json!({"type": "object", "properties": {"type": {"const": "card_moved"}}, "required": ["type"]});
    events.as_array_mut().unwrap().push(moved);
    let errors = compile(&types(&changed.to_string())).unwrap_err();
    assert!(errors.contains("page.js") && errors.contains("'never'"), "{errors}");
    let errors = compile(&generated.replace("text: string;", "body: string;")).unwrap_err();
    assert!(errors.contains("'text'"), "{errors}");
}

#[test]
fn a_check_fails_where_the_file_is_another_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let schema = example("--schema");
    let check = ["clients/typescript/bin/ws-rooms-types.mjs", "--check", "--out", file.path().to_str().unwrap()];
    fs::write(file.path(), types(&schema)).unwrap();
    assert!(node(&check, &schema).status.success());
    let refused = node(&check, &schema.replace("card_removed", "card_gone"));
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("generate it again"));
}

/// What the server sends in a conversation about everything that the protocol has for one page.
async fn events() -> Vec<Value> {
    let log = Kind::authenticated().list_members().allow_publish().history(Retention::messages(10));
    let rooms: RoomManager = RoomManager::builder()
        .kind("log", log)
        .kind("board", Kind::authenticated().keep_state(Duration::from_secs(60)).observe_rule(|_, _| async { true }))
        .build()
        .unwrap();
    let (sink, received) = mpsc::unbounded::<Message>();
    let said = [
        json!({"type": "join", "room": "log:1", "since": "7.7", "newest": 5, "ref": 1}),
        json!({"type": "join", "room": "board:1", "observe": true}),
        json!({"type": "publish", "room": "log:1", "data": {"type": "error"}, "ref": {"n": 1}}),
        json!({"type": "publish", "room": "nowhere:1", "data": 1}),
        json!({"type": "dance"}),
        json!({"type": "ping", "ref": 2}),
        json!({"type": "leave", "room": "log:1"}),
    ];
    rooms.broadcast(&"log:1".parse().unwrap(), &json!({"type": "logged"})).await.unwrap();
    rooms
        .broadcast_state(&"board:1".parse().unwrap(), &json!({"cards": {"1": 1}, "x": "y".repeat(100)}))
        .await
        .unwrap();
    let input = futures::stream::iter(said.map(|text| Ok(rooms::ws::Incoming::Text(text.to_string()))));
    let session = rooms.with_sink().serve(input, sink, Identity::new("ada").unwrap());
    session.await;
    let texts: Vec<Message> = received.collect().await;
    texts.iter().filter_map(Message::as_text).map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[tokio::test]
async fn the_documents_are_valid_and_say_what_the_server_sends() {
    let events = events().await;
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    for of in ["room_joined", "resync", "room_state", "message", "published", "error", "pong", "room_left"] {
        assert!(types.contains(&of), "{of}: {types:?}");
    }
    let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let all = json!({
        "asyncApi": parse(example("--async-api")),
        "jsonSchema": parse(example("--schema")),
        "events": events,
    });
    let checked = node(&["tests/typed/validate.mjs", &packages()], &all.to_string());
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
