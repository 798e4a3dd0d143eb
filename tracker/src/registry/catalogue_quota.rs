//! The catalogue's memory, and who has which part of it.
//!
//! A list of files grows as long as enough is left behind it for everybody else: the fuller the catalogue is, the less
//! one user, one origin and one network may have, and something is always left for whoever comes next (a *dynamic
//! threshold*, as switches have it for the queues that share a buffer). Of what is left a part is kept for short
//! lists: the floor that each user has, however much others share.
//!
//! What counts is the memory of the lists and of the texts that are still on their way to somebody: those of lists that
//! have changed since are their user's, those that were made for one asker are the asker's.
//!
//! With `left` for what is free then, without what is kept for short lists:
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | memory of a user's list | `left`, and a thousandth of `--max-catalogue-mib` in any case | `busy`, nothing changed |
//! | memory of the lists of one origin and of its texts on their way | 2 × `left` | the same |
//! | memory of one IPv6 network (/64) | 3 × `left` | the same |
//! | texts on their way of one origin | as much as is left of half of `--max-catalogue-mib` | its changes, LIST_PEERS and FIND are `busy` |
//! | texts on their way of one IPv6 network | 3 × as much | the same |
//!
//! So one user alone may have 3/8 of it, one origin half and with short lists 2/3, one network 9/16 and 3/4. Forty people behind one address have
//! half of it together, each with at least the floor; whoever came first has more than whoever comes last.

use std::collections::HashMap;

use super::FileListError;
use super::byte_counter::ByteCounter;
use crate::rate_limits::{ClientOrigin, Ipv6Network};

/// The floor of a user is the catalogue divided by this.
const FLOOR_DIVISOR: usize = 1024;
/// What is kept for short lists is the catalogue divided by this.
const SHORT_LISTS_DIVISOR: usize = 4;
/// What texts on their way may take is the catalogue divided by this.
const IN_FLIGHT_DIVISOR: usize = 2;
/// What an origin may have for each byte that is left.
const ORIGIN_FACTOR: usize = 2;
/// What a network may have for each byte that is left.
const NETWORK_FACTOR: usize = 3;
/// Origins and networks that are remembered before those that have nothing are looked for.
const MIN_SWEEP_SIZE: usize = 1024;

/// The parts of the catalogue's memory.
#[derive(Debug)]
pub(super) struct CatalogueQuota {
    all: CatalogueUsage,
    origins: HashMap<ClientOrigin, CatalogueUsage>,
    networks: HashMap<Ipv6Network, CatalogueUsage>,
    /// How many of them are remembered before those that have nothing are looked for again.
    sweep_at: usize,
}

/// What a list of files takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ListSize {
    /// The memory of all of it.
    pub(super) bytes: usize,
    /// Of its texts alone.
    pub(super) text: usize,
}

/// One part.
#[derive(Debug, Default)]
struct CatalogueUsage {
    lists: ListSize,
    /// The texts that somebody has, those of the lists included.
    text_counter: ByteCounter,
}

impl CatalogueQuota {
    pub(super) fn new() -> Self {
        let (origins, networks) = (HashMap::new(), HashMap::new());
        Self { all: CatalogueUsage::default(), origins, networks, sweep_at: MIN_SWEEP_SIZE }
    }

    /// The account of the texts that are there because of whoever is at this origin.
    pub(super) fn text_counter(&mut self, from: ClientOrigin) -> ByteCounter {
        if self.origins.len() + self.networks.len() >= self.sweep_at {
            self.origins.retain(|_, part| part.is_in_use());
            self.networks.retain(|_, part| part.is_in_use());
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

    /// Puts a list in the place of another one of the same user.
    pub(super) fn replace(&mut self, from: ClientOrigin, before: ListSize, after: ListSize) {
        // Remembers the origin, if it isn't.
        drop(self.text_counter(from));
        let network = from.network().and_then(|network| self.networks.get_mut(&network));
        for part in [Some(&mut self.all), self.origins.get_mut(&from), network].into_iter().flatten() {
            part.lists.bytes = part.lists.bytes + after.bytes - before.bytes;
            part.lists.text = part.lists.text + after.text - before.text;
        }
    }

    /// Checks that a user's list may grow so.
    ///
    /// # Errors
    /// [`FilesRefused::CatalogueFull`], [`FilesRefused::BeyondPart`].
    pub(super) fn check_growth(
        &self,
        from: ClientOrigin,
        before: ListSize,
        after: ListSize,
        capacity: usize,
    ) -> Result<(), FileListError> {
        let more = after.bytes.saturating_sub(before.bytes);
        if more == 0 {
            return Ok(());
        }
        let left = capacity.checked_sub(self.all.used_bytes() + more).ok_or(FileListError::CatalogueFull)?;
        let is_short = after.bytes <= capacity / FLOOR_DIVISOR;
        let left = if is_short { left } else { left.saturating_sub(capacity / SHORT_LISTS_DIVISOR) };
        let of_origin = self.origin(from).map_or(0, CatalogueUsage::used_bytes) + more;
        let of_network = self.network(from).map_or(0, |part| part.used_bytes() + more);
        let is_within = (is_short || after.bytes <= left)
            && of_origin <= ORIGIN_FACTOR * left
            && of_network <= NETWORK_FACTOR * left;
        is_within.then_some(()).ok_or(FileListError::ShareExceeded)
    }

    /// Whether a list of a user who has none fits, however the parts are then: it was taken before.
    pub(super) fn has_space(&self, list: ListSize, capacity: usize) -> bool {
        self.all.used_bytes() + list.bytes <= capacity
    }

    /// Whether there may be more texts on their way because of whoever is at this origin.
    pub(super) fn can_send(&self, from: ClientOrigin, capacity: usize) -> bool {
        let left = (capacity / IN_FLIGHT_DIVISOR).saturating_sub(self.all.in_flight_bytes());
        self.origin(from).map_or(0, CatalogueUsage::in_flight_bytes) <= left
            && self.network(from).map_or(0, CatalogueUsage::in_flight_bytes) <= NETWORK_FACTOR * left
    }

    /// The memory of all lists.
    pub(super) const fn list_bytes(&self) -> usize {
        self.all.lists.bytes
    }

    /// Bytes of texts that somebody has and that are not what is told now.
    #[cfg(test)]
    pub(super) fn in_flight_bytes(&self) -> usize {
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

    /// The longest list that a new user from there may have, which is there then; the texts of lists are not made.
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
