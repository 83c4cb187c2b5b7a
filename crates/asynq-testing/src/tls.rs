//! Certificates for test servers that speak TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority of its own and a certificate by it for `127.0.0.1` and `localhost`, as files.
/// They go with the last clone.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    dir: Arc<TempDir>,
    authority_pem: Arc<str>,
}

impl TlsFiles {
    /// Makes new keys and certificates.
    ///
    /// # Panics
    /// If they cannot be made or written.
    #[must_use]
    pub fn generate() -> Self {
        let dir = tempfile::Builder::new().prefix("asynq-tls-").tempdir();
        let dir = dir.unwrap_or_else(|error| panic!("no directory for certificates: {error}"));
        let (authority, certificate, key) =
            make().unwrap_or_else(|error| panic!("certificates cannot be made: {error}"));
        for (name, text) in [("ca.pem", &authority), ("cert.pem", &certificate), ("key.pem", &key)] {
            if let Err(error) = fs::write(dir.path().join(name), text) {
                panic!("{name} cannot be written: {error}");
            }
        }
        Self {
            dir: Arc::new(dir),
            authority_pem: authority.into(),
        }
    }

    /// The certificate of the authority, which clients are to trust; a PEM file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The text of [`authority`](Self::authority).
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The certificate of the server; a PEM file.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.file("cert.pem")
    }

    /// The private key of the server; a PEM file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.file("key.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        let dir: &Path = self.dir.path();
        dir.join(name)
    }
}

fn make() -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A name of its own: where issuer and subject are alike, OpenSSL takes a certificate as self-signed.
    params
        .distinguished_name
        .push(DnType::CommonName, "asynq test authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}
