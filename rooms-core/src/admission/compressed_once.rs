//! A broadcast is compressed once, however many members there are, and so however many of them a flusher takes at once.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::Sink;
use tokio::time::{sleep, timeout};

use crate::{
    auth::Identity,
    close::Close,
    handshake::Deflate,
    kind::Kind,
    lock::lock,
    manager::RoomManager,
    message::{Form, Message},
    outbox::Framing,
    room_key::RoomKey,
};

/// Of a clock that stands still unless all wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps what it is given, which is then known by where its bytes are.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Message>>>);

impl Sink<Message> for Kept {
    type Error = Close;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Close>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Close> {
        lock(&self.0).push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Close>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Close>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn all_members_are_given_the_same_memory() {
    let rooms: RoomManager<Kept> = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let room = RoomKey::new("post", 42).unwrap();
    let deflate = Some(Deflate { window_bits: 15 });
    let mut members = Vec::new();
    // More than a flusher takes at once, in both forms.
    for n in 0..300 {
        let (kept, form) = (Kept::default(), if n % 2 == 0 { Form::Single } else { Form::Multi });
        let who = Identity::new(format!("u{n}")).unwrap();
        let mut connection =
            rooms.try_connect(who, None, kept.clone(), Framing { form, deflate }).map_err(|_| ()).unwrap();
        connection.join(&room).await.unwrap();
        tokio::spawn(connection.drive());
        members.push((connection, kept, form));
    }
    let text = "so it is, ".repeat(400);
    rooms.broadcast(&room, &text).await.unwrap();
    let mut given = Vec::new();
    for (_, kept, form) in &members {
        let compressed = |message: &&Message| message.frame().first() == Some(&0xC1);
        let message = timeout(PATIENCE, async {
            loop {
                let found = lock(&kept.0).iter().find(compressed).cloned();
                match found {
                    Some(message) => break message,
                    None => sleep(Duration::from_millis(1)).await,
                }
            }
        });
        let message = message.await.expect("the broadcast, compressed");
        assert!(message.frame().len() < text.len() / 4, "compressed");
        given.push((*form, message.frame().as_ptr() as usize));
    }
    for form in [Form::Single, Form::Multi] {
        let mut places: Vec<usize> = given.iter().filter(|(of, _)| *of == form).map(|(_, place)| *place).collect();
        assert_eq!(places.len(), 150);
        places.dedup();
        assert_eq!(places.len(), 1, "{form:?}");
    }
}
