//! Quotas of the catalogue's memory for users, origins and networks.
//!
//! A list of files may grow as long as enough is left for everybody else: the fuller the catalogue is, the less one
//! user, one origin and one network may have, so that something is always left for newcomers (a *dynamic threshold*, as
//! switches use it for queues that share a buffer). Of the rest a part is reserved for short lists: the floor that
//! each user has, however much others share.
//!
//! The memory of lists counts, and that of texts in flight: texts of replaced lists are charged to their user's origin,
//! texts made for one requester to the requester's.
//!
//! With `left` for the free memory after the change, without the part reserved for short lists:
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | memory of a user's list | `left`, and at least 1/1024 of `--max-catalogue-mib` | `busy`, nothing changed |
//! | memory of the lists of one origin and of its texts in flight | 2 × `left` | the same |
//! | memory of one IPv6 network (/64) | 3 × `left` | the same |
//! | texts in flight of one origin | the rest of half of `--max-catalogue-mib` | its changes, LIST_PEERS and FIND are `busy` |
//! | texts in flight of one IPv6 network | 3 × as much | the same |
//!
//! So one user alone may have 3/8 of it, one origin half and with short lists 2/3, one network 9/16 and 3/4. Forty
//! people behind one address have half of it together, each with at least the floor; the first have more than the last.

use std::collections::HashMap;

use shared::Ipv6Network;

use super::byte_counter::ByteCounter;
use super::file_list::{FileListError, ListSize};
use crate::rate_limits::ClientOrigin;

/// A user's floor is the catalogue divided by this.
const FLOOR_DIVISOR: usize = 1024;
/// The reserve for short lists is the catalogue divided by this.
const SHORT_LISTS_DIVISOR: usize = 4;
/// The limit of texts in flight is the catalogue divided by this.
const IN_FLIGHT_DIVISOR: usize = 2;
/// Bytes that an origin may have for each byte left.
const ORIGIN_FACTOR: usize = 2;
/// Bytes that a network may have for each byte left.
const NETWORK_FACTOR: usize = 3;
/// Origins and networks that are remembered before unused ones are swept.
const MIN_SWEEP_SIZE: usize = 1024;

/// The catalogue's memory by origin and network.
#[derive(Debug)]
pub(crate) struct CatalogueQuota {
    all: CatalogueUsage,
    origins: HashMap<ClientOrigin, CatalogueUsage>,
    networks: HashMap<Ipv6Network, CatalogueUsage>,
    /// The number of origins and networks at which unused ones are swept next.
    sweep_at: usize,
}

/// The memory of the catalogue, one origin or one network.
#[derive(Debug, Default)]
struct CatalogueUsage {
    lists: ListSize,
    /// Counts the texts that are alive, those of current lists included.
    text_counter: ByteCounter,
}

impl CatalogueQuota {
    pub(crate) fn new() -> Self {
        let (origins, networks) = (HashMap::new(), HashMap::new());
        Self { all: CatalogueUsage::default(), origins, networks, sweep_at: MIN_SWEEP_SIZE }
    }

    /// Returns the counter of the texts that are charged to this origin.
    pub(crate) fn text_counter(&mut self, from: ClientOrigin) -> ByteCounter {
        if self.origins.len() + self.networks.len() >= self.sweep_at {
            self.origins.retain(|_, part| part.is_in_use());
            self.networks.retain(|_, part| part.is_in_use());
            // Twice the rest: sweeps stay rare even if most entries are in use.
            self.sweep_at = MIN_SWEEP_SIZE.max(2 * (self.origins.len() + self.networks.len()));
        }
        let whole = match from.network() {
            Some(network) => {
                &self
                    .networks
                    .entry(network)
                    .or_insert_with(|| CatalogueUsage::nested_in(&self.all.text_counter))
                    .text_counter
            }
            None => &self.all.text_counter,
        };
        self.origins.entry(from).or_insert_with(|| CatalogueUsage::nested_in(whole)).text_counter.clone()
    }

    /// Replaces the size of a user's list.
    pub(crate) fn replace(&mut self, from: ClientOrigin, before: ListSize, after: ListSize) {
        // Creates the origin's entry if it has none.
        drop(self.text_counter(from));
        let network = from.network().and_then(|network| self.networks.get_mut(&network));
        for part in [Some(&mut self.all), self.origins.get_mut(&from), network].into_iter().flatten() {
            // Added first: the difference alone may be below zero.
            part.lists.bytes = part.lists.bytes + after.bytes - before.bytes;
            part.lists.text = part.lists.text + after.text - before.text;
        }
    }

    /// Checks whether a user's list may grow from `before` to `after`. Fails with [`FileListError::CatalogueFull`] or
    /// [`FileListError::ShareExceeded`].
    pub(crate) fn check_growth(
        &self,
        from: ClientOrigin,
        before: ListSize,
        after: ListSize,
        capacity: usize,
    ) -> Result<(), FileListError> {
        let more = after.bytes.saturating_sub(before.bytes);
        // To shrink is allowed even beyond a quota.
        if more == 0 {
            return Ok(());
        }
        // After the change: a list's own growth lessens what it may have, which keeps something free.
        let left = capacity.checked_sub(self.all.used_bytes() + more).ok_or(FileListError::CatalogueFull)?;
        // Short lists may use the reserve; long ones must leave it.
        let is_short = after.bytes <= capacity / FLOOR_DIVISOR;
        let left = if is_short { left } else { left.saturating_sub(capacity / SHORT_LISTS_DIVISOR) };
        let of_origin = self.origin(from).map_or(0, CatalogueUsage::used_bytes) + more;
        let of_network = self.network(from).map_or(0, |part| part.used_bytes() + more);
        let is_within = (is_short || after.bytes <= left)
            && of_origin <= ORIGIN_FACTOR * left
            && of_network <= NETWORK_FACTOR * left;
        is_within.then_some(()).ok_or(FileListError::ShareExceeded)
    }

    /// True if the list of a user who has none fits, regardless of quotas: it was accepted before the restart.
    pub(crate) fn has_space(&self, list: ListSize, capacity: usize) -> bool {
        self.all.used_bytes() + list.bytes <= capacity
    }

    /// True if more texts may be sent to this origin.
    pub(crate) fn can_send(&self, from: ClientOrigin, capacity: usize) -> bool {
        let left = (capacity / IN_FLIGHT_DIVISOR).saturating_sub(self.all.in_flight_bytes());
        self.origin(from).map_or(0, CatalogueUsage::in_flight_bytes) <= left
            && self.network(from).map_or(0, CatalogueUsage::in_flight_bytes) <= NETWORK_FACTOR * left
    }

    /// Returns the memory of all lists.
    pub(crate) const fn list_bytes(&self) -> usize {
        self.all.lists.bytes
    }

    /// Returns the bytes of texts that replies still hold and that belong to no current list.
    #[cfg(test)]
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.all.in_flight_bytes()
    }

    fn origin(&self, from: ClientOrigin) -> Option<&CatalogueUsage> {
        self.origins.get(&from)
    }

    fn network(&self, from: ClientOrigin) -> Option<&CatalogueUsage> {
        self.networks.get(&from.network()?)
    }
}

impl CatalogueUsage {
    fn nested_in(whole: &ByteCounter) -> Self {
        Self { lists: ListSize::default(), text_counter: ByteCounter::nested_in(whole) }
    }

    fn in_flight_bytes(&self) -> usize {
        self.text_counter.bytes().saturating_sub(self.lists.text)
    }

    fn used_bytes(&self) -> usize {
        self.lists.bytes + self.in_flight_bytes()
    }

    fn is_in_use(&self) -> bool {
        // A counter that a text refers to must stay: the text is subtracted from it at the end.
        self.lists != ListSize::default() || self.text_counter.is_shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 1 << 29;
    const FLOOR: usize = CAPACITY / FLOOR_DIVISOR;

    fn list(bytes: usize) -> ListSize {
        ListSize { bytes, text: bytes / 2 }
    }

    fn address(n: u8) -> ClientOrigin {
        ClientOrigin::of([10, 0, 0, n].into())
    }

    fn neighbour(n: u16) -> ClientOrigin {
        ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into())
    }

    /// Adds the longest list that a new user at this origin may have; texts are not made.
    fn greedy(room: &mut CatalogueQuota, from: ClientOrigin) -> usize {
        let fits = |bytes| room.check_growth(from, list(0), ListSize { bytes, text: 0 }, CAPACITY).is_ok();
        let (mut fitting, mut beyond) = (0, CAPACITY + 1);
        while beyond - fitting > 1 {
            let middle = usize::midpoint(fitting, beyond);
            if fits(middle) { fitting = middle } else { beyond = middle }
        }
        room.replace(from, list(0), ListSize { bytes: fitting, text: 0 });
        fitting
    }

    #[test]
    fn three_accounts_leave_much_to_others() {
        let ways: [fn(u8) -> ClientOrigin; 2] = [|_| address(1), address];
        for from in ways {
            let mut room = CatalogueQuota::new();
            let taken: usize = (0..3).map(|n| greedy(&mut room, from(n))).sum();
            assert!(taken < CAPACITY * 3 / 4, "{taken}");
            assert!(greedy(&mut room, address(9)) >= CAPACITY / 32);
        }
    }

    #[test]
    fn one_user_one_origin_and_one_network_have_their_parts() {
        let mut room = CatalogueQuota::new();
        assert_eq!(greedy(&mut room, address(1)), CAPACITY * 3 / 8);
        for _ in 0..1000 {
            greedy(&mut room, address(1));
        }
        let one_origin = room.list_bytes();
        assert!((CAPACITY / 2..CAPACITY * 2 / 3 + 1).contains(&one_origin), "{one_origin}");

        let mut room = CatalogueQuota::new();
        for n in 0..2000 {
            greedy(&mut room, neighbour(n));
        }
        let one_network = room.list_bytes();
        assert!((CAPACITY / 2..CAPACITY * 3 / 4 + 1).contains(&one_network), "{one_network}");
        assert_eq!(greedy(&mut room, address(1)), FLOOR);
    }

    #[test]
    fn however_many_accounts_from_three_addresses_everybody_else_has_the_floor() {
        let mut room = CatalogueQuota::new();
        for _ in 0..1000 {
            for n in 0..3 {
                greedy(&mut room, address(n));
            }
        }
        for n in 100..130 {
            assert_eq!(greedy(&mut room, address(n)), FLOOR, "{n}");
        }
    }

    #[test]
    fn forty_people_behind_one_address_share_ten_thousand_files_each() {
        let mut room = CatalogueQuota::new();
        let ten_thousand = list(4 << 20);
        for _ in 0..40 {
            assert_eq!(room.check_growth(address(1), list(0), ten_thousand, CAPACITY), Ok(()));
            room.replace(address(1), list(0), ListSize { text: 0, ..ten_thousand });
        }
    }

    #[test]
    fn what_shrinks_is_taken_and_all_of_it_comes_back() {
        let mut room = CatalogueQuota::new();
        room.replace(address(1), list(0), list(CAPACITY));
        assert_eq!(room.check_growth(address(1), list(CAPACITY), list(CAPACITY - 1), CAPACITY), Ok(()));
        assert_eq!(room.check_growth(address(2), list(0), list(1), CAPACITY), Err(FileListError::CatalogueFull));
        room.replace(address(1), list(CAPACITY), list(0));
        assert_eq!(room.check_growth(address(2), list(0), list(FLOOR), CAPACITY), Ok(()));
        assert_eq!(room.list_bytes(), 0);
    }

    #[test]
    fn texts_that_one_origin_does_not_read_are_its_own_affair() {
        let (mut room, capacity, page) = (CatalogueQuota::new(), 1 << 24, 1 << 14);
        let account = room.text_counter(address(1));
        let mut unread = Vec::new();
        while room.can_send(address(1), capacity) {
            unread.push(account.counted_text(vec![0; page]));
        }
        assert!(room.in_flight_bytes() <= capacity / 4 + page);
        assert!(room.can_send(address(2), capacity));
        assert_eq!(room.check_growth(address(2), list(0), list(capacity / 8), capacity), Ok(()));
        assert_eq!(
            room.check_growth(address(1), list(0), list(capacity / 4), capacity),
            Err(FileListError::ShareExceeded)
        );
        drop(unread);
        assert!(room.can_send(address(1), capacity));
        assert_eq!(room.in_flight_bytes(), 0);
    }

    #[test]
    fn origins_that_have_nothing_are_forgotten() {
        let mut room = CatalogueQuota::new();
        let held = room.text_counter(neighbour(1)).counted_text(vec![0; 10]);
        (2..60_000).for_each(|n| drop(room.text_counter(neighbour(n))));
        assert!(room.origins.len() <= MIN_SWEEP_SIZE);
        assert_eq!(room.origins[&neighbour(1)].in_flight_bytes(), 10);
        drop(held);
    }
}
