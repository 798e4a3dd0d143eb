//! Sentences about the users that a fetch has its bytes from.

use std::time::Duration;

use localization::tr;
use shared::UserName;

use super::fetch::Slowdown;
use super::size_format::transfer_rate;

/// Says that somebody is there and sends nothing.
pub fn silent_words(user: &UserName, time: Duration) -> String {
    let seconds = time.as_secs();
    tr!("{user} is still connected, but sent next to nothing for {seconds} s (does a disk hang there?)", user, seconds)
}

/// Says that somebody who was fast sends slowly.
pub fn slow_words(user: &UserName, slowdown: Slowdown, seeks: bool) -> String {
    const SECOND: Duration = Duration::from_secs(1);
    let Slowdown { rate: now, before } = slowdown;
    let (rate, before) = (transfer_rate(now, SECOND), transfer_rate(before, SECOND));
    match seeks {
        true => {
            tr!("{user} became slow: {rate}, after {before}; others who have it are looked for", user, rate, before)
        }
        false => tr!("{user} became slow: {rate}, after {before}", user, rate, before),
    }
}
