//! Users whose name a proxy has checked.

use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::HeaderName;

use super::{AuthError, Authenticate, Credentials, Role, User};

/// Trusts the header in which a proxy names the user that it has recognized, such as `X-Forwarded-User`. The header counts
/// only on connections from the proxy.
///
/// ```
/// use asynq_web::access::{Role, TrustedProxy};
///
/// let proxy = TrustedProxy::new("x-forwarded-user", ["127.0.0.1".parse()?], Role::Viewer)?.admins(["ann"]);
/// # drop(proxy);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The proxy must remove this header from the requests that it receives.
#[derive(Clone, Debug)]
pub struct TrustedProxy {
    header: HeaderName,
    peers: Vec<IpAddr>,
    role: Option<Role>,
    named: Vec<(String, Role)>,
}

impl TrustedProxy {
    /// Trusts a header on connections from these addresses. Users whom no other method names have the given role.
    ///
    /// # Errors
    /// A text, if the header has no name of HTTP, or there is no address.
    pub fn new(
        header: &str,
        peers: impl IntoIterator<Item = IpAddr>,
        role: impl Into<Option<Role>>,
    ) -> Result<Self, String> {
        let header = HeaderName::try_from(header).map_err(|_| format!("header: {header:?} is no name of a header"))?;
        let peers: Vec<IpAddr> = peers.into_iter().map(|peer| peer.to_canonical()).collect();
        if peers.is_empty() {
            return Err("peers: at least one address of a proxy is needed".to_owned());
        }
        Ok(Self {
            header,
            peers,
            role: role.into(),
            named: Vec::new(),
        })
    }

    /// Gives users the role of an operator.
    #[must_use]
    pub fn operators<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(names, Role::Operator)
    }

    /// Gives users the role of an admin.
    #[must_use]
    pub fn admins<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(names, Role::Admin)
    }

    fn with<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>, role: Role) -> Self {
        self.named.extend(names.into_iter().map(|name| (name.into(), role)));
        self
    }
}

#[async_trait]
impl Authenticate for TrustedProxy {
    async fn recognize(&self, request: &Credentials<'_>) -> Result<Option<User>, AuthError> {
        let mut values = request.headers.get_all(&self.header).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let from_proxy = request
            .peer
            .is_some_and(|peer| self.peers.contains(&peer.to_canonical()));
        // A header from elsewhere, or a second one, is an attempt to be someone else.
        if !from_proxy || values.next().is_some() {
            return Err(AuthError::Refused);
        }
        let name = value.to_str().map(str::trim).map_err(|_| AuthError::Refused)?;
        if name.is_empty() || name.len() > asynq::inspector::MAX_ACTOR_NAME {
            return Err(AuthError::Refused);
        }
        let named = self
            .named
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, role)| *role);
        match named.max().or(self.role) {
            Some(role) => Ok(Some(User::new(name, role))),
            None => Err(AuthError::Refused),
        }
    }

    fn trusts_the_connection(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[tokio::test]
    async fn the_header_counts_only_on_connections_from_the_proxy() {
        let proxy = TrustedProxy::new("x-user", ["127.0.0.1".parse().unwrap()], Role::Viewer)
            .unwrap()
            .admins(["ann"]);
        let recognized = async |headers: &[&str], peer: &str| {
            let request = headers
                .iter()
                .fold(Request::builder(), |request, value| request.header("x-user", *value));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let credentials = Credentials::of(&parts, peer.parse().ok());
            proxy.recognize(&credentials).await.ok()
        };
        assert_eq!(
            recognized(&["ann"], "127.0.0.1").await,
            Some(Some(User::new("ann", Role::Admin)))
        );
        assert_eq!(
            recognized(&["bob"], "::ffff:127.0.0.1").await,
            Some(Some(User::new("bob", Role::Viewer)))
        );
        assert_eq!(recognized(&[], "127.0.0.1").await, Some(None));
        for (headers, peer) in [
            (&["ann"][..], "127.0.0.2"),
            (&["ann"], "nowhere"),
            (&["bob", "ann"], "127.0.0.1"),
            (&[""], "127.0.0.1"),
        ] {
            assert_eq!(recognized(headers, peer).await, None, "{headers:?} {peer}");
        }
        assert!(TrustedProxy::new("x user", ["127.0.0.1".parse().unwrap()], None).is_err());
        assert!(TrustedProxy::new("x-user", [], None).is_err());
    }
}
