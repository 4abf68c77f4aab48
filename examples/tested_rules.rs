//! An application's rules, and their tests: `cargo test --example tested_rules --features testing`.
//!
//! The kinds are registered by one function. The program calls it with its builder, and the tests with theirs.

use rooms::{HookError, JwtAuthenticator, Kind, RoomManager, RoomManagerBuilder};
use serde::Deserialize;
use serde_json::json;

/// What a member publishes.
#[derive(Deserialize)]
struct Word {
    text: String,
}

/// Channels are open to everybody who does not call himself mallory; words are published by members, and short.
fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    let channel = Kind::new().join_rule(|who, _| async move { who.user() != "mallory" }).list_members().allow_publish();
    let channel = channel.on_publish(|_, word| async move {
        let Word { text } = word.parse()?;
        let short = text.len() <= 100;
        if short {
            Ok(json!({"type": "said", "text": text}))
        } else {
            Err(HookError::refused("a `text` of at most 100 bytes"))
        }
    });
    rooms.kind("channel", channel).kind("user", Kind::owner_only())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let authenticator = JwtAuthenticator::hs256("a secret of at least 32 bytes....")?;
    let _rooms: RoomManager = kinds(RoomManager::builder().authenticator(authenticator)).build()?;
    println!("the kinds fit; `cargo test --example tested_rules --features testing` tries them");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rooms::testing::kit::RoomsTest;
    use serde_json::json;

    use super::kinds;

    #[tokio::test(start_paused = true)]
    async fn members_hear_each_other_and_mallory_stays_outside() {
        let test = RoomsTest::new(kinds);
        let mut ada = test.connect("ada").await;
        let mut bob = test.connect("bob").await;
        ada.join("channel:general").await;
        bob.join("channel:general").await;
        ada.publish("channel:general", &json!({"type": "said", "text": "hi"})).await;
        assert_eq!(bob.expect_event("said").await["text"], "hi");
        assert!(test.connect("mallory").await.try_join("channel:general").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_speech_is_refused() {
        let test = RoomsTest::new(kinds);
        let mut ada = test.connect("ada").await;
        ada.join("channel:general").await;
        ada.send(&json!({"type": "publish", "room": "channel:general", "data": {"text": "x".repeat(101)}}));
        assert_eq!(ada.expect_event("error").await["message"], "a `text` of at most 100 bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_on_a_node_that_dies_is_gone_for_the_others() {
        let test = RoomsTest::with_nodes(2, kinds);
        let mut ada = test.connect("ada").await;
        let mut bob = test.connect_to(1, rooms::Identity::new("bob").unwrap()).await;
        ada.join("channel:general").await;
        bob.join("channel:general").await;
        ada.forget().await;
        test.faults(1).kill();
        test.advance(Duration::from_secs(8)).await;
        assert_eq!(ada.expect_event("viewer_left").await["users"], json!([{"user": "bob"}]));
    }
}
