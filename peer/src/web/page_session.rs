//! Sessions of the page: a cookie and a secret that belong together. No I/O: `now` is an argument.
//!
//! Cookies ignore ports, so that another server on this machine can be sent them, and a command line can be read by
//! others. The secret is known to the page alone, which sends it in a header with each call. Each tab of a browser has a
//! secret of its own; they share the cookie, since a browser keeps one.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use shared::UserName;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::one_use_tokens::random_text;

/// Tabs of a session; beyond, the oldest one has to be opened again.
const MAX_TABS: usize = 16;

/// The bounds of sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    /// The longest life.
    pub(super) life: Duration,
    /// The longest time without a call.
    pub(super) idle: Duration,
    /// Sessions of one account; beyond, the one that was used least recently ends.
    pub(super) per_account: usize,
}

/// The sessions of a server, each with what it gives access to.
#[derive(Debug)]
pub(super) struct PageSessions<S> {
    limits: SessionLimits,
    /// By the hash of the cookie.
    open: HashMap<blake3::Hash, OpenSession<S>>,
}

#[derive(Debug)]
struct OpenSession<S> {
    session: PageSession<S>,
    /// Those of its tabs, the oldest first.
    secrets: VecDeque<blake3::Hash>,
    opened: Instant,
    used: Instant,
    /// Ends the session's streams with it.
    _end: DropGuard,
}

/// A session that a request belongs to.
#[derive(Debug, Clone)]
pub(super) struct PageSession<S> {
    /// The account.
    pub(super) user: UserName,
    /// What it gives access to.
    pub(super) seat: S,
    /// Cancelled when the session ends.
    pub(super) ended: CancellationToken,
    key: blake3::Hash,
}

/// The two halves of a new session, for the browser.
#[derive(Debug, Clone)]
pub(super) struct SessionCredentials {
    /// The value of the cookie.
    pub(super) cookie: String,
    /// The secret of the page.
    pub(super) secret: String,
}

impl<S: Clone + PartialEq> PageSessions<S> {
    /// Returns none yet.
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self { limits, open: HashMap::new() }
    }

    /// Opens a session at an account's seat, or another tab of the one whose cookie the browser has.
    pub(super) fn open(
        &mut self,
        user: UserName,
        seat: S,
        cookie: Option<&str>,
        now: Instant,
    ) -> (SessionCredentials, PageSession<S>) {
        self.forget_old(now);
        let known = cookie.and_then(|cookie| Some((cookie, self.open.get_mut(&blake3::hash(cookie.as_bytes()))?)));
        // The cookie may be that of another account, or of a seat that ended: then the browser's session begins anew.
        if let Some((cookie, open)) = known.filter(|(_, open)| open.session.seat == seat) {
            let secret = random_text();
            if open.secrets.len() >= MAX_TABS {
                open.secrets.pop_front();
            }
            open.secrets.push_back(blake3::hash(secret.as_bytes()));
            open.used = now;
            return (SessionCredentials { cookie: cookie.to_owned(), secret }, open.session.clone());
        }
        self.make_room(&user);
        let credentials = SessionCredentials { cookie: random_text(), secret: random_text() };
        let key = blake3::hash(credentials.cookie.as_bytes());
        let ended = CancellationToken::new();
        let session = PageSession { user, seat, ended: ended.clone(), key };
        let secrets = VecDeque::from([blake3::hash(credentials.secret.as_bytes())]);
        let _end = ended.drop_guard();
        self.open.insert(key, OpenSession { session: session.clone(), secrets, opened: now, used: now, _end });
        (credentials, session)
    }

    /// Returns the session of a cookie and its secret, which is used by that.
    pub(super) fn find(&mut self, cookie: &str, secret: &str, now: Instant) -> Option<PageSession<S>> {
        self.forget_old(now);
        // By its hash: the time that the look-up takes says nothing of the cookie.
        let found = self.open.get_mut(&blake3::hash(cookie.as_bytes()))?;
        // Hashes are compared in constant time.
        let secret = blake3::hash(secret.as_bytes());
        found.secrets.iter().find(|known| **known == secret)?;
        found.used = now;
        Some(found.session.clone())
    }

    /// Returns the session of a cookie alone: enough to take a download whose path is a secret of its own.
    pub(super) fn find_by_cookie(&mut self, cookie: &str, now: Instant) -> Option<PageSession<S>> {
        self.forget_old(now);
        let found = self.open.get_mut(&blake3::hash(cookie.as_bytes()))?;
        found.used = now;
        Some(found.session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&mut self, session: &PageSession<S>) {
        self.open.remove(&session.key);
    }

    /// Ends the sessions at a seat.
    pub(super) fn end_seat(&mut self, seat: &S) {
        self.open.retain(|_, open| open.session.seat != *seat);
    }

    /// Ends the sessions that are over, and returns how many an account has.
    pub(super) fn count_of(&mut self, user: &UserName, now: Instant) -> usize {
        self.forget_old(now);
        self.open.values().filter(|open| open.session.user == *user).count()
    }

    fn make_room(&mut self, user: &UserName) {
        let own = || self.open.iter().filter(|(_, open)| open.session.user == *user);
        if own().count() >= self.limits.per_account
            && let Some(oldest) = own().min_by_key(|(_, open)| open.used).map(|(key, _)| *key)
        {
            self.open.remove(&oldest);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let SessionLimits { life, idle, .. } = self.limits;
        let age = |since| now.saturating_duration_since(since);
        self.open.retain(|_, open| age(open.opened) < life && age(open.used) < idle);
    }
}

impl<S> PageSession<S> {
    /// Returns a mark of the session that says nothing of its cookie.
    pub(super) const fn mark(&self) -> blake3::Hash {
        self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn sessions() -> PageSessions<u32> {
        PageSessions::new(SessionLimits { life: HOUR * 24, idle: HOUR * 12, per_account: 2 })
    }

    #[test]
    fn cookie_and_secret_belong_together() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let (one, _) = sessions.open("ana".parse().unwrap(), 1, None, now);
        let (other, _) = sessions.open("bob".parse().unwrap(), 2, None, now);
        assert_eq!(sessions.find(&one.cookie, &one.secret, now).unwrap().seat, 1);
        assert_eq!(sessions.find(&other.cookie, &other.secret, now).unwrap().seat, 2);
        for (cookie, secret) in [
            (&one.cookie, &other.secret),
            (&one.secret, &one.cookie),
            (&one.cookie, &String::new()),
            (&String::new(), &one.secret),
        ] {
            assert!(sessions.find(cookie, secret, now).is_none());
        }
        assert!(sessions.find_by_cookie(&one.cookie, now).is_some());
        assert!(sessions.find_by_cookie(&one.secret, now).is_none());
    }

    #[test]
    fn sessions_end() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let (one, held) = sessions.open("ana".parse().unwrap(), 1, None, now);
        assert!(sessions.find(&one.cookie, &one.secret, now + HOUR * 11).is_some());
        assert!(sessions.find(&one.cookie, &one.secret, now + HOUR * 22).is_some() && !held.ended.is_cancelled());
        assert!(sessions.find(&one.cookie, &one.secret, now + HOUR * 24).is_none(), "however much it is used");
        assert!(held.ended.is_cancelled());
        let (idle, _) = sessions.open("ana".parse().unwrap(), 1, None, now);
        assert!(sessions.find(&idle.cookie, &idle.secret, now + HOUR * 12).is_none());
        let (left, session) = sessions.open("ana".parse().unwrap(), 1, None, now);
        sessions.end(&session);
        let (other, at_seat) = sessions.open("bob".parse().unwrap(), 2, None, now);
        sessions.end_seat(&2);
        assert!(sessions.find(&other.cookie, &other.secret, now).is_none() && at_seat.ended.is_cancelled());
        assert!(sessions.find(&left.cookie, &left.secret, now).is_none() && session.ended.is_cancelled());
    }

    #[test]
    fn of_too_many_the_least_used_ends() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let (first, _) = sessions.open("ana".parse().unwrap(), 1, None, now);
        let (second, _) = sessions.open("ana".parse().unwrap(), 1, None, now + HOUR);
        let (others, _) = sessions.open("bob".parse().unwrap(), 1, None, now);
        sessions.find(&first.cookie, &first.secret, now + HOUR * 2);
        sessions.open("ana".parse().unwrap(), 1, None, now + HOUR * 3);
        assert_eq!(sessions.count_of(&"ana".parse().unwrap(), now + HOUR * 3), 2);
        assert!(sessions.find(&second.cookie, &second.secret, now + HOUR * 3).is_none());
        assert!(sessions.find(&first.cookie, &first.secret, now + HOUR * 3).is_some());
        assert!(sessions.find(&others.cookie, &others.secret, now + HOUR * 3).is_some(), "another's is no matter");
    }

    #[test]
    fn tabs_share_a_cookie() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let (one, _) = sessions.open("ana".parse().unwrap(), 1, None, now);
        let (other, _) = sessions.open("ana".parse().unwrap(), 1, Some(&one.cookie), now);
        assert!(one.cookie == other.cookie && one.secret != other.secret);
        assert!(sessions.find(&one.cookie, &one.secret, now).is_some());
        assert!(sessions.find(&one.cookie, &other.secret, now).is_some());
        assert_eq!(sessions.count_of(&"ana".parse().unwrap(), now), 1);
        for _ in 0..MAX_TABS - 1 {
            sessions.open("ana".parse().unwrap(), 1, Some(&one.cookie), now);
        }
        assert!(sessions.find(&one.cookie, &one.secret, now).is_none(), "the oldest");
        assert!(sessions.find(&one.cookie, &other.secret, now).is_some());
        // Another account, an unknown cookie, or a later account of the name: a session of its own.
        for (user, cookie, seat) in [("bob", &one.cookie, 2), ("ana", &one.secret, 1), ("ana", &one.cookie, 3)] {
            let (new, session) = sessions.open(user.parse().unwrap(), seat, Some(cookie), now);
            assert!(new.cookie != one.cookie && new.cookie != *cookie && session.seat == seat);
        }
    }
}
