//! Where Redis is, and how a connection to it is made.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion,
    PushInfo, RedisError, Value,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{
    fault::{Fault, is_refusal},
    limits::RedisLimits,
    sentinel::Sentinels,
};

/// The port of a sentinel whose URL names none.
const SENTINEL_PORT: u16 = 26379;

/// One server. Its address and password are in no `Debug` and in no log.
pub(crate) struct Server {
    place: Place,
    limits: RedisLimits,
}

enum Place {
    /// Always the same.
    Fixed(Client),
    /// Where the sentinels say, asked at every connection.
    Watched { sentinels: Sentinels, access: Access },
}

/// How a server is spoken to, wherever it is.
struct Access {
    info: ConnectionInfo,
    root: Option<Vec<u8>>,
}

impl Server {
    /// For a URL, with the certificate of an authority of one's own in PEM, if there is one. Where there are sentinels,
    /// the host of the URL is the name of the service that they watch.
    pub(crate) fn new(
        url: &str,
        sentinels: &[String],
        root: Option<Vec<u8>>,
        limits: &RedisLimits,
    ) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?;
        // Over RESP3, because there confirmations and messages arrive on one connection in one order.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let access = Access { info: prepared(info.set_redis_settings(settings)), root };
        let place = match sentinels {
            [] => Place::Fixed(access.client()?),
            _ => Place::Watched { sentinels: access.sentinels(sentinels, limits)?, access },
        };
        Ok(Self { place, limits: limits.clone() })
    }

    /// How many connections one attempt may take, one after the other.
    pub(crate) fn steps(&self) -> usize {
        match &self.place {
            Place::Fixed(_) => 1,
            // Each of the sentinels, and whom it names.
            Place::Watched { sentinels, .. } => 2 * sentinels.count(),
        }
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
        let hear = Arc::new(hear);
        let (sentinels, access) = match &self.place {
            Place::Fixed(client) => return self.open_at(client, name, hear).await,
            Place::Watched { sentinels, access } => (sentinels, access),
        };
        let (mut fault, mut tried) = (Fault::NoMaster(None), Vec::new());
        for place in sentinels.in_turn() {
            let server = match sentinels.ask(place).await {
                Ok(server) if tried.contains(&server) => continue,
                Ok(server) => server,
                Err(error) => {
                    fault = if tried.is_empty() { error } else { fault };
                    continue;
                }
            };
            match self.open_at(&access.client_at(server.clone())?, name, Arc::clone(&hear)).await {
                Ok(connection) => {
                    sentinels.ask_first(place);
                    return Ok(connection);
                }
                // Another sentinel may know better: one that was cut off from the others names the old master.
                Err(error) => fault = error,
            }
            tried.push(server);
        }
        Err(fault)
    }

    async fn open_at(
        &self,
        client: &Client,
        name: &str,
        hear: Arc<impl Fn(PushInfo) + Send + Sync + 'static>,
    ) -> Result<MultiplexedConnection, Fault> {
        let config = times(&self.limits).set_push_sender(move |push| {
            hear(push);
            Ok::<(), Infallible>(())
        });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(Fault::connecting)?;
        let named = redis::cmd("CLIENT").arg("SETNAME").arg(name).exec_async(&mut connection).await;
        match named {
            // Without the right to it the connection has no name, and is as good.
            Err(error) if !is_refusal(&error) => return Err(Fault::connecting(error)),
            _ => {}
        }
        if self.may_be_demoted() {
            check(&mut connection).await?;
        }
        Ok(connection)
    }

    fn may_be_demoted(&self) -> bool {
        matches!(self.place, Place::Watched { .. })
    }

    /// Adds the question whether the server is a master still, where that is in doubt; [`is_master`] reads the answer.
    ///
    /// A server that was demoted goes on taking publications, and carries them to whoever is left on it, so that a probe
    /// comes back. Where the publisher leaves it, a probe on the new master reaches nobody, and the subscriber leaves too.
    pub(crate) fn add_check(&self, pipeline: &mut redis::Pipeline) -> bool {
        if self.may_be_demoted() {
            pipeline.cmd("ROLE");
        }
        self.may_be_demoted()
    }
}

impl Access {
    fn client(&self) -> Result<Client, RedisError> {
        client(self.info.clone(), self.root.clone())
    }

    fn client_at(&self, (host, port): (String, u16)) -> Result<Client, Fault> {
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        client(self.info.clone().set_addr(addr), self.root.clone()).map_err(Fault::connecting)
    }

    fn sentinels(&self, urls: &[String], limits: &RedisLimits) -> Result<Sentinels, RedisError> {
        let service = match self.info.addr() {
            ConnectionAddr::Tcp(service, _) | ConnectionAddr::TcpTls { host: service, .. } => service.clone(),
            _ => {
                return Err(
                    (ErrorKind::InvalidClientConfig, "sentinels do not know of a socket of this machine").into()
                );
            }
        };
        let clients = urls.iter().map(|url| {
            let unread = || RedisError::from((ErrorKind::InvalidClientConfig, "the URL of a sentinel can't be read"));
            let mut url = redis::parse_redis_url(url).ok_or_else(unread)?;
            if url.has_host() && url.port().is_none() {
                url.set_port(Some(SENTINEL_PORT)).map_err(|()| unread())?;
            }
            client(prepared(url.into_connection_info()?), self.root.clone())
        });
        Ok(Sentinels::new(clients.collect::<Result<_, _>>()?, service, times(limits)))
    }
}

fn times(limits: &RedisLimits) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limits.connect))
        .set_response_timeout(Some(limits.response))
}

async fn check(connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    match redis::cmd("ROLE").query_async(connection).await {
        Ok(role) if is_master(&role) => Ok(()),
        Ok(_) => Err(Fault::Replica),
        Err(error) if is_refusal(&error) => Err(Fault::Refused(error)),
        Err(error) => Err(Fault::Broken(error)),
    }
}

/// Whether an answer to `ROLE` is a master's.
pub(crate) fn is_master(answer: &Value) -> bool {
    matches!(answer, Value::Array(role) if matches!(role.first(), Some(Value::BulkString(role)) if role == b"master"))
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
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
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

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}
