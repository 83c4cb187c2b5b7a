//! The trait by which an application recognizes its users.

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use axum::http::{HeaderMap, request::Parts};

use super::User;

/// Recognizes the user who sends a request. An application brings its own, or takes [`Users`](super::Users), which reads a
/// file, or [`TrustedProxy`](super::TrustedProxy), which trusts a header.
///
/// ```
/// use asynq_web::access::{AuthError, Authenticate, Credentials, Role, User};
///
/// /// Scripts of ours carry a token that another service checks.
/// struct OurTokens;
///
/// #[async_trait::async_trait]
/// impl Authenticate for OurTokens {
///     async fn recognize(&self, request: &Credentials<'_>) -> Result<Option<User>, AuthError> {
///         let Some(token) = request.bearer() else {
///             return Ok(None);
///         };
///         match check(token).await.map_err(AuthError::unavailable)? {
///             Some(name) => Ok(Some(User::new(name, Role::Viewer))),
///             None => Err(AuthError::Refused),
///         }
///     }
/// }
/// # async fn check(_: &str) -> std::io::Result<Option<String>> { Ok(None) }
/// ```
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// Returns the user who sends a request, and `None` if the request carries no proof, or one of another kind.
    ///
    /// # Errors
    /// [`AuthError::Refused`] for a wrong proof, [`AuthError::Unavailable`] if it cannot be checked now.
    async fn recognize(&self, request: &Credentials<'_>) -> Result<Option<User>, AuthError>;

    /// Returns the user with this name and password. A form for the sign-in is offered if [`has_passwords`](Self::has_passwords)
    /// is true.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`]. `None` means that the name or the password is wrong.
    async fn sign_in(&self, name: &str, password: &str) -> Result<Option<User>, AuthError> {
        let _ = (name, password);
        Ok(None)
    }

    /// Returns whether users sign in with a name and a password. Default: no.
    fn has_passwords(&self) -> bool {
        false
    }

    /// Returns whether the place from which a request comes is a part of the proof, so that a page of a stranger in a user's browser
    /// could send requests that are recognized. The server then answers only for host names that it knows. Default: no.
    fn trusts_the_connection(&self) -> bool {
        false
    }

    /// Returns the user of a session as they are now, and `None` if they may no longer be here. It is asked with each request
    /// of a session, so a changed role counts at once. Default: the user as they signed in.
    ///
    /// # Errors
    /// As [`recognize`](Self::recognize).
    async fn renew(&self, user: &User) -> Result<Option<User>, AuthError> {
        Ok(Some(user.clone()))
    }
}

/// The parts of a request that can prove who sends it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Credentials<'r> {
    /// The headers.
    pub headers: &'r HeaderMap,
    /// The address of the connection's other end, which may be a proxy: then all its users have the same. `None` if the router
    /// is served without `ConnectInfo`.
    pub peer: Option<IpAddr>,
    /// Everything of the request but its body.
    pub request: &'r Parts,
}

impl<'r> Credentials<'r> {
    pub(crate) fn of(request: &'r Parts, peer: Option<IpAddr>) -> Self {
        Self {
            headers: &request.headers,
            peer,
            request,
        }
    }

    /// Returns the token of the header `Authorization: Bearer`, `None` if there is none.
    #[must_use]
    pub fn bearer(&self) -> Option<&'r str> {
        let value = self.headers.get(axum::http::header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// A request whose sender is not recognized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The proof is wrong or no longer valid. The request gets the status 401.
    #[error("the credentials are wrong or no longer valid")]
    Refused,
    /// The proof cannot be checked now. The request gets the status 503; the cause is logged and not shown.
    #[error("the credentials cannot be checked now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AuthError {
    /// Returns an error for a proof that cannot be checked now.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// The ways of an application, tried one after the other. A way that fails does not hide one that recognizes the user: a token for
/// another server, or a directory that does not answer.
#[derive(Default)]
pub(crate) struct Ways(pub(crate) Vec<Box<dyn Authenticate>>);

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ways").field(&self.0.len()).finish()
    }
}

impl Ways {
    pub(crate) fn trust_the_connection(&self) -> bool {
        self.0.iter().any(|way| way.trusts_the_connection())
    }

    pub(crate) fn has_passwords(&self) -> bool {
        self.0.iter().any(|way| way.has_passwords())
    }

    /// Returns the user who sends a request.
    pub(crate) async fn recognize(&self, request: &Credentials<'_>) -> Result<Option<User>, AuthError> {
        let mut fault = None;
        for way in &self.0 {
            match way.recognize(request).await {
                Ok(Some(user)) => return checked(user).map(Some),
                Ok(None) => {}
                Err(error) => fault = Some(worse(fault, error)),
            }
        }
        fault.map_or(Ok(None), Err)
    }

    /// Returns the user with this password, and the number of the way that knows them: only it can renew the session.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Result<Option<(User, usize)>, AuthError> {
        let mut fault = None;
        for (number, way) in self.0.iter().enumerate().filter(|(_, way)| way.has_passwords()) {
            match way.sign_in(name, password).await {
                Ok(Some(user)) => return checked(user).map(|user| Some((user, number))),
                Ok(None) => {}
                Err(error) => fault = Some(worse(fault, error)),
            }
        }
        fault.map_or(Ok(None), Err)
    }

    /// Returns the user of a session as they are now.
    pub(crate) async fn renew(&self, user: &User, way: usize) -> Result<Option<User>, AuthError> {
        match self.0.get(way) {
            Some(way) => way.renew(user).await,
            None => Ok(None),
        }
    }
}

/// Of two faults, an outage says more than a refusal.
fn worse(one: Option<AuthError>, other: AuthError) -> AuthError {
    match one {
        Some(one @ AuthError::Unavailable(_)) => one,
        _ => other,
    }
}

/// Refuses a name that the audit trail could not hold.
fn checked(user: User) -> Result<User, AuthError> {
    match asynq::inspector::Actor::new(user.name.clone()).check() {
        Ok(()) => Ok(user),
        Err(error) => Err(AuthError::unavailable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    /// A way that answers everything alike.
    struct Fixed(Fn);

    type Fn = fn() -> Result<Option<User>, AuthError>;

    #[async_trait]
    impl Authenticate for Fixed {
        async fn recognize(&self, _: &Credentials<'_>) -> Result<Option<User>, AuthError> {
            (self.0)()
        }

        async fn sign_in(&self, _: &str, _: &str) -> Result<Option<User>, AuthError> {
            (self.0)()
        }

        fn has_passwords(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_way_that_fails_does_not_hide_one_that_knows_the_user() {
        let ann = || Ok(Some(User::new("ann", Role::Viewer)));
        let (parts, ()) = axum::http::Request::new(()).into_parts();
        let request = Credentials::of(&parts, None);
        let ways = |ways: [Fn; 3]| Ways(ways.map(|way| Box::new(Fixed(way)) as Box<dyn Authenticate>).into());
        let found = ways([|| Err(AuthError::Refused), || Err(AuthError::unavailable("away")), ann]);
        assert_eq!(found.recognize(&request).await.unwrap().unwrap().name, "ann");
        assert_eq!(found.sign_in("ann", "x").await.unwrap().unwrap().1, 2);
        let away = ways([
            || Err(AuthError::unavailable("away")),
            || Err(AuthError::Refused),
            || Ok(None),
        ]);
        assert!(matches!(away.recognize(&request).await, Err(AuthError::Unavailable(_))));
        assert!(matches!(away.sign_in("ann", "x").await, Err(AuthError::Unavailable(_))));
        let none = ways([|| Ok(None), || Ok(None), || Ok(None)]);
        assert!(none.recognize(&request).await.unwrap().is_none());
        // Only the way of the sign-in renews.
        assert!(found.renew(&User::new("ann", Role::Viewer), 9).await.unwrap().is_none());
        let blank = ways([|| Ok(Some(User::new(" ", Role::Admin))), || Ok(None), || Ok(None)]);
        assert!(blank.recognize(&request).await.is_err());
    }
}
