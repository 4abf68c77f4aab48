//! What a test writes into the log, at `warn` and above.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};

/// The log of this thread while it lives: tests have a runtime of one thread each.
pub(crate) struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn start() -> Self {
        Self::of(LevelFilter::WARN)
    }

    /// With spans, too, where that is the level of them.
    pub(crate) fn of(level: LevelFilter) -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines since the last call.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.written.0.lock().unwrap());
        String::from_utf8(text).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    /// The one line since the last call.
    pub(crate) fn line(&self) -> String {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "one line: {lines:#?}");
        lines.remove(0)
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
