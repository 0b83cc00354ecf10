//! Answers that are not gRPC's: of a proxy, a gateway, or a web server that stands
//! where the service should.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body::Body as _;
use tokio::runtime::Handle;
use tonic::{Code, Status};

use super::ResponseBody;

/// How much of the body the status repeats, in bytes.
const SHOWN: usize = 256;
/// How long the beginning of the body is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The response, if it is one of gRPC.
///
/// # Errors
/// The status that stands for another one, by gRPC's
/// `http-grpc-status-mapping.md`, with the beginning of its body.
pub(crate) async fn grpc_or_status(
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, Status> {
    let headers = response.headers();
    let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let is_grpc = content_type.is_none_or(|name| name.starts_with(b"application/grpc"));
    if headers.contains_key("grpc-status") || (is_grpc && response.status() == StatusCode::OK) {
        return Ok(response);
    }
    let content_type = content_type.map(|name| String::from_utf8_lossy(name).into_owned());
    let status = response.status();
    let mut body = response.into_body();
    let mut start = Vec::new();
    let reading = read(&mut body, &mut start);
    if Handle::try_current().is_ok() {
        // What came is shown, however the rest fails.
        let _ = tokio::time::timeout(PATIENCE, reading).await;
    } else {
        reading.await;
    }
    Err(Status::new(
        code_of(status),
        text(status, content_type.as_deref(), &start),
    ))
}

async fn read(body: &mut ResponseBody, start: &mut Vec<u8>) {
    while start.len() < SHOWN {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let Some(Ok(Ok(data))) = frame.map(|frame| frame.map(http_body::Frame::into_data)) else {
            return;
        };
        start.extend_from_slice(&data[..data.len().min(SHOWN - start.len())]);
    }
}

/// gRPC's code for an HTTP status.
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn text(status: StatusCode, content_type: Option<&str>, start: &[u8]) -> String {
    let mut text = format!("the server answered HTTP {status}");
    if let Some(content_type) = content_type {
        let content_type: String = content_type.chars().take(64).collect();
        text += &format!(" with content type {content_type:?}");
    }
    text += ", not gRPC";
    let start = String::from_utf8_lossy(start);
    let start = start.trim();
    if !start.is_empty() {
        text += &format!("; it begins with {start:?}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_grpcs_mapping() {
        for (status, code) in [
            (200, Code::Unknown),
            (302, Code::Unknown),
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (500, Code::Unknown),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
        ] {
            assert_eq!(code_of(StatusCode::from_u16(status).unwrap()), code);
        }
    }

    #[test]
    fn the_text_says_what_the_server_answered() {
        let said = text(
            StatusCode::BAD_GATEWAY,
            Some("text/html"),
            b"<h1>oops</h1>\n",
        );
        let wanted = "the server answered HTTP 502 Bad Gateway with content type \"text/html\", \
                      not gRPC; it begins with \"<h1>oops</h1>\"";
        assert_eq!(said, wanted);
        let said = text(StatusCode::NOT_FOUND, None, b"\x00\xff");
        assert!(said.contains("404 Not Found, not gRPC"), "{said}");
    }
}
