//! What all requests of a server share.

use std::time::Instant;

use parking_lot::Mutex;

use super::address_attempts::{AddressAttempts, WRONG_CODES};
use super::address_limits::{AddressCounts, GuestAddress};
use super::chat_stream_slots::ChatStreamSlots;
use super::guest_pages::PageFrame;
use super::link_event::LinkEventHandler;
use super::message_rates::MessageRates;
use super::piece_body::BodyLimits;
use super::upload_turns::UploadTurns;
use crate::engine::guest_links::GuestLinks;

/// The links of a server and the bounds of its requests.
pub(super) struct WebContext {
    pub(super) links: GuestLinks,
    pub(super) frame: PageFrame,
    /// The names of this machine, besides its addresses.
    pub(super) own_names: Vec<String>,
    pub(super) bodies: BodyLimits,
    pub(super) uploads: AddressCounts,
    pub(super) upload_turns: UploadTurns,
    pub(super) events: LinkEventHandler,
    pub(super) chat_streams: ChatStreamSlots,
    wrong_codes: Mutex<AddressAttempts>,
    message_rates: Mutex<MessageRates>,
}

impl WebContext {
    pub(super) fn new(
        links: GuestLinks,
        frame: PageFrame,
        own_names: Vec<String>,
        rate: Option<u64>,
        events: LinkEventHandler,
    ) -> Self {
        Self {
            links,
            frame,
            own_names,
            bodies: BodyLimits::with_rate(rate),
            uploads: AddressCounts::of_uploads(),
            upload_turns: UploadTurns::default(),
            events,
            chat_streams: ChatStreamSlots::default(),
            wrong_codes: Mutex::new(AddressAttempts::new(WRONG_CODES)),
            message_rates: Mutex::default(),
        }
    }

    /// Returns how many seconds an address has to wait before a code of it is looked at.
    pub(super) fn code_wait(&self, address: GuestAddress) -> Option<u64> {
        // Parts of a second are cut off, and 0 would be no wait.
        self.wrong_codes.lock().wait(address, Instant::now()).map(|wait| wait.as_secs().max(1))
    }

    /// Counts a wrong code of an address.
    pub(super) fn count_wrong_code(&self, address: GuestAddress) {
        // Beyond the allowance none is looked at, so that there is nothing to count.
        let _ = self.wrong_codes.lock().charge(address, Instant::now());
    }

    /// Counts a message of an address; false if it came too soon.
    pub(super) fn try_count_message(&self, address: GuestAddress) -> bool {
        self.message_rates.lock().try_count(address, Instant::now())
    }
}
