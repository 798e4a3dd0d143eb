//! A server for one link, while the command runs.

use std::time::Duration;

use localization::tr;
use tokio_util::sync::CancellationToken;

use super::super::context::CommandContext;
use super::guest_answers::GuestAnswers;
use crate::engine::guest_links::{GuestLink, GuestLinks};
use crate::engine::{Error, LocalUser, now_ms, run_blocking};
use crate::web::{LinkEventHandler, LinkServer, LinkServerConfig, open_certificate};

/// The longest time until it is seen that the link was revoked by another process.
const LOOK_INTERVAL_MS: i64 = 1000;

/// A server that listens, and the links of this process.
pub(super) struct ForegroundServer {
    server: LinkServer,
    links: GuestLinks,
}

impl ForegroundServer {
    /// Listens.
    ///
    /// # Errors
    /// The certificate or the port can't be had.
    pub(super) fn bind(me: &LocalUser, port: Option<u16>, events: LinkEventHandler) -> Result<Self, Error> {
        let links = GuestLinks::new(me.profile.clone(), &me.identity, Some(std::process::id()));
        let server = LinkServer::bind(LinkServerConfig {
            links: links.clone(),
            owner: me.user.to_string(),
            certificate: &open_certificate(me.profile.home())?,
            port,
            // Not the node's, which may start at any time.
            last_port: None,
            rate: None,
            events,
        })?;
        Ok(Self { server, links })
    }

    pub(super) const fn port(&self) -> u16 {
        self.server.port()
    }

    /// Serves until the link has ended, or Ctrl-C. Lines of a terminal answer its guests.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after Ctrl-C.
    pub(super) async fn run(self, context: &CommandContext, link: &GuestLink) -> Result<(), Error> {
        let (stop, number) = (CancellationToken::new(), link.number);
        let mut answers = GuestAnswers::new(context, self.links.clone(), link)?;
        let mut serving = Box::pin(self.server.run(stop.clone()));
        let mut last_message = 0;
        let ended = loop {
            let links = self.links.clone();
            let look = async {
                let (end, last) = run_blocking(move || Ok((links.sweep()?, links.last_message(number)?))).await?;
                // Answers of other processes.
                if std::mem::replace(&mut last_message, last) != last {
                    self.links.chat_signal().send(None);
                }
                if let Some(end) = end {
                    let wait = (end - now_ms()).clamp(0, LOOK_INTERVAL_MS);
                    tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
                }
                Ok(end.is_some())
            };
            tokio::select! {
                () = &mut serving => break Ok(()),
                () = context.cancel.cancelled() => break Err(Error::Interrupted),
                line = answers.next_line() => {
                    let answered = async { answers.answer(context, &line?).await };
                    if let Err(why) = answered.await {
                        break Err(why);
                    }
                }
                lives = look => match lives {
                    Ok(true) => {}
                    Ok(false) => {
                        context.output.note(&tr!("the link has ended"));
                        break Ok(());
                    }
                    Err(error) => break Err(error),
                },
            }
        };
        stop.cancel();
        serving.await;
        ended
    }
}
