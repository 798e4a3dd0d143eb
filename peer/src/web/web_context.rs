//! What all requests of a server share.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Mutex as TurnLock;

use super::address_attempts::{AddressAttempts, WRONG_CODES};
use super::address_limits::{AddressCounts, GuestAddress};
use super::chat_stream_slots::ChatStreamSlots;
use super::guest_pages::PageFrame;
use super::guest_refusal::GuestRefusal;
use super::link_event::LinkEventHandler;
use super::message_rates::MessageRates;
use super::piece_body::BodyLimits;
use super::upload_turns::UploadTurns;
use crate::engine::Error;
use crate::engine::guest_links::GuestLinks;

/// Codes that are looked at at the same time.
const CODE_TURNS: usize = 32;

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
    /// Held while a code is looked at; an address always has the same one.
    code_turns: [TurnLock<()>; CODE_TURNS],
    turn_places: RandomState,
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
            code_turns: Default::default(),
            turn_places: RandomState::new(),
            message_rates: Mutex::default(),
        }
    }

    /// Looks at a code of an address; `look` returns `None` for a wrong one.
    ///
    /// # Errors
    /// [`GuestRefusal::Wait`] without a look, [`GuestRefusal::Unauthorised`], or the error of the look.
    pub(super) async fn try_code<T>(
        &self,
        address: GuestAddress,
        look: impl Future<Output = Result<Option<T>, Error>>,
    ) -> Result<T, GuestRefusal> {
        // One after another: those that a program with the right code sends at once would use the allowance up.
        let _turn = self.code_turns[self.turn_places.hash_one(address) as usize % CODE_TURNS].lock().await;
        // Charged before the answer is known: attempts at the same time would all find the allowance untouched. While an
        // address waits, it learns of no code whether it is right.
        let charged = self.wrong_codes.lock().charge(address, Instant::now());
        // Parts of a second are cut off, and 0 would be no wait.
        charged.map_err(|wait| GuestRefusal::Wait(wait.as_secs().max(1)))?;
        let found = look.await;
        if !matches!(found, Ok(None)) {
            self.wrong_codes.lock().refund(address);
        }
        found?.ok_or(GuestRefusal::Unauthorised)
    }

    /// Counts a message of an address; false if it came too soon.
    pub(super) fn try_count_message(&self, address: GuestAddress) -> bool {
        self.message_rates.lock().try_count(address, Instant::now())
    }
}
