//! permessage-deflate against an independent implementation of it, in both directions: Python's `websockets`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use axum::{Router, response::Response, routing::get};
use jsonwebtoken::{EncodingKey, Header};
use rooms::{Endpoint, JwtAuthenticator, Kind, RoomManager, axum::RoomUpgrade};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command};

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";

async fn live(upgrade: RoomUpgrade) -> Response {
    upgrade.rooms()
}

/// Serves rooms over TCP; the URL.
async fn serve() -> String {
    let rooms: RoomManager = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
        .endpoint(Endpoint::new().query_token("token").deflate())
        .kind("post", Kind::authenticated().allow_publish())
        .limits(|limits| {
            (limits.messages_per_second, limits.message_burst) = (10_000, 10_000);
            (limits.publishes_per_second_per_user, limits.publish_burst_per_user) = (10_000, 10_000);
            (limits.bytes_per_second, limits.max_message_bytes) = (u32::MAX, 1 << 20);
            (limits.max_broadcast_bytes, limits.min_deflate_bytes) = (1 << 20, 64);
        })
        .build()
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/live", get(live)).with_state(rooms);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let claims = json!({"sub": "ann", "exp": 4_000_000_000_u64});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    format!("ws://{address}/live?token={token}")
}

#[tokio::test]
async fn another_implementation_reads_what_is_compressed_here_and_is_read_here() {
    let root = env!("CARGO_MANIFEST_DIR");
    let fetched = Command::new("scripts/websockets").current_dir(root).output().await;
    let fetched = fetched.unwrap_or_else(|error| panic!("scripts/websockets: {error}"));
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert!(fetched.status.success(), "{said}; `apt-get install python3 python3-pip` installs what it needs");
    let websockets = String::from_utf8(fetched.stdout).unwrap();

    let client = Command::new("python3")
        .args(["tests/compression.py", &serve().await])
        .current_dir(root)
        .env("PYTHONPATH", websockets.trim())
        .output()
        .await
        .unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    let checked: Vec<(String, u32, u32)> = String::from_utf8(client.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_value(serde_json::from_str::<Value>(line).unwrap()).unwrap())
        .collect();
    let [first, nine, twelve, plain, fifteen] = &*checked else { panic!("{checked:?}") };
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!([&*first.0, &*plain.0], [both; 2]);
    assert_eq!(nine.0, format!("{both}; server_max_window_bits=9"));
    assert_eq!(twelve.0, format!("{both}; server_max_window_bits=12"));
    assert_eq!(fifteen.0, format!("{both}; server_max_window_bits=15"));
    assert!(checked.iter().all(|(_, messages, _)| *messages > 70), "{checked:?}");
    // All but the very short ones; fewer where the window is shorter than many messages are.
    assert!(first.2 > 60 && [plain.2, fifteen.2] == [first.2; 2], "{checked:?}");
    assert!(0 < nine.2 && nine.2 < twelve.2 && twelve.2 < first.2, "{checked:?}");
}
