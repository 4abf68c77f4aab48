//! Each span of an upgrade, a join, a hook and a publish says what came of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/upgrade.rs"]
mod upgrade;

use std::{
    fmt::{Debug, Write as _},
    future::{pending, ready},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::Method;
use rooms_core::{
    Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, LocalBus, Publisher, RoomKey, RoomManager,
    adapter::{Admission, Refusal},
    ws,
};
use serde_json::json;
use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};
use tracing::{
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _, registry::LookupSpan};

use upgrade::headers;

/// The spans that were closed: of each its name and its own fields, in the order in which they were recorded.
#[derive(Clone, Default)]
struct Closed(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Closed {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields(attributes.metadata().name().to_owned());
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        values.record(context.span(id).unwrap().extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        self.0.lock().unwrap().push(span.extensions().get::<Fields>().unwrap().0.clone());
    }
}

/// A token is the user's id, and `bad` is none.
#[derive(Debug)]
struct ByName;

#[async_trait]
impl Authenticator for ByName {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let user = attempt.token().filter(|token| *token != "bad");
        Identity::new(user.ok_or(AuthError::Signature)?).map_err(|_| AuthError::Subject)
    }
}

fn key(room: &str) -> RoomKey {
    room.parse().unwrap()
}

async fn admit(rooms: &RoomManager, user: &str, more: &[(&str, &str)]) -> Result<Admission, Refusal> {
    let uri = format!("/?token={user}").parse().unwrap();
    rooms.admit(rooms.endpoint(), &Method::GET, &uri, &headers(more), None).await
}

/// A user's connection to a room, which ends when it is dropped.
async fn connect(rooms: &RoomManager, user: &str, room: &str) -> DuplexStream {
    let (client, server) = duplex(64 * 1024);
    let limits = rooms.limits().clone();
    let socket = async move { Ok::<_, io::Error>(ws::over(server, &[], &limits)) };
    admit(rooms, user, &[]).await.unwrap().serve_room(key(room), socket);
    // Longer than a hook may take, and no ping waits for its answer.
    sleep(rooms.limits().hook_timeout + Duration::from_secs(1)).await;
    client
}

#[tokio::test(start_paused = true)]
async fn each_span_says_what_came_of_it() {
    let closed = Closed::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let rooms = RoomManager::builder()
        .authenticator(ByName)
        .endpoint(Endpoint::new().query_token("token"))
        .kind("post", Kind::authenticated().on_join(|_| async { Ok(json!({})) }))
        .kind("shut", Kind::new())
        .kind("panics", Kind::authenticated().on_join(|_| async { panic!("as it is to") }))
        .kind("hangs", Kind::authenticated().on_join(|_| pending()))
        .limits(|limits| limits.max_connections_per_user = 1)
        .build()
        .unwrap();

    let _ann = connect(&rooms, "ann", "post:1").await;
    drop(connect(&rooms, "ann", "post:1").await);
    drop(connect(&rooms, "bad", "post:1").await);
    for (user, room) in [("bob", "shut:1"), ("cy", "panics:1"), ("dan", "hangs:1")] {
        drop(connect(&rooms, user, room).await);
    }
    assert_eq!(admit(&rooms, "eve", &[("origin", "https://evil.example")]).await.unwrap_err(), Refusal::Origin);
    _ = admit(&rooms, "eve", &[]).await.unwrap().refuse(Refusal::Room);
    admit(&rooms, "eve", &[]).await.unwrap().serve(ready(Err(io::Error::other("cut"))));
    admit(&rooms, "eve", &[]).await.unwrap().serve(pending::<io::Result<_>>());
    rooms.broadcast(&key("post:1"), &json!({})).await.unwrap();
    let too_big = "x".repeat(rooms.limits().max_broadcast_bytes);
    assert!(rooms.broadcast(&key("post:1"), &json!(too_big)).await.is_err());
    let publisher = Publisher::builder(LocalBus::new()).build().unwrap();
    publisher.broadcast(&key("elsewhere:1"), &json!({})).await.unwrap();
    sleep(Duration::from_secs(60)).await;

    let closed = closed.0.lock().unwrap();
    // How a span begins and how it ends.
    let expected = [
        ("upgrade connection=", r#"outcome="connected""#),
        ("upgrade", r#"outcome="no_place""#),
        ("upgrade", r#"outcome="turned_away""#),
        ("upgrade", r#"outcome="origin""#),
        ("upgrade", r#"outcome="room""#),
        ("upgrade", r#"outcome="failed""#),
        ("upgrade", r#"outcome="timed_out""#),
        ("join connection=", r#"kind="post" outcome="joined""#),
        ("join connection=", r#"kind="shut" outcome="not_allowed""#),
        ("join connection=", r#"kind="panics" outcome="refused""#),
        (r#"hook hook="on_join" kind="post" connection="#, r#"outcome="ended""#),
        (r#"hook hook="on_join" kind="panics" connection="#, r#"outcome="panicked""#),
        (r#"hook hook="on_join" kind="hangs" connection="#, r#"outcome="timed_out""#),
        ("publish", r#"kind="post" outcome="all_nodes""#),
        ("publish", r#"kind="post" outcome="too_big""#),
        ("publish", r#"kind="unknown" outcome="all_nodes""#),
    ];
    let missing = expected
        .iter()
        .filter(|(begin, end)| !closed.iter().any(|span| span.starts_with(begin) && span.ends_with(end)));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:#?} of {closed:#?}");
    let without = |span: &&String| {
        ["upgrade", "join", "hook", "publish"].iter().any(|name| span.starts_with(name)) && !span.contains(" outcome=")
    };
    assert_eq!(closed.iter().filter(without).collect::<Vec<_>>(), Vec::<&String>::new());
}
