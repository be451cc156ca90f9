//! What is refused before any route sees it, and the answers that hyper gives by itself.

use poem::Response;
use poem::http::{HeaderMap, StatusCode};

use crate::api::layers::{finish, request_id};
use crate::api::problem::{CONTENT_TYPE, Code, Problem};

/// Why a connection, or a request on it, was refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many connections are open as may be.
    Full,
    /// One address has as many connections open as it may.
    FullForAddress,
    /// The TLS handshake failed or took too long.
    Tls,
    /// No head came, it came too slowly, or the peer took nothing of an answer.
    Silent,
    /// What came is not HTTP.
    Parse,
    /// A head is too large.
    TooLarge,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Full,
        Self::FullForAddress,
        Self::Tls,
        Self::Silent,
        Self::Parse,
        Self::TooLarge,
    ];

    /// The reason as metrics carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullForAddress => "full_for_address",
            Self::Tls => "tls",
            Self::Silent => "silent",
            Self::Parse => "parse",
            Self::TooLarge => "too_large",
        }
    }

    /// The refusal that the end of a connection with `error` was; most ends are none.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let error = error.downcast_ref::<hyper::Error>()?;
        if error.is_parse_too_large() {
            Some(Self::TooLarge)
        } else {
            error.is_parse().then_some(Self::Parse)
        }
    }
}

/// The problem to be sent in place of `answer` when that is what hyper says by itself to a head it cannot read:
/// a status and nothing else.
///
/// The API's own answers have a request id. No body can be taken for such a head: none has a line end in it that
/// a client could choose, for all are JSON.
pub(super) fn instead_of(answer: &[u8]) -> Option<(Refusal, Vec<u8>)> {
    // Its length is a few dozen bytes; anything longer is not it.
    const BYTES_MAX: usize = 256;
    if answer.len() > BYTES_MAX {
        return None;
    }
    let head = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let first = lines.next()?;
    let status = match first.strip_prefix("HTTP/1.1 ")?.get(..3)? {
        "400" => StatusCode::BAD_REQUEST,
        "414" => StatusCode::URI_TOO_LONG,
        "431" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => return None,
    };
    let mut date = None;
    for line in lines {
        match line.split_once(':')?.0 {
            "date" => date = Some(line),
            "connection" | "content-length" => {}
            _ => return None,
        }
    }
    let (refusal, problem) = if status == StatusCode::BAD_REQUEST {
        let detail = "the head of the request is not well-formed HTTP; the connection is closed";
        (Refusal::Parse, Problem::new(Code::BadRequest, detail))
    } else {
        let detail = "a head may have 64 KiB and 100 headers; the connection is closed";
        let problem = Problem::new(Code::HeadersTooLarge, detail).with_status(status);
        (Refusal::TooLarge, problem)
    };
    let id = request_id(&HeaderMap::new());
    let id = id.to_str().unwrap_or_default();
    let body = problem.body(id);
    let date = date.map(|date| format!("{date}\r\n")).unwrap_or_default();
    let mut text = format!(
        "{first}\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\nx-request-id: {id}\r\n\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\n{date}\r\n",
        body.len()
    )
    .into_bytes();
    text.extend(body);
    Some((refusal, text))
}

/// The answer to a head over HTTP/2 that is too large; hyper has read it whole, and the connection goes on.
pub(super) fn head_too_large(headers: &HeaderMap) -> Response {
    let detail = "a head over HTTP/2 may have 16 KiB, 32 bytes for each field counted, and 100 headers";
    let id = request_id(headers);
    let mut response = Problem::new(Code::HeadersTooLarge, detail).render(id.to_str().unwrap_or_default());
    finish(&mut response, id, "");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_answers_are_replaced() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun\r\n\r\n";
        let (refusal, text) = instead_of(bare.as_bytes()).unwrap();
        assert_eq!(refusal, Refusal::TooLarge);
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 431 ") && head.contains("date: Sun"),
            "{text}"
        );
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{text}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["code"], &body["status"]),
            (&"headers_too_large".into(), &431.into())
        );
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: 1\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "",
        ] {
            assert_eq!(instead_of(other.as_bytes()), None, "{other}");
        }
    }
}
