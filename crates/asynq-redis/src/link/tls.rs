//! TLS by rustls with the ring provider. The provider is named in each configuration, so that no
//! process-wide default is needed or touched.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use asynq_core::{error::BrokerError, excerpt::Excerpt};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The trusted certificates, and the client's own.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// Empty: the certificates that the system trusts.
    roots: Vec<CertificateDer<'static>>,
    server_name: Option<String>,
    insecure: bool,
    identity: Option<Identity>,
    config: OnceLock<Arc<ClientConfig>>,
}

#[derive(Clone)]
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.len())
            .field("server_name", &self.server_name)
            .field("insecure", &self.insecure)
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

fn invalid(reason: impl Into<String>) -> BrokerError {
    BrokerError::InvalidConnection { reason: reason.into() }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| invalid(format!("the {what} cannot be read: {error}")))?;
    if found.is_empty() {
        Err(invalid(format!("the {what} has no certificate in PEM form")))
    } else {
        Ok(found)
    }
}

impl Tls {
    pub(crate) fn trust(&mut self, pem: &[u8]) -> Result<(), BrokerError> {
        self.roots.extend(certificates(pem, "root certificate")?);
        self.config.take();
        Ok(())
    }

    pub(crate) fn identify(&mut self, chain_pem: &[u8], key_pem: &[u8]) -> Result<(), BrokerError> {
        let chain = certificates(chain_pem, "client certificate")?;
        // The cause is not shown: it might quote the key.
        let key =
            PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| invalid("the client key is not a key in PEM form"))?;
        self.identity = Some(Identity {
            chain,
            key: Arc::new(key),
        });
        self.config.take();
        Ok(())
    }

    pub(crate) fn expect_name(&mut self, name: String) {
        self.server_name = Some(name);
    }

    pub(crate) fn trust_anyone(&mut self) {
        self.insecure = true;
        self.config.take();
    }

    /// Encrypts a connection to `host`.
    pub(crate) async fn wrap<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, BrokerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let expected = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(expected.to_owned()).map_err(|_| {
            invalid(format!(
                "{:?} is not a name that a certificate can have",
                Excerpt(expected)
            ))
        })?;
        let config = match self.config.get() {
            Some(config) => Arc::clone(config),
            None => {
                let built = Arc::new(self.build()?);
                Arc::clone(self.config.get_or_init(|| built))
            }
        };
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            // Bad certificates and protocol faults are for good, the rest is the network.
            if error.kind() == io::ErrorKind::InvalidData {
                BrokerError::Refused { source: error.into() }
            } else {
                BrokerError::unavailable(error)
            }
        })
    }

    fn build(&self) -> Result<ClientConfig, BrokerError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
        } else {
            builder.with_root_certificates(self.root_store()?)
        };
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|error| invalid(format!("the client certificate cannot be used: {error}"))),
        }
    }

    fn root_store(&self) -> Result<RootCertStore, BrokerError> {
        let mut store = RootCertStore::empty();
        if self.roots.is_empty() {
            let native = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(native.certs);
            if store.is_empty() {
                return Err(invalid("the system trusts no certificate; give a root certificate"));
            }
        }
        for root in &self.roots {
            store
                .add(root.clone())
                .map_err(|error| invalid(format!("the root certificate cannot be used: {error}")))?;
        }
        Ok(store)
    }
}

/// Accepts every certificate, but still only from who has its key.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
