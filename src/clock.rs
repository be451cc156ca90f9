//! The only source of time: wall-clock instants for what users see, monotonic ones for deadlines.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in milliseconds since the Unix epoch, written in JSON as RFC 3339 in UTC.
///
/// Kept with its sign bit turned, which keeps the order and leaves out zero: an instant that may be absent takes no more
/// room than one that is there, and every item in memory has several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

const SIGN: u64 = 1 << 63;

impl Timestamp {
    /// The latest instant: on the last day of 9999 but one, so that it can be written in every time zone.
    pub const MAX: Self = Self::from_ms(253_402_207_200_000);
    /// The Unix epoch, the earliest instant an item can carry.
    pub const ZERO: Self = Self::from_ms(0);

    /// The instant `ms` milliseconds after the Unix epoch.
    pub const fn from_ms(ms: i64) -> Self {
        match NonZeroU64::new(ms as u64 ^ SIGN) {
            Some(turned) => Self(turned),
            // The smallest number there is becomes its neighbour.
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn ms(self) -> i64 {
        (self.0.get() ^ SIGN) as i64
    }

    /// This instant plus `ms` milliseconds, kept within the range RFC 3339 can write.
    pub const fn plus_ms(self, ms: i64) -> Self {
        let sum = self.ms().saturating_add(ms);
        if sum > Self::MAX.ms() {
            Self::MAX
        } else {
            Self::from_ms(sum)
        }
    }

    /// Milliseconds from `earlier` to this instant, negative when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.ms().saturating_sub(earlier.ms())
    }

    /// Reads an RFC 3339 instant; finer than a millisecond is cut, outside 1970 to [`Timestamp::MAX`] is refused.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimestampError::Syntax)?;
        let ms = instant.as_millisecond();
        if (0..=Self::MAX.ms()).contains(&ms) {
            Ok(Self::from_ms(ms))
        } else {
            Err(TimestampError::Range)
        }
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

/// Why a text is not an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text is not an RFC 3339 instant.
    #[error("not an RFC 3339 instant, such as 2030-01-31T12:00:00Z")]
    Syntax,
    /// The instant is before 1970 or after 9999.
    #[error("an instant must be between 1970 and 9999")]
    Range,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.ms()) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => write!(f, "{} ms", self.ms()),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 instant")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A point on a clock that never jumps, in milliseconds since the process (or the test) began.
///
/// Leases run on it, so that a stepped wall clock cuts none of them short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub i64);

impl Monotonic {
    /// This point plus `ms` milliseconds.
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Measures how long work takes on this machine, whatever a manual clock says.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    pub fn start() -> Self {
        Self(system_instant())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}

/// Processor time that the calling thread has used.
pub fn thread_cpu_time() -> std::time::Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs());
    std::time::Duration::from_secs(seconds) + std::time::Duration::from_nanos(nanos)
}

/// Tells the time; cloned freely, every clone tells the same time.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System {
        started: Instant,
        latest_ms: AtomicI64,
    },
    Manual {
        wall_ms: AtomicI64,
        monotonic_ms: AtomicI64,
    },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Source::System {
            started: system_instant(),
            latest_ms: AtomicI64::new(0),
        }))
    }

    /// The machine's clock after it was set back from `at`: it stands there until the machine comes up to that.
    #[cfg(test)]
    pub(crate) fn set_back_from(at: Timestamp) -> Self {
        Self(Arc::new(Source::System {
            started: system_instant(),
            latest_ms: AtomicI64::new(at.ms()),
        }))
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it: for tests and simulations.
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Source::Manual {
            wall_ms: AtomicI64::new(start.ms()),
            monotonic_ms: AtomicI64::new(0),
        }))
    }

    /// The wall-clock instant; within one process it never goes back, whatever the machine's clock does.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System { latest_ms, .. } => {
                let wall = system_wall_ms();
                Timestamp::from_ms(latest_ms.fetch_max(wall, Ordering::Relaxed).max(wall))
            }
            Source::Manual { wall_ms, .. } => Timestamp::from_ms(wall_ms.load(Ordering::Relaxed)),
        }
    }

    /// The point on the clock that never jumps.
    pub fn monotonic(&self) -> Monotonic {
        match &*self.0 {
            Source::System { started, .. } => {
                Monotonic(i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual { monotonic_ms, .. } => Monotonic(monotonic_ms.load(Ordering::Relaxed)),
        }
    }

    /// Whether it is moved by hand.
    pub fn is_manual(&self) -> bool {
        matches!(&*self.0, Source::Manual { .. })
    }

    /// Moves a manual clock, both its readings, by `ms`; the machine's clock is left alone.
    pub fn advance(&self, ms: i64) {
        if let Source::Manual {
            wall_ms,
            monotonic_ms,
        } = &*self.0
        {
            wall_ms.fetch_add(ms, Ordering::Relaxed);
            monotonic_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    /// Steps only the wall reading of a manual clock, as an operator or a time daemon would.
    pub fn step_wall(&self, ms: i64) {
        if let Source::Manual { wall_ms, .. } = &*self.0 {
            wall_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the machine's clocks"
)]
fn system_wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the machine's clocks"
)]
fn system_instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_its_text() {
        let instant = Timestamp::parse("2024-01-01T12:00:00.25+02:00").unwrap();
        assert_eq!(instant.to_string(), "2024-01-01T10:00:00.250Z");
        assert_eq!(Timestamp::parse(&instant.to_string()), Ok(instant));
    }

    #[test]
    fn instants_are_in_the_order_of_their_milliseconds() {
        let instants = [i64::MIN, i64::MIN + 2, -1, 0, 1, i64::MAX].map(Timestamp::from_ms);
        assert!(instants.is_sorted_by(|a, b| a < b));
        assert_eq!(
            instants[1..]
                .iter()
                .map(|instant| instant.ms())
                .collect::<Vec<_>>(),
            [i64::MIN + 2, -1, 0, 1, i64::MAX]
        );
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<i64>());
    }

    #[test]
    fn instants_out_of_range_are_refused() {
        assert_eq!(
            Timestamp::parse("1969-12-31T23:59:59Z"),
            Err(TimestampError::Range)
        );
        assert_eq!(Timestamp::parse("tomorrow"), Err(TimestampError::Syntax));
        assert_eq!(Timestamp::MAX.plus_ms(1), Timestamp::MAX);
        assert_eq!(Timestamp::parse(&Timestamp::MAX.to_string()), Ok(Timestamp::MAX));
    }
}
