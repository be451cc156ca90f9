//! The registry's refusals as problems.

use std::time::Duration;

use super::super::problem::{Code, Problem};
use super::{conditions, unknown_hook, unknown_version};
use crate::hooks::engine::UploadError;
use crate::hooks::registry::RegistryError;

/// Most reasons in one problem.
const REASONS_MAX: usize = 50;
/// Longest text about a module or a test, in characters.
const DETAIL_CHARS: usize = 1_000;

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::UnknownHook => unknown_hook(),
            RegistryError::UnknownVersion(version) => unknown_version(version),
            RegistryError::UnknownBinding => Self::new(Code::UnknownBinding, text),
            RegistryError::UnknownTest => Self::new(Code::UnknownTest, text),
            RegistryError::Nothing(_) => Self::new(Code::Conflict, text),
            RegistryError::Upload(error) => error.into(),
            RegistryError::Gate(reasons) => reasons.into_iter().take(REASONS_MAX).fold(
                Self::new(
                    Code::GateFailed,
                    "it does not run here, lacks the side or fails its test cases; errors says which",
                ),
                |problem, reason| match reason.split_once(": ") {
                    Some((place, detail)) => problem.with_error(one_line(place), one_line(detail)),
                    None => problem.with_error("version", one_line(&reason)),
                },
            ),
            RegistryError::Busy(wait) => Self::new(Code::HooksBusy, text).retry_after(wait),
            RegistryError::Stale { current } => conditions::failed(current),
            RegistryError::Bound(_) => Self::new(
                Code::VersionInUse,
                format!("{text}; put other versions in force there first"),
            ),
            RegistryError::OwnedByFolder => Self::new(Code::OwnedByFolder, text),
            RegistryError::OwnedByApi => Self::new(Code::Conflict, text),
            RegistryError::Limit(..) => Self::new(Code::HookLimit, text),
            RegistryError::Invalid { field, detail } => Self::field(Code::InvalidField, field, detail),
            RegistryError::Store(error) => Self::new(
                Code::ShardUnavailable,
                "the database that holds the hooks does not answer",
            )
            .retry_after(Duration::from_secs(5))
            .with_internal(error.to_string()),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let text = error.to_string();
        match error {
            UploadError::Busy(wait) => Self::new(Code::HooksBusy, text).retry_after(wait),
            UploadError::Unknown | UploadError::Internal(_) => Self::new(
                Code::EngineUnavailable,
                "the node could not compile the module now; try again shortly",
            )
            .retry_after(Duration::from_secs(5))
            .with_internal(text),
            UploadError::Malformed(_)
            | UploadError::TooLarge { .. }
            | UploadError::Forbidden(_)
            | UploadError::Contract(_)
            | UploadError::Compile(_)
            | UploadError::Start(_) => Self::new(Code::HookRefused, one_line(&text)),
        }
    }
}

/// The beginning of `text` without line breaks and other control characters: it may quote what was uploaded.
fn one_line(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.chars().take(DETAIL_CHARS).map(harmless).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
