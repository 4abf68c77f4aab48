//! A bus over TLS, to a server whose certificate an authority of our own has signed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{fs, path::Path, process::Command};

use rooms_core::Bus;
use rooms_redis::{ConnectError, RedisBus};
use tempfile::TempDir;

use listener::{Listener, room, subscribe};
use redis_server::{RedisServer, free_port};

/// Makes an authority and a server's certificate for `localhost`: `ca.pem`, `server.pem`, `server.key`.
fn certificates(directory: &Path) {
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let commands = [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ];
    for command in commands {
        let output = Command::new("openssl").args(command.split(' ')).current_dir(directory).output();
        let output = output.unwrap_or_else(|error| panic!("openssl: {error}; `apt-get install openssl` installs it"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn a_server_of_a_trusted_authority_carries_messages_and_any_other_is_refused() {
    let directory = TempDir::new().unwrap();
    certificates(directory.path());
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let (certificate, key, authority) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let settings = ["--tls-port", &port.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let authorities = ["--tls-ca-cert-file", &authority, "--tls-auth-clients", "no"];
    let _redis = RedisServer::with(&[&settings[..], &authorities[..]].concat()).await;

    let url = format!("rediss://localhost:{port}");
    let bus = RedisBus::builder(&url).tls_root(fs::read(&authority).unwrap()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    bus.publish(&room("post:42"), "over TLS".into()).await.unwrap();
    heard.hears("post:42 over TLS").await;

    let stranger = RedisBus::connect(&url).await.unwrap_err();
    assert!(matches!(stranger, ConnectError::Unreachable(_)), "{stranger:?}");
}
