//! The hook: a program of the user's that is run for every message that comes.
//!
//! It is run without a shell. Its environment has `VIZINHO_EVENT` (`message` or `offer`), `VIZINHO_FROM`, `VIZINHO_TEXT`
//! (made safe for a terminal), `VIZINHO_ID`, `VIZINHO_TS` and `VIZINHO_HOME`; its standard input is the text as it came.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use shared::UserName;
use shared::peer::ChatMessage;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::{Error, Me};

/// Hooks that run at once.
const AT_ONCE: usize = 4;
/// Messages that wait for their hook; more than these go without.
const WAITING: usize = 1000;
/// How long one may run.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long those may take that run when the node ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the hook, if there is one, for every message that comes until `stop`.
///
/// # Errors
/// What is wrong with the profile.
pub async fn run(me: Me, mut events: broadcast::Receiver<Event>, stop: CancellationToken) -> Result<(), Error> {
    let mut running = JoinSet::new();
    let mut waiting = Waiting::new();
    loop {
        begin(&me, &mut running, &mut waiting)?;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = running.join_next() => if let Err(failure) = ended {
                tracing::error!("a hook's task failed: {failure}");
            },
            event = events.recv() => match event {
                Ok(Event::Received { from, message, .. }) if waiting.len() < WAITING => waiting.push_back((from, message)),
                Ok(Event::Received { .. }) => tracing::warn!("messages come faster than the hook takes them"),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!("{count} events came too fast for the hook");
                }
                Err(broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    // What came before the end has its hook as well; it is not waited for for long.
    while let Ok(event) = events.try_recv() {
        if let Event::Received { from, message, .. } = event {
            waiting.push_back((from, message));
        }
    }
    let last = async {
        loop {
            begin(&me, &mut running, &mut waiting)?;
            if running.join_next().await.is_none() {
                return Ok(());
            }
        }
    };
    let ended = tokio::time::timeout(FAREWELL, last).await.unwrap_or(Ok(()));
    running.shutdown().await;
    ended
}

/// Messages that wait for their hook.
type Waiting = VecDeque<(UserName, ChatMessage)>;

/// Runs as many as may run at once.
fn begin(me: &Me, running: &mut JoinSet<()>, waiting: &mut Waiting) -> Result<(), Error> {
    while running.len() < AT_ONCE
        && let Some((from, message)) = waiting.pop_front()
    {
        let Some(argv) = me.profile.hook()? else {
            waiting.clear();
            break;
        };
        running.spawn(run_one(argv, me.profile.home().to_owned(), from, message));
    }
    Ok(())
}

async fn run_one(argv: Vec<String>, home: std::path::PathBuf, from: UserName, message: ChatMessage) {
    let Some((program, args)) = argv.split_first() else { return };
    let kind = if message.offer.is_some() { "offer" } else { "message" };
    let child = Command::new(program)
        .args(args)
        .env("VIZINHO_EVENT", kind)
        .env("VIZINHO_FROM", from.as_str())
        .env("VIZINHO_TEXT", &*message.text.block())
        .env("VIZINHO_ID", message.id.to_string())
        .env("VIZINHO_TS", message.ts.to_string())
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
            let _ = stdin.write_all(message.text.as_received().as_bytes()).await;
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
