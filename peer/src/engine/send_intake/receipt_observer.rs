//! The receipts that a fetch by hand writes: of every send that is here whole when it has ended.

use shared::peer::{ReceiptOutcome, SendReceipt, folder_hash};
use shared::{ContentHash, FileName, UserName};

use crate::engine::fetch::{FetchEvent, FetchedContent, FileOutcome, RequestedName};
use crate::engine::{Error, now_ms};
use crate::profile::{ConversationName, Profile};

/// The files that a fetch put in place, to write the receipts of what they were sent as.
#[derive(Debug, Default)]
pub struct ReceiptObserver {
    placed: Vec<PlacedOrigin>,
}

#[derive(Debug)]
struct PlacedOrigin {
    name: FileName,
    owner: UserName,
    hash: ContentHash,
}

impl ReceiptObserver {
    /// Notes the files that are in place, those that were there already among them.
    pub fn handle_event(&mut self, event: &FetchEvent<'_>) {
        let FetchEvent::Finished { report, .. } = event else { return };
        let is_placed = !matches!(report.outcome, FileOutcome::Failed(_) | FileOutcome::Aborted(_));
        if let (true, Some(FetchedContent { owner, hash }), Ok(name)) = (is_placed, &report.origin, report.name.parse())
        {
            self.placed.push(PlacedOrigin { name, owner: owner.clone(), hash: *hash });
        }
    }

    /// Writes the receipts of all sends of `from` that are here whole; returns their receivers.
    pub fn settle(
        self,
        profile: &Profile,
        from: &ConversationName,
        names: &[RequestedName],
    ) -> Result<Vec<UserName>, Error> {
        if self.placed.is_empty() || profile.is_read_only() {
            return Ok(Vec::new());
        }
        match from {
            ConversationName::Person(user) => self.settle_sends_of(profile, user),
            ConversationName::Room(room) => {
                let Some(known) = profile.room_named(room)? else { return Ok(Vec::new()) };
                let mut told = Vec::new();
                for (owner, hash) in self.room_sends(names) {
                    let receipt = SendReceipt { id: None, room: Some(known.id), hash, outcome: ReceiptOutcome::Done };
                    profile.queue_room_receipt(&owner, &receipt, now_ms())?;
                    told.push(owner);
                }
                told.dedup();
                Ok(told)
            }
        }
    }

    fn settle_sends_of(&self, profile: &Profile, user: &UserName) -> Result<Vec<UserName>, Error> {
        let mut is_any = false;
        for waiting in profile.incoming_sends(Some(user))? {
            let files = self.placed.iter().filter(|placed| waiting.send.has_name(&placed.name));
            if waiting.send.hash_of(files.map(|placed| (&placed.name, &placed.hash))) == Some(waiting.send.hash) {
                let (id, hash) = (Some(waiting.id), waiting.send.hash);
                let receipt = SendReceipt { id, room: None, hash, outcome: ReceiptOutcome::Done };
                is_any |= profile.settle_incoming_send(user, waiting.id, &receipt, now_ms())?;
            }
        }
        Ok(is_any.then(|| user.clone()).into_iter().collect())
    }

    /// Returns the hash of each name that was asked for, as it would be sent, with the member whose it is.
    fn room_sends(&self, names: &[RequestedName]) -> Vec<(UserName, ContentHash)> {
        let mut sends = Vec::new();
        for RequestedName { text, .. } in names {
            let name = text.trim_end_matches('/');
            if let Some(file) = self.placed.iter().find(|placed| placed.name.as_str() == name) {
                sends.push((file.owner.clone(), file.hash));
                continue;
            }
            let files: Vec<_> = self.placed.iter().filter(|placed| placed.name.strip_folder(name).is_some()).collect();
            // A folder of several members was sent by none of them.
            if let Some(first) = files.first().filter(|first| files.iter().all(|file| file.owner == first.owner)) {
                sends.push((first.owner.clone(), folder_hash(files.iter().map(|file| (&file.name, &file.hash)))));
            }
        }
        // By owner first, so that the owners who are told twice are neighbours for `dedup`.
        sends.sort();
        sends
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::{ChatMessage, FileSend, MessageId, SendKind};

    use super::*;

    #[test]
    fn a_fetch_by_hand_writes_the_receipt_of_what_is_whole() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let alice: UserName = "alice".parse().unwrap();
        let [a, b]: [FileName; 2] = ["photos/a", "photos/b"].map(|name| name.parse().unwrap());
        let (one, two) = (ContentHash::of(b"1"), ContentHash::of(b"2"));
        let folder = FileSend {
            name: "photos".parse().unwrap(),
            kind: SendKind::Folder,
            files: 2,
            size: 2,
            hash: folder_hash([(&a, &one), (&b, &two)]),
        };
        let plan = FileSend {
            name: "plan".parse().unwrap(),
            kind: SendKind::File,
            files: 1,
            size: 1,
            hash: ContentHash::of(b"3"),
        };
        for (byte, send) in [(1, folder.clone()), (2, plan)] {
            let id = MessageId::from_bytes([byte; 16]);
            let message = ChatMessage { id, ts: 0, text: "x".into(), offer: None, send: Some(send) };
            profile.store_incoming(&alice, &[message], 1).unwrap();
        }
        let observer = |files: &[(&FileName, &ContentHash)]| ReceiptObserver {
            placed: files
                .iter()
                .map(|(name, hash)| PlacedOrigin { name: (*name).clone(), owner: alice.clone(), hash: **hash })
                .collect(),
        };
        let from = ConversationName::Person(alice.clone());
        assert!(observer(&[(&a, &one)]).settle(&profile, &from, &[]).unwrap().is_empty());
        assert!(observer(&[(&a, &one), (&b, &one)]).settle(&profile, &from, &[]).unwrap().is_empty());
        assert_eq!(
            observer(&[(&b, &two), (&a, &one)]).settle(&profile, &from, &[]).unwrap(),
            std::slice::from_ref(&alice)
        );
        let queued = profile.queued_receipts(&alice).unwrap();
        assert_eq!((queued.len(), queued[0].receipt.hash), (1, folder.hash));
        // A file whose name goes on is another one.
        let [plan, other]: [FileName; 2] = ["plan", "plan 2"].map(|name| name.parse().unwrap());
        let three = ContentHash::of(b"3");
        assert_eq!(
            observer(&[(&plan, &three), (&other, &one)]).settle(&profile, &from, &[]).unwrap(),
            std::slice::from_ref(&alice)
        );
        assert!(profile.incoming_sends(None).unwrap().is_empty());
    }
}
