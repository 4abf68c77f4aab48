//! A room over two processes, in two terminals, and a third that is no program of ours:
//!
//! ```sh
//! cargo run --example two_nodes --features redis        # twice; then type a line into one of them
//! redis-cli PUBLISH ws:post:42 '{"type":"new_comment"}'  # both print it
//! ```
//!
//! `REDIS_URL` is `redis://127.0.0.1:6379` unless set. There is no web server: the one member of each process is a channel.

use std::{env, error::Error};

use futures::{StreamExt as _, channel::mpsc};
use rooms::{Identity, Kind, Message, RoomKey, RoomManager, redis::RedisBus};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let rooms: RoomManager<mpsc::UnboundedSender<Message>> =
        RoomManager::build_for().kind("post", Kind::authenticated()).bus(RedisBus::connect(url).await?).build()?;
    let room = RoomKey::new("post", 42)?;

    let (sink, mut inbox) = mpsc::unbounded();
    let mut member = rooms.connect(Identity::new("5")?, sink)?;
    tokio::spawn(member.drive());
    member.join(&room).await?;
    println!("in post:42; what is typed here goes to every process");

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(text) => {
                    let receipt = rooms.broadcast(&room, &json!({"type": "said", "text": text})).await?;
                    println!("sent: {:?}", receipt.reach);
                }
                None => return Ok(()),
            },
            message = inbox.next() => match message {
                Some(message) => println!("{}", String::from_utf8_lossy(message.payload())),
                None => return Ok(()),
            },
        }
    }
}
