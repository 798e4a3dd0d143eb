//! Registries of several trackers: the same log makes the same state.

use std::collections::BTreeMap;

use super::*;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// The registries of three trackers.
struct Replicas {
    all: Vec<PresenceRegistry>,
    now: Instant,
    log: u64,
}

impl Replicas {
    fn new() -> Self {
        let all = NODES.map(|node| {
            let mut registry = PresenceRegistry::new(RULES, 0);
            registry.replicate(node);
            registry
        });
        let mut replicas = Self { all: all.into(), now: Instant::now(), log: 0 };
        replicas.wait(0);
        replicas
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let now = self.now;
        self.all.iter_mut().for_each(|registry| registry.expire(now));
    }

    /// Writes a change as this tracker, if it has a place in the log. Returns whether it had.
    fn write(&mut self, by: usize, change: &ReplicatedChange) -> bool {
        let before = change.user().and_then(|user| self.all[by].files(user).cloned());
        let files = match change {
            ReplicatedChange::Files { mode, files, .. } => {
                before.and_then(|list| list.with_changes(*mode, &FileList::from_list(files.clone())).unwrap())
            }
            _ => None,
        };
        let details =
            LocalDetails { began: self.all[by].newest_session(), files: files.clone(), ..LocalDetails::default() };
        if self.all[by].admit(change, &details).is_err() {
            return false;
        }
        // As a text: that is how the others get it.
        let text = serde_json::to_string(change).unwrap();
        for registry in &mut self.all {
            let details = LocalDetails { files: files.clone(), ..LocalDetails::default() };
            registry.apply(serde_json::from_str(&text).unwrap(), NODES[by], details, self.now);
        }
        true
    }

    /// Gives the events that are due their numbers, on all trackers.
    fn publish(&mut self) -> Vec<(usize, TrackerEventKind)> {
        let mut told = Vec::new();
        for by in 0..self.all.len() {
            let events = self.all[by].take_outgoing_events();
            let first = self.log + 1;
            self.log += events.len() as u64;
            self.all.iter_mut().for_each(|registry| registry.append_events(first, events.clone()));
            told.extend(events.into_iter().map(|event| (by, event)));
        }
        told
    }

    fn login(&mut self, by: usize, user: &str) -> bool {
        let binding = self.all[by].binding(&name(user));
        let arrival = AuthenticatedLogin {
            user: name(user),
            ip: ALICE_IP.into(),
            from: from_ip(ALICE_IP),
            port: Some(4000),
            addresses: Vec::new(),
            token: SessionToken::from_bytes(rand::random()).into(),
            binding,
            at: LoginTime::at_unix_ms(0),
        };
        self.write(by, &arrival.as_change(None))
    }

    fn token(&self, user: &str) -> Option<TokenHash> {
        self.all[0].presence_token(&name(user))
    }
}

#[test]
fn a_lease_ends_where_it_is_held_and_a_request_elsewhere_moves_it() {
    let mut replicas = Replicas::new();
    assert!(replicas.write(0, &ReplicatedChange::Bound { user: name("bob"), key: key(1), former: None }));
    assert!(replicas.login(0, "bob"));
    let told = replicas.publish();
    assert_eq!(told.len(), 1, "one tracker tells of it: {told:?}");
    assert_eq!(told[0].0, 0);
    // Half of the lease is over: another tracker takes it at the next request there.
    replicas.wait(70);
    let session = replicas.all[1].presence_session(&name("bob")).unwrap();
    assert_eq!(replicas.all[1].renew(session, replicas.now), Ok(Duration::from_secs(20)));
    let wanted = replicas.all[1].take_proposals();
    assert_eq!(wanted.len(), 1);
    assert!(replicas.write(1, &wanted[0]));
    replicas.wait(30);
    assert!(replicas.all.iter_mut().all(|registry| registry.take_proposals().is_empty()), "it is held elsewhere now");
    // A tracker whose users are taken over ends none of them.
    assert!(replicas.write(2, &ReplicatedChange::Adopted { node: NODES[1] }));
    replicas.wait(9);
    assert!(replicas.all.iter_mut().all(|registry| registry.take_proposals().is_empty()));
    replicas.wait(2);
    let ends: Vec<_> = replicas.all.iter_mut().map(PresenceRegistry::take_proposals).collect();
    assert_eq!(ends.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1]);
    let session = replicas.all[2].presence_session(&name("bob")).unwrap();
    assert_eq!(replicas.all[2].renew(session, replicas.now), Err(SessionEndReason::Over), "its end is on the way");
    assert!(replicas.all.iter().all(|registry| registry.is_present(&name("bob"))));
    assert!(replicas.write(2, &ends[2][0]));
    assert!(!replicas.write(0, &ends[2][0]), "once");
    assert!(replicas.all.iter().all(|registry| !registry.is_present(&name("bob"))));
    let told = replicas.publish();
    assert_eq!(told, [(2, TrackerEventKind::Offline { user: name("bob") })]);
    let lines = replicas.all.iter().map(|registry| registry.events_after(0, 9)).collect::<Vec<_>>();
    assert!(lines.windows(2).all(|two| two[0] == two[1]) && matches!(&lines[0], EventBacklog::Lines { seen: 2, .. }));
}

#[test]
fn events_that_a_dead_tracker_owed_are_told_by_another() {
    let mut replicas = Replicas::new();
    assert!(replicas.login(0, "bob"));
    drop(replicas.all[0].take_outgoing_events());
    replicas.all[1].tell_state(&name("bob"));
    replicas.all[1].tell_state(&name("carol"));
    let told: Vec<_> = replicas.publish().into_iter().map(|(_, event)| event).collect();
    assert!(matches!(&told[0], TrackerEventKind::Moved(location) if location.user == name("bob")), "{told:?}");
    assert_eq!(
        told[1..],
        [TrackerEventKind::Files { user: name("bob"), count: 0 }, TrackerEventKind::Offline { user: name("carol") }]
    );
}

#[test]
fn a_login_whose_account_was_changed_meanwhile_has_no_place() {
    let mut replicas = Replicas::new();
    let began = replicas.all[0].newest_session();
    let arrival = AuthenticatedLogin {
        user: name("bob"),
        ip: ALICE_IP.into(),
        from: from_ip(ALICE_IP),
        port: None,
        addresses: Vec::new(),
        token: SessionToken::from_bytes([1; 32]).into(),
        binding: None,
        at: LoginTime::at_unix_ms(0),
    };
    let login = arrival.as_change(None);
    // The password was changed at another tracker while this one checked it.
    assert!(replicas.write(1, &ReplicatedChange::Revoked { user: name("bob"), kept: None }));
    let details = LocalDetails { began, ..LocalDetails::default() };
    assert_eq!(replicas.all[0].admit(&login, &details), Err(ChangeConflict::Account));
    assert!(replicas.write(0, &login));
    let token = replicas.token("bob").unwrap();
    assert!(replicas.write(2, &ReplicatedChange::Revoked { user: name("bob"), kept: Some(token) }));
    assert!(replicas.all.iter().all(|registry| registry.presence_token(&name("bob")) == Some(token)), "it goes on");
    assert!(replicas.write(2, &ReplicatedChange::Bound { user: name("bob"), key: key(1), former: None }));
    assert!(replicas.all.iter().all(|registry| !registry.is_present(&name("bob"))));
    assert_eq!(replicas.all[0].admit(&login, &LocalDetails::default()), Err(ChangeConflict::Account));
}

proptest! {
    /// Whatever happens on three trackers in whatever order, all have the same users with the same files, no lease is
    /// held twice, and the events tell of everybody.
    #[test]
    fn the_same_log_makes_the_same_state(steps in prop::collection::vec((0_usize..3, 0_u8..8, 0_usize..4, 0_u64..40), 1..60)) {
        let mut replicas = Replicas::new();
        let (mut heard, mut held) = (BTreeMap::new(), BTreeMap::new());
        for (by, kind, who, seconds) in steps {
            let user = ["alice", "bob", "carol", "dave"][who];
            let token = replicas.token(user);
            match (kind, token) {
                (0..=2, _) => drop(replicas.login(by, user)),
                (3, Some(token)) => drop(replicas.write(by, &ReplicatedChange::End { user: name(user), token })),
                (4, Some(token)) => {
                    let file = SharedFile { name: "f".parse().unwrap(), size: seconds, hash: HashText::new("h").unwrap() };
                    let mode = if seconds % 2 == 0 { FilesMode::Add } else { FilesMode::Remove };
                    let files = ReplicatedChange::Files { user: name(user), token, mode, files: vec![file] };
                    replicas.write(by, &files);
                }
                (5, Some(token)) => drop(replicas.write(by, &ReplicatedChange::Held { user: name(user), token })),
                (6, _) => drop(replicas.write(by, &ReplicatedChange::Adopted { node: NODES[(by + 1) % 3] })),
                (7, _) => drop(replicas.write(by, &ReplicatedChange::Unbound { user: name(user) })),
                _ => replicas.wait(seconds),
            }
            for by in 0..3 {
                for change in replicas.all[by].take_proposals() {
                    replicas.write(by, &change);
                }
            }
            let lists: Vec<_> = replicas.all.iter().map(PresenceRegistry::peers).collect();
            prop_assert_eq!(&lists[0], &lists[1]);
            prop_assert_eq!(&lists[0], &lists[2]);
            held.clear();
            for registry in &replicas.all {
                for (user, present) in &registry.present {
                    if registry.holds(present) {
                        prop_assert!(held.insert(user.clone(), present.node).is_none(), "{} is held twice", user);
                    }
                }
            }
            prop_assert_eq!(held.len(), lists[0].len());
        }
        // Until nothing is held back any more: then subscribers know how everybody is.
        for _ in 0..40 {
            for (_, event) in replicas.publish() {
                match event {
                    TrackerEventKind::Online(location) | TrackerEventKind::Moved(location) => drop(heard.insert(location.user, true)),
                    TrackerEventKind::Offline { user } => drop(heard.insert(user, false)),
                    _ => {}
                }
            }
            replicas.wait(0);
            replicas.now += Duration::from_secs(10);
            let now = replicas.now;
            replicas.all.iter_mut().for_each(|registry| registry.events.tick(now));
        }
        let present: Vec<_> = replicas.all[0].present.keys().cloned().collect();
        let online: Vec<_> = heard.into_iter().filter(|(_, is_online)| *is_online).map(|(user, _)| user).collect();
        prop_assert_eq!(online, present);
    }
}
