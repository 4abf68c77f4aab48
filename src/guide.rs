//! The guide: one page for each question, in the order in which a service meets them.
//!
//! 1. [The first room](crate) is on the front page.
//! 2. [`rules`]: who may join, and what the application does when somebody does.
//! 3. [`sign_in`]: tokens, cookies, providers, guests.
//! 4. [`many_rooms`]: one socket for a page that watches many things.
//! 5. [`presence`]: how many are there, and who.
//! 6. `scaling_out`: many processes.
//! 7. [`failures`]: what happens when things fail, and what a page should do.
//! 8. [`history`]: what a room keeps for those who were away.
//! 9. [`state`]: small messages, the last state of a room, and what is too long.
//! 10. [`page`]: a client in JavaScript that keeps itself up.
//! 11. [`tuning`]: every bound, and what to measure.
//! 12. `limits`: what one client may do, and how to serve so that it holds.
//! 13. `testing`, with the feature of that name: tests of an application's rules, hooks and nodes.
//! 14. `from_python`: moving over from the dict of sets and `psubscribe`, one worker at a time.
//! 15. [`http2`]: WebSockets over HTTP/2.
//! 16. [`event_streams`]: rooms for clients that have no WebSocket.
//! 17. [`compression`]: a broadcast that is compressed once for all members.
//! 18. [`binary`]: payloads that are bytes.
//! 19. [`typed_rooms`]: events declared as Rust enums, and TypeScript types that are made of them.
//! 20. [`inspector`]: a page that shows the nodes, and why a user hears nothing.
//! 21. [`observability`]: metrics, alerts and traces, for whoever is called at night.
//!
//! Every snippet of Rust in it is compiled, and run where it needs no service beside it; the client runs in a browser. The
//! pages about several processes are there with the feature `redis`.

#[doc = include_str!("guide/rules.md")]
pub mod rules {}

#[doc = include_str!("guide/sign_in.md")]
pub mod sign_in {}

#[doc = include_str!("guide/many_rooms.md")]
pub mod many_rooms {}

#[doc = include_str!("guide/presence.md")]
pub mod presence {}

#[cfg(feature = "redis")]
#[doc = include_str!("guide/scaling_out.md")]
pub mod scaling_out {}

#[doc = include_str!("guide/failures.md")]
pub mod failures {}

#[doc = include_str!("guide/history.md")]
pub mod history {}

#[doc = include_str!("guide/state.md")]
pub mod state {}

#[doc = include_str!("guide/page.md")]
#[doc = "```js"]
#[doc = include_str!("guide/rooms.js")]
#[doc = "```"]
pub mod page {}

#[doc = include_str!("guide/tuning.md")]
pub mod tuning {}

#[cfg(feature = "testing")]
#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[cfg(feature = "redis")]
#[doc = include_str!("guide/from_python.md")]
pub mod from_python {}

#[doc = include_str!("guide/http2.md")]
pub mod http2 {}

#[doc = include_str!("guide/compression.md")]
pub mod compression {}

#[doc = include_str!("guide/event_streams.md")]
pub mod event_streams {}

#[doc = include_str!("guide/typed_rooms.md")]
pub mod typed_rooms {}
#[doc = include_str!("guide/binary.md")]
pub mod binary {}

#[doc = include_str!("guide/inspector.md")]
pub mod inspector {}

#[cfg(all(feature = "axum", feature = "warp"))]
#[doc = include_str!("guide/limits.md")]
pub mod limits {}

#[doc = include_str!("guide/observability.md")]
pub mod observability {}
