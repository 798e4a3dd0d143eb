//! Sets of groups, such as those that a peer has of a file.

/// A set of groups of one file.
///
/// The wire form has one bit per group; group 0 is the lowest bit of the first byte. The bits behind the last group are
/// zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSet {
    group_count: u32,
    bits: Vec<u8>,
}

impl GroupSet {
    /// Makes a set without members, of a file with `group_count` groups.
    pub fn empty(group_count: u32) -> Self {
        Self { group_count, bits: vec![0; byte_len(group_count)] }
    }

    /// Makes a set of all `groups` groups.
    pub fn full(groups: u32) -> Self {
        let mut set = Self { group_count: groups, bits: vec![u8::MAX; byte_len(groups)] };
        // As on the wire, no bit behind the last group may be set.
        if let Some(last) = set.bits.last_mut() {
            *last &= last_mask(groups);
        }
        set
    }

    /// Parses the wire form. Returns `None` unless its length fits `groups` groups and no bit behind the last group is
    /// set.
    pub fn from_bytes(groups: u32, bytes: Vec<u8>) -> Option<Self> {
        // A bit behind the last group would make `len` count a group that doesn't exist.
        let fits = bytes.len() == byte_len(groups) && bytes.last().is_none_or(|last| last & !last_mask(groups) == 0);
        fits.then_some(Self { group_count: groups, bits: bytes })
    }

    /// Returns the wire form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Returns the length of the wire form in bytes.
    pub fn wire_len(groups: u32) -> usize {
        byte_len(groups)
    }

    /// Adds a group. Ignores an index beyond the file's last group.
    pub fn insert(&mut self, group: u32) {
        // The index may lie in the last byte and still beyond the last group.
        if group < self.group_count
            && let Some(byte) = self.bits.get_mut(index(group))
        {
            *byte |= 1 << (group % 8);
        }
    }

    /// Returns true if `group` is a member.
    pub fn contains(&self, group: u32) -> bool {
        // No look at the count: the bits behind the last group are never set.
        self.bits.get(index(group)).is_some_and(|byte| byte & (1 << (group % 8)) != 0)
    }

    /// Returns the number of members.
    pub fn len(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Returns true if there are no members.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|byte| *byte == 0)
    }

    /// Returns true if all groups of the file are members.
    pub fn is_full(&self) -> bool {
        self.len() == self.group_count
    }
}

fn byte_len(groups: u32) -> usize {
    // A count near the greatest u32 must not wrap round to a set without bytes.
    index(groups.saturating_add(7))
}

fn index(group: u32) -> usize {
    usize::try_from(group / 8).unwrap_or(usize::MAX)
}

/// Returns the mask of the bits in the last byte that stand for groups.
const fn last_mask(groups: u32) -> u8 {
    match groups % 8 {
        // No remainder means that the last byte is used whole, not that it is unused.
        0 => u8::MAX,
        used => (1 << used) - 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let mut set = GroupSet::empty(11);
        assert!(set.is_empty());
        for group in [0, 3, 8, 10, 11, u32::MAX] {
            set.insert(group);
        }
        assert_eq!(set.as_bytes(), [0b0000_1001, 0b0000_0101]);
        assert_eq!(set.len(), 4);
        assert_eq!(GroupSet::full(11).as_bytes(), [0xff, 0b0000_0111]);
        assert!(GroupSet::full(11).is_full() && !set.is_full());
        assert_eq!(GroupSet::from_bytes(11, vec![0, 0b0000_1000]), None, "a group that isn't there");
        assert_eq!(GroupSet::from_bytes(11, vec![0]), None);
        assert_eq!(GroupSet::from_bytes(11, vec![0; 3]), None);
    }

    proptest! {
        #[test]
        fn sets_round_trip(groups in 1_u32..300, members in proptest::collection::vec(0_u32..300, 0..40)) {
            let mut set = GroupSet::empty(groups);
            members.iter().for_each(|group| set.insert(*group));
            for group in 0..310 {
                prop_assert_eq!(set.contains(group), group < groups && members.contains(&group));
            }
            prop_assert_eq!(set.as_bytes().len(), GroupSet::wire_len(groups));
            prop_assert_eq!(GroupSet::from_bytes(groups, set.as_bytes().to_vec()), Some(set));
        }
    }
}
