//! From the contents of files to what rustls wants.

use std::path::Path;
use std::sync::Arc;

use lookaside_client::tls::{pair_error, pem};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerConfig, WebPkiClientVerifier};

use super::{Contents, TlsError, TlsPaths};

type Server = (ServerConfig, Option<Arc<dyn ClientCertVerifier>>);

/// How to serve, and who judges clients.
pub(super) fn server(paths: &TlsPaths, contents: &Contents) -> Result<Server, TlsError> {
    let TlsPaths { cert, key, .. } = paths;
    let chain = pem::certificates(&contents.cert).map_err(TlsError::pem(cert))?;
    let private = pem::private_key(&contents.key).map_err(TlsError::pem(key))?;
    let pair = |error: &rustls::Error| TlsError::Pair {
        cert: cert.clone(),
        key: key.clone(),
        error: pair_error(error),
    };
    let provider = Arc::new(ring::default_provider());
    let clients = match (&paths.client_ca, &contents.client_ca) {
        (Some(path), Some(text)) => {
            let revoked = paths.client_crl.as_ref().zip(contents.client_crl.as_ref());
            Some(verifier((path, text), revoked, &provider)?)
        }
        _ => None,
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| pair(&error))?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, private);
    let mut config = config.map_err(|error| pair(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((config, clients))
}

fn verifier<P: AsRef<Path>>(
    (ca, text): (&P, &Vec<u8>),
    revoked: Option<(&P, &Vec<u8>)>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let useless = |path: &Path, error: String| TlsError::Clients {
        path: path.to_owned(),
        error,
    };
    let ca = ca.as_ref();
    let mut roots = RootCertStore::empty();
    for root in pem::certificates(text).map_err(TlsError::pem(ca))? {
        let added = roots.add(root);
        added.map_err(|error| useless(ca, error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
    let Some((path, text)) = revoked else {
        return builder
            .build()
            .map_err(|error| useless(ca, error.to_string()));
    };
    let path = path.as_ref();
    let lists = pem::revocation_lists(text).map_err(TlsError::pem(path))?;
    // A CA of which no list is here has revoked nothing; a list that is out of date still
    // says what it said.
    let builder = builder.with_crls(lists).allow_unknown_revocation_status();
    builder
        .build()
        .map_err(|error| useless(path, error.to_string()))
}
