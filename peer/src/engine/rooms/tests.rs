//! Members of a room over real links, and what their tests are made of.

use ::rooms::{HistoryVisibility, MembershipRecord, RoomChange, SignedRecord};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use certs::Identity;
use shared::peer::{
    ANSWERS_CAPABILITY, PeerErrorCode, PeerRequest, RoomStreamReply, RoomStreamRequest, RoomSummary, RoomVectorEntry,
};
use shared::room::RoomDigest;
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::JoinSet;

use super::*;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::RoomNewsKind;
use crate::net::endpoint::Endpoint;
use crate::net::frame_receiver::FrameQuota;
use crate::net::link::{self, DialTarget, Link};
use crate::net::stream::StreamPriority;
use crate::net::{LinkError, StreamError};
use crate::profile::Profile;

pub(super) const ROOM: RoomId = RoomId::from_bytes([7; 16]);

/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tracker's signature on each change of one room.
pub(super) struct Records {
    keys: Ed25519KeyPair,
    signed: Vec<SignedRecord>,
}

impl Records {
    pub(super) fn new(history: HistoryVisibility) -> Self {
        let keys = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let mut records = Self { keys, signed: Vec::new() };
        records.change(RoomChange::Create { room_name: "lab".parse().unwrap(), history });
        records
    }

    pub(super) fn change(&mut self, change: RoomChange) {
        let previous = self.signed.last().map(SignedRecord::hash);
        let epoch = self.epoch() + 1;
        self.signed.push(MembershipRecord { room: ROOM, epoch, previous, time: 0, change }.sign(&self.keys));
    }

    /// Gives the tracker another key, with which it signs all records anew.
    pub(super) fn replace_key(&mut self, seed: [u8; 32]) {
        self.keys = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        for record in &mut self.signed {
            *record = record.record().clone().sign(&self.keys);
        }
    }

    pub(super) fn join(&mut self, member: &LocalUser) {
        self.change(RoomChange::Join { user: member.user.clone(), key: member.identity.fingerprint() });
    }

    /// Returns the epoch of the newest record.
    pub(super) fn epoch(&self) -> u64 {
        self.signed.len().try_into().unwrap()
    }

    /// Returns the tracker's key.
    pub(super) fn key(&self) -> VerifyingKey {
        VerifyingKey::from_raw(self.keys.public_key().as_ref().try_into().unwrap())
    }

    /// Returns the records as they travel.
    pub(super) fn wire(&self) -> Vec<(Vec<u8>, Signature)> {
        self.signed.iter().map(|record| (record.signed().to_vec(), *record.signature())).collect()
    }
}

/// Returns the user of a profile in `home`.
pub(super) fn local_user(home: &TempDir, user: &str, identity: Arc<Identity>) -> LocalUser {
    LocalUser::without_tracker(Profile::open(home.path()).unwrap(), identity, user.parse().unwrap())
}

/// Members that are pulled at once, as the node's.
const PULLS: usize = 2;

/// A member's node as far as it concerns rooms.
pub(super) struct Member {
    pub(super) me: LocalUser,
    pub(super) rooms: Rooms,
    demands: mpsc::UnboundedReceiver<RoomSyncRequest>,
    events: broadcast::Receiver<NodeEvent>,
    endpoint: Endpoint,
    tasks: JoinSet<()>,
    pulls: Arc<Semaphore>,
    _home: TempDir,
}

impl Member {
    fn new(user: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let me = local_user(&home, user, Arc::new(Identity::generate().unwrap()));
        let endpoint = Endpoint::server(&me.identity, 0, 0).unwrap();
        let bus = EventBus::new();
        let events = bus.subscribe();
        let (rooms, owner, demands) = Rooms::new(me.clone(), bus);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { owner.run(CancellationToken::new()).await.unwrap() });
        let pulls = Arc::new(Semaphore::new(PULLS));
        Self { me, rooms, demands, events, endpoint, tasks, pulls, _home: home }
    }

    async fn hear(&self, records: &Records) {
        self.rooms.take_records(ROOM, records.key(), records.wire()).await.unwrap();
    }

    pub(super) async fn write(&self, text: &str) -> RoomReceipt {
        self.rooms.write(ROOM, text.to_owned()).await.unwrap()
    }

    /// Waits for an event.
    pub(super) async fn wait_for<T>(&mut self, wanted: &str, mut found: impl FnMut(&NodeEvent) -> Option<T>) -> T {
        let waited = async {
            loop {
                if let Some(found) = found(&self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.unwrap_or_else(|_| panic!("{}: no {wanted}", self.me.user))
    }

    async fn wait_for_text(&mut self, text: &str) {
        let is_text = |event: &NodeEvent| match event {
            NodeEvent::RoomMessage(post) => (post.text.as_received() == text).then_some(()),
            _ => None,
        };
        self.wait_for(text, is_text).await;
    }

    /// Serves the rooms of a link, and opens a stream for the room.
    fn use_link(&mut self, link: &Link) {
        let (link, rooms) = (link.clone(), self.rooms.clone());
        let (over, own, pulls) = (link.clone(), rooms.clone(), self.pulls.clone());
        self.tasks.spawn(async move {
            let _ = run_room_stream(over, own, ROOM, pulls).await;
        });
        self.tasks.spawn(serve_streams(link, rooms));
    }
}

async fn serve_streams(link: Link, rooms: Rooms) {
    let (quota, mut streams) = (FrameQuota::for_user(), JoinSet::new());
    while let Ok((sender, mut receiver)) = link.accept_stream(&quota).await {
        let (link, rooms) = (link.clone(), rooms.clone());
        streams.spawn(async move {
            if let Ok(Some(PeerRequest::Room { id })) = receiver.next_frame().await {
                let _ = serve_room(&link, &rooms, id, sender, receiver).await;
            }
        });
    }
}

/// Returns both ends of a new link.
pub(super) async fn dial(from: &Member, to: &Member) -> (Link, Link) {
    let address = ([127, 0, 0, 1], to.endpoint.port().unwrap()).into();
    let (user, fingerprint) = (to.me.user.clone(), to.me.identity.fingerprint());
    let target = DialTarget { user, fingerprint, addresses: vec![address], observed: Some(address) };
    let accepted = async {
        let caller = link::accept_caller(to.endpoint.accept().await.unwrap()).await?;
        caller.identified_as(from.me.user.clone()).welcome(to.me.user.clone(), false).await
    };
    let dialed = link::dial(&from.endpoint, &target, &from.me.user, &[ANSWERS_CAPABILITY]);
    let (dialed, accepted): (Result<Link, LinkError>, Result<Link, LinkError>) = tokio::join!(dialed, accepted);
    (dialed.unwrap(), accepted.unwrap())
}

async fn connect(from: &mut Member, to: &mut Member) {
    let (hers, his) = dial(from, to).await;
    from.use_link(&hers);
    to.use_link(&his);
}

pub(super) async fn room_of<const N: usize>(users: [&str; N]) -> (Records, [Member; N]) {
    let mut records = Records::new(HistoryVisibility::Shared);
    let members = users.map(Member::new);
    members.iter().for_each(|member| records.join(&member.me));
    for member in &members {
        member.hear(&records).await;
    }
    (records, members)
}

#[tokio::test]
async fn a_link_brings_what_was_missed_and_then_what_is_new() {
    let (_, [mut alice, mut bob]) = room_of(["alice", "bob"]).await;
    for number in 0..300 {
        alice.write(&format!("before {number}")).await;
    }
    connect(&mut alice, &mut bob).await;
    bob.wait_for_text("before 299").await;
    let receipt = alice.write("new").await;
    bob.wait_for_text("new").await;
    alice
        .wait_for("delivery", |event| match event {
            NodeEvent::Room(news) => match news.kind {
                RoomNewsKind::Delivered { id, count: 1, of: 1 } if id == receipt.message.id => Some(()),
                _ => None,
            },
            _ => None,
        })
        .await;
    bob.write("@alice thanks").await;
    alice.wait_for_text("@alice thanks").await;
    assert!(alice.rooms.is_own_chain_known(ROOM).await.unwrap());
    assert_eq!(alice.rooms.waiting(ROOM).await.unwrap(), 0);
}

#[tokio::test]
async fn whoever_has_a_message_passes_it_on() {
    let (mut records, [mut alice, mut bob, mut carol]) = room_of(["alice", "bob", "carol"]).await;
    connect(&mut alice, &mut bob).await;
    connect(&mut bob, &mut carol).await;
    alice.write("over bob").await;
    carol.wait_for_text("over bob").await;
    carol.write("and back").await;
    alice.wait_for_text("and back").await;
    // Who comes later gets it from any of them.
    let mut dave = Member::new("dave");
    records.join(&dave.me);
    for member in [&alice, &bob, &carol, &dave] {
        member.hear(&records).await;
    }
    connect(&mut dave, &mut carol).await;
    dave.wait_for_text("and back").await;
}

#[tokio::test]
async fn a_stranger_waits_for_the_trackers_word_and_is_refused() {
    let (_, [_alice, mut bob]) = room_of(["alice", "bob"]).await;
    let mallory = Member::new("mallory");
    let (hers, his) = dial(&mallory, &bob).await;
    bob.use_link(&his);
    let ask = async || {
        let opened = hers.open_stream(&PeerRequest::Room { id: ROOM }, StreamPriority::Request).await;
        let (mut sender, mut receiver) = opened.unwrap();
        let summary = RoomSummary { digest: RoomDigest::from_bytes([0; 16]), head: None, epoch: 0 };
        sender.send_frame(&RoomStreamRequest::Summary(summary)).await.unwrap();
        match receiver.next_frame::<RoomStreamReply>().await.unwrap() {
            Some(RoomStreamReply::Error { code, .. }) => code,
            reply => panic!("{reply:?}"),
        }
    };
    for _ in 0..3 {
        assert_eq!(ask().await, PeerErrorCode::Busy);
    }
    // However often it asks, the tracker is asked once.
    assert!(matches!(bob.demands.recv().await, Some(RoomSyncRequest::Room(ROOM))));
    assert!(bob.demands.try_recv().is_err());
    bob.rooms.finish_request(ROOM, Some(Instant::now())).await.unwrap();
    assert_eq!(ask().await, PeerErrorCode::Unauthorised);
}

#[tokio::test]
async fn the_stream_of_who_is_kicked_ends() {
    let (mut records, [alice, mut bob]) = room_of(["alice", "bob"]).await;
    let (hers, his) = dial(&alice, &bob).await;
    bob.tasks.spawn(serve_streams(his, bob.rooms.clone()));
    bob.write("before").await;
    let mut tasks = JoinSet::new();
    let rooms = alice.rooms.clone();
    tasks.spawn(async move { run_room_stream(hers, rooms, ROOM, Arc::new(Semaphore::new(1))).await });
    let mut alice = alice;
    alice.wait_for_text("before").await;
    let (user, by) = (alice.me.user.clone(), bob.me.user.clone());
    records.change(RoomChange::Kick { user, key: alice.me.identity.fingerprint(), by, cut: None });
    bob.hear(&records).await;
    let ended = tokio::time::timeout(PATIENCE, tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(ended, Err(StreamError::Reset(PeerErrorCode::Unauthorised))), "{ended:?}");
}

#[tokio::test]
async fn an_author_learns_at_once_that_a_member_pulled_his_words() {
    let (_, [mut alice, mut bob]) = room_of(["alice", "bob"]).await;
    let (hers, his) = dial(&alice, &bob).await;
    // Bob has no stream of his own: he pushes nothing, and compares nothing.
    bob.tasks.spawn(serve_streams(his, bob.rooms.clone()));
    let written = bob.write("before").await;
    let rooms = alice.rooms.clone();
    alice.tasks.spawn(async move {
        let _ = run_room_stream(hers, rooms, ROOM, Arc::new(Semaphore::new(1))).await;
    });
    alice.wait_for_text("before").await;
    let is_delivered = |event: &NodeEvent| match event {
        NodeEvent::Room(news) => match news.kind {
            RoomNewsKind::Delivered { id, count, of } if id == written.message.id => Some((count, of)),
            _ => None,
        },
        _ => None,
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), bob.wait_for("delivery", is_delivered)).await;
    assert_eq!(waited.unwrap(), (1, 1));
}

/// Serves rooms as a member who claims to have messages of `author`, and gives none. With `endless`, it claims ever
/// more authors, and tells that it was asked.
async fn serve_nothing(link: Link, author: Fingerprint, endless: Option<Arc<Notify>>) {
    let (quota, mut streams) = (FrameQuota::for_user(), JoinSet::new());
    while let Ok((mut sender, mut receiver)) = link.accept_stream(&quota).await {
        let endless = endless.clone();
        streams.spawn(async move {
            assert!(matches!(receiver.next_frame().await, Ok(Some(PeerRequest::Room { .. }))));
            while let Ok(Some(request)) = receiver.next_frame::<RoomStreamRequest>().await {
                let digest = RoomDigest::from_bytes([9; 16]);
                let claims = |author| RoomVectorEntry { author, newest: 99, digest };
                let reply = match request {
                    RoomStreamRequest::Summary(_) => {
                        RoomStreamReply::Summary(RoomSummary { digest, head: None, epoch: 1 })
                    }
                    RoomStreamRequest::Records { .. } => RoomStreamReply::Records { lengths: Vec::new(), more: false },
                    RoomStreamRequest::Vector { after } if endless.is_some() => {
                        endless.iter().for_each(|asked| asked.notify_one());
                        let mut next = after.map_or([0; 32], |after| *after.as_bytes());
                        let number = u64::from_be_bytes(*next.first_chunk().unwrap()) + 1;
                        next[..8].copy_from_slice(&number.to_be_bytes());
                        RoomStreamReply::Vector { entries: vec![claims(Fingerprint::from_bytes(next))], more: true }
                    }
                    RoomStreamRequest::Vector { .. } => {
                        RoomStreamReply::Vector { entries: vec![claims(author)], more: false }
                    }
                    RoomStreamRequest::Want { .. } => {
                        RoomStreamReply::Runs { lengths: Vec::new(), leads_to_cut: false }
                    }
                    RoomStreamRequest::New { .. } | RoomStreamRequest::Unknown => RoomStreamReply::Taken {},
                };
                if sender.send_frame(&reply).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[tokio::test]
async fn a_member_who_withholds_keeps_nobody_from_what_others_have() {
    let (_, [mut mallory, mut bob, mut carol]) = room_of(["mallory", "bob", "carol"]).await;
    for number in 0..50 {
        bob.write(&format!("word {number}")).await;
    }
    let (hers, theirs) = dial(&carol, &mallory).await;
    carol.use_link(&hers);
    mallory.tasks.spawn(serve_nothing(theirs, bob.me.identity.fingerprint(), None));
    connect(&mut carol, &mut bob).await;
    carol.wait_for_text("word 49").await;
}

#[tokio::test]
async fn members_who_never_come_to_an_end_have_their_turn_only() {
    let (_, [mut mallory, mut mario, mut bob, mut carol]) = room_of(["mallory", "mario", "bob", "carol"]).await;
    bob.write("a word").await;
    // As many as are pulled at once.
    for liar in [&mut mallory, &mut mario] {
        let (hers, theirs) = dial(&carol, liar).await;
        carol.use_link(&hers);
        let asked = Arc::new(Notify::new());
        liar.tasks.spawn(serve_nothing(theirs, bob.me.identity.fingerprint(), Some(asked.clone())));
        asked.notified().await;
    }
    connect(&mut carol, &mut bob).await;
    carol.wait_for_text("a word").await;
}
