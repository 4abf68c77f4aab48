//! What a publisher costs the program that has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use dhat::{HeapStats, Profiler};
use rooms_core::{Kind, LocalBus, Oversize, Publisher, RoomKey, bus::Retention};
use tokio::runtime::Handle;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What a publisher with three kinds may have on the heap, in bytes: the declarations, mostly, and what
/// they would record. 6,547 were counted with all features.
const MEMORY: usize = 7_168;

#[tokio::test]
async fn it_is_small_and_spawns_no_task() {
    let bus = LocalBus::new();
    let _profiler = Profiler::builder().testing().build();
    let tasks = Handle::current().metrics().num_alive_tasks();
    let publisher = Publisher::builder(bus)
        .kind("post", Kind::authenticated())
        .kind("log", Kind::authenticated().history(Retention::messages(100)))
        .kind("cart", Kind::new().oversize(Oversize::Refresh))
        .build()
        .unwrap();
    let room = RoomKey::new("cart", 1).unwrap();
    for number in 0..100 {
        publisher.broadcast(&room, &number).await.unwrap();
    }
    let memory = HeapStats::get().curr_bytes;
    println!("a publisher: {memory} bytes");
    assert!(memory <= MEMORY, "{memory} bytes");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}
