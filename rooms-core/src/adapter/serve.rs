//! Accepting TCP connections within bounds, until the process goes down.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{
    counts::{Counts, Seat},
    manager::{RoomManager, Shutdown},
    network::Network,
    rate_limited_log::RateLimitedLog,
};

/// How long connections may take to end once the rooms are shut down: what is being answered then, and idle ones.
const LAST: Duration = Duration::from_secs(2);

/// The pause after an error of `accept` that is about this process, mostly that no file descriptor is free: until then a
/// connection may have ended. 50 ms, as newcomers wait meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// The answer to a connection too many from its address (RFC 6585 section 4), without reading what it asks.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How far it has gone with the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Answer what is begun, and then end.
    Ending,
    Over,
}

/// Tells one connection when to end.
#[derive(Debug, Clone)]
pub struct Ending(watch::Receiver<Phase>);

impl Ending {
    /// Resolves when the connection should answer what it has begun and then end.
    pub async fn begun(&mut self) {
        self.reaches(|phase| phase != Phase::Serving).await;
    }

    async fn reaches(&mut self, enough: fn(Phase) -> bool) {
        // An error: whoever would say so is gone, and so it is over.
        _ = self.0.wait_for(|phase| enough(*phase)).await;
    }
}

/// Accepts connections and serves each by `connection` in a task of its own, within `Limits::max_http_connections` and, for
/// one address, `Limits::max_http_connections_per_ip`. Until the head of a request is read nothing else bounds them.
///
/// When all places are taken, newcomers wait in the listener's queue. One too many from its address is answered with 429 and
/// closed at once, so that it keeps nobody else waiting. A place is free again when the future of its connection has ended;
/// an upgrade ends it, so a WebSocket has no place here: it counts in `Limits::max_connections`.
///
/// Once `stop` resolves, the rooms are [shut down](RoomManager::shutdown), while requests, such as those of a health check, go
/// on being answered. Then no more connections are accepted, each [is told to end](Ending::begun), and what is left after two
/// seconds is dropped. Dropping the returned future drops all connections, without a shutdown.
pub async fn serve<S, C>(
    rooms: &RoomManager<S>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
    how: impl Into<Shutdown> + Send,
    connection: impl Fn(TcpStream, SocketAddr, Ending) -> C + Send + Sync,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let (phase, ending) = watch::channel(Phase::Serving);
    let how = how.into();
    let accepting = async {
        let mut door = Door::new(rooms, listener);
        loop {
            let (stream, peer, place) = door.next().await;
            let served = connection(stream, peer, Ending(ending.clone()));
            let mut over = Ending(ending.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = served => {}
                    () = over.reaches(|phase| phase == Phase::Over) => {}
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = async { stop.await; rooms.shutdown(how).await } => {}
    }
    drop(ending);
    phase.send_replace(Phase::Ending);
    if timeout(LAST, phase.closed()).await.is_err() {
        phase.send_replace(Phase::Over);
        phase.closed().await;
    }
}

/// A place among the connections, until it is dropped.
type Place = (OwnedSemaphorePermit, Option<Seat>);

struct Door<'a, S> {
    rooms: &'a RoomManager<S>,
    listener: TcpListener,
    free: Arc<Semaphore>,
    by_address: Arc<Counts>,
    faults: RateLimitedLog,
}

impl<'a, S> Door<'a, S> {
    fn new(rooms: &'a RoomManager<S>, listener: TcpListener) -> Self {
        let free = Arc::new(Semaphore::new(rooms.limits().max_http_connections.min(Semaphore::MAX_PERMITS)));
        Self { rooms, listener, free, by_address: Arc::default(), faults: RateLimitedLog::default() }
    }

    /// The next connection that has a place.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Place) {
        loop {
            // Nobody closes it.
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { std::future::pending().await };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.failed(&error).await;
                    continue;
                }
            };
            match self.seat(peer) {
                Ok(seat) => return (stream, peer, (permit, seat)),
                Err(TooMany) => {
                    self.rooms.shared.limiters.note_refusal();
                    turn_away(stream);
                }
            }
        }
    }

    fn seat(&self, peer: SocketAddr) -> Result<Option<Seat>, TooMany> {
        if self.rooms.shared.proxies.has(peer.ip()) {
            return Ok(None);
        }
        let most = self.rooms.limits().max_http_connections_per_ip;
        self.by_address.seat(Network::of(peer.ip()), most).map(Some).ok_or(TooMany)
    }

    async fn failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // About a connection that is gone before it was accepted.
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        if let Some(left_out) = self.faults.line() {
            tracing::error!(%error, left_out, "a connection could not be accepted");
        }
        sleep(PAUSE).await;
    }
}

struct TooMany;

/// Says 429 as far as the socket takes it at once, which a new one does, and closes.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        _ = stream.write(TOO_MANY);
    }
}
