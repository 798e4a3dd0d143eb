//! An authenticated connection between two peers, after hello and welcome.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certs::{ServerPin, fingerprint_of_chain};
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use shared::limits::AGENT_BYTES;
use shared::peer::{Answer, Ask, Code, EMPTY_PAGES, GET_NAMES, Hello, OWNER_ONLY, RAW_NAMES, ZEROS};
use shared::{Fingerprint, UserName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::addresses::without_scope;
pub use super::endpoint::FIRST_SEND_WINDOW;
use super::endpoint::{Call, Endpoint, link_window, open_up, send_window};
use super::frame_receiver::{FrameAllowance, FrameReceiver};
use super::handshake_places::HandshakePlace;
use super::narrow::{self, NarrowPath};
use super::race::first_success;
use super::stream::{Priority, Receiver, Sender, within};
use super::{LinkError, StreamError};

/// For a handshake, and again for hello and welcome; a caller has it once for all of them.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Between one address and the next: the first that answers wins (RFC 8305 calls this happy eyeballs).
const STAGGER: Duration = Duration::from_millis(150);
/// For a caller that is turned away to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// So long nobody answered when the cause begins to be looked for.
const LONG: Duration = Duration::from_secs(2);

/// One link to one peer. Cheap to clone; all clones are the same connection.
#[derive(Debug, Clone)]
pub struct Link {
    connection: quinn::Connection,
    peer: Arc<Peer>,
    dialled: bool,
    /// Files come over it.
    takes_bulk: bool,
    activity: Arc<LinkActivity>,
}

/// What goes on over a link, as far as it says who may have its place and how much may be under way.
#[derive(Debug)]
struct LinkActivity {
    carries_chat: AtomicBool,
    makes_room: AtomicBool,
    /// Of what all links may have under way.
    send_share: AtomicU64,
    /// Since when the other side has no stream open that is served here.
    quiet_since: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Peer {
    user: UserName,
    fingerprint: Fingerprint,
    capabilities: Vec<String>,
}

/// Whom to dial, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whom.
    pub user: UserName,
    /// The key that must be there.
    pub fingerprint: Fingerprint,
    /// Where, the likeliest first.
    pub addresses: Vec<SocketAddr>,
    /// Which of them the tracker itself saw; the others are what was named, and may be those of other machines.
    pub observed: Option<SocketAddr>,
}

/// A caller whose key is proved and who said hello; not yet let in.
#[derive(Debug)]
pub struct Caller {
    connection: quinn::Connection,
    fingerprint: Fingerprint,
    hello: Hello,
    sender: Sender,
    place: HandshakePlace,
    begun: Instant,
    farewells: Arc<Semaphore>,
}

/// A caller of whom it is known who it is.
#[derive(Debug)]
pub struct IdentifiedCaller {
    link: Link,
    sender: Sender,
    farewells: Arc<Semaphore>,
}

/// Said by a side that answers requests and takes messages; a process that only fetches doesn't.
pub const ANSWERS: &str = "answers";

/// What this side says of itself.
fn hello_of(user: UserName, capabilities: &[&str]) -> Hello {
    let capabilities = capabilities
        .iter()
        .chain(&[RAW_NAMES, GET_NAMES, OWNER_ONLY, EMPTY_PAGES])
        .map(|text| (*text).to_owned())
        .collect();
    Hello { user, agent: concat!("vizinho/", env!("CARGO_PKG_VERSION")).into(), capabilities }
}

/// Dials all addresses of `target`, one after another without waiting for failures, and says hello on the first that
/// holds the right key.
///
/// # Errors
/// [`LinkError::OtherKey`] when nobody right answered, and somebody else where the tracker saw the one that was dialled;
/// [`LinkError::NoAnswer`], [`LinkError::TooNarrow`], [`LinkError::Refused`].
pub async fn dial(
    endpoint: &Endpoint,
    target: &Target,
    me: &UserName,
    capabilities: &[&str],
) -> Result<Link, LinkError> {
    let connection = race(endpoint, target).await?;
    let peer = Peer { user: target.user.clone(), fingerprint: target.fingerprint, capabilities: Vec::new() };
    let takes_bulk = !endpoint.accepts();
    let mut link = Link { connection, peer: Arc::new(peer), dialled: true, takes_bulk, activity: Arc::default() };
    let greeted = within(PATIENCE, greet(&link, hello_of(me.clone(), capabilities))).await;
    match greeted {
        Ok(capabilities) => {
            let (user, fingerprint) = (target.user.clone(), target.fingerprint);
            link.peer = Arc::new(Peer { user, fingerprint, capabilities });
            Ok(link)
        }
        Err(error) => {
            link.close(Code::Protocol);
            Err(match error {
                StreamError::Link(error) => error,
                StreamError::Answered { code, message } => LinkError::Refused { code, message },
                StreamError::Timeout(within) => LinkError::NoAnswer { addresses: addresses_of(target, &[]), within },
                other => LinkError::Protocol(other.to_string()),
            })
        }
    }
}

/// Finishes an incoming handshake and reads the hello.
///
/// # Errors
/// [`LinkError`]; the connection is closed.
pub async fn receive(call: Call) -> Result<Caller, LinkError> {
    let Call { connecting, place, begun, farewells } = call;
    let connection = in_time(begun, &place, async { Ok(connecting.await?) }).await?;
    let heard = in_time(begun, &place, async {
        let no_key = || LinkError::Protocol("no certificate".into());
        let fingerprint = peer_fingerprint(&connection).ok_or_else(no_key)?;
        let (hello, sender) = read_hello(&connection).await?;
        Ok((fingerprint, hello, sender))
    });
    match heard.await {
        Ok((fingerprint, hello, sender)) => {
            Ok(Caller { connection, fingerprint, hello, sender, place, begun, farewells })
        }
        Err(error) => {
            connection.close(VarInt::from_u32(Code::Protocol.into()), b"");
            Err(error)
        }
    }
}

/// Waits for something that a caller owes, as long as it has time and its place.
async fn in_time<T>(
    begun: Instant,
    place: &HandshakePlace,
    due: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::select! {
        biased;
        done = timeout_at(begun + PATIENCE, due) => {
            let late = || LinkError::NoAnswer { addresses: "the caller".to_owned(), within: PATIENCE };
            done.unwrap_or_else(|_| Err(late()))
        }
        () = place.lost() => Err(LinkError::Lost("too many callers at once".to_owned())),
    }
}

impl Caller {
    /// Whose key it is.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the caller claims.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Where the call comes from.
    pub fn address(&self) -> SocketAddr {
        without_scope(self.connection.remote_address())
    }

    /// Finds out who it is, as long as it has time.
    ///
    /// # Errors
    /// [`LinkError`] when that takes too long.
    pub async fn identified<T>(&self, identify: impl Future<Output = T>) -> Result<T, LinkError> {
        in_time(self.begun, &self.place, async { Ok(identify.await) }).await
    }

    /// The caller as `user`, which somebody trusted says it is.
    pub fn identified_as(self, user: UserName) -> IdentifiedCaller {
        let Self { connection, fingerprint, hello, sender, farewells, .. } = self;
        let peer = Arc::new(Peer { user, fingerprint, capabilities: known(hello.capabilities) });
        let link = Link { connection, peer, dialled: false, takes_bulk: false, activity: Arc::default() };
        IdentifiedCaller { link, sender, farewells }
    }

    /// Turns the caller away, in words.
    pub async fn refuse(self, code: Code, message: &str) {
        let Self { connection, sender, place, farewells, .. } = self;
        // Others come meanwhile.
        drop(place);
        turn_away(&connection, sender, &farewells, code, message).await;
    }
}

impl IdentifiedCaller {
    /// The link to it.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Lets the caller in; where there are very many links, to do less at once.
    ///
    /// # Errors
    /// [`LinkError`] when it is gone already, or doesn't take it.
    pub async fn welcome(self, me: UserName, is_crowded: bool) -> Result<Link, LinkError> {
        let Self { link, mut sender, .. } = self;
        open_up(&link.connection, is_crowded);
        let welcome = Answer::Welcome(hello_of(me, &[ANSWERS, ZEROS]));
        if let Err(error) = within(PATIENCE, sender.frame(&welcome)).await {
            link.close(Code::Protocol);
            return Err(LinkError::Lost(error.to_string()));
        }
        sender.finish();
        Ok(link)
    }

    /// Turns the caller away, in words.
    pub async fn refuse(self, code: Code, message: &str) {
        turn_away(&self.link.connection, self.sender, &self.farewells, code, message).await;
    }
}

async fn turn_away(
    connection: &quinn::Connection,
    mut sender: Sender,
    farewells: &Semaphore,
    code: Code,
    message: &str,
) {
    if let Ok(_farewell) = farewells.try_acquire() {
        let answer = Answer::Error { code, message: message.into() };
        let told = async {
            if sender.frame(&answer).await.is_ok() {
                sender.finish();
                // The caller closes when it has read why; one that doesn't is closed on.
                connection.closed().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, told).await;
    }
    connection.close(VarInt::from_u32(code.into()), message.as_bytes());
}

impl Default for LinkActivity {
    fn default() -> Self {
        Self {
            carries_chat: AtomicBool::new(false),
            makes_room: AtomicBool::new(false),
            send_share: AtomicU64::new(FIRST_SEND_WINDOW),
            quiet_since: Mutex::new(Some(Instant::now())),
        }
    }
}

impl Link {
    /// Who is on the other side.
    pub fn user(&self) -> &UserName {
        &self.peer.user
    }

    /// The other side's key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.peer.fingerprint
    }

    /// Whether the other side answers requests and takes messages.
    pub fn answers(&self) -> bool {
        // Whoever was called does.
        self.dialled || self.knows(ANSWERS)
    }

    /// Whether the other side said that it has this capability.
    pub fn knows(&self, capability: &str) -> bool {
        self.peer.capabilities.iter().any(|known| known == capability)
    }

    /// Where the other side is now.
    pub fn address(&self) -> SocketAddr {
        without_scope(self.connection.remote_address())
    }

    /// The address of this machine that it uses, as far as the system says.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.connection.local_ip().map(|ip| ip.to_canonical())
    }

    /// Whether it was dialled from here.
    pub const fn is_dialled(&self) -> bool {
        self.dialled
    }

    /// Opens a stream by saying what it is for.
    ///
    /// # Errors
    /// [`StreamError`] when the link is gone.
    pub async fn open(&self, first: &Ask, priority: Priority) -> Result<(Sender, Receiver), StreamError> {
        if matches!(first, Ask::Chat {}) {
            self.note_chat();
        }
        let (send, receive) = self.connection.open_bi().await?;
        let (mut sender, receiver) = (Sender::new(send), Receiver::new(receive));
        sender.set_priority(priority);
        sender.frame(first).await?;
        Ok((sender, receiver))
    }

    /// The next stream that the other side opens; its frames count towards `allowance`.
    ///
    /// # Errors
    /// [`LinkError`] when the link is gone.
    pub async fn accept(&self, allowance: &FrameAllowance) -> Result<(Sender, FrameReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await?;
        Ok((Sender::new(send), FrameReceiver::new(receive, allowance.clone())))
    }

    /// Notes that a conversation goes over it.
    pub fn note_chat(&self) {
        self.activity.carries_chat.store(true, Ordering::Relaxed);
    }

    /// Whether a conversation goes over it, or went.
    pub fn carries_chat(&self) -> bool {
        self.activity.carries_chat.load(Ordering::Relaxed)
    }

    /// Notes whether streams are served over it.
    pub fn note_streams(&self, is_served: bool) {
        let mut quiet_since = self.activity.quiet_since.lock().unwrap_or_else(PoisonError::into_inner);
        if is_served {
            *quiet_since = None;
        } else {
            quiet_since.get_or_insert_with(Instant::now);
        }
    }

    /// Since when no stream is served over it; `None` while one is.
    pub fn quiet_since(&self) -> Option<Instant> {
        *self.activity.quiet_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, one answer, on a stream of its own.
    ///
    /// # Errors
    /// [`StreamError`], a time-out of a few seconds included.
    pub async fn ask(&self, ask: &Ask) -> Result<Answer, StreamError> {
        within(PATIENCE, async {
            let (sender, mut receiver) = self.open(ask, Priority::Request).await?;
            sender.finish();
            receiver.answer().await
        })
        .await
    }

    /// From now on, has little under way in either direction, so that others on the same path don't queue behind it; or
    /// as much as fits again.
    pub fn make_room(&self, room: bool) {
        self.activity.makes_room.store(room, Ordering::Relaxed);
        self.set_send_window();
        if self.takes_bulk {
            self.connection.set_receive_window(link_window(room).into());
        }
    }

    /// From now on, has no more than this under way to the other side.
    pub fn share_send_window(&self, share: u64) {
        if self.activity.send_share.swap(share, Ordering::Relaxed) != share {
            self.set_send_window();
        }
    }

    fn set_send_window(&self) {
        let share = self.activity.send_share.load(Ordering::Relaxed);
        self.connection.set_send_window(send_window(self.activity.makes_room.load(Ordering::Relaxed)).min(share));
    }

    /// Ends the link. What was sent and not yet received is lost: only the last receiver may call this.
    pub fn close(&self, code: Code) {
        self.connection.close(VarInt::from_u32(code.into()), b"");
    }

    /// Waits for the link's end and tells why.
    pub async fn closed(&self) -> LinkError {
        self.connection.closed().await.into()
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Whether both are the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        self.connection.stable_id() == other.connection.stable_id()
    }
}

async fn race(endpoint: &Endpoint, target: &Target) -> Result<quinn::Connection, LinkError> {
    if let Some(narrow) = narrow::here(&target.addresses) {
        return Err(LinkError::TooNarrow(narrow));
    }
    let attempts = first_success(&target.addresses, STAGGER, |address| {
        let (endpoint, expected) = (endpoint.clone(), target.fingerprint);
        async move { attempt(&endpoint, address, expected).await }
    });
    let mut narrow = None;
    // Beside the attempts: whoever waited for them has waited long enough.
    let look_for_the_cause = async {
        tokio::time::sleep(LONG).await;
        narrow = narrow::on_the_way(target.observed).await;
        std::future::pending().await
    };
    let raced = tokio::select! {
        raced = attempts => raced,
        never = look_for_the_cause => never,
    };
    raced.map_err(|failures| verdict(target, endpoint.identity().fingerprint(), failures, narrow))
}

async fn attempt(
    endpoint: &Endpoint,
    address: SocketAddr,
    expected: Fingerprint,
) -> Result<quinn::Connection, LinkError> {
    let pin = ServerPin::exactly(expected);
    let connected = tokio::time::timeout(PATIENCE, endpoint.connect(address, &pin)?).await;
    match (connected, pin.mismatch()) {
        (Ok(Ok(connection)), _) => Ok(connection),
        (_, Some(presented)) => Err(LinkError::OtherKey { address, expected, presented }),
        (Ok(Err(error)), None) => Err(error.into()),
        (Err(_), None) => Err(LinkError::NoAnswer { addresses: address.to_string(), within: PATIENCE }),
    }
}

/// What the failures at all its addresses say of the one that was dialled; `own` is our own key.
fn verdict(
    target: &Target,
    own: Fingerprint,
    failures: Vec<(SocketAddr, LinkError)>,
    narrow: Option<NarrowPath>,
) -> LinkError {
    let mut told: Option<LinkError> = None;
    let mut elsewhere = Vec::new();
    for (address, failure) in failures {
        match failure {
            // This machine, or the machine of somebody who has an address that was only named: it says nothing about the
            // one that was dialled.
            LinkError::OtherKey { presented, .. } if presented == own || Some(address) != target.observed => {
                elsewhere.push(address);
            }
            failure if told.as_ref().is_none_or(|told| weight(&failure) > weight(told)) => told = Some(failure),
            _ => {}
        }
    }
    if let Some(told) = told.filter(|told| weight(told) > 1) {
        return told;
    }
    match narrow {
        Some(narrow) => LinkError::TooNarrow(narrow),
        None => no_answer(target, &elsewhere),
    }
}

/// Which of several failures tells most about the one that was dialled.
const fn weight(error: &LinkError) -> u8 {
    match error {
        LinkError::OtherKey { .. } => 3,
        LinkError::Refused { .. } | LinkError::Protocol(_) => 2,
        LinkError::NoAnswer { .. } | LinkError::TooNarrow(_) | LinkError::Lost(_) => 1,
        LinkError::Local(_) => 0,
    }
}

/// Nobody answered, or somebody else at these addresses.
fn no_answer(target: &Target, elsewhere: &[SocketAddr]) -> LinkError {
    let mut addresses = addresses_of(target, elsewhere);
    if !elsewhere.is_empty() {
        let texts: Vec<_> = elsewhere.iter().map(ToString::to_string).collect();
        addresses = format!("{addresses} (somebody else has {})", texts.join(", "));
    }
    LinkError::NoAnswer { addresses, within: PATIENCE }
}

/// The addresses at which nobody answered, for people.
fn addresses_of(target: &Target, elsewhere: &[SocketAddr]) -> String {
    let silent = target.addresses.iter().filter(|address| !elsewhere.contains(address));
    let texts: Vec<_> = silent.map(ToString::to_string).collect();
    if texts.is_empty() { format!("{} (no known address)", target.user) } else { texts.join(", ") }
}

/// Says hello; tells what the other side can do.
async fn greet(link: &Link, hello: Hello) -> Result<Vec<String>, StreamError> {
    let (sender, mut receiver) = link.open(&Ask::Hello(hello), Priority::Request).await?;
    sender.finish();
    match receiver.answer().await? {
        Answer::Welcome(welcome) => Ok(known(welcome.capabilities)),
        _ => Err(StreamError::Unexpected("a welcome was due")),
    }
}

/// Of the other side's capabilities, those that mean something here: it may say as many as fit a frame.
fn known(mut capabilities: Vec<String>) -> Vec<String> {
    capabilities
        .retain(|text| [ANSWERS, EMPTY_PAGES, GET_NAMES, OWNER_ONLY, RAW_NAMES, ZEROS].contains(&text.as_str()));
    capabilities.sort_unstable();
    capabilities.dedup();
    capabilities
}

async fn read_hello(connection: &quinn::Connection) -> Result<(Hello, Sender), LinkError> {
    let (send, receive) = connection.accept_bi().await?;
    let first = FrameReceiver::new(receive, FrameAllowance::of_stranger()).frame().await;
    match first.map_err(|error| LinkError::Protocol(error.to_string()))? {
        Some(Ask::Hello(hello)) if hello.agent.len() <= AGENT_BYTES => Ok((hello, Sender::new(send))),
        _ => Err(LinkError::Protocol("a hello was due".to_owned())),
    }
}

fn peer_fingerprint(connection: &quinn::Connection) -> Option<Fingerprint> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    fingerprint_of_chain(Some(&chain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = "10.0.0.2:4";
    const NAMED: &str = "172.17.0.1:4";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn key(byte: u8) -> Fingerprint {
        Fingerprint::from_bytes([byte; 32])
    }

    fn target() -> Target {
        let (user, fingerprint) = ("bob".parse().unwrap(), key(1));
        Target { user, fingerprint, addresses: vec![at(OBSERVED), at(NAMED)], observed: Some(at(OBSERVED)) }
    }

    fn silent(text: &str) -> (SocketAddr, LinkError) {
        (at(text), LinkError::NoAnswer { addresses: text.to_owned(), within: PATIENCE })
    }

    fn other(text: &str, presented: Fingerprint) -> (SocketAddr, LinkError) {
        (at(text), LinkError::OtherKey { address: at(text), expected: key(1), presented })
    }

    fn told(failures: Vec<(SocketAddr, LinkError)>) -> LinkError {
        verdict(&target(), key(9), failures, None)
    }

    #[test]
    fn somebody_else_at_a_named_address_is_no_answer() {
        let error = told(vec![silent(OBSERVED), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
        assert_eq!(error.to_string(), "no answer from 10.0.0.2:4 (somebody else has 172.17.0.1:4) within 5 s");
    }

    #[test]
    fn this_machine_is_nobody() {
        let error = told(vec![other(OBSERVED, key(9)), silent(NAMED)]);
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
    }

    #[test]
    fn somebody_else_where_the_tracker_saw_them_is_told() {
        for failures in [
            vec![other(OBSERVED, key(2)), other(NAMED, key(3))],
            vec![silent(NAMED), other(OBSERVED, key(2))],
            vec![(at(NAMED), LinkError::Protocol("x".to_owned())), other(OBSERVED, key(2))],
        ] {
            let error = told(failures);
            assert!(matches!(error, LinkError::OtherKey { presented, .. } if presented == key(2)), "{error}");
        }
    }

    #[test]
    fn what_was_said_counts_more_than_silence() {
        let refused = || LinkError::Refused { code: Code::Busy, message: "later".into() };
        let error = told(vec![(at(OBSERVED), refused()), silent(NAMED), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::Refused { .. }), "{error}");
        let narrow = NarrowPath::OnTheWay { ip: at(OBSERVED).ip(), needed: 1228 };
        let error = verdict(&target(), key(9), vec![silent(OBSERVED), silent(NAMED)], Some(narrow.clone()));
        assert!(matches!(error, LinkError::TooNarrow(told) if told == narrow));
        let error = verdict(&target(), key(9), vec![(at(OBSERVED), refused())], Some(narrow));
        assert!(matches!(error, LinkError::Refused { .. }), "{error}");
    }
}
