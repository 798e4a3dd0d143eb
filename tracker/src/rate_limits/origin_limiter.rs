//! A limiter for each origin and, with wider limits, for each IPv6 network.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use governor::Quota;
use shared::Ipv6Network;

use super::keyed_limiter::KeyedLimiter;
use super::{ClientOrigin, LimitKind, RateLimitExceeded, multiply_quota, nonzero};

/// The limits of an IPv6 network, as a multiple of those of one address.
const ADDRESSES_PER_NETWORK: NonZeroU32 = nonzero(16);

/// One limit, kept by key and origin, and by key and network. Clones share their buckets.
#[derive(Debug, Clone)]
pub(super) struct OriginLimiter<K: Hash + Eq + Clone> {
    limit: LimitKind,
    /// `None`: nothing is limited.
    buckets: Option<Arc<OriginBuckets<K>>>,
}

#[derive(Debug)]
struct OriginBuckets<K: Hash + Eq + Clone> {
    origins: KeyedLimiter<(K, ClientOrigin)>,
    networks: KeyedLimiter<(K, Ipv6Network)>,
}

/// The origin and the network to which an attempt is charged.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChargeTarget {
    origin: ClientOrigin,
    network: Option<Ipv6Network>,
}

impl ChargeTarget {
    /// Spares the network.
    pub(super) const fn origin_alone(origin: ClientOrigin) -> Self {
        Self { origin, network: None }
    }
}

impl From<ClientOrigin> for ChargeTarget {
    fn from(origin: ClientOrigin) -> Self {
        Self { origin, network: origin.network() }
    }
}

impl<K: Hash + Eq + Clone> OriginLimiter<K> {
    /// Creates a limiter that refuses nothing.
    pub(super) const fn unlimited(limit: LimitKind) -> Self {
        Self { limit, buckets: None }
    }

    /// Returns the limiter with this quota: with the same buckets if it is the quota already, else with full ones.
    pub(super) fn with_quota(&self, quota: Option<Quota>, now: Instant) -> Self {
        if self.buckets.as_ref().map(|buckets| buckets.origins.quota()) == quota {
            return self.clone();
        }
        let buckets = quota.map(|quota| OriginBuckets {
            origins: KeyedLimiter::new(quota, now),
            networks: KeyedLimiter::new(multiply_quota(quota, ADDRESSES_PER_NETWORK), now),
        });
        Self { limit: self.limit, buckets: buckets.map(Arc::new) }
    }

    pub(super) fn charge(&self, key: &K, payer: ChargeTarget, now: Instant) -> Result<(), RateLimitExceeded> {
        let Some(OriginBuckets { origins, networks }) = self.buckets.as_deref() else { return Ok(()) };
        let exceeded = |wait| RateLimitExceeded { limit: self.limit, wait };
        let origin = (key.clone(), payer.origin);
        origins.charge(&origin, now).map_err(exceeded)?;
        let Some(network) = payer.network else { return Ok(()) };
        // Refused by one of the two limits: neither is charged.
        networks.charge(&(key.clone(), network), now).inspect_err(|_| origins.refund(&origin)).map_err(exceeded)
    }

    pub(super) fn refund(&self, key: &K, payer: ChargeTarget) {
        let Some(OriginBuckets { origins, networks }) = self.buckets.as_deref() else { return };
        origins.refund(&(key.clone(), payer.origin));
        if let Some(network) = payer.network {
            networks.refund(&(key.clone(), network));
        }
    }
}
