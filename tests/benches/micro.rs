//! The pure parts that every byte, group, file or request passes, alone and without a network:
//!
//!     cargo bench -p tests --bench micro               all of it, about a minute
//!     cargo bench -p tests --bench micro -- registry   only what has this in its name
//!
//! For before and after a change to one of them; what the programs do with it is measured from outside.

#![allow(clippy::unwrap_used, reason = "what can't be done must stop a bench, loudly")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// The tracker's protocol as it comes from a client that waits for no reply.
mod json_scanner {
    use super::*;
    use shared::json_scanner::JsonScanner;
    use shared::limits::{MAX_REQUEST_BYTES_AFTER_LOGIN, MAX_REQUEST_DEPTH};

    const REQUESTS: usize = 10_000;
    const REQUEST: &str =
        "{\"action\":\"LIST_PEERS\",\"user\":\"alice\",\"name\":\"a \\\"quoted\\\" name\",\"limit\":100}\n";

    fn scan(stream: &[u8], read: usize) -> usize {
        let mut objects = JsonScanner::new(MAX_REQUEST_BYTES_AFTER_LOGIN, MAX_REQUEST_DEPTH);
        let mut found = 0;
        for part in stream.chunks(read) {
            objects.extend(part);
            while objects.next_object().unwrap().is_some() {
                found += 1;
            }
        }
        found
    }

    #[divan::bench(args = [97, 16 * 1024, 16 << 20])]
    fn pipelined_requests(bencher: Bencher<'_, '_>, read: usize) {
        let stream = REQUEST.repeat(REQUESTS).into_bytes();
        assert_eq!(scan(&stream, read), REQUESTS);
        bencher.counter(BytesCount::of_slice(&stream)).bench(|| scan(&stream, read));
    }

    #[divan::bench(args = [16 * 1024, 16 << 20])]
    fn one_large_request(bencher: Bencher<'_, '_>, read: usize) {
        let files = "{\"name\":\"photos/2024/img_0001.jpg\",\"size\":3456789},".repeat(100_000);
        let stream = format!("{{\"action\":\"REGISTER_FILES\",\"files\":[{files}0]}}").into_bytes();
        assert_eq!(scan(&stream, read), 1);
        bencher.counter(BytesCount::of_slice(&stream)).bench(|| scan(&stream, read));
    }
}

/// What peers say to each other, cut where no frame ends.
mod frames {
    use super::*;
    use shared::frame::{FrameDecoder, encode};
    use shared::peer::{ChatFrame, ChatMessage, MessageId};

    const FRAMES: usize = 10_000;

    fn decode(stream: &[u8], read: usize) -> usize {
        let mut decoder = FrameDecoder::default();
        let mut found = 0;
        for part in stream.chunks(read) {
            decoder.extend(part);
            while decoder.next_frame::<ChatFrame>().unwrap().is_some() {
                found += 1;
            }
        }
        found
    }

    #[divan::bench(args = [7, 1_331, 65_521])]
    fn chat_in_odd_splits(bencher: Bencher<'_, '_>, read: usize) {
        let id = MessageId::from_bytes([7; 16]);
        let message = ChatMessage { id, ts: 1_700_000_000_000, text: "lunch at one?".into(), offer: None, send: None };
        let mut stream = Vec::new();
        for _ in 0..FRAMES {
            encode(&ChatFrame::Message(message.clone()), &mut stream).unwrap();
        }
        assert_eq!(decode(&stream, read), FRAMES);
        bencher.counter(ItemsCount::new(FRAMES)).bench(|| decode(&stream, read));
    }
}

/// What proves that a byte is right.
mod content {
    use super::*;
    use shared::content::{GroupLayout, Manifest};
    use shared::limits::{MAX_GROUPS_PER_FILE, MIN_GROUP_BYTES};

    #[divan::bench]
    fn manifest_fold(bencher: Bencher<'_, '_>) {
        let values =
            (0..u32::try_from(MAX_GROUPS_PER_FILE).unwrap()).map(|group| [group.to_le_bytes()[0]; 32]).collect();
        let manifest = Manifest::new(values);
        bencher.counter(ItemsCount::new(MAX_GROUPS_PER_FILE)).bench(|| divan::black_box(&manifest).content_hash());
    }

    #[divan::bench]
    fn group_value(bencher: Bencher<'_, '_>) {
        let layout = GroupLayout::of(1 << 30).unwrap();
        let group = vec![0x5a; usize::try_from(MIN_GROUP_BYTES).unwrap()];
        bencher.counter(BytesCount::of_slice(&group)).bench(|| layout.chaining_value(1, divan::black_box(&group)));
    }
}

/// Who is asked for what next.
mod fetch_plan {
    use std::time::Instant;

    use super::*;
    use peer::engine::fetch::plan_bench::simulate;
    use shared::GroupLayout;

    const MANY: usize = 100_000;

    #[divan::bench(args = [1, 4])]
    fn many_small_files(bencher: Bencher<'_, '_>, sources: u32) {
        let (start, layout) = (Instant::now(), GroupLayout::of(100 << 10).unwrap());
        let run = || simulate((0..MANY).map(|_| layout), sources, start);
        assert_eq!(run(), MANY);
        bencher.counter(ItemsCount::new(MANY)).bench(run);
    }

    #[divan::bench(args = [1, 4])]
    fn one_large_file(bencher: Bencher<'_, '_>, sources: u32) {
        let (start, layout) = (Instant::now(), GroupLayout::of(32 << 30).unwrap());
        let run = || simulate([layout], sources, start);
        assert_eq!(run(), usize::try_from(layout.group_count()).unwrap());
        bencher.counter(ItemsCount::new(layout.group_count())).bench(run);
    }
}

/// Who is present and what they share.
mod registry {
    use std::time::{Duration, Instant};

    use super::*;
    use shared::UserName;
    use shared::limits::MAX_FILES_PER_USER;
    use shared::tracker::{FilesMode, HashText, ListPeersRequest, SessionToken, SharedFile};
    use tracker::catalogue::FileList;
    use tracker::rate_limits::ClientOrigin;
    use tracker::registry::{AuthenticatedLogin, ListView, LoginTime, PresenceRegistry, PresenceRules};

    const USERS: u32 = 1_000;
    const FILES_EACH: usize = 20;
    const RULES: PresenceRules = PresenceRules {
        lease: Duration::from_secs(90),
        grace: Duration::from_secs(10),
        legacy_lease: Duration::from_secs(3600),
        legacy_auth: true,
        catalogue_bytes: 1 << 30,
    };

    fn user(number: u32) -> UserName {
        format!("user{number}").parse().unwrap()
    }

    fn log_in(registry: &mut PresenceRegistry, number: u32) {
        let mut token = [0; 32];
        token[..4].copy_from_slice(&number.to_be_bytes());
        let ip = [10, 0, 0, 1].into();
        let token = SessionToken::from_bytes(token);
        let (user, addresses, at) = (user(number), Vec::new(), LoginTime::at_unix_ms(0));
        let arrival = AuthenticatedLogin {
            user,
            ip,
            from: ClientOrigin::of(ip),
            port: Some(4000),
            addresses,
            token: token.into(),
            binding: None,
            at,
        };
        registry.login(arrival, Instant::now()).unwrap();
    }

    fn shared_files(count: usize) -> Vec<SharedFile> {
        let file = |number| SharedFile {
            name: format!("photos/2024/img_{number:06}.jpg").parse().unwrap(),
            size: 3_456_789,
            hash: HashText::new(&format!("{number:064x}")).unwrap(),
        };
        (0..count).map(file).collect()
    }

    fn with_everybody() -> PresenceRegistry {
        let mut registry = PresenceRegistry::new(RULES, 0);
        for number in 0..USERS {
            log_in(&mut registry, number);
            let files = FileList::from_list(shared_files(FILES_EACH));
            registry.set_files(&user(number), FilesMode::Replace, &files).unwrap();
        }
        registry
    }

    #[divan::bench]
    fn register_files(bencher: Bencher<'_, '_>) {
        let list = shared_files(MAX_FILES_PER_USER);
        let mut registry = PresenceRegistry::new(RULES, 0);
        log_in(&mut registry, 0);
        bencher.counter(ItemsCount::new(MAX_FILES_PER_USER)).with_inputs(|| list.clone()).bench_local_values(|list| {
            let files = FileList::from_list(list);
            registry.set_files(&user(0), FilesMode::Replace, &files).unwrap()
        });
    }

    #[divan::bench]
    fn list_after_a_change(bencher: Bencher<'_, '_>) {
        let mut registry = with_everybody();
        let mut files = [shared_files(1), shared_files(FILES_EACH)].map(FileList::from_list).into_iter().cycle();
        bencher.counter(ItemsCount::new(USERS)).bench_local(|| {
            registry.set_files(&user(500), FilesMode::Replace, &files.next().unwrap()).unwrap();
            registry.plain_list(ClientOrigin::of([10, 0, 0, 2].into()))
        });
    }

    #[divan::bench]
    fn list_by_pages(bencher: Bencher<'_, '_>) {
        let mut registry = with_everybody();
        let wanted = ListPeersRequest {
            name: Some("photos/2024/img_000019.jpg".parse().unwrap()),
            ..ListPeersRequest::default()
        };
        bencher.counter(ItemsCount::new(USERS)).bench_local(|| {
            let mut page = registry.page(ListView::Full, ClientOrigin::of([10, 0, 0, 2].into()));
            while registry.add_to_page(&wanted, &mut page) {}
            page.finish()
        });
    }

    #[divan::bench]
    fn event_to_its_reader(bencher: Bencher<'_, '_>) {
        let mut registry = with_everybody();
        bencher.bench_local(|| {
            let seen = registry.last_event();
            log_in(&mut registry, 500);
            registry.events_after(seen, 100)
        });
    }
}
