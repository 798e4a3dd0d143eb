//! Two programs that write to each other through their nodes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::User;

use super::figures::Series;

/// A conversation.
pub(crate) struct Talk {
    hers: Events,
    answering: Option<std::thread::JoinHandle<()>>,
    his: Child,
}

/// A `peer events`. Read by whoever waits, without a thread in between: this is about the time it takes.
struct Events {
    child: Option<Child>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    /// Alice writes, bob answers whatever comes.
    pub(crate) fn begin(alice: &User<'_>, bob: &User<'_>) -> Self {
        let mut his = Events::start(bob);
        let child = his.child.take().unwrap();
        let answering = std::thread::spawn(move || {
            while let Some(event) = his.next() {
                if event["state"] == "received" {
                    his.send("alice", "pong");
                }
            }
        });
        Self { hers: Events::start(alice), answering: Some(answering), his: child }
    }

    /// One message after another, each when the answer to the one before is here, for that long.
    pub(crate) fn go_on_for(&mut self, time: Duration, series: &mut Series) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let begin = Instant::now();
            self.hers.send("bob", "ping");
            let (mut acked, mut answered) = (None, None);
            while acked.is_none() || answered.is_none() {
                let event = self.hers.next().expect("an event");
                match event["type"].as_str() {
                    Some("ack") if event["state"] == "stored" => acked = Some(begin.elapsed()),
                    Some("message") if event["state"] == "received" => answered = Some(begin.elapsed()),
                    Some("error") => panic!("{event}"),
                    _ => {}
                }
            }
            series.acked.extend(acked);
            series.answered.extend(answered);
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Its end is the end of the thread that reads from it.
        let _ = self.his.kill().and_then(|()| self.his.wait());
        let _ = self.answering.take().map(std::thread::JoinHandle::join);
    }
}

impl Events {
    fn start(user: &User<'_>) -> Self {
        let mut command = user.peer(["events"]).command();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("peer runs");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child: Some(child), input, output }
    }

    fn send(&mut self, to: &str, text: &str) {
        let line = format!("{}\n", json!({ "type": "send", "to": to, "text": text }));
        // One that is gone says so by its end.
        let _ = self.input.write_all(line.as_bytes());
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let len = self.output.read_line(&mut line).expect("it can be read");
        (len > 0).then(|| serde_json::from_str(&line).expect("an event"))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}
