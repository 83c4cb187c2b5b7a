//! Users from a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{
    AuthError, Authenticate, Credentials, Grant, Pattern, Role, User,
    password::{MAX_PASSWORD, cost_of, hash_token, is_password_hash, is_same, is_token_hash, verify_password},
};

/// Passwords that are checked at the same time. Each takes 19 MiB and 20 ms of a processor.
const CHECKS: usize = 2;

/// Sign-ins that wait for such a check. Further ones are answered at once that this cannot be done now.
const WAITING: usize = 32;

/// Time between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Users with passwords and tokens, from a TOML file. The file is read again when it changes, so a user who is removed from it,
/// or whose password changes, is out within three seconds.
///
/// ```toml
/// [[user]]
/// name = "ann"
/// password = "$argon2id$v=19$m=19456,t=2,p=1$..."
/// role = "admin"
///
/// [[user]]
/// name = "bob"
/// password = "$argon2id$v=19$m=19456,t=2,p=1$..."
/// grants = [{ role = "viewer", queues = ["*"] }, { role = "operator", queues = ["mail*"] }]
///
/// # A script: it sends `Authorization: Bearer <token>`.
/// [[user]]
/// name = "deploy"
/// token = "sha256:..."
/// role = "operator"
/// queues = ["default"]
/// ```
///
/// The hashes come from [`hash_password`](super::hash_password) and [`hash_token`](super::hash_token), or from the program
/// `asynq web password` and `asynq web token`.
#[derive(Debug)]
pub struct Users {
    path: Option<PathBuf>,
    known: Mutex<Known>,
    checks: Arc<Semaphore>,
    /// Sign-ins that wait for such a check.
    waiting: Arc<Semaphore>,
}

#[derive(Debug)]
struct Known {
    entries: Arc<Entries>,
    looked: Instant,
    /// The last text of the file, and whether it is in use or has been refused.
    seen: String,
    is_decided: bool,
}

#[derive(Debug)]
struct Entries {
    by_name: BTreeMap<String, Entry>,
    /// The dearest hash. The password of an unknown name is compared with it, so that its check takes as long.
    dearest: Option<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    user: User,
    password: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersToml {
    #[serde(default)]
    user: Vec<UserToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserToml {
    name: String,
    password: Option<String>,
    token: Option<String>,
    role: Option<Role>,
    queues: Option<Vec<Pattern>>,
    #[serde(default)]
    grants: Vec<GrantToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantToml {
    role: Role,
    queues: Vec<Pattern>,
}

/// A file of users that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read the users in {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not a list of users. No hash is shown.
    #[error("the users are wrong: {0}")]
    Wrong(String),
}

impl Users {
    /// Reads the users of a file.
    ///
    /// # Errors
    /// [`UsersError::Unreadable`], and [`UsersError::Wrong`] as for [`parse`](Self::parse).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, UsersError> {
        let path = path.into();
        let text = read(&path)?;
        let entries = parse(&text)?;
        Ok(Self::of(entries, Some(path), text))
    }

    /// Reads the users of a text in TOML.
    ///
    /// # Errors
    /// [`UsersError::Wrong`] if the text is not TOML, has no user, a key is unknown, a name is blank, above 256 bytes or
    /// stands twice, a token stands twice, a user has neither a password nor a token, neither a role nor a grant, or a hash is none.
    pub fn parse(toml: &str) -> Result<Self, UsersError> {
        Ok(Self::of(parse(toml)?, None, String::new()))
    }

    fn of(entries: Entries, path: Option<PathBuf>, seen: String) -> Self {
        Self {
            path,
            known: Mutex::new(Known {
                entries: Arc::new(entries),
                looked: Instant::now(),
                seen,
                is_decided: true,
            }),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// Returns the users as the file has them now.
    async fn now(&self) -> Arc<Entries> {
        if let Some(path) = &self.path
            && self.is_time_to_look()
        {
            let path = path.clone();
            // The file may be on a disk that hangs.
            #[expect(clippy::disallowed_methods, reason = "it ends by itself, and owns what it needs")]
            let text = tokio::task::spawn_blocking(move || read(&path)).await;
            if let Ok(text) = text {
                self.saw(text);
            }
        }
        Arc::clone(&self.known().entries)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true once for each interval, so that one request reads the file while the others go on.
    fn is_time_to_look(&self) -> bool {
        let mut known = self.known();
        let is_time = known.looked.elapsed() >= LOOK_EVERY;
        if is_time {
            known.looked = Instant::now();
        }
        is_time
    }

    /// Takes a look at the file into account. A text counts once two looks have seen it, as one could see half of it.
    fn saw(&self, text: Result<String, UsersError>) {
        let mut known = self.known();
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                if !known.seen.is_empty() {
                    tracing::error!(%error, "the file of users is gone; the last users stay");
                    known.seen.clear();
                    known.is_decided = false;
                }
                return;
            }
        };
        if text != known.seen {
            known.seen = text;
            known.is_decided = false;
            return;
        }
        if known.is_decided {
            return;
        }
        known.is_decided = true;
        match parse(&text) {
            Ok(entries) => {
                tracing::info!(
                    users = entries.by_name.len(),
                    "the file of users has changed and was read"
                );
                known.entries = Arc::new(entries);
            }
            Err(error) => tracing::error!(%error, "the file of users has changed and is wrong; the last users stay"),
        }
    }
}

fn read(path: &Path) -> Result<String, UsersError> {
    std::fs::read_to_string(path).map_err(|source| UsersError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn parse(text: &str) -> Result<Entries, UsersError> {
    let wrong = |fault: String| UsersError::Wrong(fault);
    let file: UsersToml = toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().unwrap_or_default().start).unwrap_or_default();
        wrong(format!(
            "line {}: {}",
            before.matches('\n').count() + 1,
            error.message()
        ))
    })?;
    if file.user.is_empty() {
        return Err(wrong("there is no [[user]]".to_owned()));
    }
    let mut by_name = BTreeMap::new();
    let mut tokens = BTreeSet::new();
    for user in file.user {
        let name = user.name.clone();
        let entry = entry(user).map_err(|fault| wrong(format!("user {name:?}: {fault}")))?;
        if let Some(token) = &entry.token
            && !tokens.insert(token.clone())
        {
            return Err(wrong(format!("user {name:?}: token: another user has it too")));
        }
        if by_name.insert(name.clone(), entry).is_some() {
            return Err(wrong(format!("user {name:?} stands twice")));
        }
    }
    let hashes = by_name.values().filter_map(|entry| entry.password.as_ref());
    let dearest = hashes.max_by_key(|hash| cost_of(hash)).cloned();
    Ok(Entries { by_name, dearest })
}

fn entry(user: UserToml) -> Result<Entry, &'static str> {
    if user.name.trim().is_empty() || user.name.len() > asynq::inspector::MAX_ACTOR_NAME {
        return Err("name: has 1 to 256 bytes and is not blank");
    }
    if user.password.is_none() && user.token.is_none() {
        return Err("needs a password or a token");
    }
    if user.password.as_deref().is_some_and(|hash| !is_password_hash(hash)) {
        return Err("password: must be an argon2 hash; `asynq web password` makes one");
    }
    if user.token.as_deref().is_some_and(|hash| !is_token_hash(hash)) {
        return Err("token: must be `sha256:` and a hash; `asynq web token` makes one");
    }
    let mut grants: Vec<Grant> = user
        .grants
        .into_iter()
        .map(|grant| Grant {
            role: grant.role,
            queues: grant.queues,
        })
        .collect();
    match (user.role, user.queues) {
        (Some(role), queues) => grants.push(Grant {
            role,
            queues: queues.unwrap_or_else(|| vec![Pattern::any()]),
        }),
        (None, Some(_)) => return Err("queues: needs a role"),
        (None, None) => {}
    }
    if grants.iter().all(|grant| grant.queues.is_empty()) {
        return Err("needs a role, or a grant with queues");
    }
    let mut known = User::with_grants(user.name, grants);
    known.stamp = user.password.as_deref().map(hash_token).unwrap_or_default();
    Ok(Entry {
        user: known,
        password: user.password,
        token: user.token,
    })
}

#[async_trait]
impl Authenticate for Users {
    async fn recognize(&self, request: &Credentials<'_>) -> Result<Option<User>, AuthError> {
        let Some(token) = request.bearer() else {
            return Ok(None);
        };
        let hash = hash_token(token);
        let known = self.now().await;
        let of_token = known
            .by_name
            .values()
            .filter(|entry| entry.token.as_deref().is_some_and(|known| is_same(known, &hash)));
        match of_token.fold(None, |_, entry| Some(entry)) {
            Some(entry) => Ok(Some(entry.user.clone())),
            None => {
                tracing::debug!(peer = ?request.peer, "a token that nobody has");
                Err(AuthError::Refused)
            }
        }
    }

    async fn sign_in(&self, name: &str, password: &str) -> Result<Option<User>, AuthError> {
        if password.len() > MAX_PASSWORD {
            return Ok(None);
        }
        let known = self.now().await;
        let entry = known.by_name.get(name);
        let hash = entry.and_then(|entry| entry.password.as_ref());
        let Some(compared) = hash.or(known.dearest.as_ref()) else {
            return Ok(None);
        };
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(AuthError::unavailable("too many users sign in at once"));
        };
        let checks = Arc::clone(&self.checks);
        let permit = checks.acquire_owned().await.map_err(AuthError::unavailable)?;
        let (compared, password) = (compared.clone(), password.to_owned());
        #[expect(clippy::disallowed_methods, reason = "it ends by itself, and owns what it needs")]
        let fits = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            verify_password(&password, &compared)
        })
        .await
        .map_err(AuthError::unavailable)?;
        Ok(entry.filter(|_| fits && hash.is_some()).map(|entry| entry.user.clone()))
    }

    fn has_passwords(&self) -> bool {
        self.known().entries.dearest.is_some()
    }

    async fn renew(&self, user: &User) -> Result<Option<User>, AuthError> {
        let known = self.now().await;
        let entry = known.by_name.get(&user.name);
        // Someone else may have the name by now, or the password is another one.
        let same = entry.filter(|entry| entry.password.is_some() && is_same(&entry.user.stamp, &user.stamp));
        Ok(same.map(|entry| entry.user.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::hash_password;

    #[tokio::test]
    async fn a_changed_file_counts_once_two_looks_have_seen_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let users = |names: &[&str]| {
            let user = |name: &&str| {
                format!(
                    "[[user]]\nname = '{name}'\ntoken = '{}'\nrole = 'viewer'\n",
                    hash_token(name)
                )
            };
            names.iter().map(user).collect::<String>()
        };
        std::fs::write(&path, users(&["ann", "bob"])).unwrap();
        let opened = Users::open(&path).unwrap();
        let names = || {
            opened
                .known()
                .entries
                .by_name
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let look = || opened.saw(read(&path));
        std::fs::write(&path, users(&["ann"])).unwrap();
        look();
        assert_eq!(names(), "ann bob");
        look();
        assert_eq!(names(), "ann");
        // What is wrong, or gone, changes nothing.
        std::fs::write(&path, "[[user").unwrap();
        look();
        look();
        std::fs::remove_file(&path).unwrap();
        look();
        look();
        assert_eq!(names(), "ann");
        std::fs::write(&path, users(&["eve"])).unwrap();
        look();
        look();
        assert_eq!(names(), "eve");
    }

    fn fault(toml: &str) -> String {
        Users::parse(toml).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn users_sign_in_with_their_password() {
        let hash = hash_password("secret").unwrap();
        let users = Users::parse(&format!(
            "[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'operator'\nqueues = ['mail*']\n\
             [[user]]\nname = 'ci'\ntoken = '{}'\nrole = 'viewer'\n",
            hash_token("t")
        ))
        .unwrap();
        let ann = users.sign_in("ann", "secret").await.unwrap().unwrap();
        assert_eq!(ann.grants, User::for_queues("ann", Role::Operator, ["mail*"]).grants);
        for (name, password) in [("ann", "Secret"), ("bob", "secret"), ("ci", "t"), ("ann", "")] {
            assert_eq!(users.sign_in(name, password).await.unwrap(), None, "{name} {password}");
        }
        // No name opens the door with the password of nobody.
        assert_eq!(users.sign_in("bob", "no user has this password").await.unwrap(), None);
        assert_eq!(users.sign_in("ci", "no user has this password").await.unwrap(), None);
        assert_eq!(users.renew(&ann).await.unwrap(), Some(ann.clone()));
        let other = User {
            stamp: "another password".to_owned(),
            ..ann
        };
        assert_eq!(users.renew(&other).await.unwrap(), None);
        assert_eq!(users.renew(&User::new("ci", Role::Admin)).await.unwrap(), None);
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_place_of_the_fault() {
        let hash = hash_password("secret").unwrap();
        for (toml, text) in [
            ("".to_owned(), "there is no [[user]]"),
            ("[[user]]\nname = 1".to_owned(), "line 2: invalid type"),
            (
                "[[user]]\nname = ''\ntoken = 'x'".to_owned(),
                "name: has 1 to 256 bytes",
            ),
            (
                "[[user]]\nname = 'a'\nrole = 'viewer'".to_owned(),
                "needs a password or a token",
            ),
            (
                "[[user]]\nname = 'a'\npassword = 'secret'\nrole = 'viewer'".to_owned(),
                "must be an argon2 hash",
            ),
            (
                "[[user]]\nname = 'a'\ntoken = 'secret'\nrole = 'viewer'".to_owned(),
                "must be `sha256:`",
            ),
            (
                format!("[[user]]\nname = 'a'\npassword = '{hash}'"),
                "needs a role, or a grant",
            ),
            (
                format!("[[user]]\nname = 'a'\npassword = '{hash}'\nqueues = ['a']"),
                "queues: needs a role",
            ),
            (
                format!("[[user]]\nname = 'a'\npassword = '{hash}'\nrole = 'root'"),
                "unknown variant `root`",
            ),
            (
                format!("[[user]]\nname = 'a'\npasswort = '{hash}'"),
                "unknown field `passwort`",
            ),
            (
                format!("[[user]]\nname = 'a'\npassword = '{hash}'\nrole = 'viewer'\n").repeat(2),
                "stands twice",
            ),
            (
                ["a", "b"]
                    .map(|name| {
                        format!(
                            "[[user]]\nname = '{name}'\ntoken = '{}'\nrole = 'viewer'\n",
                            hash_token("t")
                        )
                    })
                    .concat(),
                "another user has it too",
            ),
        ] {
            let fault = fault(&toml);
            assert!(fault.contains(text), "{fault}");
            assert!(!fault.contains(&hash), "{fault}");
            assert!(!fault.contains("'secret'"), "{fault}");
        }
    }
}
