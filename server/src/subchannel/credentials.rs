//! TLS towards backends, of files that are read again when they change.
//!
//! Whoever calls backends by the same settings shares what is read. A change of what is
//! trusted is told, so that connections can be judged by it; a change of what is shown
//! counts for the next connection.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use lookaside_client::ClientTls;
use lookaside_client::tls::{HandshakeFault, Protocol, Secured, Tls, pem};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::SubchannelMetrics;
use crate::certificate::{Certificates, Role, Used};
use crate::file;
use lookaside_core::model::BackendTls;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(2);

/// Bytes of a file. The certificates of every public CA are a twentieth of it.
const MAX_FILE: u64 = 4 << 20;

/// The TLS of every kind that is in use. Clones are handles to the same.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    inner: Arc<Inner>,
}

/// A hold on TLS of one kind. Clones hold the same.
#[derive(Debug, Clone)]
pub struct Credential {
    hold: Arc<Hold>,
}

#[derive(Debug)]
struct Inner {
    known: Mutex<HashMap<Arc<BackendTls>, Weak<Hold>>>,
    tasks: TaskTracker,
    certificates: Certificates,
    metrics: SubchannelMetrics,
}

#[derive(Debug)]
struct Hold {
    loaded: watch::Receiver<Loaded>,
    _end: DropGuard,
}

/// What the files come to.
#[derive(Debug, Clone)]
enum Loaded {
    /// They are being read for the first time.
    Reading,
    /// They were never of use; the text says why.
    Useless(Arc<str>),
    Usable(Usable),
}

/// What a handshake is done with.
#[derive(Debug, Clone)]
pub(super) struct Usable {
    http1: Tls,
    http2: Tls,
    /// Grows with each change of what is trusted.
    pub(super) trust: u64,
}

impl Credentials {
    pub(super) fn new(
        tasks: TaskTracker,
        certificates: Certificates,
        metrics: SubchannelMetrics,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                known: Mutex::default(),
                tasks,
                certificates,
                metrics,
            }),
        }
    }

    /// TLS by these settings.
    pub(super) fn get(&self, tls: &Arc<BackendTls>) -> Credential {
        let mut known = self.inner.known();
        if let Some(hold) = known.get(tls).and_then(Weak::upgrade) {
            return Credential { hold };
        }
        let end = CancellationToken::new();
        let (states, loaded) = watch::channel(Loaded::Reading);
        let hold = Arc::new(Hold {
            loaded,
            _end: end.clone().drop_guard(),
        });
        known.insert(Arc::clone(tls), Arc::downgrade(&hold));
        drop(known);
        let (inner, tls) = (Arc::clone(&self.inner), Arc::clone(tls));
        self.inner.tasks.spawn(async move {
            let following = inner.follow(&tls, states);
            end.run_until_cancelled(following).await;
            let mut known = inner.known();
            if known.get(&tls).is_some_and(|hold| hold.strong_count() == 0) {
                known.remove(&tls);
            }
        });
        Credential { hold }
    }
}

impl Credential {
    /// What there is, once the files have been read.
    pub(super) async fn usable(&self) -> Result<Usable, Arc<str>> {
        let mut loaded = self.hold.loaded.clone();
        let read = loaded.wait_for(|loaded| !matches!(loaded, Loaded::Reading));
        match read.await.as_deref() {
            Ok(Loaded::Usable(usable)) => Ok(usable.clone()),
            Ok(Loaded::Useless(why)) => Err(Arc::clone(why)),
            Ok(Loaded::Reading) | Err(_) => Err("the balancer ends".into()),
        }
    }

    /// Waits until something else is trusted than with `usable`.
    pub(super) async fn other_trust(&self, usable: &Usable) {
        let mut loaded = self.hold.loaded.clone();
        let other = loaded.wait_for(|loaded| match loaded {
            Loaded::Usable(now) => now.trust != usable.trust,
            Loaded::Reading | Loaded::Useless(_) => false,
        });
        if other.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does the handshake with a backend that is called `name`.
    ///
    /// # Errors
    /// What is wrong, and which key of the configuration would mend it.
    pub(crate) async fn handshake(
        &self,
        protocol: Protocol,
        name: &str,
        socket: TcpStream,
    ) -> Result<Secured<TcpStream>, String> {
        let usable = self.usable().await.map_err(|why| why.to_string())?;
        usable.handshake(protocol, name, socket).await
    }
}

impl Usable {
    /// As [`Credential::handshake`].
    pub(super) async fn handshake(
        &self,
        protocol: Protocol,
        name: &str,
        socket: TcpStream,
    ) -> Result<Secured<TcpStream>, String> {
        let tls = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        let shaken = tls.to(name).handshake(socket).await;
        shaken.map_err(|error| {
            let key = match error.fault {
                HandshakeFault::NotTls => "if it speaks plaintext, write tls = false for it",
                HandshakeFault::Untrusted => {
                    "which CAs are trusted says `ca` of the service's tls or [backend_tls]"
                }
                HandshakeFault::Name => {
                    "which name is expected says `server_name` of the service's tls or \
                     [backend_tls]"
                }
                HandshakeFault::Client => {
                    "what is shown say `cert` and `key` of the service's tls or [backend_tls]"
                }
                _ => return error.to_string(),
            };
            format!("{error} ({key})")
        })
    }
}

/// What was read.
#[derive(PartialEq, Eq)]
struct Contents {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, HashMap<Arc<BackendTls>, Weak<Hold>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again and again.
    async fn follow(&self, tls: &BackendTls, states: watch::Sender<Loaded>) {
        let mut before: Option<Contents> = None;
        let mut used: Vec<Used> = Vec::new();
        let mut trust = 0;
        // What was logged last: once per change.
        let mut logged = String::new();
        loop {
            match self.look(tls, before.as_ref()).await {
                Ok(None) => logged.clear(),
                Ok(Some((contents, prepared))) => {
                    let first = before.is_none();
                    let trusts_other = before.as_ref().is_none_or(|old| old.ca != contents.ca);
                    trust += u64::from(trusts_other);
                    used = self.uses(tls, &contents);
                    before = Some(contents);
                    logged.clear();
                    let (http1, http2) = prepared;
                    states.send_replace(Loaded::Usable(Usable {
                        http1,
                        http2,
                        trust,
                    }));
                    if !first {
                        self.metrics.tls_reloaded(true);
                        info!(
                            tls = shown(tls),
                            trusts_other, "TLS files for backends reloaded"
                        );
                    }
                }
                Err(error) if logged == error => {}
                Err(error) => {
                    if before.is_some() {
                        self.metrics.tls_reloaded(false);
                        warn!(
                            error,
                            "changed TLS files for backends cannot be used; the old ones stay in \
                             use"
                        );
                    } else {
                        warn!(
                            error,
                            "TLS for backends cannot be used; no backend that it is for is \
                             connected to"
                        );
                        states.send_replace(Loaded::Useless(error.as_str().into()));
                    }
                    logged = error;
                }
            }
            tokio::time::sleep(CHECK).await;
            for used in &mut used {
                used.remind(SystemTime::now());
            }
        }
    }

    /// What the files come to, if it is not what they came to before.
    async fn look(
        &self,
        tls: &BackendTls,
        before: Option<&Contents>,
    ) -> Result<Option<(Contents, (Tls, Tls))>, String> {
        let ca = match &tls.ca {
            Some(ca) => Some(read(ca).await?),
            None => None,
        };
        let identity = match &tls.identity {
            Some(identity) => Some((read(&identity.cert).await?, read(&identity.key).await?)),
            None => None,
        };
        let contents = Contents { ca, identity };
        if before == Some(&contents) {
            return Ok(None);
        }
        let tls = tls.clone();
        // The system's CAs are files, too, and 150 of them take a while.
        let prepared = tokio::task::spawn_blocking(move || {
            let prepared = prepare(&tls, &contents)?;
            Ok(Some((contents, prepared)))
        });
        let ended = |_| Err("its reading ended unexpectedly".to_owned());
        prepared.await.unwrap_or_else(ended)
    }

    fn uses(&self, tls: &BackendTls, contents: &Contents) -> Vec<Used> {
        let ca = tls.ca.as_ref().zip(contents.ca.as_ref());
        let ca = ca.map(|(file, text)| (Role::BackendCa, file, text));
        let identity = tls.identity.as_ref().zip(contents.identity.as_ref());
        let identity = identity.map(|(files, (cert, _))| (Role::BackendClient, &files.cert, cert));
        let all = ca.into_iter().chain(identity);
        let all = all.map(|(role, file, text)| {
            let certificates = pem::certificates(text).unwrap_or_default();
            self.certificates.used(role, file, &certificates)
        });
        all.collect()
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = file::read(path, MAX_FILE).await;
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Whether the files of these settings could be used, on a thread that may wait.
///
/// # Errors
/// What is wrong with which.
pub fn check_tls(tls: &BackendTls) -> Result<(), String> {
    let read = |path: &PathBuf| {
        let read = file::read_blocking(path, MAX_FILE);
        read.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let ca = tls.ca.as_ref().map(read).transpose()?;
    let identity = match &tls.identity {
        Some(identity) => Some((read(&identity.cert)?, read(&identity.key)?)),
        None => None,
    };
    prepare(tls, &Contents { ca, identity }).map(|_| ())
}

fn prepare(tls: &BackendTls, contents: &Contents) -> Result<(Tls, Tls), String> {
    let mut client = ClientTls::new();
    if let (Some(file), Some(ca)) = (&tls.ca, &contents.ca) {
        let certificates = pem::certificates(ca);
        certificates.map_err(|error| format!("{} has {error}", file.display()))?;
        client = client.ca_pem(ca.as_slice());
    }
    if let (Some(files), Some((cert, key))) = (&tls.identity, &contents.identity) {
        let chain = pem::certificates(cert);
        chain.map_err(|error| format!("{} has {error}", files.cert.display()))?;
        let private = pem::private_key(key);
        private.map_err(|error| format!("{} has {error}", files.key.display()))?;
        client = client.identity_pem(cert.as_slice(), key.as_slice());
    }
    if let Some(name) = &tls.server_name {
        client = client.server_name(name.as_str());
    }
    let prepare = |protocol| {
        let prepared = client.clone().prepare("backend", protocol);
        prepared.map_err(|error| format!("{error} ({})", shown(tls)))
    };
    Ok((prepare(Protocol::Http1)?, prepare(Protocol::Http2)?))
}

/// The files, for a log.
fn shown(tls: &BackendTls) -> String {
    let ca = match &tls.ca {
        Some(ca) => format!("ca {}", ca.display()),
        None => "the system's CAs".to_owned(),
    };
    match &tls.identity {
        Some(identity) => {
            let (cert, key) = (identity.cert.display(), identity.key.display());
            format!("{ca}, cert {cert}, key {key}")
        }
        None => ca,
    }
}
