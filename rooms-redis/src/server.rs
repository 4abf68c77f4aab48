//! Where Redis is, and how a connection to it is made.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, PushInfo,
    RedisError,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{fault::Fault, limits::RedisLimits};

/// One server. Its address and password are in no `Debug` and in no log.
pub(crate) struct Server {
    client: Client,
    connect: Duration,
    response: Duration,
}

impl Server {
    /// For a URL, with the certificate of an authority of one's own in PEM, if there is one.
    pub(crate) fn new(url: &str, root: Option<Vec<u8>>, limits: &RedisLimits) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?;
        // Over RESP3, because there confirmations and messages arrive on one connection in one order.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = client(with_tcp(info).set_redis_settings(settings), root)?;
        Ok(Self { client, connect: limits.connect, response: limits.response })
    }

    /// Connects, as a client of that name.
    ///
    /// Every push is given to `hear`, in the task that reads from the server. That task drops it when the connection
    /// ends, whatever the reason; so what `hear` owns tells by its own end that the connection is gone.
    pub(crate) async fn open(
        &self,
        name: &str,
        hear: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Fault> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect))
            .set_response_timeout(Some(self.response))
            .set_push_sender(move |push| {
                hear(push);
                Ok::<(), std::convert::Infallible>(())
            });
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(Fault::connecting)?;
        let named = redis::cmd("CLIENT").arg("SETNAME").arg(name).exec_async(&mut connection).await;
        match named {
            // Without the right to it the connection has no name, and is as good.
            Err(error) if !crate::fault::is_refusal(&error) => Err(Fault::connecting(error)),
            _ => Ok(connection),
        }
    }
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

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}
