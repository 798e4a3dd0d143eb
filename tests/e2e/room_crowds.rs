//! Rooms of many members, rooms without a past, and networks that fall apart and come together again.

use std::net::IpAddr;

use tests::hostile::{Withholding, WithholdingMember};
use tests::{Host, Lab, LabOptions, Network, Process, User, make_room, poll_until};

/// Members with a real node in the large room.
const CROWD: usize = 20;
/// Links that a member of a large room is dialled for: its neighbours, and what a ring that just changed asks for.
const FEW_LINKS: usize = 12;

#[track_caller]
fn say(user: &User<'_>, text: &str) {
    user.peer(["chat", "#lab", text]).run().exits(0);
}

fn texts(user: &User<'_>) -> Vec<String> {
    let shown = user.peer(["--json", "history", "#lab"]).run().exits(0).json();
    shown.iter().map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn twenty_members_hear_each_other_over_few_links() {
    let lab = Lab::start();
    let users: Vec<User<'_>> = (0..CROWD).map(|number| lab.user(&format!("user{number}"))).collect();
    make_room(&users.iter().collect::<Vec<_>>());
    let nodes: Vec<Process> = users.iter().map(User::serve).collect();
    // The last one counts who comes.
    let counting = WithholdingMember::join(&lab, "counting", Withholding::Agreement);
    let hear = |user: &User<'_>, text: &str| {
        say(user, text);
        for node in &nodes {
            node.wait_for(&format!("#lab {}: {text}", user.name()));
        }
    };
    hear(&users[0], "from the first");
    poll_until(|| (counting.links() >= 4).then_some(()), || format!("{} call the last one", counting.links()));
    hear(&users[CROWD - 1], "from the last");
    let links = counting.links();
    assert!(links <= FEW_LINKS, "{links} links to one of {}", CROWD + 1);
}

#[test]
fn a_newcomer_to_a_room_without_a_past_reads_what_comes_after() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    let told = "newcomers read only messages that are written after they joined";
    alice.peer(["room", "create", "lab", "--history", "none"]).run().exits(0).says(told);
    bob.peer(["room", "join", "lab"]).run().exits(0).says(told);
    let (hers, his) = (alice.serve(), bob.serve());
    say(&alice, "before carol, one");
    his.wait_for("#lab alice: before carol, one");
    say(&bob, "before carol, two");
    hers.wait_for("#lab bob: before carol, two");
    carol.peer(["room", "join", "lab"]).run().exits(0).says(told);
    let theirs = carol.serve();
    for node in [&hers, &his] {
        node.wait_for("#lab: carol joined");
    }
    say(&alice, "after carol, one");
    theirs.wait_for("#lab alice: after carol, one");
    say(&bob, "after carol, two");
    theirs.wait_for("#lab bob: after carol, two");
    say(&carol, "after carol, three");
    for node in [&hers, &his] {
        node.wait_for("#lab carol: after carol, three");
    }
    let since = ["after carol, one", "after carol, two", "after carol, three"];
    assert_eq!(texts(&carol), since);
    // Nothing is missing there: it isn't said to be, and doesn't come later.
    assert!(!theirs.said().contains("missing"), "{}", theirs.said());
    theirs.interrupt();
    theirs.finish();
    let theirs = carol.serve();
    say(&bob, "again");
    theirs.wait_for("#lab bob: again");
    assert!(!theirs.said().contains("before carol"), "{}", theirs.said());
    assert_eq!(texts(&carol).len(), 4);
    assert_eq!(texts(&alice).len(), 6);
}

/// The tracker and four members on machines of their own.
struct Islands {
    lab: Lab,
    hosts: Vec<Host>,
    // After the lab, whose processes run there.
    _network: Network,
}

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
const TRACKER: &str = "10.78.0.9";
/// An address of the link layer that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

fn address(number: usize) -> String {
    format!("10.78.0.{}", number + 1)
}

impl Islands {
    fn new() -> Option<Self> {
        let mut network = Network::make()?;
        let ip: IpAddr = TRACKER.parse().unwrap();
        let place = Some((network.host("tracker", &[&format!("{TRACKER}/24")]), ip));
        let host = |number: usize| network.host(NAMES[number], &[&format!("{}/24", address(number))]);
        let hosts = (0..NAMES.len()).map(host).collect();
        let lab = Lab::with(LabOptions { place, ..LabOptions::default() });
        Some(Self { lab, hosts, _network: network })
    }

    /// Parts the first two from the last two, or joins them again. What is sent across is lost, and nobody is told.
    fn part(&self, is_parted: bool) {
        for (number, host) in self.hosts.iter().enumerate() {
            let others = if number < 2 { 2..4 } else { 0..2 };
            others.for_each(|other| Self::set_lost(host, &address(other), is_parted));
        }
    }

    /// Parts everybody from the tracker, or lets them reach it again.
    fn hide_tracker(&self, is_hidden: bool) {
        self.hosts.iter().for_each(|host| Self::set_lost(host, TRACKER, is_hidden));
    }

    fn set_lost(host: &Host, to: &str, is_lost: bool) {
        let entry = format!("{to} lladdr {NOBODY} dev eth0 nud permanent");
        host.ip(&if is_lost { format!("neigh replace {entry}") } else { format!("neigh del {to} dev eth0") });
    }
}

/// Parts a room of four, lets both halves write, joins them again, and demands one order for all.
fn parted_and_joined(has_tracker: bool) {
    let Some(islands) = Islands::new() else { return };
    let lab = &islands.lab;
    let users: Vec<User<'_>> = islands.hosts.iter().zip(NAMES).map(|(host, name)| lab.user_on(host, name)).collect();
    make_room(&users.iter().collect::<Vec<_>>());
    let nodes: Vec<Process> = users.iter().map(User::serve).collect();
    let write = |user: &User<'_>, what: &str| say(user, &format!("{} {what}", user.name()));
    let hear = |node: &Process, user: &User<'_>, what: &str| {
        node.wait_for(&format!("#lab {}: {} {what}", user.name(), user.name()));
    };
    users.iter().for_each(|user| write(user, "before"));
    nodes.iter().for_each(|node| users.iter().for_each(|user| hear(node, user, "before")));
    islands.part(true);
    if !has_tracker {
        islands.hide_tracker(true);
    }
    let halves = [(&users[..2], &nodes[..2]), (&users[2..], &nodes[2..])];
    let words = ["alone", "still alone", "and alone"];
    for what in words {
        for (users, nodes) in halves {
            users.iter().for_each(|user| write(user, what));
            nodes.iter().for_each(|node| users.iter().for_each(|user| hear(node, user, what)));
        }
    }
    // Both sides have noticed by the time that a call across is given up.
    users[0].peer(["files", "carol"]).run().exits(7);
    users[3].peer(["files", "bob"]).run().exits(7);
    for ((users, _), (_, nodes)) in [(halves[0], halves[1]), (halves[1], halves[0])] {
        let across = |node: &Process| users.iter().any(|user| node.said().contains(&format!("{} alone", user.name())));
        assert!(!nodes.iter().any(across));
    }
    islands.part(false);
    if !has_tracker {
        islands.hide_tracker(false);
    }
    for what in words {
        nodes.iter().for_each(|node| users.iter().for_each(|user| hear(node, user, what)));
    }
    let told = texts(&users[0]);
    assert_eq!(told.len(), users.len() * (1 + words.len()), "{told:?}");
    for user in &users[1..] {
        assert_eq!(texts(user), told, "{}", user.name());
    }
}

#[test]
fn two_halves_come_to_one_order() {
    parted_and_joined(true);
}

#[test]
fn two_halves_without_a_tracker_come_to_one_order() {
    parted_and_joined(false);
}
