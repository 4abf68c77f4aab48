//! This library without a framework: a listener of its own, and each connection in several rooms.

use std::{sync::Arc, thread};

use rooms::{Identity, Kind, RoomKey, RoomManager, ws};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::{Command, Filling, announce, control, floor::shake_hands};
use crate::Result;

pub(super) async fn serve(filling: Filling, each: u32) -> Result<()> {
    let rooms = RoomManager::builder().kind("post", Kind::authenticated()).build()?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let commands = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce(listener.local_addr()?, commands.local_addr()?);
    let (runtime, manager) = (Handle::current(), rooms.clone());
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            // A client that goes away in its handshake is no reason to stop.
            let Ok((first, stream)) = shake_hands(stream) else { continue };
            let manager = manager.clone();
            runtime.spawn(async move {
                if let Err(error) = member(manager, number, stream, first..first + each).await {
                    eprintln!("{error}");
                }
            });
        }
    });
    let filling = Arc::new(filling);
    let publish = async |command: Command| {
        let Ok(room) = RoomKey::new("post", command.room) else { return };
        if let Err(error) = rooms.broadcast(&room, &filling.payload(command)).await {
            eprintln!("{error}");
        }
    };
    Ok(control(commands, publish, String::new).await?)
}

async fn member(
    rooms: RoomManager,
    number: usize,
    stream: std::net::TcpStream,
    keys: std::ops::Range<u32>,
) -> Result<()> {
    stream.set_nonblocking(true)?;
    let (_read, sink) = ws::tcp(TcpStream::from_std(stream)?, &[], rooms.limits())?;
    let mut connection = rooms.connect(Identity::new(format!("user{number}"))?, sink)?;
    for key in keys {
        connection.join(&RoomKey::new("post", key)?).await?;
    }
    connection.drive().await;
    Ok(())
}
