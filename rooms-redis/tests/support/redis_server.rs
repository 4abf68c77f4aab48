//! A `redis-server` of the test's own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

/// Long beyond what any step takes, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long, or how large, a test is: as it is always run, or with `ROOMS_LONG_TESTS` set.
pub(crate) fn size<T>(short: T, long: T) -> T {
    if std::env::var_os("ROOMS_LONG_TESTS").is_some() { long } else { short }
}

/// A running server; it is killed, and its data is gone, when dropped.
pub(crate) struct RedisServer {
    process: Child,
    running: bool,
    data: TempDir,
    settings: Vec<String>,
    pub(crate) port: u16,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With settings as on its command line, such as `["--maxclients", "4"]`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        Self::at(free_port(), settings).await
    }

    pub(crate) async fn at(port: u16, settings: &[&str]) -> Self {
        let data = TempDir::new().unwrap();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { process: spawn(port, &data, &settings), running: true, data, settings, port };
        server.ready().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.running = false;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Starts it again after [`kill`](Self::kill), at the same port and with the data it has saved.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.data, &self.settings);
        self.running = true;
        self.ready().await;
    }

    /// Starts it again with other settings.
    pub(crate) async fn restart_with(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        self.restart().await;
    }

    /// Stops its process in place: the connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill(1) runs").success());
    }

    /// What `redis-cli` prints for a command.
    pub(crate) async fn cli(&self, command: &[&str]) -> String {
        cli(self.port, command).await
    }

    /// Waits until it answers, be it that it wants a password.
    async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("redis-server ended at once with {status}: is port {} taken?", self.port);
            }
            if matches!(ping(self.port).await, Ok(first) if first != 0) {
                return;
            }
            assert!(Instant::now() < deadline, "redis-server does not answer");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// What `redis-cli` prints for a command at a port.
pub(crate) async fn cli(port: u16, command: &[&str]) -> String {
    let mut cli = tokio::process::Command::new("redis-cli");
    cli.arg("-p").arg(port.to_string()).args(command);
    let output = cli.output().await.unwrap_or_else(|error| missing("redis-cli", &error));
    assert!(output.status.success(), "redis-cli {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn ping(port: u16) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"PING\r\n").await?;
    stream.read_u8().await
}

fn spawn(port: u16, data: &TempDir, settings: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(data.path())
        .args(settings)
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| missing("redis-server", &error))
}

pub(crate) fn missing<T>(program: &str, error: &std::io::Error) -> T {
    panic!("{program}: {error}; `apt-get install redis-server` installs it")
}

/// A port that nothing listens on, and that no other call is given while this process lives, also in other processes:
/// between here and the server's own `bind` it would be anybody's otherwise, and so it would between a kill and a restart.
pub(crate) fn free_port() -> u16 {
    // Below those that the system gives to outgoing connections, which know of no lease.
    const PORTS: std::ops::Range<u16> = 10_000..30_000;
    // Tests that run at once begin apart; none needs more than a few dozen.
    let begin = (std::process::id() % 500) as usize * 40;
    let lease = |port| {
        // Redis listens with TCP alone, so the UDP port of that number can stand for the lease.
        let lease = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        std::mem::forget(lease);
        Some(port)
    };
    PORTS.cycle().skip(begin).take(PORTS.len()).find_map(lease).expect("a free port")
}
