//! A proxy that is spoken to over HTTP/1.1 and asks the server behind it over HTTP/2, with a connection for each client: the
//! upgrade to a WebSocket becomes an extended CONNECT (RFC 8441), the request for an event stream is one over HTTP/2, whose body
//! comes in chunks, and everything else is passed on as it is.

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
    // As it is, where a header has other bytes than text.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut upstream = TcpStream::connect(server).await.ok()?;
    let Some(asked) = Asked::read(&text, &bytes) else {
        upstream.write_all(&bytes).await.ok()?;
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
    let is_stream = asked.accept.is_none();
    let (response, to_server) = h2.send_request(asked.request, is_stream).ok()?;
    let (head, body) = response.await.ok()?.into_parts();
    let (status, accept) = match (head.status.as_u16(), asked.accept) {
        (200, Some(accept)) => {
            (101, format!("connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n"))
        }
        (200, None) => (200, "transfer-encoding: chunked\r\n".to_owned()),
        (refused, _) => (refused, String::new()),
    };
    let mut answer = format!("HTTP/1.1 {status} .\r\n{accept}");
    for (name, value) in &head.headers {
        answer.push_str(&format!("{name}: {}\r\n", value.to_str().ok()?));
    }
    client.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    let (mut from_client, to_client) = client.into_split();
    if is_stream && status == 200 {
        let mut said = [0];
        // A client that goes resets the stream.
        tokio::select! {
            _ = from_client.read(&mut said) => {}
            () = chunks(body, to_client) => {}
        }
        return Some(());
    }
    tokio::spawn(up(early, from_client, to_server));
    tokio::spawn(down(body, to_client));
    Some(())
}

struct Asked {
    request: Request<()>,
    /// Of an upgrade.
    accept: Option<String>,
}

impl Asked {
    fn read(text: &str, head: &[u8]) -> Option<Self> {
        let target = text.lines().next()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
        let mut headers = HeaderMap::new();
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.windows(2).position(|bytes| bytes == b": ") else { continue };
            let (name, value) = (line.get(..colon)?, line.get(colon + 2..)?.trim_ascii_end());
            headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        if target.starts_with("/events") {
            let host = headers.remove("host")?;
            let uri = format!("http://{}{target}", host.to_str().ok()?);
            let mut request = Request::builder().uri(uri).version(Version::HTTP_2).body(()).ok()?;
            *request.headers_mut() = headers;
            return Some(Self { request, accept: None });
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
        Some(Self { request, accept: Some(STANDARD.encode(hash)) })
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

/// The same in chunks (RFC 9112 section 7.1).
async fn chunks(mut server: RecvStream, mut client: OwnedWriteHalf) {
    while let Some(data) = server.data().await {
        let Ok(data) = data else { return };
        if data.is_empty() {
            continue;
        }
        let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
        if client.write_all(&chunk).await.is_err() {
            return;
        }
        _ = server.flow_control().release_capacity(data.len());
    }
    _ = client.write_all(b"0\r\n\r\n").await;
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
