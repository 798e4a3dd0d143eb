//! The hook: a program of the user's that is run for every message that comes.
//!
//! It is run without a shell. Its environment has `VIZINHO_EVENT` (`message`, `offer` or `left_out`), `VIZINHO_FROM`,
//! `VIZINHO_TEXT` (made safe for a terminal), `VIZINHO_ID`, `VIZINHO_TS` and `VIZINHO_HOME`; its standard input is the text
//! as it came. `left_out` tells once, in words, how many messages of one person it was not run for; it has no id.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | hooks that run at once | 4, 2 of them for one person | they wait, each person in turn |
//! | messages that wait | 100 of one person, 1000 in all | of who has most the last is left out; that is told once |
//! | how long one runs | 30 s | it is killed |
//! | its output | none is read | |

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use shared::UserName;
use shared::peer::ChatMessage;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::chat::{Direction, HistoryQuery};
use super::event::Event;
use super::fair_queue::{FairQueue, Next, QueueBounds};
use super::{Error, Me, blocking};

/// Hooks that run at once.
const AT_ONCE: usize = 4;
/// Of these, for the messages of one person: however slow their texts make a program, others have their turn.
const AT_ONCE_PER_PERSON: usize = 2;
/// Messages that wait for their hook.
const WAITING: QueueBounds = QueueBounds { per_person: 100, total: 1000 };
/// How long one may run.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long those may take that run when the node ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the hook, if there is one, for every message that comes until `stop`.
///
/// # Errors
/// What is wrong with the profile.
pub async fn run(me: Me, mut events: broadcast::Receiver<Event>, stop: CancellationToken) -> Result<(), Error> {
    let mut hooks = Hooks::begin(me).await?;
    loop {
        hooks.start()?;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = hooks.running.join_next_with_id() => hooks.ended(ended),
            event = events.recv() => match event {
                Ok(Event::Received { from, message, seq, .. }) => hooks.hear(from, message, seq),
                Ok(_) => {}
                // Whoever made so much happen that it was missed takes nothing from the others: all of it is in the history.
                Err(broadcast::error::RecvError::Lagged(_)) => if let Err(why) = hooks.catch_up().await {
                    tracing::error!("the hook doesn't hear what it missed: {why}");
                },
                Err(broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    // What came before the end has its hook as well; it is not waited for for long.
    while let Ok(event) = events.try_recv() {
        if let Event::Received { from, message, seq, .. } = event {
            hooks.hear(from, message, seq);
        }
    }
    let last = async {
        loop {
            hooks.start()?;
            match hooks.running.join_next_with_id().await {
                Some(ended) => hooks.ended(ended),
                None => return Ok(()),
            }
        }
    };
    let ended = tokio::time::timeout(FAREWELL, last).await.unwrap_or(Ok(()));
    hooks.running.shutdown().await;
    ended
}

/// Hooks that run, and what waits for one.
struct Hooks {
    me: Me,
    waiting: FairQueue<ChatMessage>,
    running: JoinSet<()>,
    /// For whose message each of them runs.
    whose: HashMap<Id, UserName>,
    /// The place of the last message that was heard of.
    last: i64,
}

/// What a hook is run for.
enum Occasion {
    Message(ChatMessage),
    LeftOut(u64),
}

impl Hooks {
    async fn begin(me: Me) -> Result<Self, Error> {
        let profile = me.profile.clone();
        let last = blocking(move || Ok(profile.history(&HistoryQuery::last(1))?)).await?;
        let last = last.last().map_or(0, |stored| stored.seq);
        let (waiting, running, whose) = (FairQueue::new(WAITING), JoinSet::new(), HashMap::new());
        Ok(Self { me, waiting, running, whose, last })
    }

    fn hear(&mut self, from: UserName, message: ChatMessage, seq: i64) {
        // Told in the order of their places: what is not behind the last was found in the history.
        if seq > self.last {
            self.last = seq;
            self.waiting.push(from, message);
        }
    }

    /// Hears from the history what was missed.
    async fn catch_up(&mut self) -> Result<(), Error> {
        const PAGE: usize = 1000;
        loop {
            let query = HistoryQuery { after: Some(self.last), earliest: true, ..HistoryQuery::last(PAGE) };
            let profile = self.me.profile.clone();
            let page = blocking(move || Ok(profile.history(&query)?)).await?;
            let is_all = page.len() < PAGE;
            for stored in page {
                match stored.direction {
                    Direction::In => self.hear(stored.peer, stored.message, stored.seq),
                    Direction::Out => self.last = self.last.max(stored.seq),
                }
            }
            if is_all {
                return Ok(());
            }
        }
    }

    /// Runs as many as may run at once.
    fn start(&mut self) -> Result<(), Error> {
        while self.running.len() < AT_ONCE {
            let whose = &self.whose;
            let has_room = |user: &UserName| whose.values().filter(|of| *of == user).count() < AT_ONCE_PER_PERSON;
            let (from, occasion) = match self.waiting.pop(has_room) {
                Some(Next::Entry(from, message)) => (from, Occasion::Message(message)),
                Some(Next::LeftOut(from, count)) => (from, Occasion::LeftOut(count)),
                None => return Ok(()),
            };
            let Some(argv) = self.me.profile.hook()? else {
                self.waiting.clear();
                return Ok(());
            };
            if let Occasion::LeftOut(count) = &occasion {
                tracing::warn!("{from} writes faster than the hook runs: it was not run for {count} messages");
            }
            let hook = run_one(argv, self.me.profile.home().to_owned(), from.clone(), occasion);
            let running = self.running.spawn(hook);
            self.whose.insert(running.id(), from);
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(failure) => {
                tracing::error!("a hook's task failed: {failure}");
                failure.id()
            }
        };
        self.whose.remove(&id);
    }
}

impl Occasion {
    /// Sets what the hook is told; returns what it reads.
    fn tell(self, from: &UserName, command: &mut Command) -> String {
        match self {
            Self::Message(message) => {
                command
                    .env("VIZINHO_EVENT", if message.offer.is_some() { "offer" } else { "message" })
                    .env("VIZINHO_TEXT", &*message.text.block())
                    .env("VIZINHO_ID", message.id.to_string())
                    .env("VIZINHO_TS", message.ts.to_string());
                message.text.into_received()
            }
            Self::LeftOut(count) => {
                let messages = if count == 1 { "message" } else { "messages" };
                let text = format!("{count} more {messages} of {from}: peer inbox");
                command.env("VIZINHO_EVENT", "left_out").env("VIZINHO_TEXT", &text);
                text
            }
        }
    }
}

async fn run_one(argv: Vec<String>, home: PathBuf, from: UserName, occasion: Occasion) {
    let Some((program, args)) = argv.split_first() else { return };
    let mut command = Command::new(program);
    let text = occasion.tell(&from, &mut command);
    let child = command
        .args(args)
        .env("VIZINHO_FROM", from.as_str())
        .env("VIZINHO_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(why) => return tracing::error!("the hook {program} can't be run: {why}"),
    };
    let stdin = child.stdin.take();
    let finished = tokio::time::timeout(PATIENCE, async {
        if let Some(mut stdin) = stdin {
            // One that reads nothing is not at fault.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        child.wait().await
    });
    match finished.await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!("the hook {program}: {status}"),
        Ok(Err(why)) => tracing::warn!("the hook {program}: {why}"),
        // Dropped, it is killed.
        Err(_) => tracing::warn!("the hook {program} ran for more than {} s and was ended", PATIENCE.as_secs()),
    }
}
