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
pub enum Full {
    /// In all.
    #[error("the tracker has too many connections")]
    InAll,
    /// From one address.
    #[error("the tracker has too many connections from this address")]
    FromThere,
}

/// All places.
#[derive(Debug)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
}

/// One place, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug)]
struct Taken {
    limit: usize,
    per_address: PerAddress,
    in_all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// So many.
    pub fn new(limit: usize, per_address: PerAddress) -> Self {
        let taken = Taken { limit, per_address, in_all: 0, by_address: HashMap::new() };
        Self { taken: Arc::new(Mutex::new(taken)) }
    }

    /// From now on so many; those who have a place keep it.
    pub fn set_limits(&self, limit: usize, per_address: PerAddress) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (taken.limit, taken.per_address) = (limit, per_address);
    }

    /// A place for a connection from there.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&self, from: IpAddr) -> Result<Place, Full> {
        let address = network(from);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let PerAddress { elsewhere, loopback } = taken.per_address;
        if taken.in_all >= taken.limit {
            return Err(Full::InAll);
        }
        let from_there = taken.by_address.get(&address).copied().unwrap_or_default();
        if from_there >= if address.is_loopback() { loopback } else { elsewhere } {
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
        places.set_limits(9, PerAddress { elsewhere: 3, loopback: 4 });
        held.push(places.take("10.0.0.2".parse().unwrap()).unwrap());
        held.clear();
        let taken = places.taken.lock().unwrap();
        assert!(taken.in_all == 0 && taken.by_address.is_empty());
    }
}
