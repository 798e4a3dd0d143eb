use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::Identity;
use rooms::{HistoryVisibility, RoomChange};
use tempfile::TempDir;
use tokio::sync::broadcast;

use super::*;
use crate::engine::now_ms;
use crate::engine::rooms::room_clock::SimulatedClock;
use crate::engine::rooms::tests::{ROOM, Records, local_user};
use crate::profile::{ConversationName, ForgetQuery};

/// A member's node without a network.
pub(super) struct Node {
    pub(super) me: LocalUser,
    pub(super) registry: RoomRegistry,
    events: broadcast::Receiver<NodeEvent>,
    _home: TempDir,
}

pub(super) fn tell(records: &Records, node: &mut Node) {
    node.registry.take_records(ROOM, records.key(), &records.wire()).unwrap();
}

impl Node {
    pub(super) fn new(user: &str) -> Self {
        Self::with_identity(user, Arc::new(Identity::generate().unwrap()))
    }

    pub(super) fn with_identity(user: &str, identity: Arc<Identity>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let me = local_user(&home, user, identity);
        let (registry, events) = Self::load(&me, RoomClock::System);
        Self { me, registry, events, _home: home }
    }

    fn load(me: &LocalUser, clock: RoomClock) -> (RoomRegistry, broadcast::Receiver<NodeEvent>) {
        let (events, directory) = (EventBus::new(), RoomDirectory::new(me.identity.fingerprint()));
        let receiver = events.subscribe();
        (RoomRegistry::load_with_clock(me.clone(), directory, events, clock).unwrap(), receiver)
    }

    /// Starts the node again, to live by this clock.
    pub(super) fn follow(&mut self, clock: &SimulatedClock) {
        (self.registry, self.events) = Self::load(&self.me, RoomClock::Simulated(clock.clone()));
    }

    fn restart(&mut self) {
        self.registry.store_deliveries();
        (self.registry, self.events) = Self::load(&self.me, RoomClock::System);
    }

    pub(super) fn key(&self) -> Fingerprint {
        self.me.identity.fingerprint()
    }

    /// Asks `other` for everything that is missing here. Returns the number of new messages.
    pub(super) fn pull(&mut self, other: &mut Self) -> usize {
        let (mine, theirs) = (self.registry.summary(ROOM).unwrap(), other.registry.summary(ROOM).unwrap());
        let mut stored = 0;
        if mine.digest != theirs.digest {
            let (page, _) = other.registry.vector_page(ROOM, None);
            for mut request in self.registry.requests(ROOM, other.key(), &page) {
                loop {
                    let (runs, leads_to_cut) = other.registry.runs(ROOM, &request, &self.key());
                    let offered =
                        self.registry.take_pulled_runs(ROOM, &request, other.key(), &runs, leads_to_cut).unwrap();
                    let OfferedRuns::Taken { taken, next } = offered else { panic!("{offered:?}") };
                    if taken.stored == 0 {
                        break;
                    }
                    stored += taken.stored;
                    request = next;
                }
            }
        }
        self.registry.note_compared(ROOM, other.key(), theirs.digest, stored > 0);
        stored
    }

    /// Takes the events: the texts that were told, and the news.
    pub(super) fn drain(&mut self) -> (Vec<String>, Vec<RoomNewsKind>) {
        let (mut texts, mut news) = (Vec::new(), Vec::new());
        while let Ok(event) = self.events.try_recv() {
            match event {
                NodeEvent::RoomMessage(post) => texts.push(post.text.as_received().to_owned()),
                NodeEvent::Room(change) => news.push(change.kind),
                _ => {}
            }
        }
        (texts, news)
    }

    pub(super) fn told(&mut self) -> Vec<String> {
        self.drain().0
    }
}

pub(super) fn room_of(users: [&str; 3]) -> (Records, [Node; 3]) {
    let mut records = Records::new(HistoryVisibility::Shared);
    let mut nodes = users.map(Node::new);
    nodes.iter().for_each(|node| records.join(&node.me));
    nodes.iter_mut().for_each(|node| tell(&records, node));
    (records, nodes)
}

/// Returns the run of the newest message of `node`, as it is pushed.
fn pushed(node: &mut Node) -> SingleRunBytes {
    let request = RunRequest { author: node.key(), locator: Vec::new(), above: 0, missing_cuts: Vec::new() };
    let key = node.key();
    let above = node.registry.cut(ROOM, &key).unwrap().number - 1;
    let (runs, _) = node.registry.runs(ROOM, &RunRequest { above, ..request }, &key);
    SingleRunBytes::new(runs[0].clone()).unwrap()
}

#[test]
fn what_was_written_survives_a_restart_and_reaches_who_was_away() {
    let (_, [mut alice, mut bob, mut carol]) = room_of(["alice", "bob", "carol"]);
    for text in ["one", "two @bob"] {
        alice.registry.write(ROOM, text).unwrap();
    }
    alice.restart();
    assert_eq!(bob.pull(&mut alice), 2);
    assert_eq!(bob.told(), ["one", "two @bob"]);
    let receipt = alice.registry.write(ROOM, "three").unwrap();
    assert_eq!((receipt.count, receipt.of, receipt.message.seq > 0), (0, 2, true));
    let run = pushed(&mut alice);
    assert_eq!(bob.registry.take_push(ROOM, alice.key(), &run).unwrap(), Ok(OfferedPush::Stored));
    assert_eq!(bob.registry.take_push(ROOM, alice.key(), &run).unwrap(), Ok(OfferedPush::Stored));
    drop(alice);
    bob.restart();
    assert_eq!((carol.pull(&mut bob), carol.pull(&mut bob)), (3, 0));
    assert_eq!(carol.told(), ["one", "two @bob", "three"]);
    assert_eq!(carol.registry.summary(ROOM), bob.registry.summary(ROOM));
}

#[test]
fn a_further_copy_costs_no_signature_check_and_a_forged_one_is_refused() {
    let (_, [mut alice, mut bob, mut carol]) = room_of(["alice", "bob", "carol"]);
    alice.registry.write(ROOM, "one").unwrap();
    let run = pushed(&mut alice);
    let mut forged = run.as_bytes().to_vec();
    // The signature ends a run.
    *forged.last_mut().unwrap() ^= 1;
    let forged = SingleRunBytes::new(forged).unwrap();
    assert!(bob.registry.take_push(ROOM, carol.key(), &forged).unwrap().is_err());
    assert!(bob.registry.order(ROOM).is_empty());
    assert_eq!(bob.registry.take_push(ROOM, alice.key(), &run).unwrap(), Ok(OfferedPush::Stored));
    // Nothing of it is kept: the message that bob passes on has the author's signature.
    assert_eq!(bob.registry.take_push(ROOM, carol.key(), &forged).unwrap(), Ok(OfferedPush::Stored));
    assert_eq!((carol.pull(&mut bob), bob.registry.order(ROOM).len()), (1, 1));
}

#[test]
fn members_say_what_they_have_of_ours() {
    let (_, [mut alice, mut bob, carol]) = room_of(["alice", "bob", "carol"]);
    let first = alice.registry.write(ROOM, "one").unwrap().message.id;
    assert_eq!(alice.registry.waiting(ROOM), 1);
    bob.pull(&mut alice);
    // A comparison tells it, and an answer to a push.
    alice.pull(&mut bob);
    assert_eq!((alice.registry.delivery(ROOM, &first), alice.registry.waiting(ROOM)), ((1, 2), 0));
    alice.registry.note_delivered(ROOM, carol.key(), 99, None);
    assert_eq!(alice.registry.delivery(ROOM, &first), (2, 2));
    let (_, told) = alice.drain();
    assert_eq!(told.last(), Some(&RoomNewsKind::Delivered { id: first, count: 2, of: 2 }), "{told:?}");
}

#[test]
fn a_message_before_its_predecessor_waits_for_a_comparison() {
    let (_, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    alice.registry.write(ROOM, "one").unwrap();
    alice.registry.write(ROOM, "two").unwrap();
    let run = pushed(&mut alice);
    assert_eq!(bob.registry.take_push(ROOM, alice.key(), &run).unwrap(), Ok(OfferedPush::Later));
    assert_eq!((bob.pull(&mut alice), bob.told()), (2, vec!["one".to_owned(), "two".to_owned()]));
}

#[test]
fn what_is_pushed_too_fast_is_asked_for() {
    let (_, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    let mut taken = 0;
    for number in 0..300 {
        alice.registry.write(ROOM, &number.to_string()).unwrap();
        let offered = bob.registry.take_push(ROOM, alice.key(), &pushed(&mut alice)).unwrap();
        taken += usize::from(offered == Ok(OfferedPush::Stored));
    }
    // On a slow machine the rate allows more than the burst.
    assert!(taken >= 200, "{taken}");
    bob.pull(&mut alice);
    assert_eq!(bob.registry.summary(ROOM), alice.registry.summary(ROOM));
}

#[test]
fn who_went_is_a_stranger_and_nothing_of_it_counts_beyond_the_cut() {
    let (mut records, [mut alice, mut bob, mut carol]) = room_of(["alice", "bob", "carol"]);
    carol.registry.write(ROOM, "before").unwrap();
    alice.pull(&mut carol);
    bob.pull(&mut carol);
    let late = carol.registry.write(ROOM, "after").unwrap();
    bob.pull(&mut carol);
    let cut = alice.registry.cut(ROOM, &carol.key());
    let (user, by) = (carol.me.user.clone(), alice.me.user.clone());
    records.change(RoomChange::Kick { user: user.clone(), key: carol.key(), by: by.clone(), cut });
    bob.told();
    for node in [&mut alice, &mut bob, &mut carol] {
        tell(&records, node);
    }
    let (_, news) = bob.drain();
    assert_eq!(news, [RoomNewsKind::Kicked { user, by }, RoomNewsKind::Void { id: late.message.id }]);
    assert_eq!(bob.registry.summary(ROOM).map(|own| own.digest), {
        alice.registry.summary(ROOM).map(|own| own.digest)
    });
    assert_eq!(alice.registry.standing(ROOM, &carol.me.user, &carol.key()), CallerStanding::Unclear);
    alice.registry.note_tracker_answer(ROOM, Instant::now());
    assert_eq!(alice.registry.standing(ROOM, &carol.me.user, &carol.key()), CallerStanding::Stranger);
    // A member's key under another name.
    assert_eq!(alice.registry.standing(ROOM, &carol.me.user, &bob.key()), CallerStanding::Unclear);
    assert_eq!(alice.registry.standing(ROOM, &bob.me.user, &bob.key()), CallerStanding::Member);
    assert_eq!(carol.registry.standing(ROOM, &bob.me.user, &bob.key()), CallerStanding::NotMine);
    let request = RunRequest { author: bob.key(), locator: Vec::new(), above: 0, missing_cuts: Vec::new() };
    bob.registry.write(ROOM, "among us").unwrap();
    assert!(bob.registry.runs(ROOM, &request, &carol.key()).0.is_empty());
    assert!(carol.registry.write(ROOM, "hello?").is_err());
}

#[test]
fn only_moderators_set_open_cuts() {
    let (mut records, [mut alice, mut bob, carol]) = room_of(["alice", "bob", "carol"]);
    let (user, by) = (carol.me.user.clone(), alice.me.user.clone());
    records.change(RoomChange::Kick { user, key: carol.key(), by, cut: None });
    for node in [&mut alice, &mut bob] {
        tell(&records, node);
    }
    let ended_at = records.epoch();
    let cut = Cut { number: 0, hash: None };
    assert_eq!(alice.registry.settable_cuts(), [(ROOM, carol.key(), ended_at, cut)]);
    assert!(bob.registry.settable_cuts().is_empty());
}

#[test]
fn the_cut_of_an_earlier_stay_is_none_of_a_later_one() {
    let (mut records, [mut alice, _, mut carol]) = room_of(["alice", "bob", "carol"]);
    let first = carol.registry.write(ROOM, "first stay").unwrap().message.id;
    let (user, by) = (carol.me.user.clone(), alice.me.user.clone());
    records.change(RoomChange::Kick { user, key: carol.key(), by, cut: None });
    let ended_at = records.epoch();
    records.join(&carol.me);
    for node in [&mut alice, &mut carol] {
        tell(&records, node);
    }
    carol.registry.write(ROOM, "second stay").unwrap();
    assert_eq!(alice.pull(&mut carol), 2);
    let cut = Cut { number: 1, hash: Some(first) };
    assert_eq!(alice.registry.settable_cuts(), [(ROOM, carol.key(), ended_at, cut)]);
    records.change(RoomChange::SetCut { key: carol.key(), ended_at, cut });
    tell(&records, &mut alice);
    assert_eq!(alice.registry.cut(ROOM, &carol.key()).map(|cut| cut.number), Some(2), "both count");
}

#[test]
fn a_newcomer_without_history_begins_in_the_middle_and_settles() {
    let mut records = Records::new(HistoryVisibility::Joined);
    let (mut alice, mut bob) = (Node::new("alice"), Node::new("bob"));
    records.join(&alice.me);
    tell(&records, &mut alice);
    for text in ["one", "two"] {
        alice.registry.write(ROOM, text).unwrap();
    }
    records.join(&bob.me);
    for node in [&mut alice, &mut bob] {
        tell(&records, node);
    }
    for text in ["three", "four"] {
        alice.registry.write(ROOM, text).unwrap();
    }
    assert_eq!(bob.pull(&mut alice), 2);
    let (told, news) = bob.drain();
    assert_eq!(told, ["three", "four"]);
    assert_eq!(news, [RoomNewsKind::Joined { user: bob.me.user.clone() }]);
    bob.restart();
    assert_eq!(bob.pull(&mut alice), 0);
}

#[test]
fn a_backup_that_asks_first_goes_on_and_one_that_does_not_is_told() {
    let (records, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    alice.registry.write(ROOM, "one").unwrap();
    bob.pull(&mut alice);
    let [mut asking, mut hasty] = [(); 2].map(|()| Node::with_identity("alice", alice.me.identity.clone()));
    for node in [&mut asking, &mut hasty] {
        tell(&records, node);
        assert!(!node.registry.is_own_chain_known(ROOM));
    }
    asking.pull(&mut bob);
    assert!(asking.registry.is_own_chain_known(ROOM));
    asking.registry.write(ROOM, "two").unwrap();
    bob.pull(&mut asking);
    bob.drain();
    hasty.registry.write(ROOM, "another one").unwrap();
    assert_eq!(bob.pull(&mut hasty), 1);
    let (told, news) = bob.drain();
    assert_eq!(told, ["another one"]);
    assert_eq!(news, [RoomNewsKind::Equivocation { user: alice.me.user.clone(), number: 1 }]);
}

#[test]
fn what_members_have_is_known_after_a_restart() {
    let (_, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    let id = alice.registry.write(ROOM, "one").unwrap().message.id;
    bob.pull(&mut alice);
    alice.pull(&mut bob);
    alice.restart();
    assert_eq!((alice.registry.delivery(ROOM, &id), alice.registry.waiting(ROOM)), ((1, 2), 0));
}

#[test]
fn a_room_that_cannot_be_loaded_again_is_tried_again() {
    let clock = SimulatedClock::starting_at(now_ms());
    let (_, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    alice.registry.write(ROOM, "one").unwrap();
    bob.follow(&clock);
    bob.pull(&mut alice);
    let database = rusqlite::Connection::open(bob.me.profile.home().join("profile.db")).unwrap();
    database.execute_batch("ALTER TABLE room_record RENAME TO gone").unwrap();
    bob.registry.reload_all();
    assert_eq!(bob.registry.summary(ROOM), None, "what may be ahead of the disk is not passed on");
    database.execute_batch("ALTER TABLE gone RENAME TO room_record").unwrap();
    assert!(bob.registry.is_tick_due());
    clock.set(Duration::from_secs(60));
    bob.registry.tick();
    assert_eq!(bob.registry.summary(ROOM), alice.registry.summary(ROOM));
    assert!(!bob.registry.is_tick_due());
}

#[test]
fn what_is_removed_beside_the_node_is_passed_on_no_more() {
    let (_, [mut alice, mut bob, mut carol]) = room_of(["alice", "bob", "carol"]);
    for text in ["one", "two"] {
        alice.registry.write(ROOM, text).unwrap();
    }
    bob.pull(&mut alice);
    let room = ConversationName::Room("lab".parse().unwrap());
    // As another process of the profile does it.
    bob.me.profile.forget(&ForgetQuery { with: Some(room), before: None }, now_ms()).unwrap();
    bob.registry.reload_all();
    assert_eq!(carol.pull(&mut bob), 0);
    // What comes later goes on from there, and nothing that was removed comes back.
    alice.registry.write(ROOM, "three").unwrap();
    assert_eq!(bob.pull(&mut alice), 1);
    assert_eq!(bob.told(), ["one", "two", "three"]);
    assert_eq!(carol.pull(&mut alice), 3);
}

#[test]
fn a_new_key_of_the_tracker_counts_from_the_first_query_on() {
    let (mut records, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    records.replace_key([2; 32]);
    // All records are known already; the tracker has signed them anew.
    tell(&records, &mut bob);
    let dave = Node::new("dave");
    records.join(&dave.me);
    let newest = records.wire().split_off(records.wire().len() - 1);
    assert!(bob.registry.take_member_records(ROOM, &newest).unwrap(), "it is signed by the new key");
    assert!(alice.registry.take_member_records(ROOM, &newest).is_err(), "she has not seen that key yet");
    bob.restart();
    records.change(RoomChange::Topic { topic: "new".parse().unwrap() });
    let newest = records.wire().split_off(records.wire().len() - 1);
    assert!(bob.registry.take_member_records(ROOM, &newest).unwrap());
    tell(&records, &mut alice);
    assert_eq!(alice.registry.summary(ROOM), bob.registry.summary(ROOM));
}
