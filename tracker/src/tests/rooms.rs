//! Rooms: our own clients over TLS, and the exercise's beside them.

use std::collections::BTreeSet;

use certs::Identity;
use rooms::{MemberRole, Membership, SignedRecord, VerifyingKey};
use serde_json::{Value, json};
use shared::Fingerprint;
use shared::tracker::room_reply::{RoomChangeReply, RoomMembersReply, SignedRecordText};
use shared::tracker::{ReplyError, parse_reply};

use super::tls_clients::registered;
use super::tracker_harness::{Conn, World, login, register};
use crate::membership::{MAX_NEW_ROOMS, MAX_OWN_CHANGES};

impl Conn {
    /// The reply to a request that is granted.
    async fn granted(&mut self, request: Value) -> Value {
        let reply = self.ask(&request.to_string()).await;
        assert_eq!(reply["code"], "ok", "{request}: {reply}");
        reply
    }

    /// The code of a refusal.
    async fn refused(&mut self, request: Value) -> String {
        let reply = self.ask(&request.to_string()).await;
        assert_eq!(reply["status"], "error", "{request}: {reply}");
        reply["code"].as_str().unwrap().to_owned()
    }

    /// The next line, which is an event of a room: its epoch.
    async fn room_event(&mut self) -> u64 {
        let line = self.line().await;
        assert_eq!(line["event"], "room", "{line}");
        line["epoch"].as_u64().unwrap()
    }
}

fn verified(world: &World, record: &SignedRecordText) -> SignedRecord {
    let identity = world.identity();
    let pair = identity.ed25519_key_pair().unwrap();
    let raw = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref().try_into().unwrap();
    SignedRecord::verify(&record.signed, &record.signature, &VerifyingKey::from_raw(raw)).unwrap()
}

/// What a member makes of all records of a room.
async fn membership(world: &World, conn: &mut Conn, room: &str) -> Membership {
    let mut members: Option<Membership> = None;
    loop {
        let after: Vec<String> = members.iter().flat_map(Membership::locator).map(|hash| hash.to_string()).collect();
        let reply = conn.granted(json!({"action": "ROOM_MEMBERS", "room": room, "after": after})).await;
        let reply: RoomMembersReply = parse_reply(&reply.to_string()).unwrap();
        let members = members.get_or_insert_with(|| Membership::new(reply.id));
        for record in &reply.records {
            members.insert(verified(world, record)).unwrap();
        }
        if !reply.more {
            assert_eq!((members.epoch(), members.head()), (reply.epoch, Some(reply.head)));
            return members.clone();
        }
    }
}

fn roles(members: &Membership) -> Vec<(String, MemberRole)> {
    let mut roles: Vec<_> = members.members().values().map(|member| (member.user.to_string(), member.role)).collect();
    roles.sort();
    roles
}

fn create(room: &str) -> Value {
    json!({"action": "ROOM_CREATE", "room": room})
}

fn join(room: &str) -> Value {
    json!({"action": "ROOM_JOIN", "room": room})
}

fn about(action: &str, user: &str) -> Value {
    json!({"action": action, "room": "lab", "user": user})
}

#[tokio::test]
async fn members_know_from_records_alone_who_is_there() {
    let world = World::new().await;
    let (_, mut alice) = registered(&world, "alice").await;
    let (_, mut bob) = registered(&world, "bob").await;
    let made = alice.granted(json!({"action": "ROOM_CREATE", "room": "lab", "history": false})).await;
    let made: RoomChangeReply = parse_reply(&made.to_string()).unwrap();
    assert_eq!((made.epoch, made.records.len()), (2, 2));
    assert_eq!(bob.refused(json!({"action": "ROOM_MEMBERS", "room": "lab"})).await, "forbidden");
    let joined = bob.granted(join("LAB")).await;
    assert_eq!((joined["epoch"].as_u64(), joined["records"].as_array().unwrap().len()), (Some(3), 1));
    // Asking again changes nothing.
    assert_eq!(bob.granted(join("lab")).await["records"], json!([]));
    let members = membership(&world, &mut bob, "lab").await;
    assert_eq!(members.room(), made.id);
    assert_eq!(members.history(), rooms::HistoryVisibility::Joined);
    let (alice_owns, bob_is_member) = (("alice".to_owned(), MemberRole::Owner), ("bob".to_owned(), MemberRole::Member));
    assert_eq!(roles(&members), [alice_owns.clone(), bob_is_member]);

    assert_eq!(bob.refused(about("ROOM_KICK", "alice")).await, "forbidden");
    let topic = json!({"action": "ROOM_TOPIC", "room_id": made.id, "topic": "olá"});
    alice.granted(topic).await;
    alice.granted(json!({"action": "ROOM_ROLE", "room": "lab", "user": "bob", "role": "moderator"})).await;
    let members = membership(&world, &mut alice, "lab").await;
    assert_eq!((roles(&members)[1].1, members.topic().as_str()), (MemberRole::Moderator, "olá"));
    let cut = json!({"number": 3, "hash": "ab".repeat(32)});
    alice.granted(json!({"action": "ROOM_KICK", "room": "lab", "user": "bob", "cut": cut})).await;
    // One who went learns of it, and nothing later.
    let seen_by_bob = membership(&world, &mut bob, "lab").await;
    assert_eq!(roles(&seen_by_bob), [alice_owns]);
    assert!(seen_by_bob.open_cuts().is_empty());
    alice.granted(json!({"action": "ROOM_TOPIC", "room": "lab", "topic": "secret"})).await;
    assert_eq!(membership(&world, &mut bob, "lab").await.epoch(), seen_by_bob.epoch());
    assert_eq!(bob.refused(join("lab")).await, "forbidden");
    alice.granted(about("ROOM_INVITE", "bob")).await;
    let listed = bob.granted(json!({"action": "ROOM_LIST"})).await["rooms"][0].take();
    assert_eq!((&listed["invited"], &listed["role"], &listed["members"]), (&json!(true), &Value::Null, &json!(1)));
    bob.granted(join("lab")).await;
    assert_eq!(membership(&world, &mut bob, "lab").await.topic().as_str(), "secret");
}

#[tokio::test]
async fn an_open_cut_is_set_once() {
    let world = World::new().await;
    let (_, mut alice) = registered(&world, "alice").await;
    let (identity, mut bob) = registered(&world, "bob").await;
    alice.granted(create("lab")).await;
    bob.granted(join("lab")).await;
    let ended = bob.granted(json!({"action": "ROOM_LEAVE", "room": "lab"})).await["epoch"].take();
    let members = membership(&world, &mut alice, "lab").await;
    assert_eq!(members.open_cuts(), [(identity.fingerprint(), ended.as_u64().unwrap())]);
    let set = |key: Fingerprint, ended_at: &Value| json!({"action": "ROOM_CUT", "room": "lab", "key": key, "ended_at": ended_at, "cut": {"number": 0}});
    assert_eq!(bob.refused(set(identity.fingerprint(), &ended)).await, "forbidden");
    assert_eq!(alice.refused(set(identity.fingerprint(), &json!(1))).await, "stale");
    alice.granted(set(identity.fingerprint(), &ended)).await;
    assert_eq!(alice.refused(set(identity.fingerprint(), &ended)).await, "stale");
    assert!(membership(&world, &mut alice, "lab").await.open_cuts().is_empty());
}

#[tokio::test]
async fn a_room_s_password_is_guessed_as_slowly_as_an_account_s() {
    let world = World::new().await;
    let (_, mut alice) = registered(&world, "alice").await;
    let (_, mut bob) = registered(&world, "bob").await;
    // Before the guesses: her own password takes long enough for one of them to be forgiven.
    let (_, mut carol) = registered(&world, "carol").await;
    alice.granted(json!({"action": "ROOM_CREATE", "room": "lab", "password": "geheim"})).await;
    let with = |password: &str| json!({"action": "ROOM_JOIN", "room": "lab", "password": password});
    assert_eq!(bob.refused(join("lab")).await, "auth_failed");
    let mut guesses = 0;
    let refusal = loop {
        match bob.refused(with("wrong")).await.as_str() {
            "auth_failed" => guesses += 1,
            other => break other.to_owned(),
        }
    };
    // As many at once as for an account, and some more on a slow machine.
    assert_eq!(refusal, "rate_limited");
    assert!((50..100).contains(&guesses), "{guesses}");
    assert_eq!(carol.refused(with("geheim")).await, "rate_limited", "nobody guesses at it from here for a while");
    // An invitation stands for the password, and so does taking it away.
    alice.granted(about("ROOM_INVITE", "bob")).await;
    bob.granted(join("lab")).await;
    assert_eq!(bob.refused(json!({"action": "ROOM_PASSWD", "room": "lab", "password": ""})).await, "forbidden");
    alice.granted(json!({"action": "ROOM_PASSWD", "room": "lab", "password": ""})).await;
    carol.granted(join("lab")).await;
    alice.granted(json!({"action": "ROOM_PASSWD", "room": "lab", "invite_only": true})).await;
    let (_, mut dave) = registered(&world, "dave").await;
    assert_eq!(dave.refused(join("lab")).await, "forbidden");
}

#[tokio::test]
async fn subscribers_hear_of_their_rooms_only_and_of_their_own_end() {
    let world = World::new().await;
    let (alice_key, mut alice) = registered(&world, "alice").await;
    let (bob_key, mut bob) = registered(&world, "bob").await;
    let (eve_key, _) = registered(&world, "eve").await;
    alice.granted(create("lab")).await;
    bob.granted(join("lab")).await;
    let subscribe = json!({"action": "SUBSCRIBE", "features": ["rooms"]});
    let mut hears = Vec::new();
    for key in [&alice_key, &bob_key, &eve_key, &alice_key] {
        let mut conn = world.tls(Some(key)).await;
        // The last one lists no features, as older peers do.
        let request = if hears.len() < 3 { subscribe.clone() } else { json!({"action": "SUBSCRIBE"}) };
        conn.granted(request).await;
        hears.push(conn);
    }
    let [mut hears_alice, mut hears_bob, mut hears_eve, mut old] = hears.try_into().ok().unwrap();
    // First the present state of each room.
    assert_eq!((hears_alice.room_event().await, hears_bob.room_event().await), (3, 3));
    alice.granted(json!({"action": "ROOM_TOPIC", "room": "lab", "topic": "x"})).await;
    assert_eq!((hears_alice.room_event().await, hears_bob.room_event().await), (4, 4));
    alice.granted(about("ROOM_KICK", "bob")).await;
    assert_eq!((hears_alice.room_event().await, hears_bob.room_event().await), (5, 5));
    alice.granted(json!({"action": "ROOM_TOPIC", "room": "lab", "topic": "y"})).await;
    assert_eq!(hears_alice.room_event().await, 6);
    alice.granted(about("ROOM_INVITE", "eve")).await;
    assert_eq!(hears_eve.room_event().await, 6);
    // What comes next for the others is something else, with the number after the last one.
    let (_, mut dave) = registered(&world, "dave").await;
    assert_eq!(dave.code(r#"{"action":"RESUME","port":7000}"#).await, "ok");
    for conn in [&mut hears_bob, &mut hears_eve, &mut old, &mut hears_alice] {
        let line = conn.line().await;
        assert_eq!((&line["event"], &line["user"]), (&json!("online"), &json!("dave")), "{line}");
    }
}

#[tokio::test]
async fn what_becomes_of_accounts_ends_memberships() {
    let world = World::new().await;
    let (_, mut alice) = registered(&world, "alice").await;
    let (_, mut bob) = registered(&world, "bob").await;
    let (_, mut carol) = registered(&world, "carol").await;
    alice.granted(create("lab")).await;
    bob.granted(join("lab")).await;
    carol.granted(join("lab")).await;
    // Another key is another member.
    let other = Identity::generate().unwrap();
    let mut conn = world.tls(Some(&other)).await;
    let rebind = login("bob").replacen('{', r#"{"rebind":true,"#, 1);
    assert_eq!(conn.code(&rebind).await, "ok");
    assert_eq!(conn.refused(json!({"action": "ROOM_MEMBERS", "room": "lab"})).await, "forbidden");
    assert_eq!(roles(&membership(&world, &mut alice, "lab").await).len(), 2);
    // The owner's account is removed: the longest member follows, and a new alice inherits nothing.
    world.service.remove_account(&"alice".parse().unwrap()).await.unwrap();
    let members = membership(&world, &mut carol, "lab").await;
    assert_eq!(roles(&members), [("carol".to_owned(), MemberRole::Owner)]);
    let (_, mut alice) = registered(&world, "alice").await;
    assert_eq!(alice.refused(json!({"action": "ROOM_MEMBERS", "room": "lab"})).await, "forbidden");
    world.service.unbind_account(&"carol".parse().unwrap()).await.unwrap();
    // The last one took the room along: its name is free.
    assert_eq!(alice.granted(json!({"action": "ROOM_LIST"})).await["rooms"], json!([]));
    alice.granted(create("lab")).await;
}

#[tokio::test]
async fn rooms_outlive_the_process_and_a_new_key_signs_their_records_anew() {
    let world = World::new().await;
    let (alice_key, mut alice) = registered(&world, "alice").await;
    let made = alice.granted(create("lab")).await;
    drop(alice);
    // The harness gives each process another key.
    let world = world.restarted(true).await;
    let mut alice = world.tls(Some(&alice_key)).await;
    let members = membership(&world, &mut alice, "lab").await;
    assert_eq!(json!(members.head().unwrap()), made["head"]);
    let mut hears = world.tls(Some(&alice_key)).await;
    hears.granted(json!({"action": "SUBSCRIBE", "features": ["rooms"]})).await;
    assert_eq!(hears.room_event().await, 2);
}

#[tokio::test]
async fn too_many_rooms_and_changes_are_refused_and_others_go_on() {
    let world = World::new().await;
    let (_, mut mallory) = registered(&world, "mallory").await;
    let mut codes = BTreeSet::new();
    for number in 0..100 {
        let reply = mallory.ask(&create(&format!("flood{number}")).to_string()).await;
        codes.insert(reply["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(codes, BTreeSet::from(["ok".to_owned(), "rate_limited".to_owned()]));
    let listed = mallory.granted(json!({"action": "ROOM_LIST"})).await;
    assert_eq!(listed["rooms"].as_array().unwrap().len(), MAX_NEW_ROOMS);
    let (_, mut alice) = registered(&world, "alice").await;
    alice.granted(create("lab")).await;
    let mut joins = 0;
    while mallory.ask(&join("lab").to_string()).await["code"] == "ok" {
        joins += 1;
        mallory.granted(json!({"action": "ROOM_LEAVE", "room": "lab"})).await;
    }
    assert_eq!(joins, MAX_OWN_CHANGES / 2);
    let page = alice.granted(json!({"action": "ROOM_LIST", "limit": 5})).await;
    assert_eq!((page["rooms"].as_array().unwrap().len(), &page["next"]), (5, &page["rooms"][4]["name"]));
    let rest = alice.granted(json!({"action": "ROOM_LIST", "cursor": page["next"]})).await;
    assert_eq!((rest["rooms"].as_array().unwrap().len(), &rest["next"]), (MAX_NEW_ROOMS + 1 - 5, &Value::Null));
}

#[tokio::test]
async fn nothing_of_it_without_a_bound_certificate() {
    let world = World::new().await;
    world.once(&register("student")).await;
    for request in [create("lab"), join("lab"), json!({"action": "ROOM_LIST"}), about("ROOM_KICK", "bob")] {
        assert_eq!(world.once(&request.to_string()).await["code"], "tls_required");
        assert_eq!(world.tls(None).await.refused(request.clone()).await, "not_logged_in");
        let stranger = Identity::generate().unwrap();
        assert_eq!(world.tls(Some(&stranger)).await.refused(request).await, "not_logged_in");
    }
    let (_, mut alice) = registered(&world, "alice").await;
    alice.granted(create("lab")).await;
    for request in [create("Lab"), create("..")] {
        assert!(["user_exists", "bad_request"].contains(&alice.refused(request).await.as_str()));
    }
    assert_eq!(alice.refused(join("nowhere")).await, "not_found");
    assert_eq!(alice.refused(about("ROOM_INVITE", "nobody")).await, "not_found");
    assert_eq!(alice.refused(about("ROOM_KICK", "student")).await, "not_found");
    let reply = alice.ask(r#"{"action":"ROOM_CREATE","room":"\u001b[31m"}"#).await;
    assert!(!reply["message"].as_str().unwrap().contains('\u{1b}'), "{reply}");
    let refused = parse_reply::<RoomChangeReply>(&reply.to_string());
    assert!(matches!(refused, Err(ReplyError::Refused { .. })));
}

#[tokio::test]
async fn the_exercise_s_clients_share_rooms_with_ours() {
    let world = World::new().await;
    let (_, mut bob) = registered(&world, "bob").await;
    let mut ana = world.plain().await;
    assert_eq!(ana.code(&register("ana")).await, "ok");
    assert_eq!(ana.code(&login("ana")).await, "ok");
    let made = ana.ask(r#"{"cmd":"CREATE_ROOM","room":"sala","user":"ana","senha":""}"#).await;
    assert_eq!(made, json!({"status": "OK", "msg": "Sala criada com sucesso", "members": ["ana"]}));
    let joined = bob.granted(join("sala")).await;
    assert_eq!(joined["records"].as_array().unwrap().len(), 1);
    let listed = bob.granted(json!({"action": "ROOM_LIST"})).await["rooms"][0].take();
    assert_eq!((&listed["owner"], &listed["members"], &listed["keyless"]), (&json!("ana"), &json!(1), &json!(1)));
    let reply = bob.granted(json!({"action": "ROOM_MEMBERS", "room": "sala"})).await;
    assert_eq!(reply["keyless"], json!(["ana"]));
    // By the records bob owns it; the tracker knows better.
    assert_eq!(bob.refused(json!({"action": "ROOM_DELETE", "room": "sala"})).await, "forbidden");
    let names = ana.ask(r#"{"cmd":"GET_ROOM_MEMBERS","room":"sala"}"#).await;
    assert_eq!(names["members"], json!(["ana", "bob"]));
    // In the other dialect, too.
    assert_eq!(ana.ask(r#"{"action":"LIST_ROOMS"}"#).await["rooms"], json!(["sala"]));
    let kick = r#"{"cmd":"KICK_MEMBER","room":"sala","admin":"ana","member":"bob"}"#;
    // The address alone speaks for no admin.
    assert_eq!(world.once(kick).await["status"], "ERROR");
    let with_password = kick.replacen('{', r#"{"password":"s3nha","#, 1).replace("bob", "nobody");
    assert!(world.once(&with_password).await["msg"].as_str().unwrap().contains("nobody"));
    assert_eq!(ana.ask(kick).await["status"], "OK");
    assert_eq!(ana.ask(kick).await["status"], "ERROR");
    assert_eq!(bob.refused(join("sala")).await, "forbidden");
    assert_eq!(ana.ask(r#"{"cmd":"GET_ROOM_MEMBERS","room":"sala"}"#).await["members"], json!(["ana"]));
    // Somebody at the same address may join for an account without a key, as the exercise's clients do.
    world.once(&register("bia")).await;
    world.once(&login("bia")).await;
    assert_eq!(world.once(r#"{"cmd":"JOIN_ROOM","room":"sala","user":"bia","senha":null}"#).await["status"], "OK");
    // A first binding ends the membership.
    let identity = Identity::generate().unwrap();
    assert_eq!(world.tls(Some(&identity)).await.code(&login("bia")).await, "ok");
    assert_eq!(ana.ask(r#"{"cmd":"GET_ROOM_MEMBERS","room":"sala"}"#).await["members"], json!(["ana"]));
}

#[tokio::test]
async fn members_of_a_room_that_takes_invitations_are_for_members() {
    let world = World::new().await;
    let (_, mut alice) = registered(&world, "alice").await;
    alice.granted(json!({"action": "ROOM_CREATE", "room": "lab", "invite_only": true})).await;
    let members = r#"{"cmd":"GET_ROOM_MEMBERS","room":"lab"}"#;
    assert_eq!(world.once(members).await["status"], "ERROR");
    assert_eq!(alice.code(r#"{"action":"RESUME"}"#).await, "ok");
    assert_eq!(alice.ask(members).await["members"], json!(["alice"]));
}

#[tokio::test]
async fn lists_of_rooms_and_members_fit_into_what_is_read_at_once() {
    let world = World::new().await;
    for user in 0..16 {
        // An address makes 100 rooms an hour.
        let mut conn = world.plain_from([127, 0, 0, 2 + user / 8]).await;
        let name = format!("user{user:02}{}", "x".repeat(26));
        assert_eq!(conn.code(&register(&name)).await, "ok");
        assert_eq!(conn.code(&login(&name)).await, "ok");
        for room in 0..MAX_NEW_ROOMS {
            let room = format!("room{user:02}-{room}{}", "y".repeat(24));
            conn.granted(json!({"action": "CREATE_ROOM", "room": room, "user": name})).await;
        }
    }
    let list = world.once(r#"{"cmd":"LIST_ROOMS"}"#).await;
    let shown = list["rooms"].as_array().unwrap().len();
    assert_eq!(list["total"], 160);
    assert!((100..160).contains(&shown) && list.to_string().len() <= 4095, "{shown}");
    let (_, mut alice) = registered(&world, "alice").await;
    let page = alice.granted(json!({"action": "ROOM_LIST"})).await;
    assert_eq!((page["rooms"].as_array().unwrap().len(), &page["next"]), (100, &page["rooms"][99]["name"]));
}
