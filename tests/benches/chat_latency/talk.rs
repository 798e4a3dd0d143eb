//! Two programs that write to each other through their nodes.

use std::time::{Duration, Instant};

use tests::{AnsweringProgram, EventProgram, User};

use super::figures::Series;

/// A conversation.
pub(crate) struct Talk {
    hers: EventProgram,
    _his: AnsweringProgram,
}

impl Talk {
    /// Alice writes, bob answers whatever comes.
    pub(crate) fn begin(alice: &User<'_>, bob: &User<'_>) -> Self {
        let answer =
            |event: &serde_json::Value| (event["state"] == "received").then(|| ("alice".to_owned(), "pong".to_owned()));
        Self { hers: EventProgram::start(alice), _his: EventProgram::start(bob).answering(answer) }
    }

    /// One message after another, each when the answer to the one before is here, for that long.
    pub(crate) fn go_on_for(&mut self, time: Duration, series: &mut Series) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let begin = Instant::now();
            self.hers.send("bob", "ping");
            let (mut acked, mut answered) = (None, None);
            while acked.is_none() || answered.is_none() {
                let event = self.hers.next_event().expect("an event");
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
