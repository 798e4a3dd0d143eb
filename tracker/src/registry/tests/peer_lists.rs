//! LIST_PEERS and FIND.

use super::*;

#[test]
fn the_exercise_s_list() {
    let mut world = World::new(RULES);
    assert_eq!(world.list_text(&ListPeersRequest::default()), r#""peers":[],"total":0"#);
    world.login("bob", BOB_IP);
    world.share("bob", &[("a", "1")]);
    world.login("alice", ALICE_IP);
    let text = world.list_text(&ListPeersRequest::default());
    let files = r#"[{"name":"a","size":1,"hash":"1"}]"#;
    let entry = |user: &str, ip: &str, files: &str| {
        format!(r#"{{"user":"{user}","ip":"{ip}","port":4000,"addresses":[],"fingerprint":null,"files":{files}}}"#)
    };
    let expected =
        format!(r#""peers":[{},{}],"total":2"#, entry("alice", "10.0.0.1", "[]"), entry("bob", "10.0.0.2", files));
    assert_eq!(text, expected);
    world.registry.logout(&name("alice"));
    world.registry.logout(&name("bob"));
    assert_eq!(world.share("bob", &[("a", "1")]), None);
    assert!(world.everyone().is_empty());
}

#[test]
fn filters_and_pages() {
    let mut world = World::new(RULES);
    for user in ["a", "b", "c", "d", "e"] {
        world.login(user, ALICE_IP);
    }
    world.share("b", &[("x", "1"), ("y", "2")]);
    world.share("d", &[("x", "3")]);
    let all = ListPeersRequest::default();
    assert_eq!(world.users(&ListPeersRequest { user: Some(name("c")), ..all.clone() }), ["c"]);
    let by_name = ListPeersRequest { name: Some("x".parse().unwrap()), ..all.clone() };
    let found = world.list(&by_name);
    assert_eq!((found.total, found.peers[0].files.len()), (2, 1));
    let by_hash = ListPeersRequest { hash: HashText::new("2"), with_files: Some(false), ..all.clone() };
    let found = world.list(&by_hash);
    assert_eq!((found.total, found.peers[0].files.len()), (1, 0));
    let first = world.list(&ListPeersRequest { limit: Some(2), ..all.clone() });
    assert_eq!((first.peers.len(), first.total, first.next.clone()), (2, 5, Some(name("b"))));
    let second = ListPeersRequest { limit: Some(3), cursor: first.next, ..all };
    let second = world.list(&second);
    assert_eq!((second.peers.len(), second.total, second.next), (3, 5, None));
    let least = world.list(&ListPeersRequest { limit: Some(0), ..ListPeersRequest::default() });
    assert_eq!((least.peers.len(), least.total, least.next), (1, 5, Some(name("a"))), "a page makes progress");
}

#[test]
fn files_that_are_not_listed_are_counted() {
    let mut world = World::new(RULES);
    world.login("alice", ALICE_IP);
    world.login("bob", BOB_IP);
    world.share("bob", &[("x", "1"), ("y", "1"), ("z", "2")]);
    let none = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
    let expected = concat!(
        r#""peers":[{"user":"alice","ip":"10.0.0.1","port":4000,"addresses":[],"fingerprint":null,"files":[],"file_count":0},"#,
        r#"{"user":"bob","ip":"10.0.0.2","port":4000,"addresses":[],"fingerprint":null,"files":[],"file_count":3}],"total":2"#
    );
    assert_eq!(world.list_text(&none), expected);
    let by_hash = ListPeersRequest { hash: HashText::new("1"), ..ListPeersRequest::default() };
    let counts =
        |peers: ListPeersReply| peers.peers.iter().map(|peer| (peer.files.len(), peer.file_count)).collect::<Vec<_>>();
    assert_eq!(counts(world.list(&by_hash)), [(2, None)]);
    assert_eq!(counts(world.list(&ListPeersRequest { with_files: Some(false), ..by_hash })), [(0, Some(2))]);
    let only = ListPeersRequest { user: Some(name("bob")), ..ListPeersRequest::default() };
    assert_eq!(counts(world.list(&only)), [(3, None)]);
}

#[test]
fn pages_join_to_the_whole_list_however_long_it_is() {
    let mut world = World::new(RULES);
    let long = "n".repeat(200);
    for user in 0..700 {
        let user = format!("u{user:03}");
        world.login(&user, ALICE_IP);
        world.share(&user, &[("a", "1"), (&long, "2"), ("z", if user.ends_with('0') { "3" } else { "4" })]);
    }
    let hash = |text| HashText::new(text);
    for (filter, with_files, total) in
        [(None, None, 700), (None, Some(false), 700), (hash("3"), None, 70), (hash("2"), Some(false), 700)]
    {
        for limit in [Some(1), Some(64), Some(699), Some(700), Some(10_000)] {
            let mut wanted =
                ListPeersRequest { hash: filter.clone(), with_files, limit, ..ListPeersRequest::default() };
            let mut all = Vec::new();
            loop {
                let page = world.list(&wanted);
                assert_eq!(page.total, total);
                assert!(!page.peers.is_empty() && page.peers.len() <= limit.unwrap());
                all.extend(page.peers);
                match page.next {
                    Some(next) => wanted.cursor = Some(next),
                    None => break,
                }
            }
            assert_eq!(all.len(), total);
            assert!(all.iter().map(|peer| &peer.user).is_sorted());
        }
    }
    let many = ListPeersRequest { limit: Some(10_000), ..ListPeersRequest::default() };
    let text = world.list_text(&many);
    assert!(text.contains(r#""next":"#) && text.len() < 300 * 1024, "{}", text.len());
}

#[test]
fn files_are_found_page_by_page_however_many_users() {
    let mut world = World::new(RULES);
    for user in 0..600 {
        let user = format!("u{user:03}");
        world.login(&user, ALICE_IP);
        world.share(&user, &[("Annual Report.pdf", "1"), ("notes.txt", "2"), ("old report.pdf", "3")]);
    }
    for (wanted, all) in [
        (FindCriterion::Words(SearchWords::new("report PDF").unwrap()), 1200),
        (FindCriterion::Hash(HashText::new("2").unwrap()), 600),
        (FindCriterion::Words(SearchWords::new("reports").unwrap()), 0),
    ] {
        for limit in [1, 7, 256, 600, 1200, 2000] {
            let (mut position, mut found, mut pieces) = (SearchPosition::Start, Vec::new(), 0);
            loop {
                let piece = world.registry.snapshot_lists(&position).find(&wanted, &position, limit);
                assert!(piece.files.len() <= limit);
                found.extend(piece.files);
                pieces += 1;
                match piece.next {
                    Some(rest) => position = rest,
                    None => break,
                }
            }
            assert_eq!(found.len(), all);
            assert!(pieces >= 3 && found.is_sorted_by_key(|file| (file.user.clone(), file.name.clone())));
            found.dedup();
            assert_eq!(found.len(), all);
        }
    }
}
