//! The one way to a node: what its two implementations answer, in this process and over the local socket.

use std::sync::Arc;
use std::time::Duration;

use peer::engine::chat::{self, HistoryQuery};
use peer::engine::follow::run_follows;
use peer::engine::node::{NodeApi, NodeEvents, NodeHandle, NodeLifetime, NodeNeed};
use peer::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};
use peer::engine::send_intake::accept_unasked;
use peer::engine::tracker_account::PasswordChange;
use peer::engine::tracker_key::TrackerKeyPolicy;
use peer::engine::wish_fetch::fetch_wished;
use peer::engine::{LocalUser, NodeHandlers};
use peer::profile::{Access, Profile};
use shared::UserName;
use shared::peer::MessageId;
use shared::tracker::Password;
use tests::{Lab, User};

const ONLINE: NodeNeed = NodeNeed::Online(NodeLifetime::View);

fn local_user(user: &User<'_>) -> LocalUser {
    let profile = Profile::open_existing(user.home(), Access::Use).unwrap().expect("a profile");
    let handlers = NodeHandlers { accept_send: accept_unasked, fetch_wish: fetch_wished, run_follows };
    LocalUser::load(profile, None, TrackerKeyPolicy::Ask, Arc::new(|_| {}), handlers).unwrap()
}

fn name(user: &str) -> UserName {
    user.parse().unwrap()
}

/// The acts that need links or the store alone, each with its outcome in words.
async fn acts_without_presence(node: &NodeApi) -> Vec<String> {
    let (bob, alice) = (name("bob"), name("alice"));
    let wrong = || PasswordChange { current: Password::new("wrong").unwrap(), new: Password::new("new").unwrap() };
    let deliver = async |to: &str, now| {
        let report = node.deliver(&name(to), chat::compose("to be delivered").unwrap(), now).await;
        report
            .map(|report| (report.message.text, report.state, report.why))
            .map_err(|why| (why.kind(), why.to_string()))
    };
    let texts =
        |messages: Vec<chat::StoredMessage>| messages.into_iter().map(|stored| stored.message.text).collect::<Vec<_>>();
    vec![
        format!("to bob: {:?}", deliver("bob", false).await),
        format!("to bob, now: {:?}", deliver("bob", true).await),
        format!("to nobody: {:?}", deliver("nobody", false).await),
        format!("to nobody, now: {:?}", deliver("nobody", true).await),
        format!("to herself: {:?}", deliver("alice", false).await),
        format!("to carol, who is offline: {:?}", deliver("carol", true).await),
        format!(
            "an offer that isn't: {:?}",
            node.deliver_offer(&bob, &"none".parse().unwrap()).await.map_err(|why| why.to_string())
        ),
        format!("no such message: {:?}", node.cancel(&bob, MessageId::from_bytes([1; 16])).await.unwrap()),
        format!("block: {:?}", node.block(&name("mallory")).await.unwrap()),
        format!("block again: {:?}", node.block(&name("mallory")).await.unwrap()),
        format!("unblock: {:?}", node.unblock(&name("mallory")).await.unwrap()),
        format!("unblock again: {:?}", node.unblock(&name("mallory")).await.unwrap()),
        format!("accept: {:?}", node.accept(&bob).await.unwrap()),
        format!("read: {:?}", node.mark_read(&bob, None).await.unwrap()),
        format!("history: {:?}", texts(node.history(HistoryQuery::with(&bob, 2)).await.unwrap())),
        format!("with herself: {:?}", texts(node.history(HistoryQuery::with(&alice, 2)).await.unwrap())),
        format!("wake: {:?}", node.wake(Some(&bob)).await.unwrap()),
        format!("passwd: {:?}", node.change_password(wrong()).await.map_err(|why| why.to_string())),
    ]
}

/// The acts of a node that is present, each with its outcome and the events that it causes.
async fn acts_of_presence(node: &NodeApi) -> Vec<String> {
    let bob = name("bob");
    let mut events = node.watch(Some(&bob)).await.unwrap();
    let stored = node.queue_message(&bob, chat::compose("queued").unwrap()).await.unwrap();
    let id = stored.message.id;
    let queued = next_matching(&mut events, |event| match event {
        NodeEvent::MessageQueued { message, seq, .. } => (message.id == id).then_some(seq),
        NodeEvent::MessageStateChanged { .. } => panic!("delivered before it is queued"),
        _ => None,
    });
    assert_eq!(queued.await, stored.seq);
    let delivered = next_matching(&mut events, |event| match event {
        NodeEvent::MessageStateChanged { id: settled, state, .. } => (settled == id).then_some(state),
        _ => None,
    });
    let transfer = FileTransfer {
        peer: bob.clone(),
        name: "film.mkv".parse().unwrap(),
        direction: TransferDirection::Down,
        bytes: 11,
        size: 10,
        state: TransferState::Done,
    };
    let mut acts = vec![format!("queued, then {:?}", delivered.await)];
    node.report_transfers(vec![transfer]).await.unwrap();
    let transferred = next_matching(&mut events, |event| match event {
        NodeEvent::Transfer(transfer) => Some(transfer.bytes),
        _ => None,
    });
    acts.push(format!("transferred: {}", transferred.await));
    let users = node.users().await.unwrap();
    let users = users.iter().map(|user| (user.user.as_str(), user.online, user.unread, user.waiting, user.blocked));
    acts.push(format!("users: {:?}", users.collect::<Vec<_>>()));
    acts.push(format!("flush: {:?}", node.flush(&bob).await.unwrap()));
    acts.push(format!("typing: {:?}", node.typing(&bob).await.unwrap()));
    let no_offer = node.queue_offer(&bob, &"none".parse().unwrap()).await;
    acts.push(format!("an offer that isn't: {:?}", no_offer.map_err(|why| why.to_string())));
    acts
}

async fn next_matching<T>(events: &mut NodeEvents, mut pick: impl FnMut(NodeEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the node runs");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the event comes")
}

#[tokio::test]
async fn both_implementations_answer_alike() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    let (_bob_serves, _) = (bob.serve(), carol.accept(["alice"]));
    bob.accept(["alice"]);
    let me = local_user(&alice);
    let embedded = NodeHandle::open(&me, ONLINE).await.unwrap();
    let attached = NodeHandle::open(&me, ONLINE).await.unwrap();
    assert!(embedded.owns_node() && !attached.owns_node());
    // Once before, so that both meet the same people and records.
    acts_without_presence(&attached).await;
    assert_eq!(acts_without_presence(&embedded).await, acts_without_presence(&attached).await);
    assert_eq!(acts_of_presence(&embedded).await, acts_of_presence(&attached).await);
    let present = acts_without_presence(&attached).await;
    let mut watched = attached.watch(None).await.unwrap();
    embedded.close().await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_secs(20), async { while watched.next().await.is_some() {} }).await.is_ok()
    );

    let transient = NodeHandle::open(&me, NodeNeed::Links).await.unwrap();
    assert!(transient.owns_node());
    assert_eq!(acts_without_presence(&transient).await, present);
    transient.close().await.unwrap();
}

#[tokio::test]
async fn several_nodes_live_in_one_process() {
    let lab = Lab::start();
    let [alice, bob] = ["alice", "bob"].map(|name| lab.user(name));
    bob.accept(["alice"]);
    let (alice, bob) = (local_user(&alice), local_user(&bob));
    let hers = NodeHandle::open(&alice, ONLINE).await.unwrap();
    let his = NodeHandle::open(&bob, ONLINE).await.unwrap();
    assert!(hers.owns_node() && his.owns_node());
    let mut heard = his.watch(None).await.unwrap();
    hers.deliver(&bob.user, chat::compose("hello").unwrap(), true).await.unwrap();
    let text = next_matching(&mut heard, |event| match event {
        NodeEvent::Received { message, .. } => Some(message.text),
        _ => None,
    });
    assert_eq!(text.await, "hello");
    hers.close().await.unwrap();
    his.close().await.unwrap();
}

#[tokio::test]
async fn an_accepted_message_outlives_whoever_sent_it() {
    let lab = Lab::start();
    let [alice, bob] = ["alice", "bob"].map(|name| lab.user(name));
    let served = bob.serve();
    alice.peer(["trust", "bob"]).run().exits(0);
    served.kill();
    let (me, bob) = (local_user(&alice), name("bob"));
    let embedded = NodeHandle::open(&me, ONLINE).await.unwrap();
    let attached = NodeHandle::open(&me, ONLINE).await.unwrap();
    for (count, node) in [(1, &*embedded), (2, &*attached)] {
        let mut events = embedded.watch(None).await.unwrap();
        let message = chat::compose("stays").unwrap();
        let mut delivering = Box::pin(node.deliver(&bob, message, false));
        tokio::select! {
            _ = &mut delivering => {}
            () = next_matching(&mut events, |event| matches!(event, NodeEvent::MessageQueued { .. }).then_some(())) => {}
        }
        drop(delivering);
        assert_eq!(me.profile.outbox().unwrap().len(), count);
    }
    drop(attached);
    embedded.close().await.unwrap();
}
