//! A member of a room with a client of its own, which signs whatever it likes.

use std::net::SocketAddr;

use certs::Identity;
use rooms::{MessageDraft, MessageRun, Previous};
use serde_json::{Value, json};
use shared::room::MessageHash;
use shared::{Fingerprint, RoomId};

use super::{Caller, Ending, Session};
use crate::{Lab, poll_until};

/// Bytes of a run before its first message: the key, the count, the length.
const HEAD_BYTES: usize = 44 + 2 + 4;
/// Bytes of a run behind its last message: a flag and the signature.
const PROOF_BYTES: usize = 1 + 64;

/// Somebody with an account, a key and memberships, and no scruples.
pub struct HostileMember {
    user: String,
    identity: Identity,
    session: Session,
}

/// A room that a hostile member is in.
#[derive(Debug, Clone, Copy)]
pub struct JoinedRoom {
    id: RoomId,
    epoch: u64,
}

/// A run of one message, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedRun(Vec<u8>);

impl HostileMember {
    /// Registers `user` at the lab's tracker.
    ///
    /// # Panics
    /// When that fails.
    pub fn register(lab: &Lab, user: &str) -> Self {
        let identity = Caller::register(lab, user);
        let session = Session::open(lab.address(), &identity);
        Self { user: user.to_owned(), identity, session }
    }

    /// Joins a room.
    ///
    /// # Panics
    /// When the tracker refuses.
    pub fn join(&mut self, room: &str) -> JoinedRoom {
        let reply = self.session.demand(&json!({ "action": "ROOM_JOIN", "room": room }));
        let id = reply["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        JoinedRoom { id, epoch: reply["epoch"].as_u64().expect("an epoch") }
    }

    /// Dials a node and says hello.
    ///
    /// # Panics
    /// When the node doesn't welcome it.
    pub fn call(&self, node: SocketAddr) -> Caller {
        let caller = Caller::dial(node, &self.identity);
        let hello = caller.hello(&self.user);
        assert!(matches!(&hello, Ending::Answer(welcome) if welcome["t"] == "welcome"), "{hello:?}");
        caller
    }

    /// Signs a message that follows another one of this member.
    ///
    /// # Panics
    /// When the text is too long.
    pub fn sign(&self, room: JoinedRoom, before: Option<&MessageRun>, text: &str) -> MessageRun {
        let before = before.and_then(|run| run.messages().last());
        let previous = before.map(|message| Previous { hash: message.hash(), depth: message.depth() });
        let draft = MessageDraft {
            room: room.id,
            epoch: room.epoch,
            number: before.map_or(1, |message| message.content().number + 1),
            previous,
            named: Vec::new(),
            time: 1_700_000_000_000,
            body: text.to_owned(),
        };
        draft.sign(&self.identity.ed25519_key_pair().expect("a key that signs")).expect("a message")
    }

    /// Asks a node for the first message of `author`, as any member may.
    ///
    /// # Panics
    /// When the node doesn't give it.
    pub fn capture(&self, node: SocketAddr, room: JoinedRoom, author: &str) -> CapturedRun {
        let caller = self.call(node);
        let want = json!({ "t": "want", "author": author, "locator": Vec::<MessageHash>::new(), "above": 0 });
        let ask = || {
            let reply = caller.exchange_all(&[room.request(), want.clone()])?;
            let (length, rest) = reply.split_first_chunk::<4>()?;
            let (head, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            let head: Value = serde_json::from_slice(head).ok()?;
            (head["t"] == "runs" && !body.is_empty()).then(|| CapturedRun(body.to_vec()))
        };
        poll_until(ask, || format!("{node} gives no message of {author}"))
    }

    /// Returns the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// Signs the text of a captured message, whoever its author is.
    ///
    /// # Panics
    /// When the text is of another length than the captured one.
    pub fn forge(&self, captured: &CapturedRun, text: &str) -> CapturedRun {
        let keys = self.identity.ed25519_key_pair().expect("a key that signs");
        let mut forged = captured.with_text(text).0;
        let end = forged.len() - PROOF_BYTES;
        let signature = rooms::sign(&keys, &forged[HEAD_BYTES..end]);
        forged[end + 1..].copy_from_slice(&signature);
        CapturedRun(forged)
    }
}

impl JoinedRoom {
    /// Returns the frame with which a stream for the room begins.
    pub fn request(self) -> Value {
        json!({ "t": "room", "id": self.id })
    }
}

impl CapturedRun {
    /// Returns the run with another text of the same length.
    ///
    /// # Panics
    /// When the length differs.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Self {
        let mut run = self.0.clone();
        let end = run.len() - PROOF_BYTES;
        let length = u32::from_be_bytes(*run[..end - text.len()].last_chunk().expect("a length"));
        assert_eq!(usize::try_from(length), Ok(text.len()), "the captured text has another length");
        run[end - text.len()..end].copy_from_slice(text.as_bytes());
        Self(run)
    }

    /// Returns the run as one of the key of `other`.
    #[must_use]
    pub fn with_key_of(&self, other: &MessageRun) -> Self {
        let mut run = self.0.clone();
        run[..44].copy_from_slice(&other.encode()[..44]);
        Self(run)
    }
}

impl From<&MessageRun> for CapturedRun {
    fn from(run: &MessageRun) -> Self {
        Self(run.encode())
    }
}

impl Caller {
    /// Passes a message on, unasked.
    pub fn push(&self, room: JoinedRoom, run: &CapturedRun) -> Ending {
        self.ask_all(&[room.request(), new_frame(run)])
    }

    /// The same, until it is taken: the node may not have heard yet who is a member.
    ///
    /// # Panics
    /// When it never is.
    pub fn push_until_taken(&self, room: JoinedRoom, run: &CapturedRun) {
        let is_taken = || matches!(self.push(room, run), Ending::Answer(reply) if reply["t"] == "taken").then_some(());
        poll_until(is_taken, || format!("the last answer is {:?}", self.push(room, run)));
    }

    /// Passes messages on over one stream as fast as they are read, and returns how many were taken.
    ///
    /// # Panics
    /// When the node doesn't answer all of them.
    pub fn push_all(&self, room: JoinedRoom, runs: &[MessageRun]) -> usize {
        let frames: Vec<Value> = runs.iter().map(|run| new_frame(&run.into())).collect();
        self.answers(&room.request(), &frames).iter().filter(|answer| answer["t"] == "taken").count()
    }
}

fn new_frame(run: &CapturedRun) -> Value {
    json!({ "t": "new", "run": run.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
}
