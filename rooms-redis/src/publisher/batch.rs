//! What is appended, brought together: a script costs as much as thirty publications, half of that where it is for many
//! logs, and little for each message more to the same one.

use std::{collections::HashMap, sync::Arc};

use crate::queue::{Command, Job};

/// The rooms that one call is for. 64: beyond it a call costs less per room by a few per cent only, and Redis, which does one
/// thing at a time, is busy with it for about a millisecond.
const ROOMS: usize = 64;

/// Jobs in the order in which they are sent.
pub(super) struct Gathered {
    pub(super) jobs: Vec<Job>,
    /// How many of them are for one room each.
    pub(super) rooms: Vec<usize>,
    /// How many of these rooms each command is for.
    pub(super) commands: Vec<usize>,
}

/// Whether one command may be about rooms that are not in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    Any,
    One,
}

/// Jobs with those side by side that one call does. What waits together has no order that somebody could know of; each log
/// keeps the one in which its messages were handed over.
pub(super) fn gathered(jobs: Vec<Job>, slots: Slots) -> Gathered {
    if jobs.iter().all(|job| matches!(job.command, Command::Publish(_))) {
        let rooms = vec![1; jobs.len()];
        return Gathered { jobs, commands: rooms.clone(), rooms };
    }
    let batches = by_log(jobs);
    // What is first for its log may be in a call with others, which comes before all the rest.
    let mut calls = Vec::<Vec<Vec<Job>>>::with_capacity(batches.len());
    let mut open = None::<usize>;
    for (batch, first) in batches {
        let append = |batch: &Vec<Job>| {
            batch.first().filter(|job| !job.asking).is_some_and(|job| job.command.append().is_some())
        };
        let beside = open.and_then(|place| calls.get_mut(place)).filter(|call| {
            let others = call.first().and_then(|batch| batch.first()).and_then(|job| job.command.append());
            let this = batch.first().and_then(|job| job.command.append());
            first && append(&batch) && call.len() < ROOMS && others.zip(this).is_some_and(|(a, b)| a.goes_beside(b))
        });
        match beside {
            Some(call) => call.push(batch),
            None => {
                if first && append(&batch) && slots == Slots::Any {
                    open = Some(calls.len());
                }
                calls.push(vec![batch]);
            }
        }
    }
    let commands = calls.iter().map(Vec::len).collect();
    let batches: Vec<Vec<Job>> = calls.into_iter().flatten().collect();
    let rooms = batches.iter().map(Vec::len).collect();
    Gathered { jobs: batches.into_iter().flatten().collect(), rooms, commands }
}

/// Jobs by what one call appends to one log, and whether that is the first that the log has.
fn by_log(jobs: Vec<Job>) -> Vec<(Vec<Job>, bool)> {
    let (mut batches, mut latest) = (Vec::<(Vec<Job>, bool)>::with_capacity(jobs.len()), HashMap::new());
    for job in jobs {
        // What asks a server for a slot that is on its way to it does so for one command.
        let append = job.command.append().filter(|_| !job.asking);
        let before = latest.get(&*job.channel).copied();
        let batch = before.and_then(|place: usize| batches.get_mut(place));
        match batch {
            Some((batch, _))
                if batch
                    .last()
                    .and_then(|last| last.command.append())
                    .zip(append)
                    .is_some_and(|(a, b)| a.goes_with(b)) =>
            {
                batch.push(job);
            }
            _ => {
                if !matches!(job.command, Command::Publish(_)) {
                    latest.insert(Arc::clone(&job.channel), batches.len());
                }
                batches.push((vec![job], before.is_none()));
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use rooms_core::bus::{IdempotencyKey, ReadFrom, Retention};
    use tokio::sync::oneshot;

    use super::*;
    use crate::history::{Append, Call};

    #[test]
    fn what_is_appended_is_in_few_calls_and_each_log_keeps_its_order() {
        let job = |room: &str, command| Job {
            channel: room.into(),
            command,
            answer: oneshot::channel().0,
            moves: 0,
            waits: 0,
            asking: false,
        };
        let key = IdempotencyKey::new("k").unwrap();
        let append = |room: &str, text: &'static str, messages, key: Option<&IdempotencyKey>| {
            job(room, Command::Append(Box::new(Append::new(text.into(), Retention::messages(messages), key))))
        };
        let jobs = || {
            let read = Call::read(&"a".into(), ReadFrom::Newest(0), Retention::messages(5));
            vec![
                append("a", "1", 5, None),
                append("b", "1", 5, None),
                job("a", Command::Publish("plain".into())),
                append("a", "2", 5, None),
                append("a", "other retention", 6, None),
                append("a", "once", 5, Some(&key)),
                append("b", "2", 5, None),
                job("a", Command::Call(Box::new(read))),
                append("a", "3", 5, None),
                append("c", "1", 7, None),
                append("d", "once", 7, Some(&key)),
            ]
        };
        let Gathered { jobs: apart, rooms, commands } = gathered(jobs(), Slots::One);
        assert_eq!((rooms, commands), (vec![2, 2, 1, 1, 1, 1, 1, 1, 1], vec![1; 9]));
        let names = |jobs: &[Job]| jobs.iter().map(|job| job.channel.to_string()).collect::<String>();
        assert_eq!(names(&apart), "aabbaaaaacd");
        let Gathered { jobs: beside, rooms, commands } = gathered(jobs(), Slots::Any);
        assert_eq!((rooms, commands), (vec![2, 2, 1, 1, 1, 1, 1, 1, 1], vec![3, 1, 1, 1, 1, 1, 1]));
        assert_eq!(names(&beside), "aabbcaaaaad");
    }

    #[test]
    fn a_call_is_for_so_many_rooms_at_most() {
        let job = |number: usize| Job {
            channel: number.to_string().into(),
            command: Command::Append(Box::new(Append::new("x".into(), Retention::messages(5), None))),
            answer: oneshot::channel().0,
            moves: 0,
            waits: 0,
            asking: number == 0,
        };
        let Gathered { commands, .. } = gathered((0..=2 * ROOMS + 1).map(job).collect(), Slots::Any);
        assert_eq!(commands, [1, ROOMS, ROOMS, 1]);
    }
}
