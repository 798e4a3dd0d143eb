//! Admission of inbound links when there are many. Pure: the links and `now` come in, a decision goes out.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | inbound links of one user | 16 | the user's oldest quiet link is closed; without one, the newcomer is answered `busy` |
//! | inbound links of all users, when somebody has more than the newcomer's user then has | 256 | a link of the user with the most is closed: the oldest quiet one, else, if that user has at least twice as many as the newcomer's then has, the oldest without a conversation, else the oldest; else `busy` |
//! | the same, when nobody has more than the newcomer's user then has | 256 | the link that is quiet for the longest is closed; for a newcomer to whom the profile's user wrote, else a link of somebody to whom they didn't; else `busy` |
//!
//! A link is quiet when no stream has been served over it for a second, unless it carries its user's only conversation.
//! Outbound links are not counted: they are as many as the people to whom the profile's user wrote.

use std::collections::HashMap;
use std::time::Duration;

use shared::UserName;
use tokio::time::Instant;

const PER_USER: usize = 16;
const MAX_INBOUND_LINKS: usize = 256;
/// Time without streams after which a link is quiet: before, its first request may be on its way.
const QUIET: Duration = Duration::from_secs(1);

/// The facts about an inbound link that decide whether it stays.
#[derive(Debug, Clone)]
pub(super) struct InboundLink<'a, Id> {
    pub(super) id: Id,
    pub(super) user: &'a UserName,
    /// True if this profile's user has written to the link's user.
    pub(super) is_correspondent: bool,
    pub(super) carries_chat: bool,
    /// The end of the last stream served over it; `None` while one is served.
    pub(super) idle_since: Option<Instant>,
}

/// The decision on a new link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkAdmission<Id> {
    /// There is room.
    Admitted,
    /// There is room when this link is closed.
    Replaces(Id),
    /// There is no room: the newcomer is answered `busy`.
    Full,
}

/// Decides on one more link of `newcomer`; `links` are those that there are, the oldest first.
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
        let is_idle = link.idle_since.is_some_and(|since| now.duration_since(since) >= QUIET);
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
    // Only where the heaviest user still has at least as many as the newcomer after the exchange: else two
    // users would replace each other's links without end.
    if most > own_links + 1 {
        let of_heaviest = || links.iter().filter(|link| count(link.user).links == most);
        let without_chat = || of_heaviest().find(|link| !link.carries_chat);
        // A link in use ends only for a large difference: its owner reconnects at once, and would end the
        // next.
        let has_many = most >= 2 * (own_links + 1);
        let in_use = || without_chat().or_else(|| of_heaviest().next()).filter(|_| has_many);
        return replacing(of_heaviest().find(is_quiet).or_else(in_use));
    }
    let quietest = links.iter().filter(is_quiet).min_by_key(|link| link.idle_since);
    // Many small accounts together can't keep out a user to whom the profile's user wrote.
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
                idle_since: matches!(doing, 'q' | 'C').then(|| self.now - self.quiet_for),
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
