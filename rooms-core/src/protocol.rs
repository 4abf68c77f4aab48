//! What travels: the events of rooms and what a client may say, as JSON in text messages, and bytes in binary messages.
//!
//! On a connection that is for one room, the room is in the URL and a payload that the application broadcasts travels as
//! it is:
//!
//! | direction | message |
//! |---|---|
//! | out | `{"type":"room_joined","room":"post:42","viewers":3}` and the fields that `on_join` returned |
//! | out | `{"type":"viewer_joined","viewers":4}`, `{"type":"viewer_left","viewers":3}`: over all nodes |
//! | out | for a kind with members, `room_joined` has `"users":2,"members":[{"user":"5","info":{..}},..]`, at most 100 of them and whoever joins first of all, and `viewer_joined` and `viewer_left` have `"users":[{"user":"6"}]` where somebody came or went |
//! | in, out | bytes, in a [binary message](#binary-messages) |
//! | in, out | `{"type":"ping"}`, `{"type":"pong"}` |
//! | in | any other `type`: for the room's `on_message` |
//! | out | `{"type":"resync","room":"post:42","reason":"bus_gap"}`, or `"slow_consumer"`, `"history_gap"`, `"epoch"`: messages may have been lost, fetch what you show again; with a `position` in a room [with a history](#rooms-with-a-history) |
//! | out | `{"type":"refresh","room":"post:42"}`: something was broadcast that is too long to be sent, for a kind with [`Oversize::Refresh`](crate::Oversize::Refresh); fetch what you show again |
//! | out | `{"type":"message","room":"post:42","data":{"type":"error"}}`: a payload that a member published, whose own `type` is that of an event in these tables; see below |
//! | out | `{"type":"token_expiring","in_ms":60000}`: the token ends then, and the connection with it, unless a new one comes before |
//! | in | `{"type":"refresh","token":".."}`: a new token of the same user |
//! | out | `{"type":"refreshed","in_ms":900000}`: it is taken, and ends then; without `in_ms` it does not end |
//! | out | `{"type":"reconnect","in_ms":1234}`, and then the close frame 1012 (or 1001): come back after that time, which differs from client to client |
//! | out | `{"type":"error","code":"bad_message","message":".."}` with an [`ErrorCode`]; the connection goes on |
//! | out | `{"type":"error","code":"rate_limited","message":"..","retry_after_ms":20}`: more than [`Limits`](crate::Limits) allow; who goes on is closed with 4429 |
//!
//! On a connection that is in many rooms, each event names its room. A command may have a `ref`, any JSON value of at
//! most 128 bytes but `null`, which its answer repeats, where it has one: `on_message` has none, and `publish` without a
//! `ref`. Commands are carried out one after another.
//!
//! | direction | message |
//! |---|---|
//! | in | `{"type":"join","room":"post:42","ref":1}`, and the same with `leave` |
//! | in | `{"type":"join","room":"post:42","paused":true}`: in the room, without its messages; see below |
//! | in | `{"type":"publish","room":"post:42","data":{..},"ref":2}`, where the kind of room lets the user |
//! | in | `{"type":"ping"}` |
//! | in | any other `type` with a `room` that it is in: for that room's `on_message` |
//! | out | `{"type":"room_joined","room":"post:42","viewers":3,"ref":1}`, `{"type":"room_left","room":"post:42","ref":1}` |
//! | out | `{"type":"published","room":"post:42","ref":2}`, if the command has a `ref`; with `"reach":"local_only"` where the bus is down and only the members of this node were told |
//! | out | `{"type":"message","room":"post:42","data":{..}}`: a payload, published by the application or a member |
//! | out | `{"type":"viewer_joined","viewers":4,"room":"post:42"}`, and the same with `viewer_left` |
//! | out | `{"type":"room_left","room":"post:42","reason":"kicked","message":"spam"}`: without a `leave`; see below |
//! | in, out | `refresh` with a `token`, `refreshed` and `token_expiring` as above, with a `ref` where the command has one |
//! | out | `{"type":"message","data":{..}}`: from the application to this connection, by [`send_to`](crate::RoomManager::send_to); it travels bare on a connection that is for one room |
//! | out | `pong`, `resync`, `refresh`, `reconnect` and `error` as above; an `error` has the `room` and the `ref` of the command |
//!
//! Who joins is counted, and for a kind with members listed, in its own `room_joined`, and is sent no `viewer_joined` for
//! itself alone. Where several come within one `Limits::viewer_window`, they are named to all in one event, and each finds
//! itself in it once more.
//!
//! Where the kind of a room has a [`members_rule`](crate::Kind::members_rule), those of whom it says no are told numbers alone:
//! their `room_joined` has `viewers`, and neither `users` nor `members`, and their `viewer_joined` and `viewer_left` have no
//! `users` and come only where the number of viewers changed.
//!
//! A `join` with `"observe":true` is that of an observer, whom the kind's [`observe_rule`](crate::Kind::observe_rule) lets in,
//! in place of its `join_rule`. An observer is given all that members are given, and its `room_joined` has
//! `"observer":true`. It is in no number and in no list, on no node, and nobody is told that it came or went. Whether a
//! connection observes a room is settled by the join that enters it: one that is a member stays a member, and an observer
//! stays an observer, until it leaves.
//!
//! A `join` with `"paused":true` is that of a page that nobody looks at, such as a hidden tab: the connection is in the room,
//! counted and named as others are, and is told who comes and goes, but is given no message, state, `resync` or `refresh` of
//! it. It enters a room so, or comes to be paused in one that it is in; what was on its way then may still arrive. Its
//! `room_joined` has `"paused":true`, and `"recovered":true` where nothing has to be fetched for now: in a room that it was in,
//! and where it gave a `since`; it has a `position` only where it enters the room, as what the client has is what it was given.
//! The next `join` of the room without `paused` goes on: its `room_joined` has `recovered`, and all
//! of the state follows, where there is one. Where `recovered` is `true`, what was missed follows, if anything: the messages of
//! the history from where the connection was paused, in order and once. Where it is `false`, one `resync` follows with the
//! reason: `history_gap`, where something was published meanwhile in a room without a history, or its history does not have it
//! any more; `epoch`, as [below](#rooms-with-a-history); or `bus_gap`, where a room with a history had something meanwhile
//! that is not kept there. The server knows what it has sent, so a `since` of that `join` is not looked at, but by the one that
//! enters the room. Neither rule nor hook is asked. Where the history can't be read just now, it is answered by `unavailable`,
//! and the connection stays paused. Connections that are for one room, and event streams, say nothing about their room and so
//! can't be paused: a page closes them, and comes back.
//!
//! A `join` of a room that the connection is in already is answered with `room_joined` as things stand now: a page that
//! may have missed something has the list again. The list of one room is sent to one connection twice in five seconds, also
//! where it left the room in between; a `join` after that is answered with `viewers` and `users`, and without `members`.
//!
//! What a client publishes reaches the members as the text that came, unless an `on_publish` hook writes something else.
//! It is JSON, at most 64 levels deep, within `Limits::max_broadcast_bytes` and `Limits::max_containers`; nothing else about it is
//! checked. A key may be given twice, of which some parsers take the first value and some the last.
//!
//! Its `type` may be that of an event, such as `viewer_left`: inside `data` it can't be taken for one. A room may also have
//! members whose connection is for that room alone, to whom payloads travel bare. They are given such a payload inside
//! `{"type":"message","room":"post:42","data":{..}}`, as the others are, on every node; the types are `error`, `message`,
//! `ping`, `pong`, `published`, `reconnect`, `refresh`, `refreshed`, `resync`, `room_joined`, `room_left`, `room_state`,
//! `token_expiring`, `viewer_joined` and `viewer_left`, and a payload with several `type`s is taken for each. What the application itself broadcasts, here or from
//! another language over the bus, always travels bare: it may write events.
//!
//! The room `user:5` is joined for user 5 from the start, where there is a kind `user` that lets them in; its
//! `room_joined` is then the first event. Where that join does not work just now, the connection is closed with 1013: there
//! was no command whose `ref` an `error` could repeat, and a client that comes back tries again.
//!
//! What was published before a `leave` may still arrive after `room_left`.
//!
//! # A token that ends, and a new one
//! `token_expiring` comes 60 s before the end of a token, and after half of its time where it is good for less than two
//! minutes. A client answers with `refresh`, on the same connection. The new token is checked as at the upgrade, by the same
//! authenticator, while everything else goes on. It has to be of the same user, and replaces the old one at once, also
//! where it ends sooner. Then the rules of all rooms that the connection is in are asked again, with the new claims.
//!
//! A token that is refused is answered by an `error` of the code `bad_token`, and one that can't be checked just now by
//! `unavailable`; the connection goes on with the token that it has, and is closed with 4401 when that ends. One is checked
//! at a time, and another one meanwhile is answered by `unavailable`. Two may come at once and then one each five seconds; one
//! more is answered by `rate_limited` with `retry_after_ms`, and who goes on is closed with 4429.
//!
//! # Left without having asked
//! A client is told by `room_left` with a `reason` that it is in a room no more:
//!
//! | `reason` | why | |
//! |---|---|---|
//! | `kicked` | the application has put the user [out of the room](crate::RoomManager::kick) | `message` says why, in the application's words |
//! | `not_allowed` | the rule was asked again, after a `refresh`, by a [`recheck`](crate::RoomManager::recheck), or because the [time of the kind](crate::Kind::ask_again_every) had passed, and says no | |
//! | `left` | the application [has it leave](crate::RoomManager::leave) | |
//!
//! It should not join the room again by itself. On a connection that is for this room alone nothing is left to do: it is
//! closed with 4403, and the reason is `message`, or `not allowed`; and so is an event stream that was in no other room.
//!
//! A `room_joined` that nobody asked for is that of a room that the application has it [enter](crate::RoomManager::enter); or it
//! tells who may see the members now, or may not any more, how things stand, as a `join` of a room that the connection is in would.
//!
//! # Compressed messages
//! Where the endpoint [compresses](crate::Endpoint::deflate) and the client offers it, any message may come compressed, by
//! permessage-deflate (RFC 7692) without context takeover in either direction. Clients unpack it below all that is said here:
//! JSON and bytes are the same. Broadcasts come compressed where that is smaller, and answers do not.
//!
//! # Rooms with a history
//! In a room whose kind has a [`history`](crate::Kind::history) each message has a position, a text that is opaque to
//! clients and the same wherever it stands: in JSON, in a URL, as the `id` of an event stream.
//!
//! | direction | message |
//! |---|---|
//! | in | `{"type":"join","room":"post:42","since":"2a.7","newest":50,"with":{..}}`, each of the three or none |
//! | out | `{"type":"room_joined","room":"post:42","position":"2a.7","viewers":3,"recovered":true}`, with `recovered` where there was a `since` |
//! | out | `{"type":"message","room":"post:42","offset":"2a.8","data":{..}}` |
//! | out | `{"type":"published","room":"post:42","position":"2a.8","ref":2}` |
//! | out | `{"type":"resync","room":"post:42","reason":"bus_gap","position":"2a.9"}`: without `position` where the server does not know it |
//!
//! Every message that comes after the `position` of `room_joined` follows, in order and once; and so does, behind a `resync`,
//! every one that comes after its `position`. So a client that keeps the last of these positions and of the `offset`s
//! can come back with it as `since`, whenever its connection ends; after a `resync` without `position` it keeps what it has. What
//! a client fetches after a `resync` has everything up to its `position`, if whoever publishes stores first. Where `recovered` is
//! `true`, that position is its `since`, and what it missed follows. Where it is `false`, one `resync` follows with the
//! reason: `history_gap`, where the history does not have all of it any more, or the room has no history, or it is more than
//! three quarters of an outbox and the kind does not have [`Overflow::Resync`](crate::Overflow::Resync), with which the rest
//! follows as the client reads; `epoch`, where the position is of another log, or is none. Then follow the
//! `newest` messages that it asked for, and what is published from then on: at most as many as are kept and fit, and none from
//! before one that members can't be given, as it is too long for this node; `position` is before the first of them. Who gives
//! no `since` is given the `newest` right away. A room is resumed by the `join` that enters it; one of a room that the
//! connection is in already is answered without `position` and `recovered`. A room that the server had the connection enter, as
//! the user's own, is resumed by the first `join` of the client, if that has a `since`: it is carried out as a leave and a join, so
//! what came since that position follows, also what was sent already, and the other members may be told of both. Where the join
//! is then refused, as with `unavailable`, the connection is out of the room, and is not told `room_left`: join again.
//!
//! `with` is any JSON of at most 4,096 bytes, for the rule and for `on_join`; see [`Member::with`](crate::Member::with). It
//! works in every room.
//!
//! On a connection that is for one room they are parameters of the URL: `?since=2a.7&newest=50`; an empty `since` asks for
//! nothing to be resumed. Where one of the two is there, what happens in the room is told as on a connection for many:
//! payloads in `message`, with their `offset`, and events with their `room`. Without them payloads are bare. `observe=true` asks
//! to observe. The other parameters, but the token, are its `with`, an object of strings; as JSON that may have 4,096 bytes, and
//! where it has more there is no `with`. A `since` that can't be decoded is a position of no log, and a `newest` that is no number is 0.
//!
//! What others publish to the room by the bus' own means has no `offset`, and is not kept. A `refresh` has an `offset`, as
//! the message has in whose place it comes.
//!
//! # Binary messages
//! The application [broadcasts bytes](crate::Broadcast::binary), and members publish them in kinds with
//! [`allow_binary`](crate::Kind::allow_binary). They travel in binary messages of WebSocket; everything else is JSON as above.
//! On a connection that is for one room such a message is the bytes, and nothing else, in both directions. On one that is in
//! many rooms, and on one for one room that asked for positions, it names its room, in one shape for both directions:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | what it is. `1`: a payload, published in the room. `2`, from a client only: for the room's [`on_binary_message`](crate::Kind::on_binary_message) |
//! | 1 | *n*, the length of the room's name: 1 to 233 |
//! | *n* | the room's name, such as `post:42` |
//! | 1 | *m*, the length of what comes next; `0` where it is absent |
//! | *m* | from the server: the position of the message, the text that is `offset` in JSON, in a room with a history. From a client: the `ref`, as JSON text of at most 128 bytes |
//! | the rest | the payload, of any length; there may be none of it |
//!
//! So the payload `ff 00`, published in `post:42` with the `ref` 7, is `01 07 70 6f 73 74 3a 34 32 01 37 ff 00`. It is carried out in
//! turn with the commands of the connection, and answered as they are, by `published` with that `ref`, or by an `error` with
//! the `ref`, both in JSON.
//!
//! What a client sends in a binary message on a connection that is for one room without positions is for the hook
//! `on_binary_message` where the kind has one. Where it has none it is published, if the kind lets members publish bytes and this
//! member publish. There is no `ref`, so success is not answered.
//!
//! | what is wrong with a binary message | `code` |
//! |---|---|
//! | it is cut inside its head, names no room, begins with another byte, or its `ref` is longer than 128 bytes or no JSON | `bad_message` |
//! | the room's name is none | `bad_room` |
//! | the connection is not in the room | `not_joined` |
//! | the kind has no `on_binary_message`, or does not let members publish bytes | `unsupported` |
//! | the publish rule says no | `not_allowed` |
//! | the payload has more than `Limits::max_broadcast_bytes`, and is not for the hook | `too_big` |
//!
//! The connection goes on after each of them.
//!
//! # Rooms with a state
//! In a room whose kind [keeps a state](crate::Kind::keep_state) the application sets the state of the room, any JSON, and
//! the members have the last one. It comes in the same form on both kinds of connection:
//!
//! | direction | message |
//! |---|---|
//! | out | `{"type":"room_state","room":"post:42","revision":"2a.7","state":{..}}`: all of it |
//! | out | `{"type":"room_state","room":"post:42","revision":"2a.8","since":"2a.7","patch":{..}}`: what has changed since that revision, as a JSON merge patch (RFC 7396) |
//!
//! A revision is a text that is opaque to clients, and no position of the history. Behind `room_joined` comes all of the
//! state, where there is one, and then the messages of the history that were asked for. From then on each new state comes, as
//! a patch where that is shorter and says the same: a member can't be set to `null` by one, so such a state comes whole, and
//! so does the next one wherever the server may have missed some.
//!
//! A client keeps the state and its revision. A `room_state` with `state` takes the place of what it has. One with `patch`
//! is applied where its `since` is the revision that the client has. Where it is another one, something in between was left
//! out, as a slow member's messages may be; and after a `resync` something may have been. Then a `join` of the room, in
//! which it is already, is answered with `room_joined` and, behind it, all of the state; on a connection that is for one
//! room, a new connection gets it. The answer may overtake a patch that was on its way, whose `since` then does not match
//! either: wait a random time of some seconds before the `join`, and once is enough.
//!
//! # How much is given
//! One connection is given `Limits::max_replay_bytes` of histories and states within ten seconds, and what the last join goes
//! beyond them; what follows a join as the client reads counts with that join. Until the ten seconds are over, a `join` of a
//! room with a history or a state is answered by an `unavailable` error; and one of a room that the connection is in, without
//! the state.
//!
//! # Event streams
//! The same as `text/event-stream` (HTML standard, section "Server-sent events"), the answer to a `GET`. The client says nothing
//! but what stands in its request: the rooms, by the path or as `?room=post:42&room=post:43`, at most 16; and `newest`, `observe`
//! and the rest as on a connection that is for one room, here for each of the rooms. `observed=post:43` in the place of
//! `room=post:43` asks to observe that one alone. It publishes by requests of the application's own.
//!
//! With the room in the path, a refusal ends the stream, as on a connection that is for one room. Where rooms are named as
//! parameters, be it one or several, it is an `error`, as on a connection that is for many. A stream whose rooms are all refused so
//! stays open without a room, and counts as a connection: the page should close it. `room` and `observed` are never in `with`, also
//! where the path names the room; on a WebSocket for one room they are the application's, as any other name.
//!
//! | line | what |
//! |---|---|
//! | `data: {..}`, an event of the default name `message` | what a connection that is in many rooms is sent: payloads are in `{"type":"message","room":..}`, and each event names its room |
//! | `data: {"type":"binary","room":"post:42","offset":"2a.8","base64":"/wA="}` | a payload that is bytes, as base64 (RFC 4648 section 4); `offset` in a room with a history |
//! | `id: 2a.7` before it | the position in a room with a history; where rooms are named as parameters `id: post:42=2a.7,post:43=1b.3` |
//! | `event: close`, `data: {"code":1012,"reason":"restart"}` | the last event: the code and the reason of what would be a close frame |
//! | `retry: 1234` | when to come back, in milliseconds: beside `reconnect`; and in `close` a day where nobody need come back, and a minute after 4430 |
//! | `:` | a comment, every `Limits::ping_interval` |
//!
//! A browser comes back by itself, and sends the last `id` as `Last-Event-ID`: it is resumed as by `since`. A page may begin with
//! one as the parameter `since`. Either form is taken where there is one room. A room that a given `id` does not name is answered
//! with `recovered: false`. Each later `id` repeats the position that the client gave for a room until that room is joined. A
//! browser also comes back after `close`, unless the page closes its `EventSource`.
//!
//! A client says nothing, so its pongs are that the HTTP server takes what is sent. One that does not read is closed with 4408, or
//! for being slow with 1013, once its TCP connection is full, which in a quiet room is never. One that is gone without a word, as
//! with the network, is noticed by TCP: where [`adapter::serve`](crate::adapter::serve) accepted it on Linux, so long after the
//! first comment or event that it did not confirm as `Limits::ping_interval` and `Limits::pong_timeout` together; elsewhere as
//! late as the kernel's own settings have it, on Linux some 15 minutes. Until then it counts as a viewer.

pub(crate) mod binary;
mod departure;
mod error_code;
mod event;
mod fault;
mod head;
pub(crate) mod multi;
mod reason;
mod request;
mod reserved;
#[cfg(test)]
mod schema_copy;
pub(crate) mod single;
mod standing;

pub use self::error_code::ErrorCode;
#[cfg(feature = "schema")]
pub(crate) use self::reserved::is_reserved_type;
pub(crate) use self::{
    departure::Departure,
    event::{
        error, pong, published, put_out, reconnect, refresh, refreshed, resync, room_left, room_state,
        room_state_patch, token_expiring, viewers_changed,
    },
    fault::Fault,
    reason::Reason,
    request::{Command, Ref, Request},
    reserved::is_reserved,
    standing::{Standing, room_joined},
};
