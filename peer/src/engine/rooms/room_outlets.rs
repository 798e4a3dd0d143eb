//! The streams to other members, by room: what is passed on, and who compares copies.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use shared::peer::SingleRunBytes;
use shared::room::{MessageHash, RoomDigest};
use shared::{Fingerprint, RoomId};
use tokio::sync::{Notify, mpsc};

/// Pushed messages that wait to be sent.
const PUSH_QUEUE: usize = 256;

/// The open streams to the members of each room.
#[derive(Debug, Default)]
pub(super) struct RoomOutlets(HashMap<RoomId, Vec<RoomOutlet>>);

/// The stream to a member over which new messages go.
#[derive(Debug)]
pub(super) struct RoomOutlet {
    pub(super) member: Fingerprint,
    pub(super) pushes: mpsc::Sender<RoomPush>,
    /// Makes the stream's task compare both copies.
    pub(super) compare: Arc<Notify>,
    /// Our and the member's digest after a comparison that brought nothing: two members may differ for good in what they
    /// keep, and would compare without end.
    pub(super) settled: Option<(RoomDigest, RoomDigest)>,
    /// True from the demand for a comparison that ends for no earlier one to its beginning.
    is_new_comparison_due: bool,
}

impl RoomOutlet {
    /// Returns the outlet to a member, and the queue of what goes over it.
    pub(super) fn open(member: Fingerprint) -> (Self, mpsc::Receiver<RoomPush>) {
        let (pushes, queue) = mpsc::channel(PUSH_QUEUE);
        let compare = Arc::new(Notify::new());
        (Self { member, pushes, compare, settled: None, is_new_comparison_due: false }, queue)
    }
}

/// A new message on its way to other members.
#[derive(Debug, Clone)]
pub(super) struct RoomPush {
    /// Its author's number, if it is ours.
    pub(super) own_number: Option<u64>,
    pub(super) message: MessageHash,
    pub(super) run: SingleRunBytes,
}

impl RoomOutlets {
    /// Adds the stream to a member, in place of an earlier one.
    pub(super) fn add(&mut self, room: RoomId, outlet: RoomOutlet) {
        let outlets = self.open_outlets(room);
        // The earlier one may be over a link that is dead, and not known to be.
        outlets.retain(|other| other.member != outlet.member);
        outlets.push(outlet);
    }

    /// Passes a message on to all members with a stream but the one it came from.
    pub(super) fn push(&mut self, room: RoomId, push: &RoomPush, from: Option<&Fingerprint>) {
        for outlet in self.open_outlets(room).iter().filter(|outlet| Some(&outlet.member) != from) {
            // A full queue is that of a slow member, who asks for the rest.
            if outlet.pushes.try_send(push.clone()).is_err() {
                outlet.compare.notify_one();
            }
        }
    }

    /// Makes the streams to all members compare both copies.
    pub(super) fn compare_with_all(&mut self, room: RoomId) {
        self.open_outlets(room).iter().for_each(|outlet| outlet.compare.notify_one());
    }

    /// Makes the stream to a member compare both copies, if there is one.
    pub(super) fn compare_with(&mut self, room: RoomId, member: &Fingerprint) {
        for outlet in self.open_outlets(room).iter().filter(|outlet| outlet.member == *member) {
            outlet.compare.notify_one();
        }
    }

    /// Makes the streams to all members compare both copies, those as well that are settled: a member may be asked
    /// again for what was refused before.
    pub(super) fn compare_anew_with_all(&mut self, room: RoomId) {
        for outlet in self.open_outlets(room) {
            (outlet.settled, outlet.is_new_comparison_due) = (None, true);
            outlet.compare.notify_one();
        }
    }

    /// Notes that a comparison with a member begins.
    pub(super) fn note_comparison(&mut self, room: RoomId, member: &Fingerprint) {
        for outlet in self.open_outlets(room).iter_mut().filter(|outlet| outlet.member == *member) {
            outlet.is_new_comparison_due = false;
        }
    }

    /// Notes the digests after a comparison with a member that brought nothing; `None` after one that did.
    pub(super) fn note_settled(
        &mut self,
        room: RoomId,
        member: &Fingerprint,
        settled: Option<(RoomDigest, RoomDigest)>,
    ) {
        for outlet in self.open_outlets(room).iter_mut().filter(|outlet| outlet.member == *member) {
            // What began before the demand is no answer to it.
            outlet.settled = settled.filter(|_| !outlet.is_new_comparison_due);
        }
    }

    /// Returns true if the last comparison with a member brought nothing, and found these digests of ours and theirs.
    pub(super) fn is_settled(&mut self, room: RoomId, member: &Fingerprint, digests: (RoomDigest, RoomDigest)) -> bool {
        let outlets = self.open_outlets(room).iter();
        outlets.filter(|outlet| outlet.member == *member).any(|outlet| outlet.settled == Some(digests))
    }

    /// Returns the members with a stream.
    pub(super) fn members(&mut self, room: RoomId) -> BTreeSet<Fingerprint> {
        self.open_outlets(room).iter().map(|outlet| outlet.member).collect()
    }

    fn open_outlets(&mut self, room: RoomId) -> &mut Vec<RoomOutlet> {
        let outlets = self.0.entry(room).or_default();
        // A stream that ended tells nobody: its queue is closed.
        outlets.retain(|outlet| !outlet.pushes.is_closed());
        outlets
    }
}
