//! A TCP proxy as of a network that lets no WebSocket through.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct NoSockets {
    pub(crate) port: u16,
    state: Arc<watch::Sender<Network>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Requests are answered, and upgrades are dropped.
    Blocks,
    /// Nothing gets through, and what there was is cut.
    Gone,
    /// Upgrades get through, too.
    Open,
}

impl NoSockets {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(watch::Sender::new(Network::Blocks));
        let networks = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut network = networks.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, server, network.clone()) => {}
                        _ = network.wait_for(|network| *network == Network::Gone) => {}
                    }
                });
            }
        });
        Self { port, state }
    }

    pub(crate) fn set(&self, network: Network) {
        self.state.send_replace(network);
    }
}

/// Each connection is looked at for its first request: a browser upgrades only connections that are new.
async fn carry(mut client: TcpStream, server: u16, network: watch::Receiver<Network>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let is_upgrade = String::from_utf8_lossy(&head).to_lowercase().contains("upgrade: websocket");
    if is_upgrade && *network.borrow() == Network::Blocks {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    if server.write_all(&head).await.is_ok() {
        _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
