//! Programs that talk to their nodes through `peer events`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::User;

/// A running `peer events`, killed when it is dropped. Whoever waits reads it, without a thread in between: for
/// measurements of the time that something takes.
pub struct EventProgram {
    child: EventChild,
    streams: EventStreams,
}

/// A `peer events` that is read by a thread until it is dropped.
pub struct AnsweringProgram {
    child: EventChild,
    thread: Option<JoinHandle<()>>,
}

/// The process, killed when it is dropped.
struct EventChild(Child);

struct EventStreams {
    input: ChildStdin,
    /// Gone once it is not to be read.
    output: Option<BufReader<ChildStdout>>,
}

impl EventProgram {
    /// Starts it.
    ///
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    pub fn start(user: &User<'_>) -> Self {
        let mut command = user.peer(["events"]).command();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("peer runs");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().map(BufReader::new));
        Self { child: EventChild(child), streams: EventStreams { input, output } }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Asks it to send a message to a user, or to a room as `#lab`.
    pub fn send(&mut self, to: &str, text: &str) {
        self.streams.send(to, text);
    }

    /// Waits for the next event; `None` if it ended, or its output is dropped.
    ///
    /// # Panics
    /// When it prints something else.
    pub fn next_event(&mut self) -> Option<Value> {
        self.streams.next_event()
    }

    /// Has a thread read its output from here on and drop it, so that it never waits for somebody who only writes.
    pub fn drop_output(&mut self) {
        let output = self.streams.output.take();
        std::thread::spawn(move || output.map(|mut output| std::io::copy(&mut output, &mut std::io::sink())));
    }

    /// Has a thread read it from here on, and send the messages, each with its addressee, that `answer` returns.
    #[must_use]
    pub fn answering(self, answer: impl Fn(&Value) -> Option<(String, String)> + Send + 'static) -> AnsweringProgram {
        let Self { child, mut streams } = self;
        let thread = std::thread::spawn(move || {
            while let Some(event) = streams.next_event() {
                if let Some((to, text)) = answer(&event) {
                    streams.send(&to, &text);
                }
            }
        });
        AnsweringProgram { child, thread: Some(thread) }
    }
}

impl EventStreams {
    fn send(&mut self, to: &str, text: &str) {
        let line = format!("{}\n", json!({ "type": "send", "to": to, "text": text }));
        // One that is gone says so by its end.
        let _ = self.input.write_all(line.as_bytes());
    }

    fn next_event(&mut self) -> Option<Value> {
        let mut line = String::new();
        let len = self.output.as_mut()?.read_line(&mut line).expect("it can be read");
        (len > 0).then(|| serde_json::from_str(&line).expect("an event"))
    }
}

impl EventChild {
    fn kill(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

impl Drop for EventChild {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for AnsweringProgram {
    fn drop(&mut self) {
        // Its end is the end of the thread that reads from it.
        self.child.kill();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
