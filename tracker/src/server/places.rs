//! Places for connections: so many in all, and so many for one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::network;

/// Most connections from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerAddress {
    /// From an address of the network.
    pub elsewhere: usize,
    /// From this machine itself: proxies and forwarders come from here.
    pub loopback: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("the tracker has too many connections")]
    InAll,
    #[error("the tracker has too many connections from this address")]
    FromThere,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    in_all: usize,
    per_address: PerAddress,
    taken: Arc<Mutex<Taken>>,
}

/// One place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    pub(super) fn new(in_all: usize, per_address: PerAddress) -> Self {
        Self { in_all, per_address, taken: Arc::default() }
    }

    pub(super) fn take(&self, from: IpAddr) -> Result<Place, Full> {
        let address = network(from);
        let limit = if address.is_loopback() { self.per_address.loopback } else { self.per_address.elsewhere };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.in_all >= self.in_all {
            return Err(Full::InAll);
        }
        let from_there = taken.by_address.get(&address).copied().unwrap_or_default();
        if from_there >= limit {
            return Err(Full::FromThere);
        }
        taken.in_all += 1;
        taken.by_address.insert(address, from_there + 1);
        Ok(Place { address, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_all_and_from_one_address() {
        let places = Places::new(5, PerAddress { elsewhere: 2, loopback: 4 });
        let from = |ip: &str| places.take(ip.parse().unwrap());
        let mut held = vec![from("10.0.0.1").unwrap(), from("10.0.0.1").unwrap()];
        assert_eq!(from("::ffff:10.0.0.1").unwrap_err(), Full::FromThere);
        held.extend([from("127.0.0.1").unwrap(), from("127.0.0.1").unwrap(), from("127.0.0.1").unwrap()]);
        assert_eq!(from("10.0.0.2").unwrap_err(), Full::InAll);
        held.remove(0);
        held.push(from("10.0.0.2").unwrap());
        held.clear();
        let taken = places.taken.lock().unwrap();
        assert!(taken.in_all == 0 && taken.by_address.is_empty());
    }
}
