//! A trace that goes on from node to node: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
};

use tracing::Span;

use crate::rate_limited_log::RateLimitedLog;

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// A `traceparent` of version 00: which trace, and which span of it is the parent. Never with zeros for one of them.
///
/// ```
/// use rooms_core::TraceParent;
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_eq!((parent.span_id(), parent.is_sampled()), ("00f067aa0ba902b7", true));
/// # Ok::<(), rooms_core::TraceParentError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent([u8; LENGTH]);

/// It is no `traceparent`. What it is instead is not repeated, as it may be from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a `traceparent` is 55 bytes: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits, hexadecimal, in lower case, no id all zeros"
)]
pub struct TraceParentError;

impl TraceParent {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, TraceParentError> {
        let parent = Self(bytes.try_into().map_err(|_| TraceParentError)?);
        let is_id = |id: &str| id.bytes().all(is_digit) && id.bytes().any(|digit| digit != b'0');
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let right = dashes
            && bytes.starts_with(b"00")
            && is_id(parent.trace_id())
            && is_id(parent.span_id())
            && parent.part(53, LENGTH).bytes().all(is_digit)
            && parent.part(53, LENGTH).len() == 2;
        right.then_some(parent).ok_or(TraceParentError)
    }

    /// As it is in the header `traceparent`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.part(0, LENGTH)
    }

    /// The trace: 32 digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.part(3, 35)
    }

    /// The parent in it: 16 digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        self.part(36, 52)
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(self.part(53, LENGTH), 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// Empty where it is no text, which is none of its ids.
    fn part(&self, from: usize, to: usize) -> &str {
        self.0.get(from..to).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
    }
}

const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        Self::read(text.as_bytes())
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({})", self.as_str())
    }
}

/// How traces go on from the caller of a broadcast to the nodes that give it to their members; see
/// [`RoomManagerBuilder::trace_context`](crate::RoomManagerBuilder::trace_context).
pub struct TraceContext {
    current: Box<dyn Fn() -> Option<String> + Send + Sync>,
    on_fan_out: Option<Box<OnFanOut>>,
    /// That `on_fan_out` panicked, in the log: it is called for each broadcast that comes with a parent.
    panicked: RateLimitedLog,
}

type OnFanOut = dyn Fn(&Span, &TraceParent) + Send + Sync;

impl TraceContext {
    /// With a function that gives the `traceparent` of what runs now, if there is one. It is called for each broadcast, in
    /// the task of the caller and inside the span `publish`, and must not wait. What it gives is checked, and what is no
    /// `traceparent` is counted and not sent; so is a panic.
    #[must_use]
    pub fn new(current: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self { current: Box::new(current), on_fan_out: None, panicked: RateLimitedLog::default() }
    }

    /// Calls this for the span `fan_out` of a broadcast that came with a `traceparent`, before anything happens in it: where
    /// `tracing-opentelemetry` is given the remote parent. It must not wait.
    #[must_use]
    pub fn on_fan_out(self, hook: impl Fn(&Span, &TraceParent) + Send + Sync + 'static) -> Self {
        Self { on_fan_out: Some(Box::new(hook)), ..self }
    }

    /// What a broadcast is to carry.
    pub(crate) fn current(&self) -> Result<Option<TraceParent>, TraceParentError> {
        let current = catch_unwind(AssertUnwindSafe(|| (self.current)())).map_err(|_| TraceParentError)?;
        current.map(|text| text.parse()).transpose()
    }

    /// The span of a fan-out with a remote parent; `None` where nobody wants it.
    pub(crate) fn fan_out(&self, kind: &str, parent: &TraceParent) -> Option<Span> {
        let span = tracing::info_span!("fan_out", kind, traceparent = %parent);
        if span.is_disabled() {
            return None;
        }
        if let Some(hook) = &self.on_fan_out
            && catch_unwind(AssertUnwindSafe(|| hook(&span, parent))).is_err()
            && let Some(left_out) = self.panicked.line()
        {
            tracing::error!(hook = "on_fan_out", left_out, "a hook panicked");
        }
        Some(span)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext").field("on_fan_out", &self.on_fan_out.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_not_55_bytes_of_version_00_in_lower_case_is_none() {
        assert_eq!(GOOD.parse::<TraceParent>().map(|parent| parent.to_string()), Ok(GOOD.to_owned()));
        for at in 0..LENGTH {
            for byte in [b'g', b'A', b';', b'\n', 0xff, if GOOD.as_bytes()[at] == b'-' { b'0' } else { b'-' }] {
                let mut bytes = GOOD.as_bytes().to_vec();
                bytes[at] = byte;
                assert_eq!(TraceParent::read(&bytes), Err(TraceParentError), "{at}: {byte}");
            }
            assert_eq!(TraceParent::read(&GOOD.as_bytes()[..at]), Err(TraceParentError));
        }
        for bad in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(TraceParentError), "{bad}");
        }
    }

    #[test]
    fn a_provider_that_panics_gives_none() {
        assert_eq!(TraceContext::new(|| panic!("of the application")).current(), Err(TraceParentError));
        assert_eq!(TraceContext::new(|| None).current(), Ok(None));
    }
}
