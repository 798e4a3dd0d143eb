//! The settings of the service, and the rates and permissions in force.

use std::time::{Duration, Instant};

use shared::Fingerprint;

use crate::rate_limits::{RateLimits, RateSettings};
use crate::registry::{AddressBlock, PresenceRules};

/// The settings that the service runs with. They can change while it runs.
#[derive(Debug, Clone)]
pub struct ServicePolicy {
    /// Leases, and whether an IP address proves anything.
    pub rules: PresenceRules,
    /// Rates of passwords, registrations and changes.
    pub rates: RateSettings,
    /// Decides who may make an account.
    pub registration: RegistrationMode,
    /// Keys of trusted gateways that name the person of each connection.
    pub trusted_doors: Vec<Fingerprint>,
    /// Addresses beyond the local network that may be passed on to peers.
    pub announceable: Vec<AddressBlock>,
}

/// The people who may make accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Everybody, with REGISTER.
    Open,
    /// The administrator, with `tracker user add`.
    Closed,
}

/// The rates and permissions in force. Replaced as a whole by [`super::TrackerService::set_policy`].
#[derive(Debug)]
pub(super) struct AccessPolicy {
    pub(super) limits: RateLimits,
    pub(super) registration: RegistrationMode,
    pub(super) trusted_doors: Vec<Fingerprint>,
    pub(super) announceable: Vec<AddressBlock>,
    pub(super) legacy_lease: Duration,
}

impl AccessPolicy {
    pub(super) fn new(policy: ServicePolicy) -> Self {
        let limits = RateLimits::new(policy.rates, Instant::now());
        Self::with_limits(policy, limits)
    }

    /// Returns what is in force after a reload. Limits whose rates stay the same keep their buckets.
    pub(super) fn replaced_by(&self, policy: ServicePolicy) -> Self {
        let limits = self.limits.with_rates(policy.rates, Instant::now());
        Self::with_limits(policy, limits)
    }

    fn with_limits(policy: ServicePolicy, limits: RateLimits) -> Self {
        let ServicePolicy { rules, rates: _, registration, trusted_doors, announceable } = policy;
        Self { limits, registration, trusted_doors, announceable, legacy_lease: rules.legacy_lease }
    }
}
