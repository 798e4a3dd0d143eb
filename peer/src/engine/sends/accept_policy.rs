//! Decides whether a send is accepted unasked. Pure: the rule, what was accepted lately, the disk's free space and `now`
//! come in, a decision goes out.
//!
//! | resource | bound for one sender | beyond |
//! |---|---|---|
//! | bytes within 24 hours | the rule's | the send waits for the user |
//! | files within 24 hours | 10,000 | the send waits for the user |
//! | free space that is left | 1 GiB | the send waits for the user |
//!
//! A send counts from the first attempt on, once, however often it is tried and whatever becomes of it.

use std::path::{Path, PathBuf};

use shared::peer::{FileSend, MessageId};

use crate::profile::{ACCEPT_WINDOW_MS, AcceptedSend};

/// Files that one sender may leave within 24 hours.
pub const MAX_ACCEPTED_FILES: u64 = 10_000;
/// Bytes that stay free on the disk.
pub const MIN_FREE_BYTES: u64 = 1 << 30;

/// The facts about a send that decide.
#[derive(Debug, Clone, Copy)]
pub struct AcceptQuery<'a> {
    /// The message that announced it.
    pub id: MessageId,
    /// What is sent.
    pub send: &'a FileSend,
    /// Bytes within 24 hours, by the rule.
    pub max_bytes: u64,
    /// What was accepted of the same sender lately.
    pub accepted: &'a [AcceptedSend],
    /// Free bytes on the disk of the destination, if known.
    pub free: Option<u64>,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// The reason why a send waits for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// More bytes than the rule allows.
    Bytes {
        /// The rule's bound.
        max: u64,
        /// The bytes that it leaves now.
        left: u64,
    },
    /// Too many files.
    Files {
        /// The number that is left now.
        left: u64,
    },
    /// The disk is nearly full.
    Disk {
        /// Its free bytes.
        free: u64,
    },
    /// The name begins with a dot.
    HiddenName,
}

/// The reason why a folder can't be the destination of what is accepted unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderFault {
    /// It is the home folder, where every program looks for its settings.
    Home,
    /// It is the root of all folders.
    Root,
}

/// Decides about a send.
///
/// # Errors
/// The reason why it waits for the user.
pub fn decide(query: AcceptQuery<'_>) -> Result<(), HoldReason> {
    let AcceptQuery { id, send, max_bytes, accepted, free, now_ms } = query;
    if send.name.is_hidden() {
        return Err(HoldReason::HiddenName);
    }
    // One that was accepted before counts already; one from a clock that was ahead counts as well.
    let others = accepted.iter().filter(|other| other.id != id && other.at > now_ms.saturating_sub(ACCEPT_WINDOW_MS));
    let (files, bytes) = others.fold((0_u64, 0_u64), |(files, bytes), other| {
        (files.saturating_add(u64::from(other.files)), bytes.saturating_add(other.bytes))
    });
    let left = max_bytes.saturating_sub(bytes);
    if send.size > left {
        return Err(HoldReason::Bytes { max: max_bytes, left });
    }
    let left = MAX_ACCEPTED_FILES.saturating_sub(files);
    if u64::from(send.files) > left {
        return Err(HoldReason::Files { left });
    }
    // A part of one that was begun has its place on the disk already: its fetch looks at what is to come.
    let is_begun = accepted.iter().any(|other| other.id == id);
    match free {
        Some(free) if !is_begun && free < send.size.saturating_add(MIN_FREE_BYTES) => Err(HoldReason::Disk { free }),
        _ => Ok(()),
    }
}

/// Checks a destination; both paths are without links. The folders of profiles are not known here.
///
/// # Errors
/// The reason why it can't be one.
pub fn check_folder(folder: &Path, home: Option<&PathBuf>) -> Result<(), FolderFault> {
    if folder.parent().is_none() {
        return Err(FolderFault::Root);
    }
    // A folder above the home folder holds it by another name.
    if home.is_some_and(|home| home.starts_with(folder)) {
        return Err(FolderFault::Home);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::ContentHash;
    use shared::peer::SendKind;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn send(name: &str, files: u32, size: u64) -> FileSend {
        FileSend {
            name: name.parse().unwrap(),
            kind: SendKind::Folder,
            files,
            size,
            hash: ContentHash::from_bytes([1; 32]),
        }
    }

    fn id(number: usize) -> MessageId {
        MessageId::from_bytes((number as u128).to_be_bytes())
    }

    fn query<'a>(send: &'a FileSend, accepted: &'a [AcceptedSend]) -> AcceptQuery<'a> {
        AcceptQuery { id: id(0), send, max_bytes: 100, accepted, free: None, now_ms: ACCEPT_WINDOW_MS * 2 }
    }

    #[test]
    fn quotas_count_the_last_day() {
        let now = ACCEPT_WINDOW_MS * 2;
        let accepted = |number, at, files, bytes| AcceptedSend { id: id(number), at, files, bytes };
        let earlier = [accepted(1, now - ACCEPT_WINDOW_MS, 9000, 90), accepted(2, now - 1, 9990, 60)];
        let hold = |files, size| decide(query(&send("a", files, size), &earlier)).err();
        assert_eq!(hold(10, 40), None);
        assert_eq!(hold(10, 41), Some(HoldReason::Bytes { max: 100, left: 40 }));
        assert_eq!(hold(11, 40), Some(HoldReason::Files { left: 10 }));
        // Tried again, it doesn't count against itself.
        let again = [accepted(0, now - 1, 1, 100)];
        assert_eq!(decide(query(&send("a", 1, 100), &again)), Ok(()));
        // A clock that was ahead gives nothing away.
        assert!(decide(query(&send("a", 1, 1), &[accepted(1, now + 5, 1, 100)])).is_err());
    }

    #[test]
    fn the_disk_keeps_its_reserve() {
        let send = send("a", 1, 50);
        let with = |free| decide(AcceptQuery { free: Some(free), ..query(&send, &[]) });
        assert_eq!(with(GIB + 50), Ok(()));
        assert_eq!(with(GIB + 49), Err(HoldReason::Disk { free: GIB + 49 }));
        let begun = [AcceptedSend { id: id(0), at: 1, files: 1, bytes: 50 }];
        let again = AcceptQuery { free: Some(GIB), ..query(&send, &begun) };
        assert_eq!(decide(again), Ok(()), "of one that was begun the fetch knows what is to come");
    }

    #[test]
    fn nothing_hidden_comes_unasked() {
        let is_held = |name: &str| decide(query(&send(name, 1, 1), &[])) == Err(HoldReason::HiddenName);
        assert!(is_held(".bashrc") && is_held(".ssh/x") && is_held("a/.git") && !is_held("a.b") && !is_held("a/b.c"));
    }

    #[test]
    fn the_home_folder_and_what_is_above_it_are_no_destination() {
        let home = PathBuf::from("/home/ana");
        let check = |folder: &str| check_folder(Path::new(folder), Some(&home));
        assert_eq!(check("/home/ana"), Err(FolderFault::Home));
        assert_eq!(check("/home"), Err(FolderFault::Home));
        assert_eq!(check("/"), Err(FolderFault::Root));
        assert_eq!(check("/home/ana/From-bob"), Ok(()));
        assert_eq!(check("/home/anabel"), Ok(()));
    }

    proptest! {
        /// Whatever is sent, when and in which order: no 24 hours take more than the rule says.
        #[test]
        fn no_day_takes_more_than_the_rule(
            sends in proptest::collection::vec((0..ACCEPT_WINDOW_MS, 1_u32..6000, 0_u64..60), 1..60)
        ) {
            let (mut now, mut accepted) = (0, Vec::<AcceptedSend>::new());
            for (number, (pause, files, size)) in sends.into_iter().enumerate() {
                now += pause / 8;
                let send = send("a", files, size);
                let query = AcceptQuery { id: id(number), now_ms: now, ..query(&send, &accepted) };
                if decide(query).is_ok() {
                    accepted.push(AcceptedSend { id: id(number), at: now, files, bytes: size });
                }
                let day = accepted.iter().filter(|one| one.at > now - ACCEPT_WINDOW_MS);
                let (files, bytes) = day.fold((0, 0), |sum, one| (sum.0 + u64::from(one.files), sum.1 + one.bytes));
                prop_assert!(files <= MAX_ACCEPTED_FILES && bytes <= 100, "{files} files, {bytes} bytes");
            }
        }
    }
}
