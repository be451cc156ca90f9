//! How a payload differs from the one it replaces.

use serde::Serialize;
use serde_json::Value;

/// Most bytes that the paths of a patch may take: past it, bytes are compared instead.
const PATCH_BYTES_MAX: usize = 4 << 20;

/// How a payload differs from the one it replaces.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PayloadDiff {
    /// Both are the same bytes.
    Same,
    /// Both are JSON: an RFC 6902 patch from the old to the new.
    Json {
        /// The patch.
        patch: json_patch::Patch,
    },
    /// At least one is not JSON, or a patch would be huge or tell nothing.
    Bytes {
        /// Length of the old one, in bytes.
        before_bytes: usize,
        /// Length of the new one, in bytes.
        after_bytes: usize,
        /// Bytes that are the same at the beginning.
        same_prefix_bytes: usize,
        /// Bytes that are the same at the end, beside the beginning.
        same_suffix_bytes: usize,
    },
}

impl PayloadDiff {
    /// What changed from `before` to `after`.
    pub fn between(before: &[u8], after: &[u8]) -> Self {
        if before == after {
            return Self::Same;
        }
        if let (Some(old), Some(new)) = (json(before), json(after))
            && fits(&old, &new)
        {
            let patch = json_patch::diff(&old, &new);
            // Without one they differ in how the same is written, or by less than numbers here can hold.
            if !patch.is_empty() {
                return Self::Json { patch };
            }
        }
        Self::bytes(before, after)
    }

    fn bytes(before: &[u8], after: &[u8]) -> Self {
        let pairs = before.iter().zip(after);
        let prefix = pairs.take_while(|(old, new)| old == new).count();
        let (old, new) = (&before[prefix..], &after[prefix..]);
        let pairs = old.iter().rev().zip(new.iter().rev());
        Self::Bytes {
            before_bytes: before.len(),
            after_bytes: after.len(),
            same_prefix_bytes: prefix,
            same_suffix_bytes: pairs.take_while(|(old, new)| old == new).count(),
        }
    }
}

fn json(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

/// Whether a patch stays small whatever changed. Each operation repeats its whole path: a long key above many
/// small values would multiply.
fn fits(old: &Value, new: &Value) -> bool {
    let (old, new) = (Extent::of(old), Extent::of(new));
    let longest = old.path_bytes.max(new.path_bytes);
    longest.saturating_mul(old.values + new.values) <= PATCH_BYTES_MAX
}

/// How many values a document has and how long the longest path to one is.
struct Extent {
    values: usize,
    path_bytes: usize,
}

impl Extent {
    fn of(value: &Value) -> Self {
        let mut whole = Self {
            values: 1,
            path_bytes: 0,
        };
        let mut add = |key_bytes: usize, part: &Value| {
            let part = Self::of(part);
            whole.values += part.values;
            whole.path_bytes = whole.path_bytes.max(part.path_bytes + key_bytes);
        };
        match value {
            // In a path `~` and `/` take two bytes each.
            Value::Object(map) => map.iter().for_each(|(key, part)| add(1 + 2 * key.len(), part)),
            Value::Array(list) => list.iter().for_each(|part| add(8, part)),
            _ => {}
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(before: &str, after: &str) -> Value {
        serde_json::to_value(PayloadDiff::between(before.as_bytes(), after.as_bytes())).unwrap()
    }

    #[test]
    fn json_is_compared_as_json_and_the_rest_as_bytes() {
        assert_eq!(shown("x", "x"), json!({"kind": "same"}));
        assert_eq!(
            shown(r#"{"a":1,"b":2}"#, r#"{"a":1,"c":[]}"#),
            json!({"kind": "json", "patch": [
                {"op": "add", "path": "/c", "value": []},
                {"op": "remove", "path": "/b"},
            ]})
        );
        assert_eq!(
            shown("abcxyz", "abc-xyz"),
            json!({"kind": "bytes", "before_bytes": 6, "after_bytes": 7,
                "same_prefix_bytes": 3, "same_suffix_bytes": 3})
        );
        // What no patch tells is told in bytes.
        assert_eq!(shown("[1.10]", "[1.1]")["kind"], "bytes");
        assert_eq!(
            shown("[12345678901234567890123]", "[12345678901234567890124]")["same_prefix_bytes"],
            23
        );
        // The ends that are the same never overlap.
        assert_eq!(shown("aa", "aaa")["same_suffix_bytes"], 0);
    }

    #[test]
    fn a_patch_that_would_repeat_a_long_path_is_not_made() {
        let key = "k".repeat(100_000);
        let many = |n: u8| format!("{{\"{key}\":{}}}", json!(vec![n; 100_000]));
        assert_eq!(shown(&many(1), &many(2))["kind"], "bytes");
        let deep = |n: u8| format!("{}{n}{}", "[".repeat(120), "]".repeat(120));
        assert_eq!(shown(&deep(1), &deep(2))["kind"], "json");
    }
}
