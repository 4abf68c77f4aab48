//! The bounds on connections whose request nobody has read yet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{future::pending, net::SocketAddr, time::Duration};

use rooms_core::{Limits, Proxies, RoomManager, RoomManagerBuilder, Shutdown, adapter};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose connections are open until their clients end them.
struct Server {
    rooms: RoomManager,
    address: SocketAddr,
    /// From where the connections come that it serves, one after another.
    served: mpsc::UnboundedReceiver<SocketAddr>,
}

impl Server {
    async fn start(builder: RoomManagerBuilder, limits: impl FnOnce(&mut Limits)) -> Self {
        let rooms: RoomManager = builder.limits(limits).build().unwrap();
        let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let (serves, served) = mpsc::unbounded_channel();
        let serving = rooms.clone();
        tokio::spawn(async move {
            adapter::serve(&serving, listener, pending(), Shutdown::within(PATIENCE), move |mut stream, peer, _| {
                serves.send(peer).unwrap();
                async move { while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {} }
            })
            .await;
        });
        Self { rooms, address, served }
    }

    async fn connect(&self, from: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, from], 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Waits until it serves this connection.
    async fn serves(&mut self, stream: &TcpStream) {
        let next = timeout(PATIENCE, self.served.recv()).await.expect("it is served in time");
        assert_eq!(next, Some(stream.local_addr().unwrap()));
    }
}

#[tokio::test]
async fn one_too_many_waits_until_another_has_gone() {
    let mut server = Server::start(RoomManager::builder(), |limits| limits.max_http_connections = 2).await;
    let (one, two) = (server.connect(1).await, server.connect(2).await);
    server.serves(&one).await;
    server.serves(&two).await;
    let mut three = server.connect(3).await;
    three.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // It would be a matter of microseconds.
    let early = timeout(Duration::from_millis(300), server.served.recv()).await;
    assert!(early.is_err(), "{early:?} beside two others");
    drop(one);
    server.serves(&three).await;
    drop(two);
    let four = server.connect(4).await;
    server.serves(&four).await;
    assert_eq!(server.rooms.stats().limited, 0, "nobody was refused");
}

#[tokio::test]
async fn one_too_many_of_an_address_is_told_429_and_keeps_out_nobody_else() {
    let proxies = Proxies::x_forwarded_for(["127.0.0.9"]).unwrap();
    let mut server =
        Server::start(RoomManager::builder().proxies(proxies), |limits| limits.max_http_connections_per_ip = 2).await;
    let (one, two) = (server.connect(1).await, server.connect(1).await);
    server.serves(&one).await;
    server.serves(&two).await;
    for refused in 1..=3 {
        let mut three = server.connect(1).await;
        let mut answer = String::new();
        timeout(PATIENCE, three.read_to_string(&mut answer)).await.expect("the end in time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
        assert_eq!(server.rooms.stats().limited, refused);
    }
    let other = server.connect(2).await;
    server.serves(&other).await;
    // All clients of a named proxy have its address.
    let mut through = Vec::new();
    for _ in 0..5 {
        through.push(server.connect(9).await);
        server.serves(through.last().unwrap()).await;
    }
    drop(one);
    let three = loop {
        let mut three = server.connect(1).await;
        // Until the server has seen that the first has gone.
        let answer = timeout(Duration::from_millis(100), three.read(&mut [0; 64])).await;
        if answer.is_err() {
            break three;
        }
    };
    server.serves(&three).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_connected_before_it_began_is_given_up_as_soon_as_others_when_gone_without_a_word() {
    let builder = RoomManager::builder().limits(|limits| {
        (limits.ping_interval, limits.pong_timeout) = (Duration::from_millis(200), Duration::from_millis(300));
    });
    let rooms: RoomManager = builder.build().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    // What comes to the socket is dropped before TCP sees it, as where the network is gone: "return 0".
    socket2::SockRef::from(&client).attach_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)]).unwrap();
    let (ends, mut ended) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        adapter::serve(&rooms, listener, pending(), Shutdown::within(PATIENCE), move |mut stream, _, _| {
            let ends = ends.clone();
            async move {
                stream.write_all(b"never confirmed").await.unwrap();
                ends.send(stream.read(&mut [0]).await).unwrap();
            }
        })
        .await;
    });
    // The kernel's own patience is some 15 minutes.
    let end = timeout(PATIENCE, ended.recv()).await.expect("it is given up in time").unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    drop(client);
}
