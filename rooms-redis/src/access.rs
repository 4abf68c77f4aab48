//! How servers are spoken to, wherever they are.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion,
    RedisError,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{fault::Fault, limits::RedisLimits};

/// The host and the port of a server.
pub(crate) type Address = (String, u16);

/// The port of a sentinel whose URL names none.
const SENTINEL_PORT: u16 = 26379;

/// The user, the password, TLS, and the first address.
#[derive(Clone)]
pub(crate) struct Access {
    info: ConnectionInfo,
    root: Option<Vec<u8>>,
    /// The URL names a database.
    names_database: bool,
}

impl Access {
    /// For a URL, with the certificate of an authority of one's own in PEM, if there is one.
    pub(crate) fn new(url: &str, root: Option<Vec<u8>>) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?;
        // Over RESP3, because there confirmations and messages arrive on one connection in one order.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let names_database = settings.db() != 0;
        Ok(Self { info: prepared(info.set_redis_settings(settings)), root, names_database })
    }

    /// Whether the URL names a database, which channels do not have.
    pub(crate) fn names_database(&self) -> bool {
        self.names_database
    }

    /// The server of the URL.
    pub(crate) fn client(&self) -> Result<Client, RedisError> {
        client(self.info.clone(), self.root.clone())
    }

    /// A server elsewhere, with the same user, the same password and the same TLS.
    pub(crate) fn client_at(&self, (host, port): Address) -> Result<Client, Fault> {
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        client(self.info.clone().set_addr(addr), self.root.clone()).map_err(Fault::connecting)
    }

    /// The host and the port of the URL.
    pub(crate) fn address(&self) -> Result<Address, RedisError> {
        address(&self.info)
    }

    /// A sentinel, which has a user and a password of its own.
    pub(crate) fn sentinel(&self, url: &str) -> Result<Client, RedisError> {
        let unread = || RedisError::from((ErrorKind::InvalidClientConfig, "the URL of a sentinel can't be read"));
        let mut url = redis::parse_redis_url(url).ok_or_else(unread)?;
        if url.has_host() && url.port().is_none() {
            url.set_port(Some(SENTINEL_PORT)).map_err(|()| unread())?;
        }
        client(prepared(url.into_connection_info()?), self.root.clone())
    }
}

/// Whether a URL asks for TLS, and there is none.
pub(crate) fn lacks_tls(url: &str) -> bool {
    let scheme = url.trim_start().split_once(':').map_or("", |(scheme, _)| scheme);
    !cfg!(feature = "tls") && ["rediss", "valkeys"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls))
}

/// The host and the port of a URL.
pub(crate) fn address_of(url: &str) -> Result<Address, RedisError> {
    address(&url.into_connection_info()?)
}

fn address(info: &ConnectionInfo) -> Result<Address, RedisError> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Ok((host.clone(), *port)),
        _ => Err((ErrorKind::InvalidClientConfig, "a socket of this machine has no host and no port").into()),
    }
}

pub(crate) fn times(limits: &RedisLimits) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limits.connect_timeout))
        .set_response_timeout(Some(limits.response_timeout))
}

#[cfg(not(feature = "tls"))]
fn client(info: ConnectionInfo, _root: Option<Vec<u8>>) -> Result<Client, RedisError> {
    Client::open(info)
}

#[cfg(feature = "tls")]
fn client(info: ConnectionInfo, root: Option<Vec<u8>>) -> Result<Client, RedisError> {
    // Where the process has one already, that one stays.
    _ = rustls::crypto::ring::default_provider().install_default();
    match root {
        Some(root) => {
            let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(root) };
            Client::build_with_tls(info, certificates)
        }
        None => Client::open(info),
    }
}

/// With what all our connections have in common.
fn prepared(info: ConnectionInfo) -> ConnectionInfo {
    // Our connections have names. The name of the client crate would need one more right, of which Redis knows from 7.2 on.
    // No database is selected: that needs a right too, a cluster refuses it, and channels are the same in all of them.
    let settings = info.redis_settings().clone().set_skip_set_lib_name().set_db(0);
    with_tcp(info.set_redis_settings(settings))
}

/// A dead link is given up by the kernel within about half a minute, also where nothing is sent; our own probe is faster,
/// and knows more.
fn with_tcp(info: ConnectionInfo) -> ConnectionInfo {
    if matches!(info.addr(), ConnectionAddr::Unix(_)) {
        return info;
    }
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    info.set_tcp_settings(settings)
}
