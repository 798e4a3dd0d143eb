//! Which groups of a file somebody has.

/// A set of groups of one file.
///
/// On the wire a bit a group, the lowest bit of the first byte for group 0; the bits behind the last group are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSet {
    group_count: u32,
    bits: Vec<u8>,
}

impl GroupSet {
    /// None of `groups` groups.
    pub fn empty(group_count: u32) -> Self {
        Self { group_count, bits: vec![0; byte_len(group_count)] }
    }

    /// All of `groups` groups.
    pub fn full(groups: u32) -> Self {
        let mut set = Self { group_count: groups, bits: vec![u8::MAX; byte_len(groups)] };
        if let Some(last) = set.bits.last_mut() {
            *last &= last_mask(groups);
        }
        set
    }

    /// Reads the wire form; `None` unless it is as long as `groups` groups make it and nothing is set behind them.
    pub fn from_bytes(groups: u32, bytes: Vec<u8>) -> Option<Self> {
        let fits = bytes.len() == byte_len(groups) && bytes.last().is_none_or(|last| last & !last_mask(groups) == 0);
        fits.then_some(Self { group_count: groups, bits: bytes })
    }

    /// The wire form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Bytes of the wire form for `groups` groups.
    pub fn wire_len(groups: u32) -> usize {
        byte_len(groups)
    }

    /// Adds a group; one that the file doesn't have is left out.
    pub fn insert(&mut self, group: u32) {
        if group < self.group_count
            && let Some(byte) = self.bits.get_mut(index(group))
        {
            *byte |= 1 << (group % 8);
        }
    }

    /// Whether this group is among them.
    pub fn contains(&self, group: u32) -> bool {
        self.bits.get(index(group)).is_some_and(|byte| byte & (1 << (group % 8)) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|byte| *byte == 0)
    }

    /// Whether all groups of the file are there.
    pub fn is_full(&self) -> bool {
        self.len() == self.group_count
    }
}

fn byte_len(groups: u32) -> usize {
    index(groups.saturating_add(7))
}

fn index(group: u32) -> usize {
    usize::try_from(group / 8).unwrap_or(usize::MAX)
}

/// The bits of the last byte that stand for groups.
const fn last_mask(groups: u32) -> u8 {
    match groups % 8 {
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
