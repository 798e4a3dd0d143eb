//! The search for what is missing, by whole comparisons.

use std::sync::Arc;
use std::time::Duration;

use shared::peer::{RoomStreamReply, RoomStreamRequest, RoomVectorEntry};
use tokio::sync::{Notify, mpsc};

use super::tests::{Node, room_of, tell};
use super::*;
use crate::engine::now_ms;
use crate::engine::rooms::pull_session::{PullSession, part_lengths};
use crate::engine::rooms::room_answers::answer_request;
use crate::engine::rooms::room_clock::SimulatedClock;
use crate::engine::rooms::room_outlets::RoomOutlet;
use crate::engine::rooms::tests::{ROOM, Records};

/// Longer than messages are kept.
const AGE: Duration = Duration::from_secs(31 * 24 * 3600);

/// A stream to a member, over which nothing travels.
struct Outlet {
    compare: Arc<Notify>,
    _pushes: mpsc::Receiver<RoomPush>,
}

impl Outlet {
    fn open(from: &mut Node, to: Fingerprint) -> Self {
        let (outlet, pushes) = RoomOutlet::open(to);
        let compare = outlet.compare.clone();
        from.registry.outlets().add(ROOM, outlet);
        Self { compare, _pushes: pushes }
    }

    fn is_comparison_demanded(&self) -> bool {
        let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(self.compare.notified()).poll(&mut waker).is_ready()
    }
}

/// Compares both copies as a stream does, with replies of a member.
fn compare_by(
    asker: &mut Node,
    member: Fingerprint,
    mut answer: impl FnMut(RoomStreamRequest) -> (RoomStreamReply, Vec<u8>),
) {
    let begun = PullSession::begin(&mut asker.registry, ROOM, member);
    let Some((mut session, mut request)) = begun else { panic!("no room") };
    loop {
        let (reply, mut bytes) = answer(request);
        let mut parts = Vec::new();
        for length in part_lengths(&reply) {
            let rest = bytes.split_off(usize::try_from(length).unwrap());
            parts.push(std::mem::replace(&mut bytes, rest));
        }
        match session.take_reply(&mut asker.registry, reply, parts).unwrap() {
            Some(next) => request = next,
            None => return,
        }
    }
}

fn compare(asker: &mut Node, answerer: &mut Node) {
    let (mine, theirs) = (asker.key(), answerer.key());
    compare_by(asker, theirs, |request| {
        let answer = answer_request(&mut answerer.registry, ROOM, mine, request).unwrap();
        (answer.reply, answer.bytes.to_vec())
    });
}

/// Compares with a member who claims more messages of an author than there are, and gives none.
fn compare_with_liar(asker: &mut Node, liar: Fingerprint, author: Fingerprint) {
    compare_by(asker, liar, |request| {
        let digest = RoomDigest::from_bytes([9; 16]);
        let reply = match request {
            RoomStreamRequest::Summary(summary) => RoomStreamReply::Summary(RoomSummary { digest, ..summary }),
            RoomStreamRequest::Vector { .. } => {
                let entries = vec![RoomVectorEntry { author, newest: 99, digest }];
                RoomStreamReply::Vector { entries, more: false }
            }
            _ => RoomStreamReply::Runs { lengths: Vec::new(), leads_to_cut: false },
        };
        (reply, Vec::new())
    });
}

/// Returns alice, and bob who keeps only "kept" of what she wrote. Time goes on by the clock, from [`AGE`] on.
fn old_room(clock: &SimulatedClock) -> (Records, [Node; 3]) {
    let (records, [mut alice, mut bob, mut carol]) = room_of(["alice", "bob", "carol"]);
    [&mut alice, &mut bob, &mut carol].into_iter().for_each(|node| node.follow(clock));
    alice.registry.write(ROOM, "old").unwrap();
    alice.registry.write(ROOM, "old, too").unwrap();
    bob.pull(&mut alice);
    clock.set(AGE);
    bob.registry.prune().unwrap();
    alice.registry.write(ROOM, "kept").unwrap();
    bob.pull(&mut alice);
    (records, [alice, bob, carol])
}

/// Lets seconds pass for a node. Returns those at which its rooms demand comparisons, which `compare` does.
fn pass_seconds(
    node: &mut Node,
    clock: &SimulatedClock,
    seconds: std::ops::Range<u64>,
    outlets: &[Outlet],
    mut compare: impl FnMut(&mut Node, usize),
) -> Vec<u64> {
    let mut rounds = Vec::new();
    for second in seconds {
        clock.set(AGE + Duration::from_secs(second));
        if node.registry.is_tick_due() {
            node.registry.tick();
        }
        let is_demanded = |number: &usize| outlets[*number].is_comparison_demanded();
        let demanded: Vec<usize> = (0..outlets.len()).filter(is_demanded).collect();
        if !demanded.is_empty() {
            rounds.push(second);
        }
        demanded.into_iter().for_each(|number| compare(node, number));
    }
    rounds
}

#[test]
fn a_newcomer_gets_what_is_kept_behind_a_floor_in_a_quiet_room() {
    let clock = SimulatedClock::starting_at(now_ms());
    // Carol has nothing of alice, as one who came when all were away.
    let (mut records, [alice, mut bob, mut carol]) = old_room(&clock);
    let mut dave = Node::new("dave");
    dave.follow(&clock);
    records.join(&dave.me);
    [&mut bob, &mut carol, &mut dave].into_iter().for_each(|node| tell(&records, node));
    let outlets = [&bob, &carol].map(|other| Outlet::open(&mut dave, other.key()));
    compare(&mut dave, &mut carol);
    compare(&mut dave, &mut bob);
    assert!(dave.told().is_empty(), "what comes before may be elsewhere");
    assert!(outlets.iter().all(|outlet| !outlet.is_comparison_demanded()));
    let rounds = pass_seconds(&mut dave, &clock, 1..200, &outlets, |dave, number| match number {
        0 => compare(dave, &mut bob),
        _ => compare(dave, &mut carol),
    });
    let (told, news) = dave.drain();
    assert_eq!(told, ["kept"]);
    assert!(news.contains(&RoomNewsKind::Gap { user: alice.me.user.clone() }), "{news:?}");
    assert!(rounds.len() <= 4, "{rounds:?}");
    assert!(!dave.registry.is_tick_due());
}

#[test]
fn a_member_who_gives_nothing_of_what_it_claims_keeps_no_gap_open() {
    let clock = SimulatedClock::starting_at(now_ms());
    let (mut records, [alice, mut bob, mallory]) = old_room(&clock);
    let mut dave = Node::new("dave");
    dave.follow(&clock);
    records.join(&dave.me);
    [&mut bob, &mut dave].into_iter().for_each(|node| tell(&records, node));
    let outlets = [&bob, &mallory].map(|other| Outlet::open(&mut dave, other.key()));
    compare(&mut dave, &mut bob);
    pass_seconds(&mut dave, &clock, 1..30, &outlets, |dave, number| match number {
        0 => compare(dave, &mut bob),
        _ => compare_with_liar(dave, mallory.key(), alice.key()),
    });
    assert_eq!(dave.told(), ["kept"]);
}

#[test]
fn a_backup_older_than_what_is_kept_learns_its_number_before_it_writes() {
    let clock = SimulatedClock::starting_at(now_ms());
    let (records, [mut alice, mut bob, _]) = room_of(["alice", "bob", "carol"]);
    [&mut alice, &mut bob].into_iter().for_each(|node| node.follow(&clock));
    let [mut asking, mut hasty] = [(); 2].map(|()| Node::with_identity("alice", alice.me.identity.clone()));
    alice.registry.write(ROOM, "in the backup").unwrap();
    for backup in [&mut asking, &mut hasty] {
        backup.follow(&clock);
        tell(&records, backup);
        backup.pull(&mut alice);
        backup.follow(&clock);
    }
    for text in ["after it", "and later"] {
        alice.registry.write(ROOM, text).unwrap();
    }
    bob.pull(&mut alice);
    clock.set(AGE);
    bob.registry.prune().unwrap();
    alice.registry.write(ROOM, "kept").unwrap();
    bob.pull(&mut alice);

    let outlet = Outlet::open(&mut asking, bob.key());
    compare(&mut asking, &mut bob);
    assert!(!asking.registry.is_own_chain_known(ROOM) && asking.registry.is_own_chain_behind(ROOM));
    pass_seconds(&mut asking, &clock, 1..20, &[outlet], |asking, _| compare(asking, &mut bob));
    assert!(asking.registry.is_own_chain_known(ROOM));
    bob.drain();
    let written = asking.registry.write(ROOM, "taken").unwrap().message.id;
    bob.pull(&mut asking);
    assert_eq!(bob.told(), ["taken"]);
    asking.pull(&mut bob);
    assert_eq!(asking.registry.delivery(ROOM, &written), (1, 2));

    // What members don't take isn't said to be delivered, though they have greater numbers.
    let written = hasty.registry.write(ROOM, "not taken").unwrap().message.id;
    compare(&mut hasty, &mut bob);
    assert_eq!(hasty.registry.delivery(ROOM, &written), (0, 2));
}
