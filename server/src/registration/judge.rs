//! Judging again who is registered, when what they were judged by has changed: a token
//! that was taken out of its file, or a rule of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Shared;
use super::rules::{Caller, Refused};
use lookaside_core::model::{BackendAddr, ServiceName};

/// Runs until `end`.
pub(super) async fn follow(shared: &Shared, end: CancellationToken) {
    let mut rules = shared.rules.subscribe();
    let mut tokens = shared.tokens.subscribe();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            Ok(()) = rules.changed() => {}
            Ok(()) = tokens.changed() => {}
        }
        rules.mark_unchanged();
        tokens.mark_unchanged();
        judge(shared);
        // Those who have streams are told by those.
        shared.judged.send_modify(|times| *times += 1);
    }
}

/// A backend is out of so many services, as its certificate is no longer trusted.
pub(super) fn untrusted(shared: &Shared, caller: &Caller, services: usize) {
    if services > 0 {
        shared.metrics.ended("revoked", services as u64);
        warn!(
            peer = %caller.peer.addr,
            services,
            "registered backend removed: its certificate is no longer trusted"
        );
    }
}

/// Takes out whoever may not be registered any more, whether its stream is there or not.
fn judge(shared: &Shared) {
    let rules = Arc::clone(&shared.rules.borrow());
    let mut out: BTreeMap<ServiceName, (u64, BackendAddr, Refused)> = BTreeMap::new();
    // Many show the same token, and to look for one takes all of its file.
    let mut known = BTreeMap::new();
    shared.table().dismiss(|service, addr, caller| {
        let has = |file: &std::path::Path, token: &str| {
            let key = (file.to_owned(), token.to_owned());
            *known
                .entry(key)
                .or_insert_with(|| shared.tokens.has(file, token))
        };
        let Err(refused) = rules.may(service, addr, caller, &shared.tokens, has) else {
            return false;
        };
        let counted = out.entry(service.clone());
        counted.or_insert((0, addr, refused)).0 += 1;
        true
    });
    for (service, (count, first, refused)) in out {
        shared.metrics.ended("revoked", count);
        warn!(
            %service,
            count,
            %first,
            reason = refused.error,
            "registered backends removed: what they registered by is no longer valid"
        );
    }
    shared.changed.notify_one();
}
