//! `peer web --accounts`: the door for people who have nothing but a browser.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::Identity;
use localization::tr;
use serde_json::json;

use super::super::context::CommandContext;
use super::super::own_address::own_address;
use super::super::tracker_selection::tracker_for_password;
use crate::engine::door::{DoorAccounts, DoorTracker};
use crate::engine::door_pass::DoorPass;
use crate::engine::tracker_key::confirmed_key;
use crate::engine::{Error, Notice, NoticeHandler, run_blocking};
use crate::net::tracker::TrackerAddress;
use crate::profile::{Profile, ProfileError};
use crate::web::{DoorServer, DoorServerConfig, open_certificate, shown_fingerprint};

/// The folder of the accounts, in the operator's.
const DOOR_FOLDER: &str = "door";
/// The folder of the door's own key, among those of the accounts; no account has such a name.
const KEY_FOLDER: &str = "~identity";

/// What the command line says of a door.
pub(super) struct DoorOptions {
    pub(super) listen: SocketAddr,
    pub(super) is_plain: bool,
    pub(super) stay: Duration,
}

/// What is told of a door that listens.
struct DoorNotice {
    url: String,
    certificate: Option<String>,
    pass: DoorPass,
    is_trusted: Option<bool>,
}

pub(super) async fn run(context: &CommandContext, options: DoorOptions) -> Result<(), Error> {
    let profile = context.profile_for_sign_in()?;
    let tracker = tracker_for_password(context, &profile, "web --accounts").await?;
    let tracker = context.until_cancelled(trusted_tracker(context, &profile, tracker)).await?;
    let (home, address) = (profile.home().to_owned(), tracker.address.clone());
    let opened = run_blocking(move || {
        let identity = Identity::load_or_create(&home.join(DOOR_FOLDER).join(KEY_FOLDER));
        let pass = DoorPass::new(identity.map_err(ProfileError::from)?);
        let certificate = if options.is_plain { None } else { Some(open_certificate(&home)?) };
        Ok((pass, certificate, home.join(DOOR_FOLDER)))
    });
    let (pass, certificate, folder) = opened.await?;
    let (handlers, door_pass) = (context.node_handlers(), pass.clone());
    let opened = run_blocking(move || DoorAccounts::open_folder(&folder, tracker, door_pass, handlers, log_notices()));
    let accounts = opened.await?;
    let config = DoorServerConfig {
        accounts: accounts.clone(),
        listen: options.listen,
        certificate: certificate.as_ref(),
        stay: options.stay,
    };
    let server = DoorServer::bind(config)?;
    // A tracker that can't be reached is only worth a warning: it may be back by the time somebody logs in.
    let is_trusted = context.until_cancelled(async { Ok(accounts.is_trusted().await.ok()) }).await?;
    let url = own_url(&options, server.port(), &address).await;
    let certificate = certificate.as_ref().map(shown_fingerprint);
    announce(context, &DoorNotice { url, certificate, pass, is_trusted })?;
    server.run(context.cancel.clone()).await;
    Err(Error::Interrupted)
}

/// Returns the tracker with the key that was confirmed, for instance at this start.
async fn trusted_tracker(
    context: &CommandContext,
    profile: &Profile,
    address: TrackerAddress,
) -> Result<DoorTracker, Error> {
    let key = confirmed_key(profile, &address, context.key_policy, &context.notify()).await?;
    Ok(DoorTracker { address, key })
}

/// Notices of nodes become their events; the rest is for the log.
fn log_notices() -> NoticeHandler {
    Arc::new(|notice: Notice| tracing::debug!("{notice:?}"))
}

/// Returns the address at which others most likely reach the door: the one given, or the machine's own.
async fn own_url(options: &DoorOptions, port: u16, tracker: &TrackerAddress) -> String {
    let ip = match options.listen.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => own_address(tracker).await,
    };
    let scheme = if options.is_plain { "http" } else { "https" };
    format!("{scheme}://{}/", SocketAddr::new(ip, port))
}

fn announce(context: &CommandContext, door: &DoorNotice) -> Result<(), Error> {
    let DoorNotice { url, certificate, pass, is_trusted } = door;
    let (output, key) = (&context.output, pass.fingerprint());
    if output.is_json() {
        let fields = json!({
            "url": url, "fingerprint": certificate, "door_key": key, "trusted": is_trusted.unwrap_or(false),
        });
        return Ok(output.print_object("door", &fields)?);
    }
    output.print_data(url)?;
    output.note(&tr!(
        "the door is open until Ctrl-C: whoever has an account at the tracker, or makes one, logs in there with a browser"
    ));
    output.note(&tr!(
        "this machine holds the keys and messages of everybody who comes in here: whoever runs it can read them and write \
         in their names"
    ));
    match certificate {
        Some(fingerprint) => {
            output.note(&tr!("the certificate's SHA-256, to compare with the browser's: {fingerprint}", fingerprint));
        }
        None => output.warning(&tr!(
            "--plain-http: nothing is encrypted between browsers and this machine; passwords and messages can be read on \
             the way"
        )),
    }
    match is_trusted {
        Some(true) => {}
        Some(false) => output.note(&tr!(
            "the tracker counts everybody behind this door as one machine. For more than a few people, start it with \
             --trusted-door {key}",
            key
        )),
        None => output.warning(&tr!("the tracker can't be reached: nobody can log in until it is back")),
    }
    Ok(())
}
