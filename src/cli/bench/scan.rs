//! Finds the few things that matter in answers without parsing them: the answers are the server's own
//! compact JSON, in which a quoted name before a colon cannot be anything but a field, since quotes
//! inside texts are escaped.

/// The texts of every field `name`, which includes quotes and colon and the opening quote: `"id":"`.
pub(super) fn texts<'a>(body: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = find(rest, name)?;
        let text = &rest[at + name.len()..];
        let end = text.iter().position(|&byte| byte == b'"')?;
        rest = &text[end..];
        Some(&text[..end])
    })
}

/// How often `needle` occurs.
pub(super) fn count(body: &[u8], needle: &[u8]) -> usize {
    let mut rest = body;
    let mut count = 0;
    while let Some(at) = find(rest, needle) {
        count += 1;
        rest = &rest[at + needle.len()..];
    }
    count
}

/// Where `needle` first occurs. The last byte is looked for first: it is a quote or a brace, which are
/// rarer than letters.
pub(super) fn find(body: &[u8], needle: &[u8]) -> Option<usize> {
    let (&last, begin) = needle.split_last()?;
    let mut from = begin.len();
    while from < body.len() {
        let at = from + body[from..].iter().position(|&byte| byte == last)?;
        if body[..at].ends_with(begin) {
            return Some(at - begin.len());
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_order() {
        let body =
            br#"{"items":[{"id":"1","lease_id":"L1"},{"lease_id":"L2","text":"\"lease_id\":\"no\""}]}"#;
        let found: Vec<_> = texts(body, br#""lease_id":""#).collect();
        assert_eq!(found, [b"L1", b"L2"]);
        assert_eq!(count(body, br#""lease_id":""#), 2);
        assert_eq!(count(b"aaaa", b"aa"), 2);
        assert_eq!(find(b"abcab", b"cab"), Some(2));
        assert_eq!(find(b"ab", b"abc"), None);
    }
}
