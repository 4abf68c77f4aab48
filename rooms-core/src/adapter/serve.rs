//! Accepting TCP connections within bounds, until the process goes down.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    http_places::{HttpPlace, HttpPlaces, Occupied},
    limits::Limits,
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
pub struct Ending {
    phase: watch::Receiver<Phase>,
    place: HttpPlace,
}

impl Ending {
    /// Resolves when the connection should answer what it has begun and then end: the process goes down, or the connection is
    /// one too many after an event stream on it has ended, as [`HttpPlace`] says.
    pub async fn begun(&mut self) {
        let Self { phase, place } = self;
        tokio::select! {
            () = reaches(phase, |phase| phase != Phase::Serving) => {}
            () = place.turned_out() => {}
        }
    }

    /// The place of the connection, for the extensions of its requests.
    #[must_use]
    pub fn place(&self) -> HttpPlace {
        self.place.clone()
    }

    /// Resolves when the connection is to be dropped, whatever it is at.
    async fn over(mut self) {
        let is_late = async {
            self.place.turned_out().await;
            sleep(LAST).await;
        };
        tokio::select! {
            () = reaches(&mut self.phase, |phase| phase == Phase::Over) => {}
            () = is_late => {}
        }
    }
}

async fn reaches(phase: &mut watch::Receiver<Phase>, enough: fn(Phase) -> bool) {
    // An error: whoever would say so is gone, and so it is over.
    _ = phase.wait_for(|phase| enough(*phase)).await;
}

/// Accepts connections and serves each by `connection` in a task of its own, within `Limits::max_http_connections` and, for
/// one address, `Limits::max_http_connections_per_ip`. Until the head of a request is read nothing else bounds them.
///
/// When all places are taken, newcomers wait in the listener's queue. One too many from its address is answered with 429 and
/// closed at once, so that it keeps nobody else waiting. A place is free again when the future of its connection has ended;
/// an upgrade ends it, so a WebSocket has no place here: it counts in `Limits::max_connections`. An event stream, or a WebSocket
/// over HTTP/2, does not end it: let each request have [`Ending::place`] in its extensions, and they free it, too.
///
/// A client that confirms nothing of what it is sent, or takes nothing, for as long as `Limits::ping_interval` and
/// `Limits::pong_timeout` together is gone: on Linux its connection breaks then, whatever is being answered. So an event stream
/// of it ends, whose pongs nobody sees, and who reads no answer keeps no place.
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
            let (stream, peer, occupied) = door.next().await;
            let ending = Ending { phase: ending.clone(), place: occupied.place().clone() };
            // Boxed, as tokio moves the future of a task several times, and this one has some thousand bytes.
            let served = Box::pin(connection(stream, peer, ending.clone()));
            tokio::spawn(async move {
                tokio::select! {
                    () = served => {}
                    () = ending.over() => {}
                }
                drop(occupied);
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

/// The connections that may have been in the queue of the listener before it was told of the time-out that they inherit.
/// 4,096: Linux lets no queue be longer, unless `net.core.somaxconn` is raised.
const QUEUED: usize = 4096;

/// Sets `TCP_USER_TIMEOUT` (RFC 5482), in place of the kernel's own patience of some 15 minutes. On the listener once, as the
/// connections that come to it from then on inherit it.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn give_up_on_the_silent<'s>(socket: impl Into<SockRef<'s>>, limits: &Limits) {
    let within = limits.ping_interval.saturating_add(limits.pong_timeout);
    // The kernel's number is an `int` of milliseconds, some 24 days: who pings more seldom waits for the kernel.
    if i32::try_from(within.as_millis()).is_ok()
        && let Err(error) = socket.into().set_tcp_user_timeout(Some(within))
    {
        tracing::debug!(%error, "clients that are gone without a word are noticed late");
    }
}

/// Other systems have nothing like it, or by another name that is not asked for here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn give_up_on_the_silent<'s>(_: impl Into<SockRef<'s>>, _: &Limits) {}

struct Door<'a, S> {
    rooms: &'a RoomManager<S>,
    listener: TcpListener,
    places: Arc<HttpPlaces>,
    /// How many of the connections to come may be from before.
    queued: usize,
    faults: RateLimitedLog,
}

impl<'a, S> Door<'a, S> {
    fn new(rooms: &'a RoomManager<S>, listener: TcpListener) -> Self {
        give_up_on_the_silent(&listener, rooms.limits());
        let places = HttpPlaces::new(rooms.limits());
        Self { rooms, listener, places, queued: QUEUED, faults: RateLimitedLog::default() }
    }

    /// The next connection that has a place.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Occupied) {
        loop {
            let permit = self.places.free().await;
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.failed(&error).await;
                    continue;
                }
            };
            if self.queued > 0 {
                self.queued -= 1;
                give_up_on_the_silent(&stream, self.rooms.limits());
            }
            let is_proxy = self.rooms.shared.proxies.has(peer.ip());
            match self.places.take(permit, (!is_proxy).then(|| Network::of(peer.ip()))) {
                Some(occupied) => return (stream, peer, occupied),
                None => {
                    self.rooms.shared.limiters.note_refusal();
                    turn_away(stream);
                }
            }
        }
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

/// Says 429 as far as the socket takes it at once, which a new one does, and closes.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        _ = stream.write(TOO_MANY);
    }
}
