//! `grpc-message`, as it may go out. Methods quote in it what a peer sent: it comes
//! back escaped, as peers log it, and cut.

use http::HeaderMap;
use tonic::Status;

use crate::telemetry::printable;

/// Characters of a message. C-core refuses a response with more than 8 KiB of
/// headers and then shows that instead of the reason; a character may take twelve
/// bytes.
pub(super) const MOST: usize = 600;

/// Escapes and cuts the message in headers or trailers, if there is one.
pub(super) fn tame(headers: &mut HeaderMap) {
    if !headers.contains_key(Status::GRPC_MESSAGE) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let message = printable(status.message(), MOST);
    if message == status.message() {
        return;
    }
    let tame = Status::new(status.code(), message).add_header(headers);
    if tame.is_err() {
        headers.remove(Status::GRPC_MESSAGE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    fn tamed(message: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let status = Status::new(Code::NotFound, message);
        status.add_header(&mut headers).unwrap();
        tame(&mut headers);
        headers
    }

    #[test]
    fn what_a_peer_sent_comes_back_escaped() {
        let headers = tamed("no `a\nINFO forged\u{1b}[2J`");
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "no `a\\nINFO forged\\u{1b}[2J`");
    }

    proptest! {
        #[test]
        fn no_message_is_too_long_for_c_core(text in "\\PC{0,40}", times in 0usize..2000) {
            let headers = tamed(&text.repeat(times));
            let bytes = headers.get(Status::GRPC_MESSAGE).map_or(0, |value| value.len());
            prop_assert!(bytes < 7500, "{bytes}");
        }
    }
}
