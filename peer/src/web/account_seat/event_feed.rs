//! The events of a seat, numbered, the last of them kept: browsers read them at their own pace.
//!
//! Nobody is waited for. A browser that falls behind the kept ones is told so, and loads everything anew.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::engine::now_ms;
use crate::util::TranslatedText;
use crate::web::hidden_folder::HiddenFolder;

/// Kept events, and their bytes.
const MAX_EVENTS: usize = 1024;
const MAX_BYTES: usize = 4 << 20;

/// An event for browsers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct FeedEvent {
    /// Its number.
    pub(in crate::web) id: u64,
    /// The object, one line of JSON, in the language of each browser.
    pub(in crate::web) data: Arc<TranslatedText>,
}

/// The events after a number.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::web) enum FeedPage {
    /// Those that follow it, perhaps none yet.
    Events(Vec<FeedEvent>),
    /// Some are no longer kept, or the number is of another server; this one is the last.
    Missed(u64),
}

/// The feed of one seat.
#[derive(Debug)]
pub(in crate::web) struct EventFeed {
    hidden: HiddenFolder,
    ring: Mutex<FeedRing>,
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct FeedRing {
    events: VecDeque<FeedEvent>,
    last: u64,
    /// The last one that isn't kept any more.
    forgotten: u64,
    bytes: usize,
}

impl EventFeed {
    /// Returns the feed of a seat, without events. Nobody hears of `hidden` by it.
    pub(super) fn new(hidden: HiddenFolder) -> Self {
        // By the clock: a browser that knew an earlier server never takes this one's numbers for those.
        Self { hidden, ..Self::starting_at(u64::try_from(now_ms()).unwrap_or_default().saturating_mul(1000)) }
    }

    fn starting_at(last: u64) -> Self {
        let ring = FeedRing { events: VecDeque::new(), last, forgotten: last, bytes: 0 };
        Self { hidden: HiddenFolder::default(), ring: Mutex::new(ring), last: watch::Sender::new(last) }
    }

    /// Publishes an object of version 1 with this type. Its fields are made once for each language: nobody knows yet who
    /// will read them.
    pub(in crate::web) fn publish(&self, kind: &str, fields: impl Fn() -> Value) {
        self.push(TranslatedText::new(|| {
            let mut object = json!({ "v": 1, "type": kind });
            if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields()) {
                // A field of these names would pass for another version or type.
                object.extend(fields.into_iter().filter(|(key, _)| !matches!(&**key, "v" | "type")));
            }
            // What people write stays as it is: it would tell whoever guesses the folder that they are right.
            if !matches!(kind, "message" | "offer") {
                self.hidden.strip_value(&mut object);
            }
            object.to_string()
        }));
    }

    fn push(&self, data: TranslatedText) {
        let mut ring = self.ring.lock();
        ring.last += 1;
        let event = FeedEvent { id: ring.last, data: data.into() };
        ring.bytes += event.data.stored_len();
        ring.events.push_back(event);
        while ring.events.len() > MAX_EVENTS || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.events.pop_front() else { break };
            ring.bytes -= oldest.data.stored_len();
            ring.forgotten = oldest.id;
        }
        // `send` keeps the old number while nobody watches. Under the lock, so that numbers are told in order.
        self.last.send_replace(ring.last);
    }

    /// Returns the events after a number, of at most about so many bytes.
    pub(in crate::web) fn after(&self, id: u64, max_bytes: usize) -> FeedPage {
        let ring = self.ring.lock();
        if id < ring.forgotten || id > ring.last {
            return FeedPage::Missed(ring.last);
        }
        let first = ring.events.partition_point(|event| event.id <= id);
        let mut bytes = 0;
        let fits = |event: &&FeedEvent| {
            let is_first = bytes == 0;
            bytes += event.data.len();
            // One at least, however large: a browser that got none would ask for the same one for ever.
            is_first || bytes <= max_bytes
        };
        FeedPage::Events(ring.events.range(first..).take_while(fits).cloned().collect())
    }

    /// Returns the number of the last event, and how to wait for the next.
    pub(in crate::web) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use localization::{Language, in_language, tr};

    use super::*;

    fn ids(page: &FeedPage) -> Vec<u64> {
        match page {
            FeedPage::Events(events) => events.iter().map(|event| event.id).collect(),
            FeedPage::Missed(last) => panic!("missed up to {last}"),
        }
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let feed = EventFeed::starting_at(10);
        assert_eq!(ids(&feed.after(10, 1000)), [0; 0]);
        for number in 0..5 {
            feed.publish("message", || json!({ "number": number, "v": 9, "type": "forged" }));
        }
        assert_eq!(ids(&feed.after(10, 1 << 20)), [11, 12, 13, 14, 15]);
        assert_eq!(ids(&feed.after(13, 1 << 20)), [14, 15]);
        assert_eq!(ids(&feed.after(10, 1)), [11], "one always fits");
        assert_eq!(feed.after(9, 1), FeedPage::Missed(15), "another server's");
        assert_eq!(feed.after(16, 1), FeedPage::Missed(15));
        let FeedPage::Events(events) = feed.after(14, 100) else { panic!() };
        let event: Value = serde_json::from_str(&events[0].data).unwrap();
        assert_eq!(event, json!({ "v": 1, "type": "message", "number": 4 }));
    }

    #[test]
    fn each_browser_reads_its_language() {
        let feed = EventFeed::starting_at(0);
        feed.publish("problem", || json!({ "text": TranslatedText::new(|| tr!("wrong user name or password")) }));
        let FeedPage::Events(events) = feed.after(0, 100) else { panic!() };
        let read = |language| in_language(language, || events[0].data.to_string());
        assert!(read(Language::English).contains("wrong user name or password"), "{}", read(Language::English));
        let portuguese = read(Language::Portuguese);
        assert_ne!(portuguese, read(Language::English));
        assert_eq!(feed.ring.lock().bytes, portuguese.len() + read(Language::English).len());
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let feed = EventFeed::starting_at(0);
        for _ in 0..MAX_EVENTS + 5 {
            feed.publish("x", || Value::Null);
        }
        assert_eq!(feed.after(4, 1), FeedPage::Missed(1029));
        assert_eq!(ids(&feed.after(5, 1)), [6]);
        for _ in 0..10 {
            feed.publish("x", || json!({ "text": "a".repeat(MAX_BYTES / 4) }));
        }
        assert!(feed.ring.lock().bytes <= MAX_BYTES);
        assert_eq!(ids(&feed.after(1036, usize::MAX)), [1037, 1038, 1039]);
    }
}
