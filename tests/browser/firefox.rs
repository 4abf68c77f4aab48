//! Real headless Firefox, driven by WebDriver BiDi, which it speaks itself: Debian has no driver for it.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::lines::{Lines, PATIENCE};

const INSTALL: &str = "apt-get install firefox-esr";

/// It asks nobody but the server of the test for anything.
const PREFERENCES: &str = r#"
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.safebrowsing.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("nimbus.rollouts.enabled", false);
user_pref("services.settings.server", "data:,nothing");
user_pref("toolkit.telemetry.enabled", false);
"#;

/// A window of a browser with a profile of its own; it is ended when dropped.
pub(crate) struct Firefox {
    process: Child,
    session: Mutex<Session>,
    context: String,
    _profile: TempDir,
}

struct Session {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    commands: u64,
}

impl Session {
    /// Carries out a command, and gives its result.
    async fn command(&mut self, method: &str, params: Value) -> Value {
        self.commands += 1;
        let command = json!({"id": self.commands, "method": method, "params": params});
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("an answer in time").expect("an answer");
            let Message::Text(text) = message.unwrap() else { continue };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == json!(self.commands) {
                assert_eq!(answer["type"], "success", "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }
}

impl Firefox {
    /// Starts it, and opens an address.
    pub(crate) async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        std::fs::write(profile.path().join("user.js"), PREFERENCES).unwrap();
        let mut process = Command::new("firefox-esr")
            .args(["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("firefox-esr: {error}; `{INSTALL}` installs it"));
        let at = Lines::of(process.stderr.take().unwrap()).after("WebDriver BiDi listening on ").await;
        let socket = connect_async(format!("{at}/session")).await.unwrap().0;
        let mut session = Session { socket, commands: 0 };
        let capabilities = json!({"capabilities": {"alwaysMatch": {"acceptInsecureCerts": true}}});
        session.command("session.new", capabilities).await;
        let windows = session.command("browsingContext.getTree", json!({})).await;
        let context = windows["contexts"][0]["context"].as_str().unwrap().to_owned();
        let to = json!({"context": context, "url": url, "wait": "complete"});
        session.command("browsingContext.navigate", to).await;
        Self { process, session: Mutex::new(session), context, _profile: profile }
    }

    /// What a script returns.
    pub(crate) async fn script(&self, script: &str) -> Value {
        let expression = format!("JSON.stringify((() => {{ {script} }})() ?? null)");
        let call = json!({"expression": expression, "target": {"context": self.context}, "awaitPromise": false});
        let result = self.session.lock().await.command("script.evaluate", call).await;
        let text = result["result"]["value"].as_str().unwrap_or_else(|| panic!("{script}: {result}"));
        serde_json::from_str(text).unwrap()
    }

    /// Waits until a script returns `true`.
    pub(crate) async fn until(&self, script: &str) {
        let by = Instant::now() + PATIENCE;
        while self.script(script).await != json!(true) {
            assert!(Instant::now() < by, "never so: {script}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
