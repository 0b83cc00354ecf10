//! Tells an application's hook how an RPC ended.

use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use tokio::time::Instant;
use tonic::Code;

use super::body::let_go;
use crate::endpoint::Address;
use crate::metrics::{FinishedCall, Hook};

/// One RPC whose end is to be told, however it comes about.
#[derive(Debug)]
pub(super) struct Observed {
    hook: Hook,
    uri: Uri,
    started: Instant,
    deadline: Option<Instant>,
    /// Where it was sent last.
    backend: Mutex<Option<Arc<Address>>>,
    told: bool,
}

impl Observed {
    pub(super) fn new(hook: &Hook, uri: &Uri) -> Self {
        Self {
            hook: hook.clone(),
            uri: uri.clone(),
            started: Instant::now(),
            deadline: None,
            backend: Mutex::default(),
            told: false,
        }
    }

    /// It has this deadline.
    pub(super) fn until(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// It is sent there.
    pub(super) fn sent_to(&self, backend: &Arc<Address>) {
        let mut last = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Arc::clone(backend));
    }

    /// It ended so. Told once.
    pub(super) fn ended(&mut self, code: Code) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let backend = self.backend.get_mut();
        self.hook.call(&FinishedCall {
            method: self.uri.path(),
            backend: backend.unwrap_or_else(PoisonError::into_inner).as_deref(),
            code,
            latency: self.started.elapsed(),
        });
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.ended(let_go(self.deadline));
    }
}
