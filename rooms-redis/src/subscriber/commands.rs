//! The commands of classic and of sharded channels, and what Redis answers for each channel.

use redis::{ErrorKind, PushKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::{
    access::Address,
    channels::Channel,
    fault::Fault,
    link::Link,
    pubsub::PubSub,
    refusal::{is_refusal, moved_to},
    shared::Shared,
};

/// What came of one channel.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Refused(RedisError),
    /// Nobody serves the slot; soon somebody will.
    NotNow,
    Moved(u16, Address),
}

/// Resolves when Redis has confirmed or refused every one of them.
pub(super) async fn subscribe(
    shared: &Shared,
    link: &Link,
    connection: &mut MultiplexedConnection,
    channels: &[Channel],
) -> Result<Vec<Answer>, Fault> {
    match shared.pubsub {
        PubSub::Classic => classic(connection, channels).await,
        PubSub::Sharded => sharded(link, connection, channels).await,
    }
}

pub(super) async fn unsubscribe(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    channels: &[Channel],
) -> Result<(), Fault> {
    if shared.pubsub == PubSub::Classic {
        return connection.unsubscribe(names(channels)).await.map_err(failed);
    }
    for (channel, answer) in channels.iter().zip(one_each("SUNSUBSCRIBE", connection, channels).await?) {
        match answer {
            Value::ServerError(error) if is_refusal(&error.clone().into()) => {
                return Err(Fault::Refused(error.into()));
            }
            // The slot has moved, and the server has ended the subscription itself.
            Value::ServerError(_) => {}
            answer if concerns(&answer, &PushKind::SUnsubscribe, channel) => {}
            _ => return Err(Fault::OutOfStep),
        }
    }
    Ok(())
}

async fn classic(connection: &mut MultiplexedConnection, channels: &[Channel]) -> Result<Vec<Answer>, Fault> {
    match connection.subscribe(names(channels)).await {
        Ok(()) => return Ok(channels.iter().map(|_| Answer::Done).collect()),
        Err(error) if !is_refusal(&error) => return Err(Fault::Broken(error)),
        Err(_) => {}
    }
    // Redis refuses a command as a whole, also where it would refuse only one of the channels.
    let mut answers = Vec::new();
    for channel in channels {
        answers.push(match connection.subscribe(&**channel).await {
            Ok(()) => Answer::Done,
            Err(error) if is_refusal(&error) => Answer::Refused(error),
            Err(error) => return Err(Fault::Broken(error)),
        });
    }
    Ok(answers)
}

async fn sharded(
    link: &Link,
    connection: &mut MultiplexedConnection,
    channels: &[Channel],
) -> Result<Vec<Answer>, Fault> {
    let answers = one_each("SSUBSCRIBE", connection, channels).await?;
    channels.iter().zip(answers).map(|(channel, answer)| read(channel, answer, link.host())).collect()
}

/// What the answer to one `SSUBSCRIBE` means, from a server at this host.
fn read(channel: &str, answer: Value, host: &str) -> Result<Answer, Fault> {
    let error = match answer {
        Value::ServerError(error) => RedisError::from(error),
        answer if concerns(&answer, &PushKind::SSubscribe, channel) => return Ok(Answer::Done),
        _ => return Err(Fault::OutOfStep),
    };
    match (moved_to(&error, host), error.kind()) {
        (Some((slot, address)), _) => Ok(Answer::Moved(slot, address)),
        (None, ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain)) => Ok(Answer::NotNow),
        (None, _) if is_refusal(&error) => Ok(Answer::Refused(error)),
        (None, _) => Err(Fault::Broken(error)),
    }
}

/// Sends a command for each channel, as one may name channels of one slot only.
///
/// Where a slot is taken from a server, it tells of each subscription that ends thereby in the very words of an answer.
/// The client crate takes them for one, and from then on gives each command the answer of another. So whoever asks looks
/// whether the answer is about its channel.
async fn one_each(
    command: &str,
    connection: &mut MultiplexedConnection,
    channels: &[Channel],
) -> Result<Vec<Value>, Fault> {
    let mut pipeline = redis::pipe();
    for channel in channels {
        pipeline.cmd(command).arg(&**channel);
    }
    let answers = connection.send_packed_commands(&pipeline, 0, channels.len()).await.map_err(failed)?;
    if answers.len() == channels.len() { Ok(answers) } else { Err(Fault::OutOfStep) }
}

fn concerns(answer: &Value, expected: &PushKind, channel: &str) -> bool {
    let Value::Push { kind, data } = answer else { return false };
    kind == expected && matches!(data.first(), Some(Value::BulkString(name)) if name == channel.as_bytes())
}

fn names(channels: &[Channel]) -> Vec<&str> {
    channels.iter().map(|channel| &**channel).collect()
}

fn failed(error: RedisError) -> Fault {
    if is_refusal(&error) { Fault::Refused(error) } else { Fault::Broken(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, channel: &str) -> Value {
        Value::Push { kind, data: vec![Value::BulkString(channel.as_bytes().to_vec()), Value::Int(1)] }
    }

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn an_answer_about_another_channel_is_out_of_step() {
        assert!(matches!(read("a", push(PushKind::SSubscribe, "a"), "h"), Ok(Answer::Done)));
        for other in [push(PushKind::SSubscribe, "b"), push(PushKind::SUnsubscribe, "a"), Value::Okay, Value::Nil] {
            assert!(matches!(read("a", other.clone(), "h"), Err(Fault::OutOfStep)), "{other:?}");
        }
    }

    #[test]
    fn an_error_says_where_the_slot_is_or_to_wait_or_that_there_is_no_right() {
        let moved = |text: &str| match read("a", error(text), "h") {
            Ok(Answer::Moved(slot, (host, port))) => (slot, host, port),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(moved("MOVED 7 10.0.0.1:6380"), (7, "10.0.0.1".to_owned(), 6380));
        assert_eq!(moved("MOVED 7 :6380"), (7, "h".to_owned(), 6380));
        assert_eq!(moved("MOVED 7 fe80::1:6380"), (7, "fe80::1".to_owned(), 6380));
        assert!(matches!(read("a", error("CLUSTERDOWN Hash slot not served"), "h"), Ok(Answer::NotNow)));
        assert!(matches!(read("a", error("NOPERM no"), "h"), Ok(Answer::Refused(_))));
        assert!(matches!(read("a", error("ERR what?"), "h"), Err(Fault::Broken(_))));
    }
}
