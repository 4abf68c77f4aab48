//! Why a connection ended, or did not come about.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("Redis can't be reached")]
    Unreachable(#[source] RedisError),
    #[error("Redis refused")]
    Refused(#[source] RedisError),
    /// A command that a bus can't do without, on one kind of server.
    #[error("{place} refused `{command}`, which needs the right `{right}`")]
    Denied { place: &'static str, command: &'static str, right: &'static str, cause: RedisError },
    #[error("the server knows no `HELLO 3`: Redis speaks RESP3 from version 6 on, where `HELLO` is not disabled")]
    Resp2,
    #[error("Redis closed the connection")]
    Closed,
    #[error("Redis gave no good answer")]
    Broken(#[source] RedisError),
    #[error("Redis refused to publish")]
    MayNotPublish(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no sentinel knows the server")]
    NoMaster(#[source] Option<RedisError>),
    #[error("the server is a replica")]
    Replica,
    #[error("the server does not say in its answer to `HELLO` whether it is a master")]
    NoRole,
    #[error("the cluster has no node that answers")]
    NoNode,
    #[error("the node says that its cluster is down")]
    ClusterDown,
    #[error("the server has no slots any more")]
    NoSlots,
    #[error("Redis answered out of step")]
    OutOfStep,
    #[error("a probe was taken and did not come back")]
    ProbeLost,
    #[error("a message reached nobody although this node was subscribed")]
    SubscriptionGone,
}

impl Fault {
    /// Of an attempt to connect.
    pub(crate) fn connecting(error: RedisError) -> Self {
        let text = error.to_string();
        // Redis up to 4 quotes the command in another way than 5 does; proxies answer with `NOPROTO`.
        let resp2 = error.kind() == ErrorKind::RESP3NotSupported
            || error.code() == Some("NOPROTO")
            || (text.contains("unknown command") && text.contains("HELLO"));
        match error.kind() {
            _ if resp2 => Self::Resp2,
            ErrorKind::AuthenticationFailed | ErrorKind::Extension | ErrorKind::Server(_) => Self::Refused(error),
            _ => Self::Unreachable(error),
        }
    }

    /// Of a command that was refused, in whatever words, or that was not answered.
    pub(crate) fn denied(place: &'static str, command: &'static str, right: &'static str, cause: RedisError) -> Self {
        match cause.kind() {
            ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => {
                Self::Denied { place, command, right, cause }
            }
            // Nobody asked for the password yet, or the server is just loading.
            _ => Self::connecting(cause),
        }
    }

    /// The fault and its causes, in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Unreachable(cause) | Self::Refused(cause) | Self::Broken(cause) => format!("{self}: {cause}"),
            Self::NoMaster(Some(cause)) => format!("{self}: {cause}"),
            Self::Denied { cause, .. } => format!("{self}: {cause}"),
            Self::MayNotPublish(cause) => format!("{self}: {cause}"),
            _ => self.to_string(),
        }
    }
}
