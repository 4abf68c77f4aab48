//! Servers on which commands are disabled: a bus does without what it can do without, and names what it can't.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/logs.rs"]
mod logs;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/sentinels.rs"]
mod sentinels;

use std::error::Error;

use rooms_core::Bus;
use rooms_redis::{ConnectError, PubSub, RedisBus};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use cluster::Cluster;
use fleet::quick;
use listener::{Listener, healthy, room, subscribe, unsubscribe};
use logs::Logs;
use redis_server::{RedisServer, free_port};
use sentinels::Watched;

async fn works(bus: &RedisBus, heard: &Listener) {
    subscribe(bus, &[room("post:42")]).await;
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    heard.hears("post:42 it works").await;
    unsubscribe(bus, &[room("post:42")]).await;
    let health = bus.health();
    assert!(health.connected && health.last_fault.is_none(), "{health:?}");
}

/// The error and its cause, as a program would print them.
fn said(error: &ConnectError) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

#[tokio::test]
async fn a_server_without_client_and_without_role_is_as_good() {
    let disabled = ["--rename-command", "CLIENT", "", "--rename-command", "ROLE", ""];
    let redis = RedisServer::with(&disabled).await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    works(&bus, &Listener::of(&bus)).await;
}

#[tokio::test]
async fn a_user_without_the_optional_rights_has_all_of_a_bus() {
    let redis = RedisServer::start().await;
    let rights = ["&ws:*", "&rooms-*", "-@all", "+hello", "+publish", "+subscribe", "+unsubscribe"];
    redis.cli(&[&["ACL", "SETUSER", "node", "on", ">password", "resetkeys"], &rights[..]].concat()).await;
    let bus = quick(format!("redis://node:password@127.0.0.1:{}", redis.port)).connect().await.unwrap();
    let heard = Listener::of(&bus);
    works(&bus, &heard).await;
    // The server becomes the replica of another.
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    heard.hears("down").await;
    healthy(&bus, |health| health.last_fault.as_deref().is_some_and(|fault| fault.contains("replica"))).await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]).await;
    heard.hears_any(&["up", "up, perhaps with a loss"]).await;
}

/// Passes everything on to a Redis, but for the commands that it answers itself, as proxies of managed services do.
async fn proxy(redis: u16, command: &'static str, answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", redis)).await.unwrap();
                let (mut asked, mut answered) = ([0; 4096], [0; 4096]);
                loop {
                    tokio::select! {
                        count = client.read(&mut asked) => {
                            let Ok(count @ 1..) = count else { return };
                            let text = String::from_utf8_lossy(&asked[..count]).into_owned();
                            // The command comes first in what is sent with it.
                            let mut rest = text.as_str();
                            if let Some(behind) = text.strip_prefix(command) {
                                rest = &behind[behind.find('*').unwrap_or(behind.len())..];
                                client.write_all(answer.as_bytes()).await.unwrap();
                            }
                            server.write_all(rest.as_bytes()).await.unwrap();
                        }
                        count = server.read(&mut answered) => {
                            let Ok(count @ 1..) = count else { return };
                            if client.write_all(&answered[..count]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    format!("redis://127.0.0.1:{port}")
}

#[tokio::test]
async fn a_name_is_refused_in_whatever_words_and_the_bus_goes_on_without() {
    let redis = RedisServer::start().await;
    for words in [
        "-ERR unknown subcommand 'SETNAME'. Try CLIENT HELP.\r\n",
        "-ERR Command is not available: 'CLIENT'\r\n",
        "-NOPERM no\r\n",
        "-DISABLED ask your provider\r\n",
        "-unsupported\r\n",
        ":7\r\n",
    ] {
        let url = proxy(redis.port, "*3\r\n$6\r\nCLIENT\r\n", words).await;
        let bus = RedisBus::connect(url).await.unwrap_or_else(|error| panic!("{words}: {error:?}"));
        works(&bus, &Listener::of(&bus)).await;
        let names = redis.cli(&["CLIENT", "LIST"]).await;
        assert!(!names.contains("name=rooms"), "the proxy took none of it: {names}");
    }
}

#[tokio::test]
async fn what_a_bus_needs_and_is_disabled_is_named() {
    for (command, also) in [("HELLO", "Redis 6"), ("PUBLISH", ""), ("SUBSCRIBE", "")] {
        let redis = RedisServer::with(&["--rename-command", command, ""]).await;
        let error = RedisBus::connect(redis.url()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Resp2 | ConnectError::Refused(_)), "{error:?}");
        let text = said(&error);
        assert!(text.contains(command) && text.contains(also), "{text}");
    }
}

#[tokio::test]
async fn a_cluster_that_may_not_be_asked_says_which_right_is_missing_and_where() {
    let bus_port = free_port().to_string();
    let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus_port];
    let disabled = RedisServer::with(&[&settings[..], &["--rename-command", "CLUSTER", ""]].concat()).await;
    let builder = RedisBus::builder(disabled.url()).cluster([] as [&str; 0], PubSub::Sharded);
    let text = said(&builder.connect().await.unwrap_err());
    assert!(text.contains("a node of the cluster refused `CLUSTER INFO`") && text.contains("+cluster|info"), "{text}");
    assert!(text.contains("unknown command 'CLUSTER'"), "in its own words too: {text}");

    let bus_port = free_port().to_string();
    let redis = RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &bus_port]).await;
    redis.cli(&["ACL", "SETUSER", "node", "on", ">password", "&*", "+@all", "-cluster|slots"]).await;
    let url = format!("redis://node:password@127.0.0.1:{}", redis.port);
    let text = said(&RedisBus::builder(url).cluster([] as [&str; 0], PubSub::Classic).connect().await.unwrap_err());
    assert!(
        text.contains("a node of the cluster refused `CLUSTER SLOTS`") && text.contains("+cluster|slots"),
        "{text}"
    );
}

#[tokio::test]
async fn sentinels_that_may_not_be_asked_say_which_right_is_missing_and_where() {
    let watched = Watched::start().await;
    for sentinel in &watched.sentinels {
        sentinel.cli(&["ACL", "SETUSER", "asking", "on", ">password", "-@all"]).await;
    }
    let urls = watched.urls().into_iter().map(|url| url.replace("redis://", "redis://asking:password@"));
    let error = RedisBus::builder("redis://service").sentinels(urls).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
    let text = said(&error);
    assert!(text.contains("a sentinel refused") && text.contains("+sentinel|get-master-addr-by-name"), "{text}");
}

#[tokio::test]
async fn a_database_number_is_not_used_and_a_warning_says_so() {
    let logs = Logs::here();
    let redis = RedisServer::start().await;
    let plain = RedisBus::connect(redis.url()).await.unwrap();
    assert!(logs.with("database").is_empty());
    // Without the right to select one.
    redis.cli(&["ACL", "SETUSER", "node", "on", ">password", "&*", "+@all", "-select"]).await;
    let other = RedisBus::connect(format!("redis://node:password@127.0.0.1:{}/3", redis.port)).await.unwrap();
    let warned = logs.with("database number");
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("room_prefix") && !warned[0].contains("password"), "{warned:?}");
    // As it says: the two are on the same channels.
    let heard = Listener::of(&other);
    subscribe(&other, &[room("post:42")]).await;
    plain.publish(&room("post:42"), "from database 0".into()).await.unwrap();
    heard.hears("post:42 from database 0").await;
}

#[tokio::test]
async fn a_cluster_is_joined_by_a_url_with_a_database_number() {
    let cluster = Cluster::start().await;
    let url = format!("{}/3", cluster.nodes[0].url());
    let bus = RedisBus::builder(url).cluster([] as [&str; 0], PubSub::Sharded).connect().await.unwrap();
    works(&bus, &Listener::of(&bus)).await;
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn a_url_with_tls_names_the_feature_that_is_missing() {
    for url in ["rediss://:wr0ng@127.0.0.1:1", "valkeys://:wr0ng@127.0.0.1:1"] {
        let all = [
            RedisBus::builder(url),
            RedisBus::builder("redis://service").sentinels([url]),
            RedisBus::builder("redis://127.0.0.1:1").cluster([url], PubSub::Sharded),
        ];
        for builder in all {
            let error = builder.start().unwrap_err();
            assert!(matches!(error, ConnectError::NoTls), "{error:?}");
            let text = format!("{error} {error:?}");
            assert!(text.contains("`redis-tls`") && text.contains("`tls`") && !text.contains("wr0ng"), "{text}");
        }
    }
}
