//! Every order of a few events and faults, tried on the state machines of two and three nodes.
//!
//! A run is a sequence of choices: what happens next (a join, a leave, a crash, a return, some time), and what becomes of
//! each message (it arrives, is lost, comes twice, or comes late). After the last one there are ten seconds without faults,
//! and then every node has to know the truth. The search runs once, notes how many choices there were at each point, and
//! then runs again with the last of them that has another value, until there is none: depth first, by replay. A crate such
//! as `stateright` wants states to be cloned and compared, and these share their digests with the rooms; a replay needs
//! neither, and is shorter.

mod node;
mod world;

use node::{Broken, SimKind};
use world::{Fate, World};

/// The choices of one run.
#[derive(Default)]
struct Choices {
    /// What was chosen at each point, and of how many.
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, of));
        }
        let (chosen, options) = self.made[self.at];
        assert_eq!(options, of, "a replay goes another way");
        self.at += 1;
        chosen
    }

    /// The next run; `false` where all were made.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.made.pop() {
            if chosen + 1 < of {
                self.made.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
struct Scope {
    nodes: usize,
    events: usize,
    faults: usize,
    /// Whether a member was on each node before.
    members: bool,
    kind: SimKind,
}

/// Tries all runs; how many there were, or what is wrong after one of them.
fn explore(scope: Scope, broken: Broken) -> Result<usize, String> {
    let mut choices = Choices::default();
    for runs in 1.. {
        run(scope, broken, &mut choices)?;
        if !choices.advance() {
            return Ok(runs);
        }
    }
    Ok(0)
}

fn run(scope: Scope, broken: Broken, choices: &mut Choices) -> Result<(), String> {
    let mut world = World::settled(scope.nodes, scope.members, scope.kind, broken);
    let (mut happened, mut faults) = (Vec::new(), scope.faults);
    for _ in 0..scope.events {
        let events = world.possible();
        let event = events[choices.choose(events.len())];
        happened.push(format!("{event:?}"));
        world.happens(event);
        while let Some(message) = world.next_message() {
            let fate = if faults == 0 { Fate::Arrives } else { Fate::ALL[choices.choose(Fate::ALL.len())] };
            if fate != Fate::Arrives {
                faults -= 1;
                happened.push(format!("{message:?} {fate:?}"));
            }
            world.deliver(message, fate);
        }
    }
    world.calm();
    world.check().map_err(|wrong| format!("{wrong}, after {}", happened.join("; ")))
}

fn holds(scope: Scope) {
    let runs = explore(scope, Broken::Nothing).unwrap_or_else(|wrong| panic!("{scope:?}: {wrong}"));
    println!("{scope:?}: {runs} runs");
    assert!(runs > 500, "{runs}");
}

/// `ROOMS_LONG_TESTS=1` makes them longer: minutes, by a release build.
fn long() -> usize {
    usize::from(std::env::var_os("ROOMS_LONG_TESTS").is_some())
}

#[test]
fn two_nodes_know_the_truth_after_some_events_and_a_fault() {
    holds(Scope { nodes: 2, events: 4 + long(), faults: 1, members: false, kind: SimKind::Counted });
}

#[test]
fn two_nodes_know_the_truth_after_a_few_events_and_some_faults() {
    holds(Scope { nodes: 2, events: 2 + long(), faults: 3, members: false, kind: SimKind::Counted });
}

#[test]
fn two_nodes_know_who_is_there() {
    holds(Scope { nodes: 2, events: 3 + long(), faults: 2, members: true, kind: SimKind::Named });
}

#[test]
fn two_nodes_know_who_is_there_where_some_observe() {
    holds(Scope { nodes: 2, events: 3 + long(), faults: 1, members: false, kind: SimKind::Observed });
}

#[test]
fn two_nodes_know_who_is_there_where_who_left_is_shown_for_a_moment() {
    holds(Scope { nodes: 2, events: 3 + long(), faults: 1, members: true, kind: SimKind::Graced });
}

#[test]
fn three_nodes_know_the_truth() {
    holds(Scope { nodes: 3, events: 2 + long(), faults: 1, members: true, kind: SimKind::Counted });
}

#[test]
fn it_finds_what_is_broken() {
    let scope = |events, faults, members| Scope { nodes: 2, events, faults, members, kind: SimKind::Counted };
    let without = [
        (Broken::Forgets, scope(1, 0, true)),
        (Broken::Syncs, scope(1, 1, true)),
        (Broken::Rechecks, scope(2, 3, false)),
        (Broken::Graces, Scope { kind: SimKind::Graced, ..scope(1, 0, true) }),
    ];
    for (broken, scope) in without {
        let found = explore(scope, broken).expect_err("a node that is broken");
        println!("without {broken:?}: {found}");
    }
}

#[test]
fn every_choice_is_made_once() {
    let (mut choices, mut made) = (Choices::default(), Vec::new());
    loop {
        let first = choices.choose(2);
        made.push((first, if first == 1 { choices.choose(3) } else { 0 }));
        if !choices.advance() {
            break;
        }
    }
    assert_eq!(made, [(0, 0), (1, 0), (1, 1), (1, 2)]);
}
