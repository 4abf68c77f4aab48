//! Why a connection ended, or did not come about.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::access::Address;

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("Redis can't be reached")]
    Unreachable(#[source] RedisError),
    #[error("Redis refused")]
    Refused(#[source] RedisError),
    #[error("the server does not speak RESP3, which Redis does from version 6 on")]
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
    #[error("the cluster has no node that answers")]
    NoNode,
    #[error("the node says that its cluster is down")]
    ClusterDown,
    #[error("the server has no slots any more")]
    NoSlots,
    #[error("Redis answered out of step")]
    OutOfStep,
    #[error("a probe was taken and did not come back")]
    Deaf,
    #[error("a message reached nobody although this node was subscribed")]
    Unheard,
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

    /// The fault and its causes, in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Unreachable(cause) | Self::Refused(cause) | Self::Broken(cause) => format!("{self}: {cause}"),
            Self::NoMaster(Some(cause)) => format!("{self}: {cause}"),
            Self::MayNotPublish(cause) => format!("{self}: {cause}"),
            _ => self.to_string(),
        }
    }
}

/// Where the slot of a channel is, if that is what the error says; a server that names no host means its own.
pub(crate) fn moved_to(error: &RedisError, host: &str) -> Option<(u16, Address)> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    let (address, slot) = error.redirect_node()?;
    let (name, port) = address.rsplit_once(':')?;
    let name = if name.is_empty() { host } else { name };
    Some((slot, (name.to_owned(), port.parse().ok()?)))
}

/// Whether Redis refused one command for want of rights, and the connection is as good as before.
pub(crate) fn is_refusal(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}
