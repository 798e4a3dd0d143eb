//! Who may have a link, when there are many. Pure.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | links of one user that came in | 16 | the oldest that is quiet ends, else the newest is answered `busy` |
//! | links that came in, of all users | 256 | the oldest quiet one ends of the user that has the most; where they have at least twice as many as the newcomer then has, else their oldest that carries no conversation, else their oldest |
//! | the same, when nobody has more than the newcomer then has | | the one that is quiet for the longest ends; for somebody the user wrote to, in the end any of somebody they didn't; else the newest is answered `busy` |
//!
//! A link that carries a user's only conversation is never quiet. Links that were dialled here are as many as the people who
//! were written to, and don't count.

use std::collections::HashMap;
use std::time::Duration;

use shared::UserName;
use tokio::time::Instant;

const PER_USER: usize = 16;
const MAX_INBOUND_LINKS: usize = 256;
/// How long a link without streams isn't taken for a quiet one: its first request may be on its way.
const QUIET: Duration = Duration::from_secs(1);

/// What is known of a link that came in.
#[derive(Debug, Clone)]
pub(super) struct InboundLink<'a, Id> {
    pub(super) id: Id,
    pub(super) user: &'a UserName,
    /// Whether the user wrote to the one on its other side.
    pub(super) is_correspondent: bool,
    pub(super) carries_chat: bool,
    /// Since when no stream is served over it; `None` while one is.
    pub(super) quiet_since: Option<Instant>,
}

/// What becomes of a newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkAdmission<Id> {
    /// There is room.
    Admitted,
    /// There is, once this one ended.
    Replaces(Id),
    /// There is none.
    Full,
}

/// Decides on one more link of `newcomer` beside `links`, the oldest first.
pub(super) fn admit_link<Id: Copy>(
    links: &[InboundLink<'_, Id>],
    newcomer: &UserName,
    is_correspondent: bool,
    now: Instant,
) -> LinkAdmission<Id> {
    let mut counts: HashMap<&UserName, UserLinkCounts> = HashMap::new();
    for link in links {
        let counts = counts.entry(link.user).or_default();
        counts.links += 1;
        counts.chats += usize::from(link.carries_chat);
    }
    let count = |user: &UserName| counts.get(user).copied().unwrap_or_default();
    let is_quiet = |link: &&InboundLink<'_, Id>| {
        let is_idle = link.quiet_since.is_some_and(|since| now.duration_since(since) >= QUIET);
        is_idle && !(link.carries_chat && count(link.user).chats == 1)
    };
    let own_links = count(newcomer).links;
    if own_links >= PER_USER {
        return replacing(links.iter().filter(|link| link.user == newcomer).find(is_quiet));
    }
    if links.len() < MAX_INBOUND_LINKS {
        return LinkAdmission::Admitted;
    }
    let most = counts.values().map(|counts| counts.links).max().unwrap_or(0);
    if most > own_links + 1 {
        let of_heaviest = || links.iter().filter(|link| count(link.user).links == most);
        let without_chat = || of_heaviest().find(|link| !link.carries_chat);
        // Not for a little: whoever loses a link in use comes back at once.
        let has_many = most >= 2 * (own_links + 1);
        let in_use = || without_chat().or_else(|| of_heaviest().next()).filter(|_| has_many);
        return replacing(of_heaviest().find(is_quiet).or_else(in_use));
    }
    let quietest = links.iter().filter(is_quiet).min_by_key(|link| link.quiet_since);
    let stranger =
        || links.iter().filter(|link| is_correspondent && !link.is_correspondent).min_by_key(|link| link.carries_chat);
    replacing(quietest.or_else(stranger))
}

#[derive(Debug, Clone, Copy, Default)]
struct UserLinkCounts {
    links: usize,
    chats: usize,
}

fn replacing<Id: Copy>(link: Option<&InboundLink<'_, Id>>) -> LinkAdmission<Id> {
    link.map_or(LinkAdmission::Full, |link| LinkAdmission::Replaces(link.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links of users, each with what they do: `q`uiet, `s`erved, `c`onversation, `C`onversation and quiet.
    struct Case {
        users: Vec<UserName>,
        doing: Vec<char>,
        known: Vec<&'static str>,
        quiet_for: Duration,
        now: Instant,
    }

    impl Case {
        fn new(links: impl IntoIterator<Item = (String, char)>) -> Self {
            let (users, doing) =
                links.into_iter().map(|(user, doing)| (user.parse::<UserName>().unwrap(), doing)).unzip();
            let (quiet_for, now) = (Duration::from_secs(30), Instant::now() + Duration::from_secs(60));
            Self { users, doing, known: Vec::new(), quiet_for, now }
        }

        fn admit(&self, newcomer: &str) -> LinkAdmission<usize> {
            let facts = self.users.iter().zip(&self.doing).enumerate().map(|(id, (user, doing))| InboundLink {
                id,
                user,
                is_correspondent: self.known.contains(&user.as_str()),
                carries_chat: matches!(doing, 'c' | 'C'),
                quiet_since: matches!(doing, 'q' | 'C').then(|| self.now - self.quiet_for),
            });
            let facts: Vec<_> = facts.collect();
            admit_link(&facts, &newcomer.parse().unwrap(), self.known.contains(&newcomer), self.now)
        }
    }

    fn links(user: &str, doing: &str) -> Vec<(String, char)> {
        doing.chars().map(|doing| (user.to_owned(), doing)).collect()
    }

    fn each(doing: char, count: usize) -> Vec<(String, char)> {
        (0..count).map(|number| (format!("sybil{number}"), doing)).collect()
    }

    #[test]
    fn a_user_has_some_and_a_quiet_one_gives_way() {
        let case = |doing: &str| Case::new(links("bob", doing)).admit("bob");
        assert_eq!(case("sssssssssssssss"), LinkAdmission::Admitted);
        assert_eq!(case("ssssssssssssssss"), LinkAdmission::Full);
        assert_eq!(case("sssCsssssqsssqss"), LinkAdmission::Replaces(9), "the only conversation stays");
        assert_eq!(case("csCsssssssssssss"), LinkAdmission::Replaces(2), "one of two conversations");
        let mut young = Case::new(links("bob", &"q".repeat(16)));
        young.quiet_for = QUIET / 2;
        assert_eq!(young.admit("bob"), LinkAdmission::Full, "their first requests may be on their way");
    }

    #[test]
    fn where_there_are_too_many_the_user_with_the_most_gives_way() {
        let mut all = links("alice", "C");
        all.extend(each('s', MAX_INBOUND_LINKS - 5));
        all.extend(links("mallory", "cscs"));
        assert_eq!(
            Case::new(all.clone()).admit("bob"),
            LinkAdmission::Replaces(MAX_INBOUND_LINKS - 3),
            "one without a conversation"
        );
        all.truncate(MAX_INBOUND_LINKS - 4);
        all.extend(links("mallory", "cccc"));
        assert_eq!(Case::new(all.clone()).admit("bob"), LinkAdmission::Replaces(MAX_INBOUND_LINKS - 4));
        assert_eq!(Case::new(all).admit("mallory"), LinkAdmission::Full, "not at the cost of others");
        let class = (0..32).flat_map(|number| links(&format!("pupil{number}"), "ssssssss"));
        let class = Case::new(class);
        assert_eq!(class.admit("bob"), LinkAdmission::Replaces(0));
        assert_eq!(class.admit("pupil0"), LinkAdmission::Full);
        let mut most = class;
        most.users[..5].fill("bob".parse().unwrap());
        assert_eq!(most.admit("bob"), LinkAdmission::Full, "nobody has twice as many");
    }

    #[test]
    fn many_small_accounts_keep_nobody_out_who_was_written_to() {
        let mut quiet = each('s', MAX_INBOUND_LINKS - 1);
        quiet.extend(links("late", "q"));
        assert_eq!(Case::new(quiet).admit("bob"), LinkAdmission::Replaces(MAX_INBOUND_LINKS - 1));
        let mut case = Case::new(each('c', MAX_INBOUND_LINKS));
        assert_eq!(case.admit("bob"), LinkAdmission::Full);
        case.known = vec!["bob", "sybil0"];
        assert_eq!(case.admit("bob"), LinkAdmission::Replaces(1));
    }
}
