//! An adapter for no framework: bare TCP, a head in HTTP/1.1, and what it may do wrong.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use rooms_core::{
    BadToken, RoomKey,
    adapter::{EventBody, Opening, Refusal},
    testing::adapter_conformance::Stage,
    ws,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// What an adapter does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    SaysNothingButNo,
    IgnoresOrigins,
    TellsBadTokensOverHttp,
    OverlooksHeaders,
    AnswersNoProtocol,
    KnowsOneEndpoint,
    LosesThePeer,
    AddsNoClaims,
    TellsNoEnd,
    KeepsEscapes,
    JoinsAnotherRoom,
    LosesTheQuery,
    ServesOneRoomOnly,
    LosesWhatCameEarly,
    SpoilsLongFrames,
    SwallowsCloses,
    EndsWithTheClose,
    NeverEnds,
    TakesEverything,
    OverlooksTheEnd,
    SwallowsPings,
    GoesOnWhileDraining,
    LosesTheLastId,
}

use Fault::*;

pub(crate) async fn serve(stage: Stage, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(stream, stage.clone(), fault));
        }
    });
    address
}

async fn connection(mut stream: TcpStream, stage: Stage, fault: Fault) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let (method, mut uri, mut headers) = parse(std::str::from_utf8(&read[..end]).unwrap());
    let early = if fault == LosesWhatCameEarly { Vec::new() } else { read[end..].to_vec() };
    let whole = uri.clone();
    let path: Vec<&str> = whole.path().trim_start_matches('/').split('/').collect();
    let mut endpoint = match path[0] {
        "strict" => stage.strict.clone(),
        "browsers" => stage.browsers.clone(),
        "services" if fault != KnowsOneEndpoint => stage.services.clone(),
        _ => stage.rooms.endpoint().clone(),
    };
    match fault {
        IgnoresOrigins => _ = headers.remove(header::ORIGIN),
        OverlooksHeaders => _ = headers.remove(header::AUTHORIZATION),
        LosesTheQuery => {
            let token = uri.query().unwrap_or_default().split('&').find(|pair| pair.starts_with("token="));
            uri = format!("{}?{}", uri.path(), token.unwrap_or_default()).parse().unwrap();
        }
        LosesTheLastId => _ = headers.remove("last-event-id"),
        TellsBadTokensOverHttp => endpoint = endpoint.bad_token(BadToken::Refuse),
        _ => {}
    }
    let opening = if path[0] == "events" { Opening::EventStream(&method) } else { Opening::Method(&method) };
    let peer = stream.peer_addr().ok().filter(|_| fault != LosesThePeer);
    let mut admission = match stage.rooms.admit(&endpoint, opening, &uri, &headers, peer).await {
        Ok(admission) => admission,
        Err(refusal) => return refuse(stream, &refusal, fault).await,
    };
    if ["browsers", "services"].contains(&path[0]) {
        if fault != AddsNoClaims {
            let claims = stage.claims(admission.identity().ok().flatten());
            admission = admission.with_claims(claims);
        }
        if fault != TellsNoEnd {
            admission = admission.on_close(stage.on_close());
        }
    }
    let room = match path[..] {
        ["socket" | "events"] => None,
        [_, kind, id] => match if fault == KeepsEscapes { RoomKey::new(kind, id) } else { RoomKey::from_url(kind, id) }
        {
            Ok(room) => Some(room),
            Err(_) => return refuse(stream, &Refusal::Room, fault).await,
        },
        _ => panic!("no such route"),
    };
    if path[0] == "events" {
        let answer = admission.response();
        let body = match room {
            Some(_) if fault == JoinsAnotherRoom => admission.events(["post:41".parse().unwrap()]),
            Some(room) => admission.events([room]),
            None => admission.events_asked_for(),
        };
        return match body {
            Ok(body) => events(stream, answer, body, fault).await,
            Err(refusal) => refuse(stream, &refusal, fault).await,
        };
    }
    let mut response = admission.response();
    if fault == AnswersNoProtocol {
        response.headers_mut().remove(header::SEC_WEBSOCKET_PROTOCOL);
    }
    stream.write_all(head(&response).as_bytes()).await.unwrap();
    let limits = admission.limits().clone();
    let socket = async move {
        match fault {
            SpoilsLongFrames | SwallowsCloses | EndsWithTheClose | NeverEnds | TakesEverything | OverlooksTheEnd
            | SwallowsPings => Ok(ws::over(Faulty { inner: stream, fault }, &early, &limits)),
            _ => ws::tcp(stream, &early, &limits),
        }
    };
    match room {
        None if fault == ServesOneRoomOnly => admission.serve_room("channel:1".parse().unwrap(), socket),
        None => admission.serve(socket),
        Some(_) if fault == JoinsAnotherRoom => admission.serve_room("post:41".parse().unwrap(), socket),
        Some(room) => admission.serve_room(room, socket),
    }
}

/// Writes the body in chunks until it ends, or the client has gone.
async fn events(mut stream: TcpStream, mut answer: Response<()>, mut body: EventBody, fault: Fault) {
    answer.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    stream.write_all(head(&answer).as_bytes()).await.unwrap();
    loop {
        let mut nothing = [0];
        let chunk = tokio::select! {
            chunk = body.next() => chunk,
            // It says nothing more.
            _ = stream.read(&mut nothing) => return,
        };
        let Some(Ok(chunk)) = chunk else { break };
        let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat();
        // What does not go out now is never heard of again.
        let written =
            if fault == TakesEverything { stream.try_write(&chunk).map(drop) } else { stream.write_all(&chunk).await };
        if written.is_err() && fault != TakesEverything {
            return;
        }
    }
    _ = stream.write_all(b"0\r\n\r\n").await;
}

fn parse(head: &str) -> (Method, Uri, HeaderMap) {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, uri) = (first.next().unwrap().parse().unwrap(), first.next().unwrap().parse().unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    (method, uri, headers)
}

async fn refuse(mut stream: TcpStream, refusal: &Refusal, fault: Fault) {
    let mut response = refusal.response();
    match fault {
        SaysNothingButNo => *response.status_mut() = StatusCode::BAD_REQUEST,
        GoesOnWhileDraining if *refusal == Refusal::Draining => *response.status_mut() = StatusCode::NOT_FOUND,
        _ => {}
    }
    let length = response.body().len();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    _ = stream.write_all((head(&response) + response.body()).as_bytes()).await;
}

fn head<T>(response: &Response<T>) -> String {
    let headers = response.headers().iter();
    let headers: String = headers.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
    format!("HTTP/1.1 {}\r\n{headers}\r\n", response.status())
}

/// A TCP stream that does not do what it is told.
struct Faulty {
    inner: TcpStream,
    fault: Fault,
}

impl AsyncRead for Faulty {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(read)
                if self.fault == OverlooksTheEnd && (read.is_err() || buffer.filled().len() == before) =>
            {
                Poll::Pending
            }
            read => read,
        }
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let swallowed = match self.fault {
            SwallowsCloses => bytes[0] == 0x88,
            SwallowsPings => bytes[0] == 0x89,
            EndsWithTheClose if bytes[0] == 0x88 => {
                let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
                if written.is_ready() {
                    _ = Pin::new(&mut self.inner).poll_shutdown(cx);
                }
                return written;
            }
            // What does not go out now is never heard of again.
            TakesEverything => match Pin::new(&mut self.inner).poll_write(cx, bytes) {
                Poll::Pending => true,
                written => return written,
            },
            SpoilsLongFrames if bytes.len() > 4_000 => {
                let spoilt = [&bytes[..bytes.len() - 1], b" "].concat();
                return Pin::new(&mut self.inner).poll_write(cx, &spoilt);
            }
            _ => false,
        };
        if swallowed { Poll::Ready(Ok(bytes.len())) } else { Pin::new(&mut self.inner).poll_write(cx, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fault == NeverEnds {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
