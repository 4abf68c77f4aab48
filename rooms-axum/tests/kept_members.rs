//! Members that the application keeps: the sockets of those who left are closed all the same. Alone in its process,
//! because it counts that process's sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "it uses a part of the service")]

#[path = "support/service.rs"]
mod service;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use rooms_core::{Kind, Member, RoomManager};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use service::{Service, close_of};

fn routes() -> Router<RoomManager> {
    Router::new().route("/posts/{id}/live", get(service::live))
}

/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(target_os = "linux")]
fn sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    descriptors.filter(|entry| std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(is_socket)).count()
}

#[cfg(not(target_os = "linux"))]
fn sockets() -> usize {
    0
}

#[tokio::test]
async fn a_member_that_is_kept_keeps_no_socket_open() {
    let kept = Arc::new(Mutex::new(Vec::<Member>::new()));
    let keep = Arc::clone(&kept);
    let kind = Kind::authenticated().on_join(move |member| {
        keep.lock().unwrap().push(member);
        async { Ok(Value::Null) }
    });
    let service = Service::with_kind(kind).await;
    let before = sockets();
    let (mut vanishing, mut closing) = (Vec::new(), Vec::new());
    for n in 0..25 {
        vanishing.push(service.raw_joined(&format!("v{n}")).await);
        closing.push(service.joined(&format!("c{n}")).await);
    }
    let members = Arc::clone(&kept);
    // It sends now and then, and does not look at what becomes of it.
    let ticks = tokio::spawn(async move {
        loop {
            members.lock().unwrap().iter().for_each(|member| _ = member.send(&json!({"type": "tick"})));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    for mut socket in vanishing {
        socket.shutdown().await.unwrap();
        // To the end that the server makes, or a reset.
        let ended = timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the server keeps its end open");
    }
    for mut socket in closing {
        socket.close(None).await.unwrap();
        _ = close_of(&mut socket).await;
    }
    let gone = async {
        while sockets() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("no socket that is left open");
    assert_eq!(service.rooms.stats().connections, 0);
    let members = kept.lock().unwrap();
    assert_eq!(members.len(), 50);
    assert!(members.iter().all(Member::is_closed));
    ticks.abort();
}
