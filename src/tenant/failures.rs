//! The brake on failed logins: one budget per peer address, in bounded memory.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::Ticks;
use crate::clock::Clock;

/// Failures a peer may make per minute once its burst is spent.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Failures a peer may make at once.
const BURST: NonZeroU32 = NonZeroU32::new(40).unwrap();
/// Most peers remembered; the others share one budget.
const PEERS_MAX: usize = 100_000;

/// Counts failed logins per peer address; peers over their budget hear 429 instead of 401.
///
/// It never stops a valid token, so that a shared address cannot be locked out by a neighbour.
pub struct AuthFailures {
    limiter: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, Ticks, NoOpMiddleware<Nanos>>,
    clock: Ticks,
    peers_max: usize,
}

impl std::fmt::Debug for AuthFailures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthFailures({} peers)", self.limiter.len())
    }
}

impl AuthFailures {
    /// A brake that remembers nobody yet.
    pub fn new(clock: Clock) -> Self {
        Self::bounded(clock, PEERS_MAX)
    }

    fn bounded(clock: Clock, peers_max: usize) -> Self {
        let clock = Ticks(clock);
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        Self {
            limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            clock,
            peers_max,
        }
    }

    /// Counts one failure of `peer`.
    ///
    /// # Errors
    /// How long the peer must wait when it is over its budget.
    pub fn count(&self, peer: IpAddr) -> Result<(), Duration> {
        let mut key = network(peer);
        if self.limiter.len() >= self.peers_max {
            self.limiter.retain_recent();
            if self.limiter.len() >= self.peers_max {
                key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        self.limiter.check_key(&key).map_err(|until| {
            use governor::clock::Clock as _;
            until.wait_time_from(self.clock.now())
        })
    }
}

/// The network a peer speaks from: one IPv6 customer holds at least a /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_peer_is_braked_after_its_burst_and_only_that_peer() {
        let clock = Clock::manual(Timestamp::ZERO);
        let failures = AuthFailures::new(clock.clone());
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..40 {
            assert_eq!(failures.count(peer), Ok(()));
        }
        let wait = failures.count(peer).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(3),
            "{wait:?}"
        );
        assert_eq!(failures.count("192.0.2.2".parse().unwrap()), Ok(()));
        clock.advance(3_000);
        assert_eq!(failures.count(peer), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_a_v6_network_is_one_peer() {
        let failures = AuthFailures::bounded(Clock::manual(Timestamp::ZERO), 10);
        for n in 0..50_u8 {
            let _ = failures.count(IpAddr::from([10, 0, 0, n]));
        }
        assert!(failures.limiter.len() <= 11);
        assert_eq!(
            network("2001:db8::1".parse().unwrap()),
            network("2001:db8::2".parse().unwrap())
        );
        assert_eq!(
            network("::ffff:1.2.3.4".parse().unwrap()),
            network("1.2.3.4".parse().unwrap())
        );
    }
}
