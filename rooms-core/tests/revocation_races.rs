//! A revocation that comes while somebody is let in, on another thread. What lies between the two looks at the list is made
//! long, so that they do meet there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/visitor.rs"]
mod visitor;

use std::{
    pin::Pin,
    sync::{Arc, Barrier, mpsc},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, Sink};
use rooms_core::{
    Attempt, AuthError, Authenticator, Close, Endpoint, Identity, Kind, Message, Revocation, RoomManager,
};
use serde_json::json;
use tokio::runtime::Handle;

use visitor::{Visitor, admit, builder};

/// A sink that takes some microseconds to be put into its place.
#[expect(dead_code, reason = "it is there for its size")]
struct Wide([u8; 256 * 1024]);

impl Sink<Message> for Wide {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), ()> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn however_a_connection_and_a_revocation_meet_one_of_them_sees_the_other() {
    let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    for round in 0..400_u64 {
        let user = format!("u{round}");
        let (start, connecting) = (Arc::new(Barrier::new(2)), rooms.clone());
        let (begin, identity) = (Arc::clone(&start), Identity::new(user.as_str()).unwrap());
        let connect = move || {
            begin.wait();
            connecting.connect(identity, Wide([0; 256 * 1024]))
        };
        let connect = thread::Builder::new().stack_size(16 * 1024 * 1024).spawn(connect).unwrap();
        start.wait();
        // Earlier or later, from round to round.
        let (now, wait) = (Instant::now(), Duration::from_micros(round % 200));
        while now.elapsed() < wait {}
        rooms.revoke(Revocation::User(user)).await.unwrap();
        if let Ok(connection) = connect.join().unwrap() {
            let close = connection.drive().now_or_never().expect("it is closed");
            assert_eq!(close, Some(Close::REVOKED));
        }
    }
    assert_eq!(rooms.stats().connections, 0);
}

/// The token is the `iat` of user 5.
#[derive(Debug)]
struct Issued(mpsc::Sender<()>);

#[async_trait::async_trait]
impl Authenticator for Issued {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let iat: u64 = attempt.token().and_then(|token| token.parse().ok()).ok_or(AuthError::Missing)?;
        self.0.send(()).map_err(|_| AuthError::Unavailable)?;
        Ok(Identity::new("5").map_err(|_| AuthError::Subject)?.with_claims(json!({"sub": "5", "iat": iat}).to_string()))
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_while_it_takes_the_place_of_another_ends_the_connection() {
    for after in 0..6 {
        let (asked, is_asked) = mpsc::channel();
        let endpoint = Endpoint::new().query_token("token");
        let rooms = builder().authenticator(Issued(asked)).endpoint(endpoint).build().unwrap();
        // The claims that are added again take milliseconds.
        let more = (0..5_000).map(|n| (n.to_string(), json!(n)));
        let admission = admit(&rooms, "192.0.2.1", "/?token=200", &[]).await.unwrap().with_claims(more);
        is_asked.recv().unwrap();
        let mut visitor = Visitor::of_many(admission);
        visitor.say(r#"{"type":"refresh","token":"100"}"#).await;
        let (revoking, runtime) = (rooms.clone(), Handle::current());
        let revoker = thread::spawn(move || {
            is_asked.recv().unwrap();
            thread::sleep(Duration::from_millis(after));
            let time: SystemTime = UNIX_EPOCH + Duration::from_secs(150);
            let older = Revocation::IssuedBefore { time, user: Some("5".into()) };
            runtime.block_on(revoking.revoke(older)).unwrap();
        });
        let code = loop {
            if let Err(code) = visitor.event().await {
                break code;
            }
        };
        assert_eq!(code, 4410);
        revoker.join().unwrap();
    }
}
