//! REGISTER_FILES of as many files as one user may have, and a change of one of them.

use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::Value;

use crate::clients::{ask, ask_well};
use crate::crowd::{Connection, Person};
use crate::events::events;
use crate::sites::Site;
use crate::{on_one_thread, percentile, verdict};

const FILES: usize = 100_000;
const LISTS: usize = 3;
const CHANGES: usize = 15;

/// How long the replies took, and the events at another tracker.
#[derive(Default)]
struct Times {
    replies: Vec<Duration>,
    events: Vec<Duration>,
}

pub(crate) fn run(server: &PostgresServer) {
    let people = Person::crowd(2);
    let mut medians = Vec::new();
    for (name, site) in [("embedded", Site::embedded(&people)), ("three trackers", Site::cluster(server, &people))] {
        let (mut lists, mut changes) = on_one_thread(measure(&people, &site));
        println!(
            "{name:15} {FILES} files: reply {:.2} s, event at another tracker {:.2} s (medians of {LISTS}); \
             a change of one: reply {:.1} ms, event {:.1} ms (medians of {CHANGES})",
            percentile(&mut lists.replies, 50) / 1000.0,
            percentile(&mut lists.events, 50) / 1000.0,
            percentile(&mut changes.replies, 50),
            percentile(&mut changes.events, 50),
        );
        medians.push((percentile(&mut lists.replies, 50), percentile(&mut changes.replies, 50)));
    }
    let ([alone, all], [alone_change, all_change]) = ([medians[0].0, medians[1].0], [medians[0].1, medians[1].1]);
    println!(
        "× {:.2} of embedded, a change × {:.2}; ≤ 5 s: {}",
        all / alone,
        all_change / alone_change,
        verdict(all <= 5000.0)
    );
}

async fn measure(people: &[Rc<Person>], site: &Site) -> (Times, Times) {
    let addresses = site.addresses();
    let (sharer, watcher) = (&people[0], &people[1]);
    let mut connection = sharer.come(addresses[0]).await;
    let mut subscriber = watcher.come(*addresses.last().unwrap()).await;
    ask_well(&mut subscriber, r#"{"action":"SUBSCRIBE"}"#).await;
    let (mut lists, mut changes) = (Times::default(), Times::default());
    for round in 0..LISTS {
        // Their number tells the event apart.
        let count = FILES - 1 - round;
        let mut request = format!(r#"{{"action":"REGISTER_FILES","user":"{}","files":["#, sharer.name);
        for number in 0..count {
            let comma = if number > 0 { "," } else { "" };
            let hash = format!("{round:032x}{number:032x}");
            write!(
                request,
                r#"{comma}{{"name":"folder {}/file {number}.dat","size":{number},"hash":"{hash}"}}"#,
                number / 100
            )
            .unwrap();
        }
        request.push_str("]}");
        time(&mut connection, &mut subscriber, (&request, count), &mut lists).await;
        // The trackers may still be at it.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for round in 0..CHANGES {
        let (mode, more) = if round % 2 == 0 { ("add", 1) } else { ("remove", 0) };
        let file = r#"{"name":"folder 500/one more.dat","size":1,"hash":"h"}"#;
        let user = &sharer.name;
        let request = format!(r#"{{"action":"REGISTER_FILES","user":"{user}","mode":"{mode}","files":[{file}]}}"#);
        time(&mut connection, &mut subscriber, (&request, FILES - LISTS + more), &mut changes).await;
        // The pace of one user's events.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    (lists, changes)
}

async fn time(
    connection: &mut Connection,
    subscriber: &mut Connection,
    (request, count): (&str, usize),
    times: &mut Times,
) {
    let began = Instant::now();
    let reply = async {
        let reply: Value = serde_json::from_slice(&ask(connection, request).await).unwrap();
        assert_eq!(reply["code"], "ok", "{reply}");
        began.elapsed()
    };
    let event = async {
        loop {
            let events = events(subscriber).await;
            if events.iter().any(|event| event["event"] == "files" && event["count"] == count) {
                return began.elapsed();
            }
        }
    };
    let (reply, event) = tokio::join!(reply, event);
    times.replies.push(reply);
    times.events.push(event);
}
