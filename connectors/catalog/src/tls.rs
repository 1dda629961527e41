//! TLS towards the nodes: their certificates are checked against our own authorities, by address or by one common name.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::settings::{Security, SettingsError};

/// What connections are made with; `None` where TLS is off.
///
/// # Errors
/// A file cannot be read or holds something else; the message has its name and never its content.
pub fn config(security: &Security) -> Result<Option<Arc<ClientConfig>>, SettingsError> {
    let (true, Some(ca_file)) = (security.tls, &security.ca_file) else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca_file)? {
        roots.add(authority).map_err(|error| content(ca_file, &error))?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| content(ca_file, &error))?;
    let verifier: Arc<dyn ServerCertVerifier> = match &security.server_name {
        Some(name) => {
            let name = ServerName::try_from(name.clone())
                .map_err(|_| SettingsError::Security("server_name is no name of a server"))?;
            Arc::new(CommonName { inner, name })
        }
        None => inner,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| content(ca_file, &error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&security.certificate_file, &security.key_file) {
        (Some(certificate), Some(key)) => {
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|_| content(key, &"no private key in PEM"))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, secret)
                .map_err(|error| content(certificate, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let pem = std::fs::read(path).map_err(|cause| SettingsError::File { path: path.to_owned(), cause })?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(content(path, &"no certificates in PEM")),
    }
}

fn content(path: &Path, why: &dyn std::fmt::Display) -> SettingsError {
    SettingsError::Content { path: path.to_owned(), why: why.to_string() }
}

/// Checks certificates as usual, but against one name for all nodes, and not against the address of each.
#[derive(Debug)]
struct CommonName {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for CommonName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
