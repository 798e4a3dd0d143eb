//! Amounts that clients have in use, counted in total, by origin and by IPv6 network, and their limits.

use shared::Ipv6Network;

use crate::keyed_counter::KeyedCounter;
use crate::rate_limits::ClientOrigin;

/// Amounts in use by the clients of each origin.
#[derive(Debug, Default)]
pub(crate) struct QuotaTable {
    total: usize,
    by_origin: KeyedCounter<ClientOrigin>,
    by_network: KeyedCounter<Ipv6Network>,
}

/// The limits of a [`QuotaTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaLimits {
    pub(crate) total: usize,
    pub(crate) per_origin: usize,
    /// For this machine itself, where proxies and forwarders connect from.
    pub(crate) loopback: usize,
    /// For an IPv6 network (/64).
    pub(crate) per_network: usize,
}

/// The limit that leaves no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExhaustedQuota {
    Total,
    PerOrigin,
    PerNetwork,
}

impl QuotaLimits {
    /// Returns the limits of a thing of which one origin has `per_origin`, one network at most three quarters, and this
    /// machine all.
    pub(crate) const fn shared(total: usize, per_origin: usize) -> Self {
        // A quarter is left to others, whatever one network does; but one address may always have its own limit.
        let most = total - total / 4;
        let per_network = if most > per_origin { most } else { per_origin };
        Self { total, per_origin, loopback: total, per_network }
    }
}

impl QuotaTable {
    /// Adds an amount. Fails with [`ExhaustedQuota`] when it exceeds a limit; then nothing is added.
    pub(crate) fn try_add(
        &mut self,
        from: ClientOrigin,
        amount: usize,
        limits: QuotaLimits,
    ) -> Result<(), ExhaustedQuota> {
        self.check(from, amount, limits)?;
        self.add(from, amount);
        Ok(())
    }

    /// Checks whether an amount may be added. Fails with [`ExhaustedQuota`] when it exceeds a limit.
    pub(crate) fn check(&self, from: ClientOrigin, amount: usize, limits: QuotaLimits) -> Result<(), ExhaustedQuota> {
        let per_origin = if from.is_loopback() { limits.loopback } else { limits.per_origin };
        let in_network = from.network().map_or(0, |network| self.by_network.get(&network));
        // The narrowest limit first: beyond it, nothing that others free would help.
        if self.at_origin(from) + amount > per_origin {
            Err(ExhaustedQuota::PerOrigin)
        } else if in_network + amount > limits.per_network && from.network().is_some() {
            Err(ExhaustedQuota::PerNetwork)
        } else if self.total + amount > limits.total {
            Err(ExhaustedQuota::Total)
        } else {
            Ok(())
        }
    }

    /// Adds an amount, whatever the limits are.
    pub(crate) fn add(&mut self, from: ClientOrigin, amount: usize) {
        self.total += amount;
        self.by_origin.add(from, amount);
        from.network().into_iter().for_each(|network| self.by_network.add(network, amount));
    }

    /// Subtracts an amount that was added.
    pub(crate) fn subtract(&mut self, from: ClientOrigin, amount: usize) {
        self.total -= amount;
        self.by_origin.subtract(&from, amount);
        from.network().iter().for_each(|network| self.by_network.subtract(network, amount));
    }

    pub(crate) fn at_origin(&self, from: ClientOrigin) -> usize {
        self.by_origin.get(&from)
    }

    #[cfg(test)]
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0 && self.by_origin.is_empty() && self.by_network.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(n: u16) -> ClientOrigin {
        ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into())
    }

    #[test]
    fn an_origin_a_network_and_all_together_have_their_limits() {
        let (one, here) = (ClientOrigin::of([10, 0, 0, 1].into()), ClientOrigin::of([127, 0, 0, 1].into()));
        let limits = QuotaLimits::shared(8, 3);
        let mut table = QuotaTable::default();
        assert_eq!(table.try_add(one, 4, limits), Err(ExhaustedQuota::PerOrigin));
        for n in 1..=2 {
            assert_eq!(table.try_add(neighbour(n), 3, limits), Ok(()));
        }
        assert_eq!(table.try_add(neighbour(3), 1, limits), Err(ExhaustedQuota::PerNetwork));
        assert_eq!(table.try_add(one, 3, limits), Err(ExhaustedQuota::Total));
        assert_eq!(table.try_add(one, 1, limits), Ok(()));
        assert_eq!((table.total(), table.at_origin(one), table.at_origin(neighbour(2))), (7, 1, 3));
        table.subtract(one, 1);
        (1..=2).for_each(|n| table.subtract(neighbour(n), 3));
        assert!(table.is_empty());
        assert_eq!(table.try_add(here, 8, limits), Ok(()));
        assert_eq!(table.try_add(here, 1, limits), Err(ExhaustedQuota::PerOrigin));
    }
}
