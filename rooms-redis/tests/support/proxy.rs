//! A TCP proxy in front of Redis that cuts, stalls and half-closes.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// How the proxy treats the connections that there are; new ones are as those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Open,
    /// Nothing goes either way, and nobody is told.
    Stalled,
    /// Nothing comes from Redis; what is sent to it arrives.
    Mute,
    /// Where Redis closes, the client is not told.
    HidesTheEnd,
    /// The client is told that Redis has closed, and Redis is told nothing, whatever the client does.
    HalfClosed,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    links: Arc<Mutex<Vec<watch::Sender<Link>>>>,
    accepted: Arc<AtomicUsize>,
    state: watch::Sender<Link>,
}

impl Proxy {
    pub(crate) async fn before(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let links = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::new(AtomicUsize::new(0));
        let state = watch::Sender::new(Link::Open);
        let (all, count, current) = (Arc::clone(&links), Arc::clone(&accepted), state.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", redis)).await else { continue };
                let link = watch::Sender::new(*current.borrow());
                count.fetch_add(1, Ordering::Relaxed);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(carry(from_client, to_server, link.subscribe(), Direction::ToRedis));
                tokio::spawn(carry(from_server, to_client, link.subscribe(), Direction::FromRedis));
                all.lock().unwrap().push(link);
            }
        });
        Self { port, links, accepted, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Treats all connections so, and those to come.
    pub(crate) fn set(&self, link: Link) {
        self.state.send_replace(link);
        self.set_present(link);
    }

    /// Treats the connections that there are so.
    pub(crate) fn set_present(&self, link: Link) {
        for present in &*self.links.lock().unwrap() {
            present.send_replace(link);
        }
    }

    /// Closes the connections that there are, to both sides.
    pub(crate) fn cut(&self) {
        self.links.lock().unwrap().clear();
    }

    /// How many connections there were so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToRedis,
    FromRedis,
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>, direction: Direction) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let passes = |link: &Link| match link {
            Link::Open | Link::HidesTheEnd => true,
            Link::Stalled | Link::HalfClosed => false,
            Link::Mute => direction == Direction::ToRedis,
        };
        if *link.borrow() == Link::HalfClosed && direction == Direction::FromRedis {
            _ = to.shutdown().await;
        }
        if link.wait_for(passes).await.is_err() {
            return;
        }
        let count = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            changed = link.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if count == 0 {
            // The other side is told by dropping `to`, unless it is to be left in the dark.
            if *link.borrow() == Link::HidesTheEnd {
                while link.changed().await.is_ok() {}
            }
            return;
        }
        // What was read before a stall may be on its way still; that is how a network is, too.
        if !passes(&link.borrow()) && link.wait_for(passes).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
