//! The lines of several nodes, each with the time when it was printed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use tests::{PATIENCE, User};

/// A line of a node.
pub(crate) struct PrintedLine {
    pub(crate) node: usize,
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// Running `peer serve`s, killed when they are dropped.
pub(crate) struct PrintingNodes {
    nodes: Vec<Child>,
    sender: Sender<PrintedLine>,
    lines: Receiver<PrintedLine>,
}

impl PrintingNodes {
    pub(crate) fn new() -> Self {
        let (sender, lines) = channel();
        Self { nodes: Vec::new(), sender, lines }
    }

    /// Starts a node, and waits until it is online.
    pub(crate) fn start(&mut self, user: &User<'_>) -> usize {
        let node = self.nodes.len();
        let mut command = user.peer(["serve"]).command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for output in [Box::new(stdout) as Box<dyn std::io::Read + Send>, Box::new(stderr)] {
            let sender = self.sender.clone();
            std::thread::spawn(move || {
                for text in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(PrintedLine { node, at: Instant::now(), text });
                }
            });
        }
        self.nodes.push(child);
        let online = format!("online as {} at ", user.name());
        self.wait_for(|line| line.node == node && line.text.contains(&online));
        node
    }

    /// The process number of a node.
    pub(crate) fn pid(&self, node: usize) -> u32 {
        self.nodes[node].id()
    }

    /// Waits for such a line. Those before it are dropped.
    pub(crate) fn wait_for(&self, mut is_wanted: impl FnMut(&PrintedLine) -> bool) -> PrintedLine {
        let mut last = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else { panic!("nothing more is printed after {last:?}") };
            if is_wanted(&line) {
                return line;
            }
            last = line.text;
        }
    }

    /// Waits until all nodes but `author` have printed a line that ends in `text`. Returns the times of it.
    pub(crate) fn wait_for_all(&self, author: usize, text: &str) -> Vec<Instant> {
        let mut missing: Vec<usize> = (0..self.nodes.len()).filter(|node| *node != author).collect();
        let mut times = Vec::new();
        while !missing.is_empty() {
            let is_wanted = |line: &PrintedLine| missing.contains(&line.node) && line.text.ends_with(text);
            let PrintedLine { node, at, .. } = self.wait_for(is_wanted);
            missing.retain(|other| *other != node);
            times.push(at);
        }
        times
    }
}

impl Drop for PrintingNodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill().and_then(|()| node.wait());
        }
    }
}
