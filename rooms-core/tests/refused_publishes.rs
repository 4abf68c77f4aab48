//! A publish that may not be is refused before its payload is parsed, whatever is in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use dhat::{HeapStats, Profiler};

use channels::{error, join, limited};
use talk::Talk;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Objects in a payload; a tree of them takes an allocation for each at least.
const OBJECTS: usize = 9_000;

/// What a refusal may take for all there is: the frame, the words of the error, the queue. 21 to 29 were counted.
const ALLOCATIONS: u64 = 200;

#[tokio::test(start_paused = true)]
async fn a_publish_that_may_not_be_is_not_parsed() {
    let _profiler = Profiler::builder().testing().build();
    let rooms = limited(|limits| limits.max_containers = 2 * OBJECTS);
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "post:42").await;
    let payload = format!("[{}0]", r#"{"":0},"#.repeat(OBJECTS));
    for (room, code) in [("channel:1", "not_joined"), ("post:42", "not_allowed"), ("post:*", "bad_room")] {
        let text = format!(r#"{{"type":"publish","room":"{room}","data":{payload}}}"#);
        let before = HeapStats::get().total_blocks;
        let refused = error(&mut talk, text).await;
        let allocated = HeapStats::get().total_blocks - before;
        assert_eq!(refused["code"], code, "{refused}");
        assert!(allocated <= ALLOCATIONS, "{code}: {allocated} allocations");
        println!("{code}: {allocated} allocations");
    }
    // What may be said is parsed where a hook asks for it, so the payload is one that would show.
    let tree = HeapStats::get().total_blocks;
    drop(serde_json::from_str::<serde_json::Value>(&payload).unwrap());
    assert!(HeapStats::get().total_blocks - tree >= OBJECTS as u64);
}
