//! A search through what a name may mean: as it stands, and with the search domains.

use hickory_resolver::proto::rr::Name;

use super::records::Records;
use super::system::Conf;
use crate::error::ResolveError;

/// Longest name that DNS has.
const LONGEST_NAME: usize = 253;

/// A search through what a name may mean. As in glibc, a name that is not there, or
/// at which a server fails, leads on to the next one, and any other miss does not.
#[derive(Default)]
pub(super) struct Search {
    failed: Option<ResolveError>,
}

impl Search {
    /// What was found, if it ends the search.
    pub(super) fn take<T>(
        &mut self,
        result: Result<Records<T>, Miss>,
    ) -> Result<Option<Records<T>>, ResolveError> {
        match result {
            Ok(found) if found.is_empty() => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(miss) if miss.server_failure => {
                self.failed.get_or_insert(miss.error);
                Ok(None)
            }
            Err(miss) => Err(miss.error),
        }
    }

    /// Nothing was found.
    pub(super) fn end<T>(self) -> Result<Records<T>, ResolveError> {
        self.failed.map_or_else(|| Ok(Records::default()), Err)
    }
}

/// How a name was missed.
pub(super) struct Miss {
    /// Whether a server has failed at it, rather than said that it does not know
    /// the name or been silent.
    pub(super) server_failure: bool,
    pub(super) error: ResolveError,
}

/// What `host` may mean, in the order to ask for.
pub(super) fn names(conf: &Conf, host: &str) -> Result<Vec<Name>, ResolveError> {
    if host.trim_end_matches('.').len() > LONGEST_NAME {
        // A prefix can make a name longer than any that is in DNS.
        return Ok(vec![]);
    }
    conf.names(host).map_err(ResolveError)
}
