//! Settings of the profile.

use std::sync::Arc;

use axum::extract::State;
use localization::tr;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiBody, PageSeat, answer};
use super::session_mode::SessionMode;
use crate::engine::{Error, run_blocking};
use crate::profile::Profile;

/// A change of settings; what isn't named stays.
#[derive(Debug, Deserialize)]
pub(super) struct SettingChange {
    #[serde(default)]
    bell: Option<bool>,
    #[serde(default)]
    desktop: Option<bool>,
}

/// Shows the settings.
pub(super) async fn show(page: PageSeat) -> ApiAnswer {
    let profile = page.seat.me.profile.clone();
    answer(&run_blocking(move || settings(&profile)).await?)
}

/// Changes settings; shows all of them then.
pub(super) async fn change(
    State(context): State<Arc<ApiContext>>,
    page: PageSeat,
    ApiBody(change): ApiBody<SettingChange>,
) -> ApiAnswer {
    // The desktop is that of whoever runs the door.
    if context.mode == SessionMode::Door && change.desktop.is_some() {
        return Err(ApiError::bad_request(|| tr!("notifications are the browser's at this door")));
    }
    let profile = page.seat.me.profile.clone();
    let changed = run_blocking(move || {
        if let Some(rings) = change.bell {
            profile.set_bell_enabled(rings)?;
        }
        if let Some(tells) = change.desktop {
            profile.set_desktop_notified(tells)?;
        }
        settings(&profile)
    });
    answer(&changed.await?)
}

fn settings(profile: &Profile) -> Result<Value, Error> {
    let muted: Vec<String> = profile.muted()?.iter().map(ToString::to_string).collect();
    Ok(json!({ "bell": profile.is_bell_enabled()?, "desktop": profile.is_desktop_notified()?, "muted": muted }))
}
