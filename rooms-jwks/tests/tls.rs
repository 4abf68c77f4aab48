//! Keys over TLS: from a provider whose certificate is one that the machine trusts, for that host, and from no other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Where the process that is started for it fetches keys.
const URL: &str = "ROOMS_TEST_JWKS_URL";
const NAME: &str = "keys_come_over_tls_from_a_trusted_certificate_of_that_host_alone";

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"}]}"#;
/// `{"alg":"EdDSA","kid":"a"}`, `{}`, and no signature: what is found wrong with it says whether the keys came.
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ.e30.AAAA";

/// A certificate of `localhost` that it signed itself, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap_or_else(|error| panic!("{error}: `apt-get install openssl`"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

/// Answers each request with the keys, over TLS, and counts them.
async fn serve(certificate: &Path, key: &Path) -> (SocketAddr, Arc<AtomicUsize>) {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let (tls, counted) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&requests));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust it ends the handshake.
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            if stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", KEYS.len());
            _ = stream.write_all((head + KEYS).as_bytes()).await;
            _ = stream.shutdown().await;
        }
    });
    (address, requests)
}

/// What a process that trusts these certificates finds wrong with the token.
async fn found(url: String, trusted: &Path) -> String {
    let mut process = tokio::process::Command::new(env::current_exe().unwrap());
    process
        .args(["--exact", NAME, "--nocapture"])
        .env(URL, url)
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR");
    let output = process.output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said.lines().find_map(|line| line.split_once("found: ")).map(|(_, found)| found.to_owned()).unwrap_or(said)
}

/// Starts itself once more for each case: which certificates are trusted is said in the environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_over_tls_from_a_trusted_certificate_of_that_host_alone() {
    if let Ok(url) = env::var(URL) {
        let error = rooms_jwks::jwks(&url).unwrap().verify(TOKEN).await.unwrap_err();
        return println!("found: {error:?}");
    }
    let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (certificate_of_ours, key) = certificate(ours.path());
    let (certificate_of_others, _) = certificate(others.path());
    let (address, requests) = serve(&certificate_of_ours, &key).await;
    let url = |host: &str| format!("https://{host}:{}/keys", address.port());

    assert_eq!(found(url("localhost"), &certificate_of_others).await, "Unavailable", "not trusted");
    assert_eq!(found(url("127.0.0.1"), &certificate_of_ours).await, "Unavailable", "for another host");
    assert_eq!(requests.load(Ordering::Relaxed), 0, "nothing is asked there");
    assert_eq!(found(url("localhost"), &certificate_of_ours).await, "Signature", "the keys came");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}
