//! A page over TLS and HTTP/2 in real browsers, Chromium and Firefox. Its WebSocket is a stream of the same connection where the
//! server announces that it takes one (RFC 8441), and has an HTTP/1.1 connection of its own where it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::future_not_send, reason = "these futures stay on the thread of their test")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "browser/firefox.rs"]
mod firefox;
#[path = "support/lines.rs"]
mod lines;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{
    Extension, Router,
    http::Version,
    response::{Html, Response},
    routing::{any, get},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use jsonwebtoken::{EncodingKey, Header};
use rooms::{Endpoint, JwtAuthenticator, Kind, RoomManager, axum::RoomUpgrade};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use browser::{Browser, Device, Page};
use firefox::Firefox;

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";

/// TLS with a certificate for `localhost` that nobody signed, and both versions of HTTP.
fn tls(directory: &Path) -> TlsAcceptor {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem";
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}; `apt-get install openssl` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let certificate = CertificateDer::from_pem_file(directory.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Clone, Copy, PartialEq)]
enum ExtendedConnect {
    Announced,
    NotAnnounced,
}

async fn live(version: Version, Extension(versions): Extension<Versions>, upgrade: RoomUpgrade) -> Response {
    versions.lock().unwrap().push(version);
    upgrade.room("post", 42)
}

/// Over which version of HTTP each WebSocket was opened.
type Versions = Arc<Mutex<Vec<Version>>>;

/// Serves a page and a room over TLS; the port.
async fn serve(extended_connect: ExtendedConnect, versions: &Versions) -> u16 {
    serve_rooms(extended_connect, versions, Endpoint::new()).await.0
}

/// The same by an endpoint, with the rooms.
async fn serve_rooms(extended_connect: ExtendedConnect, versions: &Versions, endpoint: Endpoint) -> (u16, RoomManager) {
    let rooms: RoomManager = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
        .endpoint(endpoint.query_token("token"))
        .kind("post", Kind::authenticated())
        .build()
        .unwrap();
    let live = any(live).layer(Extension(Arc::clone(versions)));
    let app =
        Router::new().route("/", get(|| async { Html("<p>A page") })).route("/live", live).with_state(rooms.clone());
    let directory = tempfile::tempdir().unwrap();
    let tls = tls(directory.path());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, app) = (tls.clone(), TowerToHyperService::new(app.clone()));
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let mut builder = Builder::new(TokioExecutor::new());
                if extended_connect == ExtendedConnect::Announced {
                    builder.http2().enable_connect_protocol();
                }
                _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), app).await;
            });
        }
    });
    (port, rooms)
}

fn token() -> String {
    let expires = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 600;
    let claims = json!({"sub": "ann", "exp": expires});
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

/// A window of either browser.
enum Window {
    Chromium(Page),
    Firefox(Box<Firefox>),
}

impl Window {
    async fn script(&self, script: &str) -> Value {
        match self {
            Self::Chromium(page) => page.script(script).await,
            Self::Firefox(page) => page.script(script).await,
        }
    }

    async fn until(&self, script: &str) {
        match self {
            Self::Chromium(page) => page.until(script).await,
            Self::Firefox(page) => page.until(script).await,
        }
    }
}

/// Opens the page in one browser and then in the other.
async fn in_both_browsers(port: u16, test: impl AsyncFn(Window)) {
    let url = format!("https://localhost:{port}/");
    Browser::run(Device::Desktop, async |browser: Browser| test(Window::Chromium(browser.first(&url).await)).await)
        .await;
    test(Window::Firefox(Box::new(Firefox::open(&url).await))).await;
}

/// The page, which came over HTTP/2, joins the room, again and again.
async fn joins_from_a_page_over_http_2(page: &Window) {
    let version = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(page.script(version).await, json!("h2"));
    let token = token();
    for _ in 0..3 {
        let open = format!(
            "window.said = []; const socket = new WebSocket('wss://' + location.host + '/live?token={token}');
             socket.onmessage = event => {{ said.push(JSON.parse(event.data).type); socket.close(); }};
             socket.onclose = event => said.push(event.code);"
        );
        page.script(&open).await;
        page.until("return said.length > 0 && said.at(-1) !== 'room_joined'").await;
        assert_eq!(page.script("return said[0]").await, json!("room_joined"));
    }
}

async fn opens_over(extended_connect: ExtendedConnect, version: Version) {
    let versions = Versions::default();
    let port = serve(extended_connect, &versions).await;
    in_both_browsers(port, async |page| joins_from_a_page_over_http_2(&page).await).await;
    assert_eq!(*versions.lock().unwrap(), [version; 6]);
}

#[tokio::test]
async fn a_page_over_http_2_opens_its_websocket_over_http_1_1_where_nothing_is_announced() {
    opens_over(ExtendedConnect::NotAnnounced, Version::HTTP_11).await;
}

#[tokio::test]
async fn a_page_over_http_2_opens_its_websocket_over_http_2_where_that_is_announced() {
    opens_over(ExtendedConnect::Announced, Version::HTTP_2).await;
}

/// Long texts: words, which get smaller, and letters at random, some of several bytes.
fn texts() -> Vec<String> {
    let noise = |length: u32| -> String {
        (0..length).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect()
    };
    (0..20)
        .map(|n| format!("{n}: {}{}", "so it is, \u{20ac} \u{1f600} ".repeat(n as usize * 80), noise(n * 999)))
        .collect()
}

async fn gets_what_is_compressed_over(extended_connect: ExtendedConnect, version: Version) {
    let versions = Versions::default();
    let (port, rooms) = serve_rooms(extended_connect, &versions, Endpoint::new().deflate()).await;
    in_both_browsers(port, async |page| {
        let open = format!(
            "window.said = []; window.socket = new WebSocket('wss://' + location.host + '/live?token={}');
             socket.onmessage = event => said.push(JSON.parse(event.data));
             socket.onclose = event => said.push({{ type: 'closed', code: event.code }});",
            token()
        );
        page.script(&open).await;
        page.until("return said.length > 0").await;
        let agreed = page.script("return socket.extensions").await;
        assert!(agreed.as_str().unwrap().starts_with("permessage-deflate"), "{agreed}");
        for text in texts() {
            rooms.broadcast(&"post:42".parse().unwrap(), &json!({"type": "text", "text": text})).await.unwrap();
        }
        page.until("return said.filter(event => event.type === 'text').length === 20").await;
        let said = page.script("return said.filter(event => event.type === 'text').map(event => event.text)").await;
        assert_eq!(said, json!(texts()));
        // The other way: what the page says is compressed as the browser likes, and is understood.
        page.script("socket.send(JSON.stringify({ type: 'x'.repeat(3000) }))").await;
        page.until("return said.at(-1).code === 'unknown_type'").await;
    })
    .await;
    assert_eq!(*versions.lock().unwrap(), [version; 2]);
}

#[tokio::test]
async fn a_page_gets_what_is_compressed_over_http_1_1() {
    gets_what_is_compressed_over(ExtendedConnect::NotAnnounced, Version::HTTP_11).await;
}

#[tokio::test]
async fn a_page_gets_what_is_compressed_over_http_2() {
    gets_what_is_compressed_over(ExtendedConnect::Announced, Version::HTTP_2).await;
}
