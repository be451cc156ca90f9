//! What a verb does to a standing: pure, so that it can be tested against a model.

use crate::clock::Timestamp;
use crate::model::{Backoff, DeadReason, Death, Standing, limits::ERROR_BYTES_MAX};

/// Failed: due again after `delay_ms`, else after the topic's backoff; dead when attempts are used up.
/// `random` is uniform in 0 to 1.
pub(super) fn nacked(
    standing: &Standing,
    max_attempts: u32,
    now: Timestamp,
    (delay_ms, backoff, random): (Option<i64>, &Backoff, f64),
    error: Option<Box<str>>,
) -> Standing {
    if standing.attempt >= max_attempts {
        return died(standing, DeadReason::AttemptsExhausted, now, error);
    }
    let delay_ms = delay_ms.unwrap_or_else(|| backoff.delay_ms(standing.attempt, random));
    Standing {
        due: now.plus_ms(delay_ms),
        last_error: cut(error).or_else(|| standing.last_error.clone()),
        ..standing.unleased()
    }
}

/// Handed back without blame: the attempt is not counted; at once, in the old place, without a delay.
pub(super) fn released(standing: &Standing, now: Timestamp, delay_ms: Option<i64>) -> Standing {
    let due = match delay_ms {
        Some(delay_ms) if delay_ms > 0 => now.plus_ms(delay_ms),
        _ => standing.due,
    };
    Standing {
        due,
        attempt: standing.attempt.saturating_sub(1),
        ..standing.unleased()
    }
}

/// Still being worked on: leased until `lease_ms` from now.
pub(super) fn extended(standing: &Standing, now: Timestamp, lease_ms: u32) -> Standing {
    Standing {
        lease_expires_at: Some(now.plus_ms(lease_ms.into())),
        ..standing.clone()
    }
}

/// A dead letter.
pub(super) fn died(
    standing: &Standing,
    reason: DeadReason,
    at: Timestamp,
    error: Option<Box<str>>,
) -> Standing {
    Standing {
        last_error: cut(error).or_else(|| standing.last_error.clone()),
        dead: Some(Death { reason, at }),
        ..standing.unleased()
    }
}

/// Brought back from the dead: due now, with all its attempts before it.
pub(super) fn redriven(standing: &Standing, now: Timestamp) -> Standing {
    Standing {
        due: now,
        attempt: 0,
        dead: None,
        ..standing.unleased()
    }
}

/// Error texts are kept to [`ERROR_BYTES_MAX`], cut between characters.
fn cut(error: Option<Box<str>>) -> Option<Box<str>> {
    let error = error?;
    if error.len() <= ERROR_BYTES_MAX {
        return Some(error);
    }
    Some(error[..error.floor_char_boundary(ERROR_BYTES_MAX)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_000_000);

    fn leased(attempt: u32) -> Standing {
        let end = Some(NOW.plus_ms(30_000));
        Standing {
            generation: attempt + 2,
            attempt,
            lease_expires_at: end,
            ..Standing::new(NOW)
        }
    }

    #[test]
    fn a_nack_waits_for_the_backoff_unless_told_otherwise() {
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        let by_backoff = nacked(&leased(3), 10, NOW, (None, &backoff, 0.5), None);
        assert_eq!((by_backoff.due, by_backoff.attempt), (NOW.plus_ms(4_000), 3));
        let told = nacked(&leased(3), 10, NOW, (Some(7), &backoff, 0.5), Some("oops".into()));
        assert_eq!(
            (told.due, told.last_error.as_deref()),
            (NOW.plus_ms(7), Some("oops"))
        );
        assert_eq!(told.lease_expires_at, None);
    }

    #[test]
    fn the_last_nack_is_death() {
        let standing = nacked(&leased(3), 3, NOW, (None, &Backoff::default(), 0.5), None);
        assert_eq!(
            standing.dead,
            Some(Death {
                reason: DeadReason::AttemptsExhausted,
                at: NOW
            })
        );
    }

    #[test]
    fn a_release_counts_no_attempt_and_keeps_the_place() {
        let standing = released(&leased(3), NOW.plus_ms(5), None);
        assert_eq!((standing.attempt, standing.due, standing.generation), (2, NOW, 5));
        assert_eq!(released(&leased(3), NOW, Some(9)).due, NOW.plus_ms(9));
    }

    #[test]
    fn long_errors_are_cut_between_characters() {
        let standing = died(
            &leased(1),
            DeadReason::Rejected,
            NOW,
            Some("é".repeat(5_000).into()),
        );
        let kept = standing.last_error.unwrap();
        assert!(kept.len() <= ERROR_BYTES_MAX && kept.ends_with('é'));
    }
}
