//! A real proxy with a configuration of `examples/deploy`, before two nodes on this machine.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::lines::PATIENCE;

const NGINX: &str = include_str!("../../examples/deploy/nginx.conf");
const CADDY: &str = include_str!("../../examples/deploy/Caddyfile");

#[derive(Debug, Clone, Copy)]
pub(crate) enum Brand {
    Nginx,
    Caddy,
}

/// A running proxy; it is ended when dropped.
pub(crate) struct Proxy {
    process: Child,
    pub(crate) door: Door,
    /// Its configuration and its certificate.
    _folder: TempDir,
}

/// How its clients reach it.
#[derive(Clone)]
pub(crate) struct Door {
    port: u16,
    tls: TlsConnector,
}

impl Door {
    pub(crate) async fn open(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        self.tls.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

/// Puts one text in the place of another, which has to be there once.
pub(crate) fn put(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} is once in the file");
    text.replace(old, new)
}

impl Proxy {
    pub(crate) async fn start(brand: Brand, nodes: [u16; 2]) -> Self {
        Self::start_with(brand, nodes, |text| text).await
    }

    /// With a change of its configuration.
    pub(crate) async fn start_with(brand: Brand, nodes: [u16; 2], change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let tls = certificate(here);
        let [port, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, other] = [port, other].map(|listener| listener.local_addr().unwrap().port());
        let process = match brand {
            Brand::Nginx => nginx(here, port, &change(to_nodes(NGINX, nodes))).spawn(),
            Brand::Caddy => caddy(here, port, other, &change(to_nodes(CADDY, nodes))).spawn(),
        };
        let process = process.unwrap_or_else(|error| panic!("{brand:?}: {error}; `scripts/test` installs it"));
        let mut proxy = Self { process, door: Door { port, tls }, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while proxy.door.open().await.is_err() {
            assert!(
                Instant::now() < deadline && proxy.process.try_wait().unwrap().is_none(),
                "{brand:?} does not start"
            );
            sleep(Duration::from_millis(20)).await;
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its own signal to end: nginx has processes of its own to end.
        _ = Command::new("kill").arg(self.process.id().to_string()).status();
        _ = self.process.wait();
    }
}

/// The nodes' names are in a file as often as it needs them.
fn to_nodes(text: &str, [a, b]: [u16; 2]) -> String {
    assert!(["node-a:3000", "node-b:3000"].iter().all(|node| text.contains(node)));
    text.replace("node-a:3000", &format!("127.0.0.1:{a}")).replace("node-b:3000", &format!("127.0.0.1:{b}"))
}

fn nginx(here: &Path, port: u16, text: &str) -> Command {
    let text = put(text, "listen 443 ", &format!("listen 127.0.0.1:{port} "));
    let text = put(&text, "/run/nginx.pid", here.join("nginx.pid").to_str().unwrap());
    let text = text.replace("/etc/tls", here.to_str().unwrap());
    let path = here.join("nginx.conf");
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(here).arg("-c").arg(path).args(["-g", "daemon off;"]);
    command
}

fn caddy(here: &Path, port: u16, redirects: u16, text: &str) -> Command {
    let text = put(text, "\n:443 {", &format!("\n:{port} {{"));
    let text = put(&text, "admin off", &format!("admin off\n\thttp_port {redirects}"));
    let text = text.replace("/etc/tls", here.to_str().unwrap());
    let path = here.join("Caddyfile");
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("caddy");
    // What it stores lies in the test's folder.
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path).env("HOME", here).env("XDG_DATA_HOME", here);
    command
}

/// A certificate for `localhost` that nobody signed, and clients that trust it.
fn certificate(here: &Path) -> TlsConnector {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out certificate.pem";
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(here).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}; `apt-get install openssl` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(here.join("certificate.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
