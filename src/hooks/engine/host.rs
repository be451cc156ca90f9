//! What a guest can reach: the imports, the limits on them, and what is kept of a call.

use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Engine, ResourceLimiter, StoreContextMut, Trap, UpdateDeadline};

use super::super::{Call, LogLine, Version};
use super::bindings::LevelOut;
use super::call::Manner;
use super::passing::Patience;
use crate::model::Ceiling;

/// The data of a store.
pub(super) struct Host {
    version: Arc<Version>,
    /// `now` and the seed of the call under way.
    now_ms: u64,
    random: Option<u64>,
    call: Option<Call>,
    patience: Option<Patience>,
    pub(super) host_calls: u32,
    pub(super) log: Vec<LogLine>,
    pub(super) log_lines_dropped: u32,
    pub(super) limiter: Limiter,
}

/// Why an import ended the call.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} calls of imports")]
pub(super) struct HostCallsExceeded(u32);

impl Host {
    pub(super) fn new(version: Arc<Version>) -> Self {
        let limits = version.limits;
        Self {
            version,
            now_ms: 0,
            random: None,
            call: None,
            patience: None,
            host_calls: 0,
            log: Vec::new(),
            log_lines_dropped: 0,
            limiter: Limiter {
                memory_bytes_max: limits.memory_bytes,
                table_elements_max: limits.table_elements as usize,
                memory_bytes: 0,
                memory_bytes_peak: 0,
                has_refused: false,
            },
        }
    }

    /// Makes ready for `call`.
    pub(super) fn begin(&mut self, call: &Call, manner: Manner) {
        self.now_ms = u64::try_from(call.context.now.ms()).unwrap_or(0);
        self.random = None;
        self.call = Some(call.clone());
        self.patience = match manner {
            Manner::Passing(patience) => Some(patience),
            Manner::Own | Manner::Counted => None,
        };
        self.host_calls = 0;
        self.log = Vec::new();
        self.log_lines_dropped = 0;
        self.limiter.memory_bytes_peak = self.limiter.memory_bytes;
        self.limiter.has_refused = false;
    }

    /// What is to be done at the end of the time that a call was given.
    pub(super) fn at_deadline(&mut self) -> UpdateDeadline {
        match self.patience.is_some_and(|patience| patience.is_left()) {
            true => UpdateDeadline::Continue(1),
            false => UpdateDeadline::Interrupt,
        }
    }

    /// The limit that the call under way ran into, as far as this end of it knows.
    pub(super) fn ceiling(&self) -> Option<Ceiling> {
        if self.host_calls > self.version.limits.host_calls {
            return Some(Ceiling::HostCalls);
        }
        self.limiter.has_refused.then_some(Ceiling::Memory)
    }

    /// Lets go of the call, so that a warm instance holds no items.
    pub(super) fn end(&mut self) {
        self.call = None;
    }

    pub(super) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    fn count(&mut self) -> wasmtime::Result<()> {
        if self.patience.is_some_and(|patience| !patience.is_left()) {
            return Err(Trap::Interrupt.into());
        }
        self.host_calls += 1;
        let most = self.version.limits.host_calls;
        if self.host_calls > most {
            return Err(HostCallsExceeded(most).into());
        }
        Ok(())
    }

    fn add_line(&mut self, level: LevelOut, message: &str) {
        if self.log.len() >= self.version.limits.log_lines as usize {
            self.log_lines_dropped += 1;
            return;
        }
        self.log.push(LogLine {
            level: level.into(),
            message: clean(&self.version, message),
        });
    }

    /// The next number of the sequence that the items and the module determine.
    fn next_random(&mut self) -> u64 {
        let state = match self.random {
            Some(state) => state,
            None => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.version.digest.0);
                for item in self.call.iter().flat_map(Call::items) {
                    hasher.update(&item.item.id.0.to_le_bytes());
                }
                let mut seed = [0; 8];
                seed.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
                u64::from_le_bytes(seed)
            }
        };
        // SplitMix64.
        let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random = Some(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A guest's text as people may see it: secrets masked, no control characters, no longer than a line of its log.
pub(super) fn clean(version: &Version, text: &str) -> Box<str> {
    let bytes_max = version.limits.log_line_bytes as usize;
    let longest = version
        .secrets
        .values()
        .map(|secret| secret.len())
        .max()
        .unwrap_or(0);
    // A secret that begins within the line is looked for whole.
    let text = cut(text, bytes_max + longest);
    let masked = mask(version, text);
    let is_shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let plain: String = masked.chars().filter(is_shown).collect();
    let masked = mask(version, &plain);
    cut(&masked, bytes_max).into()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Replaces the secrets, as they are stored and as the text they are JSON of.
fn mask(version: &Version, text: &str) -> String {
    let mut text = text.to_owned();
    for secret in version.secrets.values() {
        let inner = serde_json::from_str::<String>(secret).ok();
        for secret in [Some(&**secret), inner.as_deref()].into_iter().flatten() {
            if !secret.is_empty() && text.contains(secret) {
                text = text.replace(secret, "***");
            }
        }
    }
    text
}

/// Grants memory and tables up to the version's limits.
pub(super) struct Limiter {
    memory_bytes_max: u64,
    table_elements_max: usize,
    memory_bytes: u64,
    pub(super) memory_bytes_peak: u64,
    /// Whether something was not granted.
    has_refused: bool,
}

impl Limiter {
    /// Whether so much memory is in use that the instance should not be kept.
    pub(super) fn is_heavy(&self) -> bool {
        self.memory_bytes > self.memory_bytes_max / 2
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes + desired.saturating_sub(current) as u64;
        if total > self.memory_bytes_max {
            self.has_refused = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        self.memory_bytes_peak = self.memory_bytes_peak.max(total);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let is_granted = desired <= self.table_elements_max;
        self.has_refused |= !is_granted;
        Ok(is_granted)
    }
}

/// A linker with all that a hook may import, and nothing else.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::<Host>::new(engine);
    linker.instance("mqueue:hooks/log@0.1.0")?.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, Host>, (level, message): (LevelOut, Box<str>)| {
            let host = store.data_mut();
            host.count()?;
            host.add_line(level, &message);
            Ok(())
        },
    )?;
    linker.instance("mqueue:hooks/clock@0.1.0")?.func_wrap(
        "now",
        |mut store: StoreContextMut<'_, Host>, (): ()| {
            store.data_mut().count()?;
            Ok((store.data().now_ms,))
        },
    )?;
    linker.instance("mqueue:hooks/random@0.1.0")?.func_wrap(
        "next",
        |mut store: StoreContextMut<'_, Host>, (): ()| {
            store.data_mut().count()?;
            Ok((store.data_mut().next_random(),))
        },
    )?;
    let mut config = linker.instance("mqueue:hooks/config@0.1.0")?;
    config.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, Host>, (key,): (Box<str>,)| {
            store.data_mut().count()?;
            Ok((store.data().version.config.get(&key).cloned(),))
        },
    )?;
    config.func_wrap(
        "secret",
        |mut store: StoreContextMut<'_, Host>, (name,): (Box<str>,)| {
            store.data_mut().count()?;
            Ok((store.data().version.secrets.get(&name).cloned(),))
        },
    )?;
    Ok(linker)
}
