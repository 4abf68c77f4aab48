//! A proxy that is spoken to over HTTP/1.1 and asks the server behind it over HTTP/2, with a connection for each client: the
//! upgrade to a WebSocket becomes an extended CONNECT (RFC 8441), and everything else is passed on as it is.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, ext::Protocol};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Where it listens.
pub(crate) async fn bridge(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("a client");
            tokio::spawn(pass(client, server));
        }
    });
    address
}

async fn pass(mut client: TcpStream, server: SocketAddr) -> Option<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        (client.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    };
    let early = Bytes::from(bytes.split_off(end));
    let head = String::from_utf8(bytes).ok()?;
    let mut upstream = TcpStream::connect(server).await.ok()?;
    let Some(upgrade) = Upgrade::read(&head) else {
        upstream.write_all(head.as_bytes()).await.ok()?;
        upstream.write_all(&early).await.ok()?;
        return copy_bidirectional(&mut client, &mut upstream).await.ok().map(drop);
    };
    // As browsers do, it takes any number of small frames.
    let mut h2 = h2::client::Builder::new();
    let (h2, connection) = h2.data_frame_budget(usize::MAX).handshake(upstream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut h2 = h2.ready().await.ok()?;
    // The settings, which allow it, come with the first bytes of the server.
    while !h2.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let (response, to_server) = h2.send_request(upgrade.request, false).ok()?;
    let (head, body) = response.await.ok()?.into_parts();
    let (status, accept) = match head.status.as_u16() {
        200 => {
            (101, format!("connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n", upgrade.accept))
        }
        refused => (refused, String::new()),
    };
    let mut answer = format!("HTTP/1.1 {status} .\r\n{accept}");
    for (name, value) in &head.headers {
        answer.push_str(&format!("{name}: {}\r\n", value.to_str().ok()?));
    }
    client.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    let (from_client, to_client) = client.into_split();
    tokio::spawn(up(early, from_client, to_server));
    tokio::spawn(down(body, to_client));
    Some(())
}

struct Upgrade {
    request: Request<()>,
    accept: String,
}

impl Upgrade {
    fn read(head: &str) -> Option<Self> {
        let mut lines = head.lines();
        let target = lines.next()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
        }
        let key = headers.remove("sec-websocket-key").filter(|key| key.len() == 24)?;
        headers.remove("connection")?;
        headers.remove("upgrade")?;
        let host = headers.remove("host")?;
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://{}{target}", host.to_str().ok()?))
            .version(Version::HTTP_2)
            .extension(Protocol::from_static("websocket"))
            .body(())
            .ok()?;
        *request.headers_mut() = headers;
        let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
        Some(Self { request, accept: STANDARD.encode(hash) })
    }
}

/// What the client sends, until it closes its side, which ends the stream, or breaks, which resets it.
async fn up(early: Bytes, mut client: OwnedReadHalf, mut server: SendStream<Bytes>) {
    let mut next = early;
    loop {
        while !next.is_empty() {
            server.reserve_capacity(next.len());
            let capacity = std::future::poll_fn(|cx| server.poll_capacity(cx)).await;
            let Some(Ok(capacity)) = capacity else { return };
            let now = next.split_to(capacity.min(next.len()));
            if server.send_data(now, false).is_err() {
                return;
            }
        }
        let mut buffer = vec![0; 16 * 1024];
        match client.read(&mut buffer).await {
            Ok(0) => return drop(server.send_data(Bytes::new(), true)),
            Ok(length) => {
                buffer.truncate(length);
                next = buffer.into();
            }
            Err(_) => return server.send_reset(Reason::CANCEL),
        }
    }
}

/// What the server sends; it may send more once the client's socket has taken it.
async fn down(mut server: RecvStream, mut client: OwnedWriteHalf) {
    while let Some(data) = server.data().await {
        let Ok(data) = data else { return };
        if client.write_all(&data).await.is_err() {
            return;
        }
        _ = server.flow_control().release_capacity(data.len());
    }
    _ = client.shutdown().await;
}
