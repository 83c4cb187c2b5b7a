//! Clients for other web servers.

use reqwest::ClientBuilder;

/// Returns the settings of a client. HTTPS needs the feature `webhook`.
///
/// # Errors
/// A text, if the certificates of this machine cannot be used.
pub(crate) fn builder() -> Result<ClientBuilder, String> {
    let builder = reqwest::Client::builder();
    #[cfg(feature = "webhook")]
    let builder = builder.tls_backend_preconfigured(tls()?);
    Ok(builder)
}

/// Returns the settings of TLS, which trusts whom this machine trusts.
#[cfg(feature = "webhook")]
fn tls() -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    // Without any, each connection fails, and says why.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
