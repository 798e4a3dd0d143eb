//! The registry's rules, without a clock.

mod bounded_replies;
mod events;
mod peer_lists;
mod replicas;

use bytes::Bytes;
use proptest::prelude::*;
use shared::tracker::{
    FilesMode, FindCriterion, HashText, ListPeersReply, ListPeersRequest, SearchWords, SessionToken, SharedFile,
};

use super::*;
use crate::catalogue::{FileListError, SearchPosition};

const ALICE_IP: [u8; 4] = [10, 0, 0, 1];
const BOB_IP: [u8; 4] = [10, 0, 0, 2];

const RULES: PresenceRules = PresenceRules {
    lease: Duration::from_secs(90),
    grace: Duration::from_secs(10),
    legacy_lease: Duration::from_secs(3600),
    legacy_auth: true,
    catalogue_bytes: 1 << 30,
};

fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

fn from_ip(ip: [u8; 4]) -> ClientOrigin {
    ClientOrigin::of(ip.into())
}

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

/// A registry with a clock that only moves when told, and tokens that are numbered.
struct World {
    registry: PresenceRegistry,
    now: Instant,
    tokens: u16,
}

impl World {
    fn new(rules: PresenceRules) -> Self {
        Self { registry: PresenceRegistry::new(rules, 0), now: Instant::now(), tokens: 0 }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.registry.expire(self.now);
    }

    fn arrival(&mut self, user: &str, ip: [u8; 4]) -> AuthenticatedLogin {
        self.tokens += 1;
        let user = name(user);
        let binding = self.registry.binding(&user);
        let mut token = [0; 32];
        token[..2].copy_from_slice(&self.tokens.to_be_bytes());
        let token = SessionToken::from_bytes(token);
        let at = LoginTime::at_unix_ms(i64::from(self.tokens) * 1000);
        AuthenticatedLogin {
            user,
            ip: ip.into(),
            from: from_ip(ip),
            port: Some(4000),
            addresses: Vec::new(),
            token: token.into(),
            binding,
            at,
        }
    }

    fn login(&mut self, user: &str, ip: [u8; 4]) -> SessionId {
        let arrival = self.arrival(user, ip);
        self.registry.login(arrival, self.now).unwrap()
    }

    fn share(&mut self, user: &str, files: &[(&str, &str)]) -> Option<usize> {
        let file = |(name, hash): &(&str, &str)| SharedFile {
            name: name.parse().unwrap(),
            size: 1,
            hash: HashText::new(hash).unwrap(),
        };
        let files = FileList::from_list(files.iter().map(file).collect());
        self.registry.set_files(&name(user), FilesMode::Replace, &files).unwrap()
    }

    fn list_text(&mut self, wanted: &ListPeersRequest) -> String {
        if wanted.is_complete_listing() {
            return String::from_utf8(self.registry.plain_list(from_ip(ALICE_IP)).concat()).unwrap();
        }
        let mut page = self.registry.page(ListView::Full, from_ip(ALICE_IP));
        while self.registry.add_to_page(wanted, &mut page) {}
        String::from_utf8(page.finish().concat()).unwrap()
    }

    fn list(&mut self, wanted: &ListPeersRequest) -> ListPeersReply {
        serde_json::from_str(&format!("{{{}}}", self.list_text(wanted))).unwrap()
    }

    fn users(&mut self, wanted: &ListPeersRequest) -> Vec<String> {
        self.list(wanted).peers.iter().map(|peer| peer.user.to_string()).collect()
    }

    fn everyone(&mut self) -> Vec<String> {
        self.users(&ListPeersRequest::default())
    }

    fn events(&self, after: u64) -> Vec<String> {
        let EventBacklog::Lines { lines, .. } = self.registry.events_after(after, 99) else { panic!("lost") };
        lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    /// The kinds of all events.
    fn event_kinds(&self) -> Vec<String> {
        let kind = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone();
        self.events(0).iter().map(|line| kind(line).as_str().unwrap().to_owned()).collect()
    }

    fn authority(&self, user: &str, claim: &AuthorityClaim<'_>) -> AuthorityDecision {
        self.registry.authority(&name(user), claim)
    }
}

fn from(ip: [u8; 4]) -> AuthorityClaim<'static> {
    let logged_in = &ConnectionUsers::Nobody;
    AuthorityClaim {
        sessions: &[],
        logged_in,
        is_secure: false,
        from: from_ip(ip),
        may_use_address: true,
        token: None,
        has_password: false,
    }
}

#[test]
fn a_bound_presence_lasts_its_lease_after_the_last_word() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    let session = world.login("bob", BOB_IP);
    world.wait(89);
    assert_eq!(world.registry.renew(session, world.now), Ok(RULES.lease));
    world.wait(89);
    assert_eq!(world.everyone(), ["bob"]);
    world.wait(1);
    assert!(world.everyone().is_empty());
    assert_eq!(world.registry.renew(session, world.now), Err(SessionEndReason::Over));
}

#[test]
fn a_dropped_connection_leaves_ten_seconds_to_come_back() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    let old = world.login("bob", BOB_IP);
    world.registry.connection_dropped(old, world.now);
    world.wait(9);
    let new = world.login("bob", BOB_IP);
    world.registry.connection_dropped(old, world.now);
    world.wait(60);
    assert_eq!(world.everyone(), ["bob"]);
    world.registry.connection_dropped(new, world.now);
    world.wait(10);
    assert!(world.everyone().is_empty());
}

#[test]
fn a_drop_never_prolongs_a_lease() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    let session = world.login("bob", BOB_IP);
    world.wait(85);
    world.registry.connection_dropped(session, world.now);
    world.wait(5);
    assert!(world.everyone().is_empty());
}

#[test]
fn a_legacy_presence_outlives_its_connection() {
    let mut world = World::new(RULES);
    let session = world.login("alice", ALICE_IP);
    world.registry.connection_dropped(session, world.now);
    world.wait(3599);
    assert_eq!(world.registry.renew(session, world.now), Ok(RULES.legacy_lease));
    world.wait(3599);
    assert_eq!(world.everyone(), ["alice"]);
    world.wait(1);
    assert!(world.everyone().is_empty());
}

#[test]
fn a_new_login_replaces_the_old_one_and_its_files() {
    let mut world = World::new(RULES);
    let old = world.login("alice", ALICE_IP);
    assert_eq!(world.share("alice", &[("a", "1")]), Some(1));
    let new = world.login("alice", BOB_IP);
    assert_eq!(world.registry.renew(old, world.now), Err(SessionEndReason::Over));
    assert_eq!(world.registry.end_reason(&name("alice")), SessionEndReason::Replaced);
    assert!(world.registry.renew(new, world.now).is_ok());
    let peers = world.list(&ListPeersRequest::default()).peers;
    assert_eq!((peers.len(), peers[0].ip, peers[0].files.len()), (1, BOB_IP.into(), 0));
}

#[test]
fn an_attached_session_never_disturbs_the_presence() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    let present = world.login("bob", BOB_IP);
    let token = SessionToken::from_bytes([99; 32]);
    let attached = world.registry.attach(name("bob"), token, Some(key(1))).unwrap();
    assert_eq!(world.registry.renew(attached, world.now), Err(SessionEndReason::NotPresent));
    let claim = AuthorityClaim { token: Some(token), is_secure: true, ..from(ALICE_IP) };
    assert_eq!(world.authority("bob", &claim), AuthorityDecision::Session(attached));
    world.registry.connection_dropped(attached, world.now);
    assert_eq!(world.authority("bob", &claim), AuthorityDecision::Denied(AuthorityDenial::NotLoggedIn));
    world.wait(89);
    assert!(world.registry.renew(present, world.now).is_ok());
}

#[test]
fn who_may_speak_in_which_order() {
    let mut world = World::new(RULES);
    let token = world.arrival("x", ALICE_IP).token;
    let session = world.login("alice", ALICE_IP);
    let mine = [(name("alice"), session)];
    let (_, good) = world.registry.session(session).unwrap();
    let elsewhere = from(BOB_IP);
    let yes = AuthorityDecision::Session(session);
    assert_eq!(world.authority("alice", &AuthorityClaim { sessions: &mine, has_password: true, ..elsewhere }), yes);
    assert_eq!(world.authority("alice", &AuthorityClaim { token: Some(good), has_password: true, ..elsewhere }), yes);
    let password = AuthorityClaim { token: token.token, has_password: true, ..from(ALICE_IP) };
    assert_eq!(world.authority("alice", &password), AuthorityDecision::IfPasswordIsRight);
    assert_eq!(world.authority("alice", &from(ALICE_IP)), yes);
    assert_eq!(world.authority("alice", &elsewhere), AuthorityDecision::Denied(AuthorityDenial::NotLoggedIn));
    let as_alice = &ConnectionUsers::Only(name("alice"));
    let claim = AuthorityClaim { sessions: &mine, logged_in: as_alice, ..elsewhere };
    assert_eq!(world.authority("bob", &claim), AuthorityDecision::Denied(AuthorityDenial::Forbidden));
    assert_eq!(
        world.authority("bob", &AuthorityClaim { token: Some(good), ..elsewhere }),
        AuthorityDecision::Denied(AuthorityDenial::Forbidden)
    );
    world.login("alice", ALICE_IP);
    assert_eq!(
        world.authority("alice", &AuthorityClaim { sessions: &mine, ..elsewhere }),
        AuthorityDecision::Denied(AuthorityDenial::SessionEnded(SessionEndReason::Replaced))
    );
    world.wait(3600);
    assert_eq!(world.authority("alice", &from(ALICE_IP)), AuthorityDecision::Denied(AuthorityDenial::NotLoggedIn));
}

#[test]
fn behind_one_address_a_connection_speaks_for_whom_it_logged_in_as() {
    let mut world = World::new(RULES);
    let (alice, bob) = (world.login("alice", ALICE_IP), world.login("bob", ALICE_IP));
    let forbidden = AuthorityDecision::Denied(AuthorityDenial::Forbidden);
    let (mut once, mut twice) = (ConnectionUsers::default(), ConnectionUsers::default());
    once.record(&name("alice"));
    once.record(&name("alice"));
    ["alice", "carol"].iter().for_each(|user| twice.record(&name(user)));
    let mine = [(name("alice"), alice)];
    for sessions in [&mine[..], &[]] {
        // Even after its session ended and was forgotten, the connection speaks for no other user.
        let claim = AuthorityClaim { sessions, logged_in: &once, ..from(ALICE_IP) };
        assert_eq!(world.authority("bob", &claim), forbidden);
        assert_eq!(world.authority("alice", &claim), AuthorityDecision::Session(alice));
        let claim = AuthorityClaim { logged_in: &twice, ..claim };
        assert_eq!(world.authority("bob", &claim), forbidden);
    }
    // One connection for each request, as the exercise's clients may use.
    assert_eq!(world.authority("bob", &from(ALICE_IP)), AuthorityDecision::Session(bob));
    // A token or a password is a proof of its own.
    let (_, token) = world.registry.session(bob).unwrap();
    let claim = AuthorityClaim { logged_in: &once, token: Some(token), ..from(ALICE_IP) };
    assert_eq!(world.authority("bob", &claim), AuthorityDecision::Session(bob));
    let claim = AuthorityClaim { logged_in: &once, has_password: true, ..from(ALICE_IP) };
    assert_eq!(world.authority("bob", &claim), AuthorityDecision::IfPasswordIsRight);
}

#[test]
fn the_address_proves_nothing_when_told_so() {
    let mut world = World::new(PresenceRules { legacy_auth: false, ..RULES });
    world.login("alice", ALICE_IP);
    assert_eq!(world.authority("alice", &from(ALICE_IP)), AuthorityDecision::Denied(AuthorityDenial::NotLoggedIn));
    assert!(!world.registry.has_legacy_from(from_ip(ALICE_IP)));
}

#[test]
fn a_bound_account_is_out_of_reach_in_plaintext() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    let session = world.login("bob", BOB_IP);
    let (_, token) = world.registry.session(session).unwrap();
    let tls_required = AuthorityDecision::Denied(AuthorityDenial::TlsRequired);
    assert_eq!(world.authority("bob", &from(BOB_IP)), tls_required);
    assert_eq!(world.authority("bob", &AuthorityClaim { token: Some(token), ..from(BOB_IP) }), tls_required);
    assert_eq!(
        world.authority("bob", &AuthorityClaim { is_secure: true, ..from(BOB_IP) }),
        AuthorityDecision::Denied(AuthorityDenial::NotLoggedIn)
    );
}

#[test]
fn another_binding_ends_what_relied_on_the_old_one() {
    let mut world = World::new(RULES);
    let stale = world.arrival("bob", BOB_IP);
    world.login("bob", BOB_IP);
    world.registry.bind(&name("bob"), key(1));
    assert!(world.everyone().is_empty());
    assert_eq!(world.registry.login(stale, world.now), Err(BindingChanged));
    let session = world.login("bob", BOB_IP);
    world.registry.bind(&name("bob"), key(1));
    assert!(world.registry.session(session).is_some());
    let before = world.registry.last_event();
    world.registry.bind(&name("bob"), key(2));
    assert!(world.registry.session(session).is_none());
    assert_eq!(world.registry.owner(&key(1)), None);
    assert_eq!(world.registry.owner(&key(2)), Some(&name("bob")));
    let key_changed =
        format!(r#"{{"seq":{},"event":"key_changed","user":"bob","fingerprint":"{}"}}"#, before + 2, key(2));
    assert_eq!(world.events(before)[1].trim_end(), key_changed);
}

#[test]
fn events_tell_what_changed_and_nothing_else() {
    let mut world = World::new(RULES);
    world.login("alice", ALICE_IP);
    world.share("alice", &[("a", "1")]);
    world.share("alice", &[("a", "1")]);
    world.registry.logout(&name("alice"));
    world.registry.logout(&name("alice"));
    assert_eq!(world.event_kinds(), ["online", "files", "offline"]);
}

#[test]
fn a_user_at_other_addresses_has_moved_and_did_not_come() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    world.login("bob", BOB_IP);
    world.login("bob", ALICE_IP);
    world.registry.logout(&name("bob"));
    world.login("bob", BOB_IP);
    assert_eq!(world.event_kinds(), ["online", "moved", "offline", "online"]);
}

#[test]
fn a_login_that_changes_nothing_is_no_event_unless_the_user_may_have_been_away() {
    let mut world = World::new(RULES);
    world.registry.bind(&name("bob"), key(1));
    let events_of = |world: &World| world.registry.last_event();
    world.login("bob", BOB_IP);
    let first = events_of(&world);
    world.login("bob", BOB_IP);
    assert_eq!(events_of(&world), first);
    world.share("bob", &[("a", "1")]);
    let session = world.login("bob", BOB_IP);
    assert_eq!(events_of(&world), first + 2, "the files are gone");
    world.registry.connection_dropped(session, world.now);
    world.login("bob", BOB_IP);
    assert_eq!(events_of(&world), first + 3);
    world.login("bob", ALICE_IP);
    assert_eq!(events_of(&world), first + 4);
    world.wait(10);
    world.login("bob", ALICE_IP);
    assert_eq!(events_of(&world), first + 5);
}

#[test]
fn a_catalogue_that_fills_takes_no_more_until_somebody_leaves() {
    let file = |name: &str| SharedFile { name: name.parse().unwrap(), size: 1, hash: HashText::new("1").unwrap() };
    let one = FileList::from_list(vec![file("c")]);
    let mut world = World::new(PresenceRules { catalogue_bytes: 16 * one.bytes(), ..RULES });
    let mut users = (1_u8..).map(|n| {
        let user = format!("u{n}");
        (name(&user), user, [10, 0, 0, n])
    });
    let mut sharing = Vec::new();
    let refused = loop {
        let (user, text, ip) = users.next().unwrap();
        world.login(&text, ip);
        match world.registry.set_files(&user, FilesMode::Replace, &one) {
            Ok(count) => assert_eq!(count, Some(1)),
            Err(why) => {
                assert_eq!(why, FileListError::ShareExceeded);
                break user;
            }
        }
        sharing.push(user);
    };
    assert!((8..16).contains(&sharing.len()), "{}", sharing.len());
    assert!(world.registry.is_present(&refused), "a refused list costs no presence");
    assert_eq!(world.share("u1", &[("d", "1")]), Some(1), "what doesn't grow is taken");
    world.registry.logout(&sharing[1]);
    assert_eq!(world.registry.set_files(&refused, FilesMode::Add, &one), Ok(Some(1)));
}

#[test]
fn lists_that_are_still_being_read_are_counted_until_nobody_has_them() {
    let list = |size: u64| {
        let file = |number| SharedFile {
            name: format!("{number:05}").parse().unwrap(),
            size,
            hash: HashText::new("h").unwrap(),
        };
        FileList::from_list((0..5000).map(file).collect())
    };
    let catalogue_bytes = 8 * list(10).bytes();
    let mut world = World::new(PresenceRules { catalogue_bytes, ..RULES });
    world.login("alice", ALICE_IP);
    let alice = name("alice");
    for _ in 0..3 {
        let mut readers = Vec::new();
        let refused = (10..99).find_map(|size| {
            let changed = world.registry.set_files(&alice, FilesMode::Replace, &list(size));
            readers.push(world.registry.plain_list(from_ip(BOB_IP)));
            changed.err()
        });
        assert_eq!(refused, Some(FileListError::TooManyInFlight));
        let held: usize = readers.iter().flat_map(|parts| parts.iter()).map(Bytes::len).sum();
        assert!((catalogue_bytes / 4..catalogue_bytes / 2).contains(&held), "{held} of {catalogue_bytes}");
        assert_eq!(world.registry.set_files(&alice, FilesMode::Replace, &FileList::default()), Ok(Some(0)));
        drop(readers);
        assert_eq!(world.registry.quota.in_flight_bytes(), 0);
    }
    // Only the origin that doesn't read is refused.
    let page = world.registry.counted_text(vec![0; catalogue_bytes / 4 + 1], from_ip(BOB_IP));
    assert!(!world.registry.can_send_reply(from_ip(BOB_IP)));
    assert!(world.registry.can_send_reply(from_ip(ALICE_IP)));
    drop(page);
    let page = world.registry.counted_text(vec![0; catalogue_bytes / 2 + 1], from_ip(BOB_IP));
    assert!(!world.registry.can_send_reply(from_ip(BOB_IP)));
    drop(page);
    assert!(world.registry.can_send_reply(from_ip(BOB_IP)));
}

#[test]
fn many_accounts_at_one_origin_are_bounded() {
    let mut world = World::new(RULES);
    for n in 0..MAX_PRESENT.per_origin {
        let user = format!("m{n}");
        assert!(world.registry.can_become_present(&name(&user), from_ip(ALICE_IP)));
        world.login(&user, ALICE_IP);
    }
    assert!(!world.registry.can_become_present(&name("one-more"), from_ip(ALICE_IP)));
    assert!(world.registry.can_become_present(&name("m7"), from_ip(ALICE_IP)), "who is there may come again");
    assert!(world.registry.can_become_present(&name("one-more"), from_ip(BOB_IP)));
    world.registry.logout(&name("m7"));
    assert!(world.registry.can_become_present(&name("one-more"), from_ip(ALICE_IP)));
}

#[test]
fn who_changes_all_the_time_is_stored_after_those_who_waited() {
    let mut world = World::new(RULES);
    for user in ["a", "b", "zed"] {
        world.login(user, ALICE_IP);
    }
    let mut stored = Vec::new();
    for round in ["1", "2", "3"] {
        stored.extend(world.registry.take_changes(1, world.now).into_iter().map(|change| change.user.to_string()));
        world.share("a", &[("x", round)]);
        world.share("b", &[("x", round)]);
    }
    assert_eq!(stored, ["a", "b", "zed"]);
    assert_eq!(world.registry.dirty_count(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Login(u8),
    Bind(u8, u8),
    Renew(usize),
    Drop(usize),
    Logout(u8),
    Share(u8, u8),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..5_u8).prop_map(Step::Login),
        (0..5_u8, 0..9_u8).prop_map(|(user, key)| Step::Bind(user, key)),
        any::<usize>().prop_map(Step::Renew),
        any::<usize>().prop_map(Step::Drop),
        (0..5_u8).prop_map(Step::Logout),
        (0..5_u8, 0..4_u8).prop_map(|(user, files)| Step::Share(user, files)),
        (0..2000_u16).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

#[test]
fn of_a_users_sessions_one_may_stay_when_the_others_end() {
    for (kept_is_present, others) in [(true, 1), (false, 1), (true, 0)] {
        let mut world = World::new(RULES);
        world.registry.bind(&name("bob"), key(1));
        let other_arrival = world.arrival("bob", BOB_IP);
        let attached =
            world.registry.attach(other_arrival.user.clone(), other_arrival.token, other_arrival.binding).unwrap();
        let present = world.login("bob", BOB_IP);
        let (kept, token) = if kept_is_present {
            (present, world.registry.session(present).unwrap().1)
        } else {
            (attached, other_arrival.token.token.unwrap())
        };
        if others == 0 {
            world.registry.detach(attached);
        }
        let renewed = world.registry.revoke_other_sessions(&name("bob"), Some(kept)).unwrap();
        assert_eq!(world.registry.session_count(), 1);
        assert_eq!(world.registry.session_of_token(&token), Some((renewed, &name("bob"))));
        assert_eq!(world.registry.is_present(&name("bob")), kept_is_present);
        assert_eq!(world.registry.renew(renewed, world.now).is_ok(), kept_is_present);
        assert!(world.registry.was_revoked_since(&name("bob"), kept));
        assert!(!world.registry.was_revoked_since(&name("bob"), renewed));
        assert!(world.registry.session(kept).is_none());
    }
    let mut world = World::new(RULES);
    let present = world.login("bob", BOB_IP);
    assert_eq!(world.registry.revoke_other_sessions(&name("bob"), None), None);
    assert!(world.registry.session(present).is_none() && !world.registry.is_present(&name("bob")));
}

proptest! {
    #[test]
    fn the_indexes_agree_whatever_happens(steps in steps()) {
        let mut world = World::new(RULES);
        let mut sessions = Vec::new();
        let mut stored: BTreeMap<UserName, SessionToken> = BTreeMap::new();
        let user = |n: u8| format!("u{n}");
        for step in steps {
            let now = world.now;
            match step {
                Step::Login(n) => sessions.push(world.login(&user(n), ALICE_IP)),
                Step::Bind(n, k) if world.registry.owner(&key(k)).is_none() => {
                    world.registry.bind(&name(&user(n)), key(k));
                }
                Step::Bind(..) => {}
                Step::Renew(n) if !sessions.is_empty() => {
                    let _ = world.registry.renew(sessions[n % sessions.len()], now);
                }
                Step::Drop(n) if !sessions.is_empty() => world.registry.connection_dropped(sessions[n % sessions.len()], now),
                Step::Renew(_) | Step::Drop(_) => {}
                Step::Logout(n) => drop(world.registry.logout(&name(&user(n)))),
                Step::Share(n, count) => {
                    let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
                    let files: Vec<_> = names.iter().map(|file| (file.as_str(), "h")).collect();
                    world.share(&user(n), &files);
                }
                Step::Wait(seconds) => world.wait(seconds.into()),
            }
            let registry = &world.registry;
            prop_assert_eq!(registry.present.len(), registry.deadlines.len());
            let bytes: usize = registry.present.values().map(|present| present.files.bytes()).sum();
            prop_assert_eq!(registry.catalogue_bytes(), bytes);
            let legacy = registry.present.values().filter(|present| !present.bound).count();
            prop_assert_eq!(registry.legacy_at.sum(), legacy);
            prop_assert_eq!(registry.has_legacy_from(from_ip(ALICE_IP)), legacy > 0);
            prop_assert_eq!(registry.present.len(), registry.sessions.len());
            prop_assert_eq!(registry.tokens.len(), registry.sessions.len());
            prop_assert_eq!(registry.recent_logins.len(), registry.present.len());
            prop_assert_eq!(registry.owners.len(), registry.bindings.len());
            for (user, present) in &registry.present {
                prop_assert!(registry.deadlines.contains(&(present.queued_deadline, user.clone())));
                prop_assert!(present.queued_deadline <= present.deadline);
                prop_assert!(present.deadline > world.now);
                prop_assert_eq!(&registry.sessions[&present.session].user, user);
                prop_assert_eq!(present.bound, registry.bindings.contains_key(user));
            }
            let changes = world.registry.take_changes(world.registry.dirty_count(), world.now);
            prop_assert_eq!(world.registry.dirty_count(), 0);
            for PresenceChange { user, presence } in changes {
                match presence {
                    Some(presence) => drop(stored.insert(user, presence.token)),
                    None => drop(stored.remove(&user)),
                }
            }
            let sessions = &world.registry.sessions;
            let present = &world.registry.present;
            let tokens: BTreeMap<_, _> =
                present.iter().map(|(user, it)| (user.clone(), sessions[&it.session].token.token.unwrap())).collect();
            prop_assert_eq!(&stored, &tokens);
            let listed = world.list(&ListPeersRequest::default());
            prop_assert_eq!(listed.peers, world.registry.peers());
            prop_assert_eq!(listed.total, world.registry.present_count());
        }
    }
}
