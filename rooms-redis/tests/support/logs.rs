//! What the program has logged.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The lines of this thread from here on, at `warn` and above. For tests whose runtime has no other thread.
pub(crate) struct Logs {
    written: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Logs {
    pub(crate) fn here() -> Self {
        let written = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(Writer(Arc::clone(&written)))
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Those that have these words in them.
    pub(crate) fn with(&self, words: &str) -> Vec<String> {
        let written = String::from_utf8(self.written.lock().unwrap().clone()).unwrap();
        written.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for &Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}
