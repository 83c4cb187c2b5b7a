//! Sessions of users who have signed in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    User,
    password::{hash_token, is_same, new_token},
};

/// Most sessions at a time. The one that was idle longest ends when there are more.
const MOST: usize = 10_000;

/// Most sessions of one user. The one that was idle longest ends when there are more.
const MOST_OF_USER: usize = 20;

/// Sessions, in memory: they end with the process.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// By the hash of the id, so that a copy of the memory opens no session.
    by_hash: Mutex<HashMap<String, Session>>,
    idle: Duration,
    longest: Duration,
}

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    user: User,
    /// The number of the way by which the user signed in.
    way: usize,
    /// The token that each change must carry, which only pages of ours know.
    pub(crate) csrf: String,
    started: Instant,
    used: Instant,
}

impl Session {
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    pub(crate) fn way(&self) -> usize {
        self.way
    }

    /// Returns whether this is the token of the session.
    pub(crate) fn has_csrf(&self, token: &str) -> bool {
        is_same(&self.csrf, token)
    }
}

impl Sessions {
    /// Sessions end after a time without a request, and a time after the sign-in.
    pub(crate) fn new(idle: Duration, longest: Duration) -> Self {
        Self {
            by_hash: Mutex::default(),
            idle,
            longest,
        }
    }

    /// Starts a session, and returns its id for the cookie. `way` is the number of the way by which the user signed in.
    pub(crate) fn start(&self, user: User, way: usize) -> Result<String, String> {
        let (id, csrf) = (new_token()?, new_token()?);
        let now = Instant::now();
        let mut sessions = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MOST {
            sessions.retain(|_, session| self.is_alive(session, now));
        }
        let own = |session: &Session| session.way == way && session.user.name == user.name;
        if sessions.values().filter(|session| own(session)).count() >= MOST_OF_USER {
            end_oldest(&mut sessions, own);
        }
        if sessions.len() >= MOST {
            end_oldest(&mut sessions, |_| true);
        }
        let session = Session {
            user,
            way,
            csrf,
            started: now,
            used: now,
        };
        sessions.insert(hash_token(&id), session);
        Ok(id)
    }

    /// Returns the session of an id, and counts this as a use.
    pub(crate) fn of(&self, id: &str) -> Option<Session> {
        let now = Instant::now();
        let hash = hash_token(id);
        let mut sessions = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&hash)?;
        if !self.is_alive(session, now) {
            sessions.remove(&hash);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Returns the session of an id, without counting this as a use.
    pub(crate) fn peek(&self, id: &str) -> Option<Session> {
        let sessions = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&hash_token(id))?;
        self.is_alive(session, Instant::now()).then(|| session.clone())
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: &str) {
        let mut sessions = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&hash_token(id));
    }

    fn is_alive(&self, session: &Session, now: Instant) -> bool {
        now.duration_since(session.used) < self.idle && now.duration_since(session.started) < self.longest
    }
}

/// Ends the session that was idle longest.
fn end_oldest(sessions: &mut HashMap<String, Session>, among: impl Fn(&Session) -> bool) {
    let among = sessions.iter().filter(|(_, session)| among(session));
    let oldest = among.min_by_key(|(_, session)| session.used);
    if let Some(hash) = oldest.map(|(hash, _)| hash.clone()) {
        sessions.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    #[test]
    fn sessions_end_when_told_or_too_old() {
        let sessions = Sessions::new(Duration::from_secs(60), Duration::from_secs(600));
        let ann = User::new("ann", Role::Viewer);
        let id = sessions.start(ann.clone(), 0).unwrap();
        let other = sessions.start(ann.clone(), 0).unwrap();
        assert_ne!(id, other);
        assert_eq!(*sessions.of(&id).unwrap().user(), ann);
        assert_ne!(sessions.of(&id).unwrap().csrf, sessions.of(&other).unwrap().csrf);
        sessions.end(&id);
        assert!(sessions.of(&id).is_none());
        assert!(sessions.of(&other).is_some());
        assert!(sessions.of("").is_none());

        for (idle, longest) in [(0, 600), (600, 0)] {
            let over = Sessions::new(Duration::from_secs(idle), Duration::from_secs(longest));
            let id = over.start(ann.clone(), 0).unwrap();
            assert!(over.of(&id).is_none(), "{idle} {longest}");
        }
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let sessions = Sessions::new(Duration::from_secs(60), Duration::from_secs(600));
        let first = sessions.start(User::new("ann", Role::Viewer), 0).unwrap();
        let own: Vec<String> = (0..=MOST_OF_USER)
            .map(|_| sessions.start(User::new("eve", Role::Viewer), 0).unwrap())
            .collect();
        assert!(sessions.of(&own[0]).is_none());
        assert!(sessions.of(&own[1]).is_some() && sessions.of(&first).is_some());
        for number in 0..MOST + 9 {
            sessions.start(User::new(number.to_string(), Role::Viewer), 0).unwrap();
        }
        assert_eq!(sessions.by_hash.lock().unwrap().len(), MOST);
        assert!(sessions.of(&first).is_none());
    }
}
