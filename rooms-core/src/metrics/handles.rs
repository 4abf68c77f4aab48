//! What numbers are recorded with: without the feature `metrics`, nothing that takes time or memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "metrics")]
use std::sync::atomic::AtomicI64;

#[cfg(feature = "metrics")]
use tokio::time::Instant;

use super::Metric;

/// A series that is counted. The default is one that nobody reads.
#[derive(Debug, Clone)]
pub struct Counter(#[cfg(feature = "metrics")] ::metrics::Counter);

/// The series of a metric by its last label.
#[derive(Debug, Clone, Default)]
pub struct Counters(#[cfg(feature = "metrics")] Arc<[(&'static str, Counter)]>);

/// A manager's part of a gauge: it is taken back when this is dropped.
#[derive(Debug)]
pub struct Level(#[cfg(feature = "metrics")] ::metrics::Gauge, #[cfg(feature = "metrics")] AtomicI64);

/// A series of times.
#[derive(Debug, Clone)]
pub struct Histogram(#[cfg(feature = "metrics")] ::metrics::Histogram);

/// The time since something began; without the feature it does not look at the clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(#[cfg(feature = "metrics")] Instant);

/// A number that the library itself reads as well, such as one of [`Stats`](crate::Stats): counted in one place for both.
#[derive(Debug, Default)]
pub struct Total {
    value: AtomicU64,
    counter: Counter,
}

impl Counter {
    /// A series of the recorder that the process has now; it is there from now on, as 0.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn of(metric: &Metric, labels: &[(&'static str, &str)]) -> Self {
        #[cfg(feature = "metrics")]
        return Self(registered::counter(metric, labels));
        #[cfg(not(feature = "metrics"))]
        Self()
    }

    /// Counts so many.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn add(&self, number: u64) {
        #[cfg(feature = "metrics")]
        self.0.increment(number);
    }
}

#[cfg_attr(not(feature = "metrics"), allow(clippy::derivable_impls, reason = "with the feature it is not"))]
impl Default for Counter {
    fn default() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            ::metrics::Counter::noop(),
        )
    }
}

impl Counters {
    /// One for each word of the metric's last label, with these for the labels before it.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn of(metric: &Metric, labels: &[(&'static str, &str)]) -> Self {
        #[cfg(feature = "metrics")]
        return Self(metric.labels.last().map_or_else(Default::default, |last| {
            let series = |word: &&'static str| (*word, Counter::of(metric, &[labels, &[(last.name, *word)]].concat()));
            last.values.iter().map(series).collect()
        }));
        #[cfg(not(feature = "metrics"))]
        Self()
    }

    /// Counts one; the word is one of the label's, and where it is not, the last of them counts.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn count(&self, word: &str) {
        #[cfg(feature = "metrics")]
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == word).or_else(|| self.0.last()) {
            debug_assert!(self.0.iter().any(|(known, _)| *known == word), "the label has no value `{word}`");
            counter.add(1);
        }
    }
}

impl Level {
    /// A part of a series of the recorder that the process has now.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn of(metric: &Metric, labels: &[(&'static str, &str)]) -> Self {
        #[cfg(feature = "metrics")]
        return Self(registered::gauge(metric, labels), AtomicI64::new(0));
        #[cfg(not(feature = "metrics"))]
        Self()
    }

    /// There are so many more, or fewer.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn add(&self, number: i32) {
        #[cfg(feature = "metrics")]
        {
            self.1.fetch_add(number.into(), Ordering::Relaxed);
            self.0.increment(f64::from(number));
        }
    }

    /// There are so many.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn set(&self, number: i32) {
        #[cfg(feature = "metrics")]
        {
            let before = self.1.swap(number.into(), Ordering::Relaxed);
            self.0.increment((i64::from(number) - before) as f64);
        }
    }
}

/// One more in a gauge, until it is dropped.
#[derive(Debug)]
pub(crate) struct One(Arc<Level>);

impl One {
    pub(crate) fn of(level: &Arc<Level>) -> Self {
        level.add(1);
        Self(Arc::clone(level))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

#[cfg_attr(not(feature = "metrics"), allow(clippy::derivable_impls, reason = "with the feature it is not"))]
impl Default for Level {
    fn default() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            ::metrics::Gauge::noop(),
            #[cfg(feature = "metrics")]
            AtomicI64::new(0),
        )
    }
}

#[cfg(feature = "metrics")]
impl Drop for Level {
    fn drop(&mut self) {
        self.0.decrement(self.1.load(Ordering::Relaxed) as f64);
    }
}

impl Histogram {
    /// A series of the recorder that the process has now.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn of(metric: &Metric, labels: &[(&'static str, &str)]) -> Self {
        #[cfg(feature = "metrics")]
        return Self(registered::histogram(metric, labels));
        #[cfg(not(feature = "metrics"))]
        Self()
    }

    /// Records the time since something began.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn since(&self, begun: Stopwatch) {
        #[cfg(feature = "metrics")]
        self.record(begun.0.elapsed());
    }

    /// Records a time.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there is nobody to be told"))]
    pub fn record(&self, time: Duration) {
        #[cfg(feature = "metrics")]
        self.0.record(time);
    }
}

#[cfg_attr(not(feature = "metrics"), allow(clippy::derivable_impls, reason = "with the feature it is not"))]
impl Default for Histogram {
    fn default() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            ::metrics::Histogram::noop(),
        )
    }
}

impl Stopwatch {
    /// Something begins.
    #[must_use]
    pub fn start() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            Instant::now(),
        )
    }
}

impl Total {
    /// A number that is 0, and the series that it is told in.
    #[must_use]
    pub const fn of(counter: Counter) -> Self {
        Self { value: AtomicU64::new(0), counter }
    }

    /// Counts so many.
    pub fn add(&self, number: u64) {
        self.value.fetch_add(number, Ordering::Relaxed);
        self.counter.add(number);
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "metrics")]
mod registered {
    use ::metrics::{Key, KeyName, Label, Level, Metadata, with_recorder};

    use crate::metrics::{Metric, MetricSort, Unit};

    static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

    pub(super) fn counter(metric: &Metric, labels: &[(&'static str, &str)]) -> ::metrics::Counter {
        with_recorder(|recorder| {
            describe(recorder, metric);
            recorder.register_counter(&key(metric, labels), &METADATA)
        })
    }

    pub(super) fn gauge(metric: &Metric, labels: &[(&'static str, &str)]) -> ::metrics::Gauge {
        with_recorder(|recorder| {
            describe(recorder, metric);
            let gauge = recorder.register_gauge(&key(metric, labels), &METADATA);
            // So that it is there, as 0.
            gauge.increment(0.0);
            gauge
        })
    }

    pub(super) fn histogram(metric: &Metric, labels: &[(&'static str, &str)]) -> ::metrics::Histogram {
        with_recorder(|recorder| {
            describe(recorder, metric);
            recorder.register_histogram(&key(metric, labels), &METADATA)
        })
    }

    fn key(metric: &Metric, labels: &[(&'static str, &str)]) -> Key {
        debug_assert!(
            labels.iter().map(|(name, _)| *name).eq(metric.labels.iter().map(|label| label.name)),
            "{}: the labels are not those of the list",
            metric.name
        );
        let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
        Key::from_parts(metric.name, labels.collect::<Vec<_>>())
    }

    fn describe(recorder: &dyn ::metrics::Recorder, metric: &Metric) {
        let unit = Some(match metric.unit {
            Unit::Count => ::metrics::Unit::Count,
            Unit::Bytes => ::metrics::Unit::Bytes,
            Unit::Seconds => ::metrics::Unit::Seconds,
        });
        let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
        match metric.sort {
            MetricSort::Counter => recorder.describe_counter(name, unit, help),
            MetricSort::Gauge => recorder.describe_gauge(name, unit, help),
            MetricSort::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
}
