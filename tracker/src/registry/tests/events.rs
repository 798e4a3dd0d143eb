//! Events: their pace, their numbers, and those who read behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use shared::UserName;
use shared::tracker::{TrackerEventKind, UserLocation};

use crate::rate_limits::ClientOrigin;
use crate::registry::event_log::{EventBacklog, KEPT_EVENTS};
use crate::registry::event_pacer::{ORIGIN_PACE, PRESENCE_PACE, USER_PACE};
use crate::registry::event_publisher::EventPublisher;

fn log(events: u64) -> EventPublisher {
    let mut log = EventPublisher::new(1000);
    for _ in 0..events {
        log.push(Some(address(1)), TrackerEventKind::Offline { user: "bob".parse().unwrap() });
    }
    log
}

fn address(n: u8) -> ClientOrigin {
    ClientOrigin::of([10, 0, 0, n].into())
}

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn location(name: &str) -> UserLocation {
    let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
    UserLocation { user: user(name), ip, port: None, addresses, fingerprint: None }
}

fn online(name: &str) -> TrackerEventKind {
    TrackerEventKind::Online(location(name))
}

fn offline(name: &str) -> TrackerEventKind {
    TrackerEventKind::Offline { user: user(name) }
}

#[test]
fn the_next_events_in_order() {
    let EventBacklog::Lines { lines, seen } = log(3).after(1001, 9) else { panic!("lost") };
    assert_eq!((lines.len(), seen), (2, 1003));
    assert_eq!(&*lines[0], b"{\"seq\":1002,\"event\":\"offline\",\"user\":\"bob\"}\n");
}

#[test]
fn too_far_behind_or_from_another_life_is_lost() {
    for (events, seen) in [(3, 999), (3, 1004), (0, 0), (KEPT_EVENTS as u64 + 1, 1000)] {
        let log = log(events);
        let line = format!("{{\"seq\":{},\"event\":\"resync\"}}\n", log.last()).into_bytes();
        assert_eq!(log.after(seen, 9), EventBacklog::Lost { line, seen: log.last() });
    }
    assert!(matches!(log(KEPT_EVENTS as u64).after(1000, 9), EventBacklog::Lines { .. }));
}

fn sent(log: &EventPublisher, seen: u64) -> Vec<String> {
    let EventBacklog::Lines { lines, .. } = log.after(seen, 9999) else { panic!("lost") };
    let events = lines.iter().map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    events.map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["user"].as_str().unwrap())).collect()
}

fn files(name: &str, count: usize) -> TrackerEventKind {
    TrackerEventKind::Files { user: user(name), count }
}

#[test]
fn a_user_s_files_that_change_without_end_are_reported_at_a_pace() {
    let (mut log, mut now) = (EventPublisher::new(0), Instant::now());
    for count in 0..2000 {
        log.tick(now);
        log.push(Some(address(1)), files("bob", count));
        now += Duration::from_millis(1);
    }
    let events = log.last();
    assert!((20..=40).contains(&events), "{events}");
    log.push(Some(address(1)), online("alice"));
    log.push(Some(address(1)), files("bob", 4));
    assert_eq!(sent(&log, events), ["online alice"]);
    log.tick(log.next_due().unwrap());
    assert_eq!(sent(&log, events + 1), ["files bob"]);
    assert_eq!(log.next_due(), None);
    log.tick(now + Duration::from_secs(600));
    assert!(log.is_at_rest());
}

#[test]
fn a_user_who_comes_and_goes_without_end_has_a_lasting_pace_and_the_newest_state_is_sent() {
    let (mut log, begun) = (EventPublisher::new(0), Instant::now());
    for second in 0..600 {
        log.tick(begun + Duration::from_secs(second));
        log.push(Some(address(1)), offline("bob"));
        log.push(Some(address(1)), online("bob"));
    }
    let events = log.last();
    let most = u64::from(PRESENCE_PACE.burst) + 600 / PRESENCE_PACE.interval.as_secs();
    assert!((most - 2..=most + 1).contains(&events), "{events}");
    log.push(Some(address(1)), offline("bob"));
    // Neither others nor other events wait for it.
    log.push(Some(address(1)), online("alice"));
    log.push(Some(address(1)), files("alice", 3));
    assert_eq!(sent(&log, events), ["online alice", "files alice"]);
    let due = log.next_due().unwrap();
    assert!(due <= begun + Duration::from_secs(599) + 2 * PRESENCE_PACE.interval);
    log.tick(due);
    assert_eq!((sent(&log, events + 2), log.next_due()), (vec!["offline bob".to_owned()], None));
}

#[test]
fn changes_of_address_have_the_wider_pace() {
    let mut log = EventPublisher::new(0);
    log.tick(Instant::now());
    (0..20).for_each(|_| log.push(Some(address(1)), TrackerEventKind::Moved(location("bob"))));
    assert_eq!(log.last(), u64::from(USER_PACE.burst));
}

#[test]
fn a_changed_key_waits_for_nothing_but_its_own_pace() {
    let (mut log, begun) = (EventPublisher::new(0), Instant::now());
    let key_changed = || TrackerEventKind::KeyChanged { user: user("bob"), fingerprint: None };
    log.tick(begun);
    for _ in 0..50 {
        log.push(Some(address(1)), online("bob"));
        log.push(Some(address(1)), offline("bob"));
    }
    let events = log.last();
    log.push(None, key_changed());
    assert_eq!(sent(&log, events), ["offline bob", "key_changed bob"]);
    for second in 0..100 {
        log.tick(begun + Duration::from_secs(second));
        log.push(None, key_changed());
    }
    let changes = log.last() - events - 2;
    assert!((12..=14).contains(&changes), "{changes}");
    log.push(Some(address(1)), online("bob"));
    let before = log.last();
    log.tick(log.next_due().unwrap());
    assert_eq!(sent(&log, before), ["key_changed bob", "online bob"]);
}

/// Many users at one origin, or in one network, who come and go without end: subscribers hear of them at a pace, of
/// others at once, and in the end of how each is.
#[test]
fn many_who_come_and_go_at_one_place_are_told_of_at_a_pace() {
    let neighbour = |n: u16| ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into());
    let ways: [(&dyn Fn(u16) -> ClientOrigin, u32); 2] = [(&|_| address(1), 1), (&neighbour, 4)];
    for (way, times) in ways {
        let (mut log, begun, mut random) = (EventPublisher::new(0), Instant::now(), 1_u64);
        let (mut truth, mut heard, mut seen) = (HashMap::new(), HashMap::new(), 0);
        let mut hear = |log: &EventPublisher, seen: &mut u64| {
            for event in sent(log, *seen) {
                let (kind, name) = event.split_once(' ').unwrap();
                if kind != "files" {
                    heard.insert(name.to_owned(), kind.to_owned());
                }
            }
            *seen = log.last();
        };
        let seconds = 4;
        for ms in 0..seconds * 1000 {
            log.tick(begun + Duration::from_millis(ms.into()));
            for _ in 0..8 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let n = u16::try_from((random >> 33) % 900).unwrap();
                let (name, comes) = (format!("sybil{n}"), random >> 63 == 1);
                log.push(Some(way(n)), if comes { online(&name) } else { offline(&name) });
                truth.insert(name, if comes { "online" } else { "offline" }.to_owned());
            }
            hear(&log, &mut seen);
        }
        // Whoever has a turn is told with up to two lines here.
        let most = u64::from(times * (ORIGIN_PACE.burst + seconds * 50 * 2));
        assert!((most / 2..=most).contains(&log.last()), "{} and at most {most}", log.last());
        let before = log.last();
        log.push(Some(address(2)), online("alice"));
        assert_eq!(sent(&log, before), ["online alice"]);
        seen = log.last();
        // Everybody has a turn: 900 of them at 50 a second, of up to two lines each.
        let mut last = begun;
        while let Some(due) = log.next_due() {
            log.tick(due);
            last = due;
            hear(&log, &mut seen);
        }
        assert!(last < begun + Duration::from_secs(60), "{:?}", last.duration_since(begun));
        assert_eq!(heard, truth);
        log.tick(last + Duration::from_secs(240));
        assert!(log.is_at_rest());
    }
}

#[test]
fn a_class_behind_one_address_comes_online_at_once() {
    let mut log = EventPublisher::new(0);
    log.tick(Instant::now());
    for n in 0..400 {
        log.push(Some(address(1)), online(&format!("pupil{n}")));
        log.push(Some(address(1)), TrackerEventKind::Files { user: user(&format!("pupil{n}")), count: 3 });
    }
    assert_eq!((log.last(), log.next_due()), (800, None));
}

proptest! {
    #[test]
    fn reading_in_pieces_loses_nothing(events in 0_u64..200, limit in 1_usize..9) {
        let log = log(events);
        let (mut seen, mut count) = (1000, 0);
        while seen != log.last() {
            let EventBacklog::Lines { lines, seen: next } = log.after(seen, limit) else { panic!("lost") };
            prop_assert!(!lines.is_empty());
            (seen, count) = (next, count + lines.len() as u64);
        }
        prop_assert_eq!(count, events);
    }
}
