//! What is appended to one log, brought together: a script costs as much as thirty publications, and little more for each
//! message more.

use std::{collections::HashMap, sync::Arc};

use crate::queue::{Command, Job};

/// Jobs with those side by side that one call does, and how many there are for each call. What waits together has no order
/// that somebody could know of; each log keeps the one in which its messages were handed over.
pub(super) fn gathered(jobs: Vec<Job>) -> (Vec<Job>, Vec<usize>) {
    if jobs.iter().all(|job| matches!(job.command, Command::Publish(_))) {
        let lengths = vec![1; jobs.len()];
        return (jobs, lengths);
    }
    let (mut batches, mut latest) = (Vec::<Vec<Job>>::with_capacity(jobs.len()), HashMap::new());
    for job in jobs {
        // What asks a server for a slot that is on its way to it does so for one command.
        let Some(call) = job.command.call().filter(|_| !job.asking) else {
            batches.push(vec![job]);
            continue;
        };
        let batch = latest.get(&*job.channel).and_then(|place: &usize| batches.get_mut(*place));
        match batch {
            Some(batch)
                if batch.last().and_then(|last| last.command.call()).is_some_and(|last| last.goes_with(call)) =>
            {
                batch.push(job);
            }
            _ => {
                latest.insert(Arc::clone(&job.channel), batches.len());
                batches.push(vec![job]);
            }
        }
    }
    let lengths = batches.iter().map(Vec::len).collect();
    (batches.into_iter().flatten().collect(), lengths)
}

#[cfg(test)]
mod tests {
    use rooms_core::bus::{IdempotencyKey, ReadFrom, Retention};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{history::Call, pubsub::PubSub};

    #[test]
    fn what_is_appended_to_one_log_is_one_call_in_its_order_and_nothing_else_is() {
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
            let retention = Retention::messages(messages);
            let call = Call::append(&room.into(), text.into(), retention, PubSub::Classic, key);
            job(room, Command::Call(Box::new(call)))
        };
        let read = Call::read(&"a".into(), ReadFrom::Newest(0), Retention::messages(5));
        let jobs = vec![
            append("a", "1", 5, None),
            append("b", "1", 5, None),
            job("a", Command::Publish("plain".into())),
            append("a", "2", 5, None),
            append("a", "other retention", 6, None),
            append("a", "once", 5, Some(&key)),
            append("b", "2", 5, None),
            job("a", Command::Call(Box::new(read))),
            append("a", "3", 5, None),
        ];
        let (jobs, lengths) = gathered(jobs);
        assert_eq!(lengths, [2, 2, 1, 1, 1, 1, 1]);
        let rooms: Vec<&str> = jobs.iter().map(|job| &*job.channel).collect();
        assert_eq!(rooms, ["a", "a", "b", "b", "a", "a", "a", "a", "a"]);
    }
}
