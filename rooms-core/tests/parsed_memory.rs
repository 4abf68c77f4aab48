//! The memory that a message takes while a hook has it: what `Payload` and the guide say of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use dhat::{HeapStats, Profiler};
use rooms_core::{Kind, Limits, RoomManager};

use rig::{Rooms, idle};
use talk::Talk;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What a message parsed into a tree takes at most with the limits as they are, in times of `Limits::max_message_bytes`.
const PARSED: f64 = 30.0;
/// What it takes as the text that came, and some places around it.
const TEXT: f64 = 1.2;

/// What a message parsed into a tree takes at most with any limits, in times of `Limits::max_message_bytes`: a number takes two
/// bytes of text and 32 of a vector, of which up to half is not in use.
fn parsed(limits: &Limits) -> f64 {
    33.0 + 664.0 * limits.max_containers as f64 / limits.max_message_bytes as f64
}

/// Messages that are the dearest to parse within these bounds, each with its name.
fn messages(length: usize, containers: usize) -> Vec<(&'static str, String)> {
    // What is around the filling, and the message itself and the array in it.
    let (length, left) = (length - 32, containers - 2);
    let chain = format!("{}0{},", r#"{"":"#.repeat(60), "}".repeat(60));
    let keys = |n: usize, most: usize| {
        let mut keys = String::new();
        for n in 0..n {
            if keys.len() + 16 > most {
                break;
            }
            write!(keys, "\"{n:x}\":0,").unwrap();
        }
        keys
    };
    let repeated = |unit: &str, times: usize, room: usize| unit.repeat(times.min(room / unit.len()));
    let array = |head: &str, times: usize, filling: &str| {
        let head = repeated(head, times, length);
        let filling = repeated(filling, usize::MAX, length - head.len());
        format!(r#"{{"type":"x","of":[{head}{filling}0]}}"#)
    };
    let objects = repeated(r#"{"":0},"#, left, length);
    let rest = keys(usize::MAX, length - objects.len());
    vec![
        ("numbers", array(" ", 0, "0,")),
        ("strings", array(" ", 0, r#""a","#)),
        ("objects, then numbers", array(r#"{"":0},"#, left, "0,")),
        ("chains of objects, then numbers", array(&chain, left / 60, "0,")),
        ("chains of objects, then strings", array(&chain, left / 60, r#""a","#)),
        ("arrays of one, then numbers", array("[0],", left, "0,")),
        // One more than the four places that a vector has at first.
        ("arrays of five, then numbers", array("[0,0,0,0,0],", left, "0,")),
        ("empty arrays, then numbers", array("[],", left, "0,")),
        ("keys", format!(r#"{{"type":"x",{}"z":0}}"#, keys(usize::MAX, length))),
        ("objects, then keys", format!(r#"{{"type":"x","of":[{objects}0],{rest}"z":0}}"#)),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Tree,
}

/// The bytes that are allocated while a hook holds a message, in times of the longest message.
async fn cost(message: impl FnOnce() -> String, holds: Holds, limits: &Limits) -> f64 {
    let held = Arc::new(Mutex::new(0));
    let measured = Arc::clone(&held);
    let kind = Kind::authenticated().on_message(move |_, message| {
        let measured = Arc::clone(&measured);
        async move {
            let tree = (holds == Holds::Tree).then(|| message.json()).transpose()?;
            *measured.lock().unwrap() = HeapStats::get().curr_bytes;
            drop((message, tree));
            Ok(())
        }
    });
    let rooms: Rooms =
        RoomManager::build_for().kind("post", kind).limits(|changed| *changed = limits.clone()).build().unwrap();
    let talk = Talk::joined(&rooms, "a").await;
    idle().await;
    let before = HeapStats::get().curr_bytes;
    talk.say(message());
    idle().await;
    let held = *held.lock().unwrap();
    assert!(held > 0, "the hook has run");
    (held - before) as f64 / limits.max_message_bytes as f64
}

#[tokio::test(start_paused = true)]
async fn a_message_in_a_hook_takes_its_text_and_what_is_parsed_of_it_at_most_thirty_times_that() {
    let _profiler = Profiler::builder().testing().build();
    for (message_in, containers_in) in [(64 * 1024, 1024), (66_000, 1024), (64 * 1024, 9_000), (16 * 1024, 1024)] {
        let mut limits = Limits::default();
        (limits.max_message_bytes, limits.max_containers) = (message_in, containers_in);
        let bound = if limits == Limits::default() { PARSED } else { parsed(&limits) };
        let (mut most, mut dearest) = (0.0, "");
        for (name, message) in messages(message_in, containers_in) {
            assert!(message.len() <= message_in, "{name}: {}", message.len());
            let text = cost(|| message.clone(), Holds::Text, &limits).await;
            let tree = cost(|| message.clone(), Holds::Tree, &limits).await;
            assert!(text <= TEXT, "{name}: {text:.2} times for the text");
            assert!(tree <= bound, "{name}: {tree:.1} times for the tree, and {bound:.1} are said");
            if tree > most {
                (most, dearest) = (tree, name);
            }
        }
        println!("{message_in} bytes, {containers_in} arrays and objects: {dearest}, {most:.1} of {bound:.1} times");
        assert!(most > bound / 2.0, "the bound says more than there is");
    }
}
