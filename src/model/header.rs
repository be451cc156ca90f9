//! What headers may look like, whoever writes them: producers and hooks.

use super::limits::{HEADER_BYTES_MAX, HEADERS_MAX};

/// Whether a header's name is one of those that only the queue gives: they begin with `mq-`.
pub fn is_own_header(name: &str) -> bool {
    let start = name.as_bytes().get(..3);
    start.is_some_and(|start| start.eq_ignore_ascii_case(b"mq-"))
}

/// What is wrong with the headers somebody handed in, if anything.
pub fn header_problem(headers: &[(Box<str>, Box<str>)]) -> Option<String> {
    if headers.len() > HEADERS_MAX {
        return Some(format!("at most {HEADERS_MAX} headers are allowed"));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Some(format!(
            "names and values may have {HEADER_BYTES_MAX} bytes in all"
        ));
    }
    headers.iter().find_map(|(name, value)| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            Some(format!("{name:?} is not a header name"))
        } else if has_control(value) {
            Some(format!("the value of {name:?} has a control character"))
        } else if is_own_header(name) {
            Some(format!("{name:?}: names that begin with mq- are the queue's own"))
        } else {
            None
        }
    })
}

/// Whether `text` has a control character.
pub fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
