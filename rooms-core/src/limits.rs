//! Every bound, in one place.

use std::time::Duration;

/// Every bound of a [`RoomManager`](crate::RoomManager), with its default and the reason for it. A duration over a
/// hundred years is taken as that, so `Duration::MAX` is a way to say "never".
///
/// ```
/// use rooms_core::{RoomManager, Limits};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let rooms: RoomManager = RoomManager::builder()
///     .limits(|limits| limits.max_message_bytes = 4 * 1024)
///     .build()
///     .unwrap();
/// assert_eq!(rooms.limits().max_message_bytes, 4 * 1024);
/// assert_eq!(rooms.limits().max_outbox_messages, Limits::default().max_outbox_messages);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message from a client, in bytes, all fragments together; a longer one closes it with 1009. 64 KiB: a page
    /// of text; uploads belong on HTTP.
    pub max_message_bytes: usize,
    /// The most fragments of one message. 1,024: a 64 KiB message in 64-byte pieces; it bounds the work that empty
    /// fragments can make, which no byte count sees.
    pub max_fragments: usize,
    /// Messages a second that one connection may send for long, control frames included. 50: a fast typist with a
    /// cursor that moves. What is sent faster is read at this rate, and waits in the socket until then.
    ///
    /// The first time that it waits, the client is told so by a `rate_limited` error with `retry_after_ms`. Nothing is lost.
    pub messages_per_second: u32,
    /// Messages that one connection may send at once after a pause; the next ones are read at `messages_per_second`. 200:
    /// a page that comes back joins all its rooms, 128 at most, in one go.
    pub message_burst: u32,
    /// How long a connection may go on sending more than is read of it before it is closed with 4429; counted in
    /// messages, so many seconds of `messages_per_second`, one after another that waited to be read. 30 s, 1,500 messages:
    /// a process that stood still for 55 s closes no client that sent 20 a second meanwhile. A flood costs no more than
    /// the rate until then. Zero closes it with the first message that has to wait.
    pub overload_timeout: Duration,
    /// The arrays and objects in one message from a client for a hook, or in what it publishes; with more it is answered by
    /// a `too_big` error. 1,024: a hook may parse them into a tree, where an object of five bytes takes some 660, which is
    /// ten times the longest message for all of them.
    pub max_containers: usize,
    /// The longest broadcast payload, in bytes; from elsewhere on the bus a longer one is dropped, and the members are told to
    /// `resync`, so have it the same on all nodes. 64 KiB: a room of a thousand turns one of those into 64 MB of traffic.
    pub max_broadcast_bytes: usize,
    /// The bytes that may wait for one slow connection. 1 MiB: about ten seconds at 1 Mbit/s.
    ///
    /// A second, separate budget of the same size is used for the answers to joins, so that a client for which much waits can
    /// join another room: `room_joined`, which is as long as what [`on_join`](crate::Kind::on_join) returns and the list of
    /// members. The messages of a history and the state that a join replays are counted in neither budget: for one join they
    /// are three quarters of this at most, and the state. While more than half of this waits of all that was sent to the
    /// connection alone (answers, and what joins replay), its next command is not carried out.
    pub max_outbox_bytes: usize,
    /// The messages that may wait for one slow connection. 1,024: a queue of small messages costs more in places than in
    /// bytes.
    pub max_outbox_messages: usize,
    /// The bytes of a connection's send buffer in the kernel (`SO_SNDBUF`), which Linux doubles for what it needs itself;
    /// `None` leaves it to the kernel, which lets it grow to 4 MiB for a client that does not read. 64 KiB: the longest
    /// broadcast fits in, and a fan-out of 16 KiB payloads costs what it costs with the kernel's choice. A member gets one
    /// of these for each round trip: 100 ms away, 640 KB/s at the least.
    ///
    /// It applies to [`ws::tcp`](crate::ws::tcp) alone, where this library has the socket. Over TLS that ends in this
    /// process, and over any other byte stream ([`ws::over`](crate::ws::over)), the kernel keeps its own size, up to 4 MiB:
    /// set `SO_SNDBUF` on the listener there, whose connections inherit it.
    pub send_buffer_bytes: Option<usize>,
    /// The bytes of a room that not every member has been given yet; a publisher waits for space. 4 MiB: 64 of the
    /// longest broadcasts. Counted plain: what is compressed for members besides is less than that again, in each form.
    pub max_log_bytes: usize,
    /// The messages of a room that not every member has been given yet; a publisher waits for space. 1,024: what one outbox
    /// holds.
    pub max_log_messages: usize,
    /// The rooms that one connection may be in. 128: what a page shows at once, and some hundred bytes for each.
    pub max_rooms_per_connection: usize,
    /// The bytes of histories and states that one connection may be given within ten seconds, by joins; the next join of a
    /// room that has one is answered by an `unavailable` error. 16 MiB: a page that comes back to 128 rooms of which it
    /// missed 128 KiB each. It bounds what a client draws that resumes in a loop.
    pub max_replay_bytes: usize,
    /// The shortest broadcast payload that is compressed, in bytes, at an endpoint that does so
    /// ([`Endpoint::deflate`](crate::Endpoint::deflate)). 512: at 2 KiB a delivery to one of a thousand members has
    /// 0.39 of the bytes for 0.95 of the CPU (0.83 to 1.09 in eleven runs), and the shorter a payload, the less of it repeats.
    /// The guide's page `compression` has the figures.
    pub min_deflate_bytes: usize,
    /// The connections of one user on this node; one more is closed with 4430. 100: more than anybody's tabs.
    pub max_connections_per_user: usize,
    /// The sockets of this node that are open and have not sent their token yet, where it comes with the
    /// [first message](crate::Endpoint::first_message_token); one more is refused with 503. 1,000: with one message of
    /// `max_message_bytes` each they take 64 MB, and at 100 newcomers a second a tenth of `first_message_timeout` is enough.
    pub max_unauthenticated: usize,
    /// The [revocations](crate::RoomManager::revoke) that are in force; one more is an error. 10,000: one each nine seconds
    /// over a day. Some megabyte of memory on each node, and ten messages to a node that starts. At most 100,000.
    pub max_revocations: usize,
    /// The time for an upgrade, and for an authenticator's answer. 10 s: a slow mobile link.
    pub handshake_timeout: Duration,
    /// How long an open socket may take to send its first message with the token; then it is closed with 4408. 10 s: a slow
    /// mobile link.
    pub first_message_timeout: Duration,
    /// The time for a rule's answer; without one nobody gets in. 5 s: a page that waits longer looks broken.
    pub rule_timeout: Duration,
    /// The time for one call of a hook; longer closes the connection with 1011. 10 s: it may ask a database twice.
    pub hook_timeout: Duration,
    /// The time for the bus to confirm a room's subscription; then a join is given up. 10 s: a backplane that is replaced is
    /// back by then.
    pub subscribe_timeout: Duration,
    /// The time for the bus to take a publication; past it the outcome is unknown. 10 s: past what any backplane takes that
    /// will answer at all.
    pub publish_timeout: Duration,
    /// How often a connection is pinged. 25 s: below the 30 s to 60 s after which common proxies cut what is idle. Where pages may
    /// use event streams, less than 60 s: `rooms.js` gives up a stream that is silent for so long and opens it anew.
    pub ping_interval: Duration,
    /// How long a ping may go unanswered. 10 s: a mobile link that is waking up. The pongs of an event stream can't be seen; see
    /// [`protocol`](crate::protocol#event-streams) for what ends it.
    pub pong_timeout: Duration,
    /// How long a closing connection may take to receive its close frame, and to answer it, where nothing is in front of
    /// that. 2 s: some round trips of a slow link, and no more, as the other end may be gone.
    pub close_timeout: Duration,
    /// How long a client may take to answer a close frame with its own, before its TCP stream is ended without it
    /// (RFC 6455 section 7.1.1). 1 s: a page that is busy, over a slow link; many clients report 1006 in place of the code
    /// where the stream ends before they have answered.
    pub close_answer_timeout: Duration,
    /// How long a connection whose socket was full when it was closed may take nothing: then it ends without its close
    /// frame. 5 s: a reader of 20 KB/s takes in that time the third of a `send_buffer` after which a socket has room again.
    ///
    /// That holds where the send buffer is bounded by `send_buffer_bytes`. Over TLS that ends in this process, and over other
    /// byte streams, the kernel's own buffer may be 4 MiB, which such a reader does not empty far enough in this time: it
    /// may still end without its close frame.
    pub close_stall_timeout: Duration,
    /// How long such a connection may take in all, however steadily it reads, to get the frame that was begun and its close
    /// frame behind it. 20 s: what a `send_buffer` holds and the longest broadcast, at 20 KB/s; a larger buffer of the
    /// kernel's, see `send_buffer_bytes`, may take longer than that. Until then it keeps its place in
    /// `max_connections_per_user`; it has left its rooms.
    pub close_total_timeout: Duration,
    /// How long a room stays subscribed after its last local member. 5 s: a page reload costs no subscription.
    pub linger: Duration,
    /// The window of a room's viewer events, and of the presence entries that this node publishes of it: the first change is told at
    /// once, and what follows at the window's end. 250 ms: ten thousand joins in a second are a few events.
    pub viewer_window: Duration,
    /// How often a node tells the others that it lives. 2 s; one that is silent for 3.25 of these is gone: three missed
    /// and a moment for the third to be late. The same on all nodes.
    pub heartbeat_interval: Duration,
    /// How long the other nodes may take to say how many members they have in a room; who joins first on a node waits
    /// for them. 500 ms: some hundred round trips, and less than a reader notices.
    pub answer_timeout: Duration,
    /// How long a [revocation](crate::RoomManager::revoke) is in force where it is not said: longer than tokens are good. 24 h:
    /// access tokens live for minutes to hours. At most 366 days.
    pub revocation_time: Duration,
    /// The other nodes that are counted. 1,024: a guard against a bus that is full of strangers. At most 16,384, as a
    /// heartbeat names each of them in a message of at most 1 MiB.
    pub max_nodes: usize,
    /// The users of one room that are named on this node, for kinds with [`list_members`](crate::Kind::list_members);
    /// more are counted. 1,000, and no more: with all that may be said of each they just fit in one message between nodes, 1 MiB.
    pub max_named_users: usize,
    /// Bytes a second that one connection may send for long, as they are on its socket: headers of frames, empty fragments and
    /// control frames included. A [compressed](crate::Endpoint::deflate) message counts by the length that it has when unpacked, as
    /// a hundred bytes may be 64 KiB to unpack and to parse; but at least twice by what it has on the socket, as 61 KiB may unpack to
    /// nothing and take 3 ms for that, where the same length of JSON is parsed in 0.2 ms. Counted beside `messages_per_second`; four
    /// seconds of it may come at once, which is 1 MiB. 256 KiB: a page that saves a long text every quarter of a second.
    pub bytes_per_second: u32,
    /// Joins and leaves a second that one connection may send for long; a rule may ask a database, and a new room is
    /// subscribed. They take time of `bytes_per_second`, too, so while they come at this rate there is none left for other
    /// bytes. 40: what the guide's page sends; four seconds of it, 160, may come at once, and a connection may be in 128 rooms.
    pub joins_per_second: u32,
    /// What one user may publish in a second for long, messages for `on_message` included, with all connections to this node
    /// together; the bytes of all of it count as those of one connection do, by `bytes_per_second`, of which four seconds may
    /// come at once. One more is answered with a `rate_limited` error, and costs the connection as much as ten messages and a join. 100:
    /// two busy pages.
    pub publishes_per_second_per_user: u32,
    /// What one user may publish at once after a pause. 400: two pages that send what has waited.
    pub publish_burst_per_user: u32,
    /// Rooms that were on this node for nobody before and that one user may join in a second for long, with all connections
    /// together. One more is answered with a `rate_limited` error. A room is a subscription at the backplane, which lingers.
    /// 20: a page whose reader goes through a list.
    pub new_rooms_per_second_per_user: u32,
    /// Such rooms that one user may join at once after a pause. 512: four pages of 128 rooms after a restart.
    pub new_room_burst_per_user: u32,
    /// The connections of this node; one more is refused with 503, and with 1013 where it comes too far to be refused. 100,000:
    /// 115 MB while they are idle. Each needs a file descriptor, of which a process often has 1,024 unless `ulimit -n` is
    /// raised: set this below it.
    pub max_connections: usize,
    /// The connections from one address on this node, or from one /64 where it is IPv6; one more is refused with 429. 1,000:
    /// an office, or the customers that share an address of a mobile network. Behind a proxy name it, see
    /// [`Proxies`](crate::Proxies): all that it forwards are one address otherwise.
    ///
    /// The limits by address apply where the framework says the address of the client: Axum does where the service is made
    /// with `into_make_service_with_connect_info::<SocketAddr>()`, or is run by `rooms_axum::serve`.
    pub max_connections_per_ip: usize,
    /// Upgrades in a second from one address for long, bad ones included, as each has its token checked, and its join told
    /// to the members; one more is refused with 429. 50: some hundred people behind one address who go from page to page.
    pub connects_per_second_per_ip: u32,
    /// Upgrades from one address at once after a pause. 1,000: all that may be connected come back after a restart.
    pub connect_burst_per_ip: u32,
    /// The sockets from one address that are not authenticated: their token is being checked, has not come yet, or was bad
    /// and they are being closed; one more is refused with 429. 100: a tenth of `max_unauthenticated`, so that ten addresses
    /// at the least are needed to keep everybody out.
    pub max_unauthenticated_per_ip: usize,
    /// The connections of one user over all nodes; one more is closed with 4430. For connections that join the room of their
    /// user, `user:{id}`, whose viewers are counted over nodes: those to the multi-room endpoint, where there is a kind `user`
    /// that lets them in. Not for event streams, nor for a connection that has left that room or observes it. All other viewers
    /// of the room count, whoever they are, so let its rule be [`Kind::owner_only`](crate::Kind::owner_only): anybody else whom
    /// it lets in as a member could take this user's places. It is as exact as [`ViewerCount`](crate::ViewerCount): who comes to two nodes within one
    /// `viewer_window`, 250 ms, may be counted by neither, and those of a node that crashed count for the seconds until it is
    /// found gone. 200: twice those of one node, so that who comes back from a crashed node is not refused.
    pub max_connections_per_user_over_nodes: usize,
    /// The HTTP connections that a server accepts before anything is known of them, where it is run by the `serve` of an
    /// adapter: those whose request is being read or answered, and idle ones. Further ones wait to be accepted. A connection
    /// that has become a WebSocket is not one of them, nor is one whose answer is an event stream, as long as that is counted
    /// in `max_connections`; see [`HttpPlace`](crate::adapter::HttpPlace) for a server of your own. 4,096: with
    /// `max_head_bytes` each they take 256 MB.
    pub max_http_connections: usize,
    /// Those from one address, or one /64, unless it is that of a named proxy; one more is answered with 429 and closed. 256:
    /// a sixteenth of all, and forty browsers with six connections each.
    pub max_http_connections_per_ip: usize,
    /// How long a client may take to send the head of a request, from the first byte that may come or from the answer before:
    /// so it ends idle HTTP connections, too. 10 s: as `handshake_timeout`.
    pub header_timeout: Duration,
    /// The longest head of a request, in bytes; a longer one is answered with 431. 64 KiB: above what other servers take, and
    /// a token of Keycloak's with many groups fits. At least 8 KiB.
    pub max_head_bytes: usize,
}

/// What a client may send: two numbers of [`Limits`], small because every connection has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inbound {
    pub(crate) message: u32,
    /// Twice the fragments, and whether messages may be compressed: every connection has this.
    fragments_and_deflate: u32,
}

impl Inbound {
    pub(crate) const fn fragments(self) -> u32 {
        self.fragments_and_deflate >> 1
    }

    pub(crate) const fn may_deflate(self) -> bool {
        self.fragments_and_deflate & 1 != 0
    }

    pub(crate) const fn deflated(self) -> Self {
        Self { fragments_and_deflate: self.fragments_and_deflate | 1, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 * 1024,
            max_fragments: 1024,
            messages_per_second: 50,
            message_burst: 200,
            overload_timeout: Duration::from_secs(30),
            max_containers: 1024,
            max_broadcast_bytes: 64 * 1024,
            max_outbox_bytes: 1024 * 1024,
            max_outbox_messages: 1024,
            send_buffer_bytes: Some(64 * 1024),
            max_log_bytes: 4 * 1024 * 1024,
            max_log_messages: 1024,
            max_rooms_per_connection: 128,
            max_replay_bytes: 16 * 1024 * 1024,
            min_deflate_bytes: 512,
            max_connections_per_user: 100,
            max_unauthenticated: 1000,
            max_revocations: 10_000,
            handshake_timeout: Duration::from_secs(10),
            first_message_timeout: Duration::from_secs(10),
            rule_timeout: Duration::from_secs(5),
            hook_timeout: Duration::from_secs(10),
            subscribe_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            close_answer_timeout: Duration::from_secs(1),
            close_stall_timeout: Duration::from_secs(5),
            close_total_timeout: Duration::from_secs(20),
            linger: Duration::from_secs(5),
            viewer_window: Duration::from_millis(250),
            heartbeat_interval: Duration::from_secs(2),
            answer_timeout: Duration::from_millis(500),
            revocation_time: Duration::from_secs(86_400),
            max_nodes: 1024,
            max_named_users: 1000,
            bytes_per_second: 256 * 1024,
            joins_per_second: 40,
            publishes_per_second_per_user: 100,
            publish_burst_per_user: 400,
            new_rooms_per_second_per_user: 20,
            new_room_burst_per_user: 512,
            max_connections: 100_000,
            max_connections_per_ip: 1000,
            connects_per_second_per_ip: 50,
            connect_burst_per_ip: 1000,
            max_unauthenticated_per_ip: 100,
            max_connections_per_user_over_nodes: 200,
            max_http_connections: 4096,
            max_http_connections_per_ip: 256,
            header_timeout: Duration::from_secs(10),
            max_head_bytes: 64 * 1024,
        }
    }
}

/// The longest duration that is told from "never". A hundred years: sums of it and the time fit every clock's range.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The shortest window and answer: the resolution of tokio's timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// The users that fit into one message between nodes, each with the longest id and the most that may be said of it.
const MOST_NAMED: usize = 1000;

/// The revocations that a node can be told at once: a hundred messages.
const MOST_REVOCATIONS: usize = 100_000;

/// The longest time of a revocation. A year: a forged one ends some day, too.
pub(crate) const LONGEST_REVOCATION: Duration = Duration::from_secs(366 * 86_400);

/// The nodes that fit into one heartbeat: 40 bytes for each, in a message between nodes of at most 1 MiB.
pub(crate) const MOST_NODES: usize = 16_384;

/// The shortest head of a request that HTTP servers can be told: hyper panics below it.
const SHORTEST_HEAD: usize = 8192;

impl Limits {
    /// Makes "never" a time that can be reckoned with.
    pub(crate) fn clamp(&mut self) {
        for duration in [
            &mut self.overload_timeout,
            &mut self.handshake_timeout,
            &mut self.first_message_timeout,
            &mut self.rule_timeout,
            &mut self.hook_timeout,
            &mut self.subscribe_timeout,
            &mut self.publish_timeout,
            &mut self.ping_interval,
            &mut self.pong_timeout,
            &mut self.close_timeout,
            &mut self.close_answer_timeout,
            &mut self.close_stall_timeout,
            &mut self.close_total_timeout,
            &mut self.linger,
            &mut self.viewer_window,
            &mut self.heartbeat_interval,
            &mut self.answer_timeout,
            &mut self.header_timeout,
        ] {
            *duration = FOREVER.min(*duration);
        }
        for duration in [&mut self.viewer_window, &mut self.answer_timeout] {
            *duration = SHORTEST.max(*duration);
        }
        self.max_named_users = self.max_named_users.min(MOST_NAMED);
        self.max_revocations = self.max_revocations.min(MOST_REVOCATIONS);
        self.revocation_time = self.revocation_time.min(LONGEST_REVOCATION);
        self.max_nodes = self.max_nodes.min(MOST_NODES);
        self.max_head_bytes = self.max_head_bytes.max(SHORTEST_HEAD);
    }

    pub(crate) fn inbound(&self) -> Inbound {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let fragments = small(self.max_fragments).min(u32::MAX / 2);
        Inbound { message: small(self.max_message_bytes), fragments_and_deflate: 2 * fragments }
    }

    /// The name of the first bound that is zero where zero would let nothing through.
    pub(crate) fn first_zero(&self) -> Option<&'static str> {
        [
            ("max_message_bytes", self.max_message_bytes),
            ("max_fragments", self.max_fragments),
            ("messages_per_second", self.messages_per_second as usize),
            ("message_burst", self.message_burst as usize),
            ("max_containers", self.max_containers),
            ("max_broadcast_bytes", self.max_broadcast_bytes),
            ("max_outbox_bytes", self.max_outbox_bytes),
            ("max_outbox_messages", self.max_outbox_messages),
            ("max_log_bytes", self.max_log_bytes),
            ("max_log_messages", self.max_log_messages),
            ("max_rooms_per_connection", self.max_rooms_per_connection),
            ("max_replay_bytes", self.max_replay_bytes),
            ("max_connections_per_user", self.max_connections_per_user),
            ("send_buffer_bytes", self.send_buffer_bytes.unwrap_or(usize::MAX)),
            ("ping_interval", self.ping_interval.as_nanos().min(1) as usize),
            ("heartbeat_interval", self.heartbeat_interval.as_nanos().min(1) as usize),
            ("bytes_per_second", self.bytes_per_second as usize),
            ("joins_per_second", self.joins_per_second as usize),
            ("publishes_per_second_per_user", self.publishes_per_second_per_user as usize),
            ("publish_burst_per_user", self.publish_burst_per_user as usize),
            ("new_rooms_per_second_per_user", self.new_rooms_per_second_per_user as usize),
            ("new_room_burst_per_user", self.new_room_burst_per_user as usize),
            ("max_connections", self.max_connections),
            ("max_connections_per_ip", self.max_connections_per_ip),
            ("connects_per_second_per_ip", self.connects_per_second_per_ip as usize),
            ("connect_burst_per_ip", self.connect_burst_per_ip as usize),
            ("max_unauthenticated_per_ip", self.max_unauthenticated_per_ip),
            ("max_connections_per_user_over_nodes", self.max_connections_per_user_over_nodes),
            ("max_http_connections", self.max_http_connections),
            ("max_http_connections_per_ip", self.max_http_connections_per_ip),
        ]
        .into_iter()
        .find_map(|(name, value)| (value == 0).then_some(name))
    }
}
