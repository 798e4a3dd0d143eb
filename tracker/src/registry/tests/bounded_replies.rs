//! Lists that fit into a reply of the exercise.

use serde_json::Value;
use shared::limits::MAX_PLAIN_REPLY_BYTES;

use super::*;

/// The bytes around the fields, about.
const AROUND: usize = r#"{"status":"ok","code":"ok","message":"100 online",}"#.len() + 1;
const ROOM: usize = MAX_PLAIN_REPLY_BYTES - AROUND;

impl World {
    /// A user with the longest possible entry.
    fn longest(&mut self, number: u16) -> String {
        let user = format!("{number:0>32}");
        let ip = [0x2001, 0xdb8, 0xaaaa, 0xbbbb, 0xcccc, 0xdddd, 0xeeee, 0x1000 + number];
        let arrival = AuthenticatedLogin { ip: ip.into(), port: Some(65535), ..self.arrival(&user, ALICE_IP) };
        self.registry.login(arrival, self.now).unwrap();
        user
    }

    fn share_many(&mut self, user: &str, files: usize, name: &str) {
        let hash = HashText::new(&"f".repeat(64)).unwrap();
        let file = |n| SharedFile { name: format!("{n}{name}").parse().unwrap(), size: 123_456, hash: hash.clone() };
        let files = FileList::from_list((0..files).map(file).collect());
        self.registry.set_files(&self::name(user), FilesMode::Replace, &files).unwrap();
    }

    fn ready(&mut self, view: ListView, room: usize) -> (Value, usize) {
        self.ready_for(view, &ListPeersRequest::default(), room)
    }

    fn ready_for(&mut self, view: ListView, wanted: &ListPeersRequest, room: usize) -> (Value, usize) {
        let text = self.registry.ready_list(view, wanted, room, from_ip(BOB_IP)).unwrap().concat();
        (serde_json::from_str(&format!("{{{}}}", String::from_utf8(text.clone()).unwrap())).unwrap(), text.len())
    }
}

fn counts(list: &Value) -> Vec<(usize, u64)> {
    let entry = |peer: &Value| {
        let shown = peer["files"].as_array().map_or(0, Vec::len);
        (shown, peer["file_count"].as_u64().unwrap_or(shown as u64))
    };
    match &list["peers"] {
        Value::Array(peers) => peers.iter().map(entry).collect(),
        Value::Object(peers) => peers.values().map(entry).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_class_of_24_fits_whatever_its_names_and_addresses() {
    let mut world = World::new(RULES);
    for number in 0..24 {
        let user = world.longest(number);
        world.share_many(&user, 2_000, &"n".repeat(200));
    }
    for view in [ListView::Compact, ListView::Cmd] {
        let (list, bytes) = world.ready(view, ROOM);
        assert!(bytes <= ROOM, "{bytes}");
        let counts = counts(&list);
        assert_eq!(counts.len(), 24);
        // The longest names and addresses leave no room for all counts in the longer dialect.
        let counted = counts.iter().filter(|(_, count)| *count == 2_000).count();
        assert!(counted == 24 || view == ListView::Cmd && counted >= 10, "{view:?} {counted}");
        assert_eq!(list["total"].as_u64(), (view == ListView::Compact).then_some(24));
    }
}

#[test]
fn with_addresses_of_today_there_is_room_for_counts_and_files() {
    let mut world = World::new(RULES);
    for number in 0..24_u8 {
        let user = format!("aluno.{number:02}.{}", "n".repeat(23));
        world.login(&user, [192, 168, 100, 100 + number]);
        world.share_many(&user, if number == 23 { 1 } else { 30 }, ".txt");
    }
    for view in [ListView::Compact, ListView::Cmd] {
        let counts = counts(&world.ready(view, ROOM).0);
        assert_eq!((counts.len(), counts[23]), (24, (1, 1)), "{view:?}");
        assert!(counts[..23].iter().all(|(_, count)| *count == 30));
        // In turn: each origin has one entry before any has two.
        let shown: Vec<usize> = counts[..23].iter().map(|(shown, _)| *shown).collect();
        assert!(shown.iter().max().unwrap() - shown.iter().min().unwrap() <= 1, "{shown:?}");
    }
}

#[test]
fn beyond_what_fits_the_exercise_s_dialect_lists_who_came_last_and_ours_everybody() {
    let mut world = World::new(RULES);
    for number in 0..300 {
        let user = world.longest(number);
        world.share_many(&user, usize::from(number % 3), ".txt");
    }
    let (list, bytes) = world.ready(ListView::Cmd, ROOM);
    let listed: Vec<&String> = list["peers"].as_object().unwrap().keys().collect();
    assert!(bytes <= ROOM && listed.len() >= 24, "{bytes} {}", listed.len());
    assert_eq!(list["total"], 300);
    let newest: Vec<String> = (0..300).rev().take(listed.len()).map(|number| format!("{number:0>32}")).rev().collect();
    assert!(newest.iter().eq(listed));
    // A user who logs in again is the newest.
    let oldest = world.longest(0);
    assert!(world.ready(ListView::Cmd, ROOM).0["peers"].get(&oldest).is_some());

    let (list, _) = world.ready(ListView::Compact, ROOM);
    let peers = list["peers"].as_array().unwrap();
    assert_eq!((peers.len(), &list["total"]), (300, &Value::from(300)));
    assert_eq!(
        peers[2],
        serde_json::json!({ "user": format!("{:0>32}", 2), "ip": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1002", "port": 65535, "file_count": 2 })
    );
    assert_eq!(peers[3].get("file_count"), None);
    world.registry.logout(&name(&oldest));
    assert_eq!(world.ready(ListView::Compact, ROOM).0["total"], 299);
}

#[test]
fn many_accounts_at_one_address_push_nobody_out() {
    let mut world = World::new(RULES);
    for n in 0..20 {
        world.login(&format!("honest-{n}"), [10, 0, 1, n]);
    }
    for n in 0..500 {
        world.login(&format!("{n:0>32}"), ALICE_IP);
    }
    let (list, _) = world.ready(ListView::Cmd, ROOM);
    let listed = list["peers"].as_object().unwrap();
    assert_eq!((0..20).filter(|n| listed.contains_key(&format!("honest-{n}"))).count(), 20);
    assert!(listed.len() > 24, "{}", listed.len());
}

#[test]
fn whoever_changed_the_password_is_listed_once() {
    let mut world = World::new(RULES);
    let session = world.login("bob", BOB_IP);
    world.registry.revoke_other_sessions(&name("bob"), Some(session)).unwrap();
    world.registry.logout(&name("bob"));
    world.login("bob", BOB_IP);
    let (list, _) = world.ready(ListView::Compact, ROOM);
    assert_eq!(list["peers"].as_array().unwrap().len(), 1);
}

#[test]
fn golden_entries() {
    let mut world = World::new(RULES);
    world.login("bob", BOB_IP);
    world.share("bob", &[("a", "1")]);
    let arrival = AuthenticatedLogin { port: None, ..world.arrival("alice", ALICE_IP) };
    world.registry.login(arrival, world.now).unwrap();
    let text = |world: &mut World, view, wanted: &ListPeersRequest| {
        String::from_utf8(world.registry.ready_list(view, wanted, ROOM, from_ip(BOB_IP)).unwrap().concat()).unwrap()
    };
    let all = ListPeersRequest::default();
    assert_eq!(
        text(&mut world, ListView::Compact, &all),
        concat!(
            r#""peers":[{"user":"alice","ip":"10.0.0.1"},"#,
            r#"{"user":"bob","ip":"10.0.0.2","port":4000,"files":[{"name":"a","size":1,"hash":"1"}]}],"total":2"#
        )
    );
    let times: Vec<_> = [2000, 1000].map(LoginTime::at_unix_ms).iter().map(|at| at.text().to_owned()).collect();
    let alice = format!(r#""alice":{{"connection":{{"ip":"10.0.0.1","porta":0,"login_time":"{}"}},"files":"#, times[0]);
    let bob = format!(r#""bob":{{"connection":{{"ip":"10.0.0.2","porta":4000,"login_time":"{}"}},"files":"#, times[1]);
    let file = r#"[{"name":"a","size":1,"hash":"1"}]"#;
    assert_eq!(text(&mut world, ListView::Cmd, &all), format!(r#""peers":{{{alice}[]}},{bob}{file}}}}}"#));
    let none = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
    assert_eq!(text(&mut world, ListView::Cmd, &none), format!(r#""peers":{{{alice}[]}},{bob}[],"file_count":1}}}}"#));
    assert_eq!(
        world.registry.ready_list(
            ListView::Cmd,
            &ListPeersRequest { limit: Some(1), ..all.clone() },
            ROOM,
            from_ip(BOB_IP)
        ),
        None
    );
    let mut page = world.registry.page(ListView::Cmd, from_ip(BOB_IP));
    let only = ListPeersRequest { user: Some(name("bob")), ..all };
    while world.registry.add_to_page(&only, &mut page) {}
    let page = String::from_utf8(page.finish().concat()).unwrap();
    assert_eq!(page, format!(r#""peers":{{{bob}{file}}}}},"total":1"#));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_there_is_the_list_fits_and_is_true(
        files in proptest::collection::vec((0..40_usize, 0..60_usize), 0..40),
        room in 0..5000_usize,
    ) {
        let mut world = World::new(RULES);
        for (number, (count, length)) in files.iter().enumerate() {
            let user = format!("u{number}");
            world.login(&user, ALICE_IP);
            world.share_many(&user, *count, &"é".repeat(*length));
        }
        let total = files.len();
        for view in [ListView::Compact, ListView::Cmd] {
            let (list, bytes) = world.ready(view, room);
            let counts = counts(&list);
            let is_complete = counts.len() == total;
            prop_assert!(is_complete || view == ListView::Cmd && list["total"] == total);
            // An empty list with its total is the minimum.
            prop_assert!(bytes <= room.max(30) || view == ListView::Compact && counts.iter().all(|(shown, _)| *shown == 0));
            let list = list["peers"].clone();
            for (number, (count, _)) in files.iter().enumerate() {
                let user = format!("u{number}");
                let entry = match &list {
                    Value::Array(peers) => peers.iter().find(|peer| peer["user"] == user.as_str()),
                    other => other.get(&user),
                };
                let Some(entry) = entry else { continue };
                let shown = entry["files"].as_array().map_or(0, Vec::len);
                prop_assert!(shown <= *count);
                if let Some(counted) = entry["file_count"].as_u64() {
                    prop_assert!(counted == *count as u64 && shown < *count);
                }
            }
        }
    }
}
