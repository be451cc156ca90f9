//! Who may do what, and how much of it: tokens, quotas and the brake on failed logins. No I/O.

pub mod auth;
mod bucket;
mod cells;
pub mod failures;
pub mod keys;
pub mod quota;
mod shared;
mod window;

pub use auth::{AuthError, AuthPolicy, Authenticator, Authorised, Denied, Principal, Scope};
pub use failures::AuthFailures;
pub use keys::{KeyError, KeySet, MintClaims, mint};
pub use quota::{Grant, QuotaTable, Quotas, Receipt, StoredQuotas, Usage};
pub use shared::SharedBuckets;

/// Governor's view of this crate's clock, so that tests move quotas with it.
#[derive(Debug, Clone)]
pub(crate) struct Ticks(pub(crate) crate::clock::Clock);

impl governor::clock::Clock for Ticks {
    type Instant = governor::nanos::Nanos;

    fn now(&self) -> Self::Instant {
        // Governor subtracts whole bursts from instants; an offset keeps that above zero.
        const OFFSET_MS: u64 = 86_400_000;
        let ms = u64::try_from(self.0.monotonic().0).unwrap_or(0);
        governor::nanos::Nanos::new((ms + OFFSET_MS).saturating_mul(1_000_000))
    }
}
