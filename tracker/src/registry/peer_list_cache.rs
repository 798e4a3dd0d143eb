//! The plain list's text, cached in segments of neighbouring users. A change makes only its own segment's text anew,
//! and replies share the segments.
//!
//! ```text
//! users     a … f │ g … m │ n … z        a segment beyond MAX_SEGMENT_USERS is cut in two,
//! texts     ready │ ─     │ ready        one below MIN_SEGMENT_USERS joins the segment before it
//!                    └ login, logout or files of h: made anew at the next request
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use shared::UserName;

use super::PresentUser;
use super::peer_list::{ListView, PeerListText};
use crate::catalogue::byte_counter::{ByteCounter, CountedText};
use crate::catalogue::file_list::MAX_COPIED_TEXT_BYTES;
use crate::catalogue::json_text::{push_json, write_count};

/// Users in one segment.
const MAX_SEGMENT_USERS: usize = 64;
/// A segment with fewer users joins the one before it, if that has room.
const MIN_SEGMENT_USERS: usize = MAX_SEGMENT_USERS / 4;

/// The segments of one view and their texts.
#[derive(Debug)]
pub(super) struct PeerListCache {
    view: ListView,
    /// By the first name that may be in the segment. `None`, which comes before all names, is always there.
    by_start: BTreeMap<Option<UserName>, ListSegment>,
    /// The whole list, until something changes.
    complete_text: Option<PeerListText>,
}

#[derive(Debug, Default)]
struct ListSegment {
    users: usize,
    /// The entries, each with a comma before it; `None` when they have to be made anew.
    text: Option<Vec<Bytes>>,
    /// The parts of `text` that were made here. Lists of files belong to their users.
    own_texts: Vec<Arc<CountedText>>,
    /// The counter of the requester whose request made `own_texts`.
    charged_to: ByteCounter,
}

type PresentUsers = BTreeMap<UserName, PresentUser>;

impl PeerListCache {
    pub(super) fn new(view: ListView) -> Self {
        Self { view, by_start: BTreeMap::from([(None, ListSegment::default())]), complete_text: None }
    }

    /// Invalidates the text of this user's segment.
    pub(super) fn user_changed(&mut self, user: &UserName) {
        self.complete_text = None;
        let Some((_, segment)) = self.segment_of(user) else { return };
        segment.invalidate();
    }

    /// Adds a user, who is among `users` already.
    pub(super) fn user_added(&mut self, user: &UserName, users: &PresentUsers) {
        self.user_changed(user);
        let Some((start, segment)) = self.segment_of(user) else { return };
        segment.users += 1;
        if segment.users <= MAX_SEGMENT_USERS {
            return;
        }
        // Two halves, so that neither is near a bound again.
        let (keep, start) = (segment.users / 2, start.clone());
        let begin = start.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let middle = users.range::<UserName, _>((begin, Bound::Unbounded)).nth(keep);
        if let (Some((middle, _)), Some(segment)) = (middle, self.by_start.get_mut(&start)) {
            let moved = segment.users - keep;
            segment.users = keep;
            self.by_start.insert(Some(middle.clone()), ListSegment { users: moved, ..ListSegment::default() });
        }
    }

    /// Removes a user.
    pub(super) fn user_removed(&mut self, user: &UserName) {
        self.user_changed(user);
        let Some((start, segment)) = self.segment_of(user) else { return };
        segment.users = segment.users.saturating_sub(1);
        let (users, start) = (segment.users, start.clone());
        // The first segment has no other before it to join.
        if users >= MIN_SEGMENT_USERS || start.is_none() {
            return;
        }
        let before = self.by_start.range_mut((Bound::Unbounded, Bound::Excluded(&start))).next_back();
        // A larger one would be cut in two again by the next login.
        if let Some((_, before)) = before.filter(|(_, before)| before.users + users <= MAX_SEGMENT_USERS) {
            before.invalidate();
            before.users += users;
            self.by_start.remove(&start);
        }
    }

    /// Returns the whole list of `users`. Texts made for it are charged to `requester_counter` when they are outdated.
    pub(super) fn list(&mut self, users: &PresentUsers, requester_counter: &ByteCounter) -> PeerListText {
        if let Some(whole) = &self.complete_text {
            return Arc::clone(whole);
        }
        // Both views that are cached begin so: the list of the `cmd` dialect is made for each request.
        let mut parts = vec![Bytes::from_static(b"\"peers\":[")];
        for (start, ListSegment { users: count, text, own_texts: own, charged_to: maker }) in &mut self.by_start {
            parts.extend_from_slice(text.get_or_insert_with(|| {
                let begin = start.as_ref().map_or(Bound::Unbounded, Bound::Included);
                let users = users.range::<UserName, _>((begin, Bound::Unbounded)).take(*count);
                // Charged only once it is outdated: until then the text serves everybody.
                *maker = requester_counter.clone();
                render_entries(self.view, users, own)
            }));
        }
        if let Some(first) = parts.get_mut(1) {
            // Without its comma: the list begins here.
            *first = first.slice(1..);
        }
        let mut end = b"],\"total\":".to_vec();
        push_json(&mut end, &users.len());
        parts.push(end.into());
        Arc::clone(self.complete_text.insert(parts.into()))
    }

    fn segment_of(&mut self, user: &UserName) -> Option<(&Option<UserName>, &mut ListSegment)> {
        self.by_start.range_mut(..=Some(user.clone())).next_back()
    }
}

impl ListSegment {
    /// Drops the text, and counts it for as long as a reply still holds it.
    fn invalidate(&mut self) {
        self.text = None;
        self.own_texts.drain(..).for_each(|text| text.count_in(&self.charged_to));
    }
}

/// Makes the text of `users`. The parts that are new are added to `own` as well.
fn render_entries<'a>(
    view: ListView,
    users: impl Iterator<Item = (&'a UserName, &'a PresentUser)>,
    own: &mut Vec<Arc<CountedText>>,
) -> Vec<Bytes> {
    let (mut parts, mut text) = (Vec::new(), Vec::new());
    let mut made = |text: &mut Vec<u8>| {
        let (text, bytes) = CountedText::new(std::mem::take(text));
        own.push(text);
        bytes
    };
    for (user, present) in users {
        text.push(b',');
        text.extend_from_slice(&view.head(user, present));
        if view != ListView::Full {
            // Files appear only in `bounded_list`, where the whole reply fits; this longer list has their number alone.
            text.extend_from_slice(view.empty_list());
            if !present.files.is_empty() {
                write_count(&mut text, present.files.len());
            }
        } else if present.files.text_bytes() > MAX_COPIED_TEXT_BYTES {
            // A long list of files is shared with its user; a copy would take as much memory again.
            parts.push(made(&mut text));
            parts.extend(present.files.text());
        } else {
            present.files.text().for_each(|part| text.extend_from_slice(&part));
        }
        text.push(b'}');
    }
    if !text.is_empty() {
        parts.push(made(&mut text));
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use shared::tracker::{FilesMode, HashText, ListPeersReply, SessionToken, SharedFile};

    use super::super::{AuthenticatedLogin, LoginTime, PresenceRegistry, PresenceRules};
    use super::*;
    use crate::catalogue::FileList;
    use crate::rate_limits::ClientOrigin;

    const ASKER: ClientOrigin = ClientOrigin::of(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn registry() -> PresenceRegistry {
        let long = Duration::from_secs(1000);
        let rules =
            PresenceRules { lease: long, grace: long, legacy_lease: long, legacy_auth: true, catalogue_bytes: 1 << 30 };
        PresenceRegistry::new(rules, 0)
    }

    fn name(n: u16) -> UserName {
        format!("u{n:05}").parse().unwrap()
    }

    fn login(registry: &mut PresenceRegistry, n: u16) {
        let token = SessionToken::from_bytes(rand::random());
        let (user, ip) = (name(n), Ipv4Addr::LOCALHOST.into());
        let at = LoginTime::at_unix_ms(0);
        let arrival = AuthenticatedLogin {
            user,
            ip,
            from: ClientOrigin::of(ip),
            port: None,
            addresses: Vec::new(),
            token: token.into(),
            binding: None,
            at,
        };
        registry.login(arrival, Instant::now()).unwrap();
    }

    fn share(registry: &mut PresenceRegistry, n: u16, files: u16) {
        let file =
            |i| SharedFile { name: format!("f{i}").parse().unwrap(), size: i, hash: HashText::new("h").unwrap() };
        let files = FileList::from_list((0..u64::from(files)).map(file).collect());
        registry.set_files(&name(n), FilesMode::Replace, &files).unwrap();
    }

    fn listed(registry: &mut PresenceRegistry) -> ListPeersReply {
        let text = registry.plain_list(ASKER).concat();
        serde_json::from_str(&format!("{{{}}}", String::from_utf8(text).unwrap())).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Login(u16),
        Logout(u16),
        Share(u16, u16),
        List,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..400_u16).prop_map(Step::Login),
            3 => (0..400_u16).prop_map(Step::Logout),
            2 => (0..400_u16, 0..4_u16).prop_map(|(n, files)| Step::Share(n, files)),
            1 => Just(Step::List),
        ];
        proptest::collection::vec(step, 0..600)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_happened_the_list_is_what_there_is(steps in steps(), crowd in 0..400_u16) {
            let (mut registry, mut present) = (registry(), BTreeSet::new());
            let arrivals = (0..crowd).map(Step::Login);
            for step in arrivals.chain(steps).chain([Step::List]) {
                match step {
                    Step::Login(n) => {
                        login(&mut registry, n);
                        present.insert(name(n));
                    }
                    Step::Logout(n) => prop_assert_eq!(registry.logout(&name(n)), present.remove(&name(n))),
                    Step::Share(n, files) => share(&mut registry, n, files),
                    Step::List => {
                        let all = listed(&mut registry);
                        prop_assert_eq!(all.total, present.len());
                        prop_assert_eq!(&all.peers, &registry.peers());
                        prop_assert!(all.peers.iter().map(|peer| &peer.user).eq(&present));
                        let sizes: Vec<usize> = registry.full_list.by_start.values().map(|one| one.users).collect();
                        prop_assert_eq!(sizes.iter().sum::<usize>(), present.len());
                        prop_assert!(sizes.iter().all(|users| *users <= MAX_SEGMENT_USERS));
                        prop_assert!(sizes.len() <= 1 + 3 * present.len() / MIN_SEGMENT_USERS, "{:?}", sizes);
                    }
                }
            }
        }
    }

    #[test]
    fn a_change_makes_only_its_own_segment_anew() {
        let mut registry = registry();
        (0..5000).for_each(|n| login(&mut registry, n));
        let before = registry.plain_list(ASKER);
        assert!(Arc::ptr_eq(&before, &registry.plain_list(ASKER)));
        share(&mut registry, 2500, 3);
        let after = registry.plain_list(ASKER);
        let kept = |part: &&Bytes| after.iter().any(|other| other.as_ptr() == part.as_ptr());
        // All parts except the changed segment and the end.
        assert_eq!(before.iter().filter(kept).count(), before.len() - 2);
        assert!(before.len() > 5000 / MAX_SEGMENT_USERS);
    }

    #[test]
    fn a_long_list_of_files_is_not_copied() {
        let mut registry = registry();
        login(&mut registry, 1);
        share(&mut registry, 1, u16::MAX);
        let list = registry.plain_list(ASKER);
        let text = registry.present.get_mut(&name(1)).unwrap().files.text().nth(1).unwrap();
        assert!(list.iter().any(|part| part.as_ptr() == text.as_ptr()));
        assert_eq!(listed(&mut registry).peers, registry.peers());
    }
}
