//! The log of the process, on standard error: JSON objects or text for people, one line a message.

use std::fmt::{self, Write as _};
use std::io;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::traces::{self, Exporter};
use crate::config::{LogEncoding, LogLevel};

/// Why messages cannot be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// The process logs already.
    #[error("the process has a log already")]
    AlreadySet,
    /// The log is gone.
    #[error("the log is closed")]
    Closed,
}

/// Changes the level of the process's log while it runs.
#[derive(Clone)]
pub struct LevelHandle {
    handle: reload::Handle<Targets, Registry>,
    with_spans: bool,
}

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

impl LevelHandle {
    /// Logs messages of `level` and above from now on.
    pub fn set(&self, level: LogLevel) -> Result<(), LogsError> {
        self.handle
            .reload(targets(level, self.with_spans))
            .map_err(|_| LogsError::Closed)
    }
}

/// Starts the process's log; call it once. With an `exporter` spans go to it, and lines of the log that are
/// written within a span show its ids.
pub fn start(
    encoding: LogEncoding,
    level: LogLevel,
    exporter: Option<&Exporter>,
) -> Result<LevelHandle, LogsError> {
    let with_spans = exporter.is_some();
    let (filter, handle) = reload::Layer::new(targets(level, with_spans));
    let layer = writing(encoding, io::stderr).with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(layer);
    let started = match exporter {
        // Not as an optional layer: one that is absent takes every span there is, and each costs its making.
        None => subscriber.try_init(),
        Some(exporter) => {
            let only = Targets::new().with_target(traces::TARGET, LevelFilter::INFO);
            let spans = tracing_opentelemetry::layer().with_tracer(exporter.tracer());
            subscriber.with(spans.with_filter(only)).try_init()
        }
    };
    started.map_err(|_| LogsError::AlreadySet)?;
    Ok(LevelHandle { handle, with_spans })
}

/// Libraries speak of their own inner life: below warnings they are heard only one level later than
/// MQueue itself. Spans are seen whenever they are made, so that lines within them show their ids.
fn targets(level: LogLevel, with_spans: bool) -> Targets {
    let (own, others) = match level {
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
    };
    let spans = if with_spans {
        LevelFilter::INFO
    } else {
        LevelFilter::OFF
    };
    Targets::new()
        .with_default(others)
        .with_target("mqueue", own)
        .with_target(traces::TARGET, spans)
}

fn writing<W>(encoding: LogEncoding, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match encoding {
        LogEncoding::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
        LogEncoding::Console => {
            let fields = debug_fn(|writer: &mut Writer<'_>, field, value: &dyn fmt::Debug| {
                if field.name() != "message" {
                    write!(writer, "{}=", field.name())?;
                }
                write!(Escaping(writer), "{value:?}")
            });
            layer.with_ansi(false).fmt_fields(fields.delimited(" ")).boxed()
        }
    }
}

/// Writes control characters as escapes, so that text from outside can neither begin a line of its own
/// nor speak to a terminal.
struct Escaping<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn log(encoding: LogEncoding, level: LogLevel, speak: impl FnOnce(&LevelHandle)) -> String {
        let captured = Captured::default();
        let (filter, handle) = reload::Layer::new(targets(level, false));
        let writer = captured.clone();
        let layer = writing(encoding, move || writer.clone()).with_filter(filter);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            speak(&LevelHandle {
                handle,
                with_spans: false,
            })
        });
        captured.text()
    }

    #[test]
    fn text_from_outside_cannot_forge_a_line() {
        let hostile = "x\n2030-01-01 INFO root logged in\u{1b}[2J";
        for encoding in [LogEncoding::Json, LogEncoding::Console] {
            let text = log(encoding, LogLevel::Info, |_| {
                tracing::info!(topic = %hostile, again = hostile, "enqueued {hostile}");
            });
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(
                text.contains("enqueued x\\n") && !text.contains('\u{1b}'),
                "{text}"
            );
        }
    }

    #[test]
    fn a_json_line_is_flat() {
        let text = log(LogEncoding::Json, LogLevel::Info, |_| {
            tracing::warn!(bytes = 7, "log is full")
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["message"], &line["bytes"]),
            (&"log is full".into(), &7.into())
        );
        assert_eq!(line["level"], "WARN");
    }

    #[test]
    fn the_level_changes_while_running_and_libraries_stay_quieter() {
        let text = log(LogEncoding::Console, LogLevel::Info, |handle| {
            tracing::debug!("one");
            tracing::info!(target: "hyper", "two");
            handle.set(LogLevel::Debug).unwrap();
            tracing::debug!("three");
            tracing::info!(target: "hyper", "four");
            handle.set(LogLevel::Error).unwrap();
            tracing::warn!("five");
        });
        let heard = ["one", "two", "three", "four", "five"].map(|word| text.contains(word));
        assert_eq!(heard, [false, false, true, true, false], "{text}");
    }
}
