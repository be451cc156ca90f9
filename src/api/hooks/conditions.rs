//! `If-Match` and `If-None-Match`: changes are made only to what their maker has seen.

use poem::Response;
use poem::http::{HeaderValue, header};

use super::super::problem::{Code, Problem};
use crate::hooks::registry::Expected;

/// The conditions of a request, as its headers have them.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// `If-Match`.
    pub(crate) if_match: Option<String>,
    /// `If-None-Match`.
    pub(crate) if_none_match: Option<String>,
}

impl Conditions {
    /// What the change expects to find. `current` is the revision there is.
    ///
    /// # Errors
    /// 428 without a condition, 412 when the condition names none that can be, 400 for one that cannot be read.
    pub(crate) fn expected(&self, current: Option<u64>) -> Result<Expected, Problem> {
        match (self.if_match.as_deref(), self.if_none_match.as_deref()) {
            (None, None) => Err(Problem::new(
                Code::PreconditionRequired,
                "send If-Match with the ETag of what you change, or If-None-Match: * to make something new",
            )),
            (None, Some(tag)) if tag.trim() == "*" => Ok(Expected::Absent),
            (None, Some(_)) => Err(unreadable("If-None-Match", "must be *")),
            (Some(tag), _) if tag.trim() == "*" => match current {
                Some(_) => Ok(Expected::Anything),
                None => Err(failed(None)),
            },
            (Some(tag), _) => match (revision(tag.trim()), current) {
                (Some(wanted), Some(_)) => Ok(Expected::Revision(wanted)),
                (Some(_), None) => Err(failed(None)),
                (None, _) => Err(unreadable(
                    "If-Match",
                    "must be one ETag as this route gave it, such as \"7\"",
                )),
            },
        }
    }
}

fn unreadable(header: &str, detail: &str) -> Problem {
    Problem::new(Code::BadRequest, format!("{header} {detail}"))
}

/// 412, with the revision that there is.
pub(crate) fn failed(current: Option<u64>) -> Problem {
    match current {
        Some(revision) => Problem::new(
            Code::PreconditionFailed,
            format!(
                "somebody changed it meanwhile: its ETag is \"{revision}\" now; look at it and decide again"
            ),
        )
        .with_header(header::ETAG, etag(revision)),
        None => Problem::new(
            Code::PreconditionFailed,
            "there is none of that name; make it with If-None-Match: *",
        ),
    }
}

/// A weak tag never matches: what it stands for may differ.
fn revision(tag: &str) -> Option<u64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// The entity tag of a revision.
pub(super) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// `response` with the entity tag of a revision.
pub(crate) fn tagged(mut response: Response, revision: u64) -> Response {
    response.headers_mut().insert(header::ETAG, etag(revision));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(
        if_match: Option<&str>,
        if_none_match: Option<&str>,
        current: Option<u64>,
    ) -> Result<Expected, u16> {
        let conditions = Conditions {
            if_match: if_match.map(str::to_owned),
            if_none_match: if_none_match.map(str::to_owned),
        };
        conditions
            .expected(current)
            .map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_change_needs_a_condition_that_can_hold() {
        assert_eq!(expected(None, None, Some(1)), Err(428));
        assert_eq!(expected(None, Some("*"), None), Ok(Expected::Absent));
        assert_eq!(expected(None, Some("\"1\""), None), Err(400));
        assert_eq!(expected(Some("*"), None, None), Err(412));
        assert_eq!(expected(Some("*"), None, Some(4)), Ok(Expected::Anything));
        assert_eq!(expected(Some("\"4\""), None, Some(4)), Ok(Expected::Revision(4)));
        assert_eq!(expected(Some("\"4\""), None, None), Err(412));
        for unreadable in ["4", "W/\"4\"", "\"x\"", "\"", "\"1\", \"2\""] {
            assert_eq!(
                expected(Some(unreadable), None, Some(4)),
                Err(400),
                "{unreadable}"
            );
        }
    }
}
