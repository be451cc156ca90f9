//! Splits a payload that is a JSON array into one item per element.
//!
//! Each part has the headers, priority and delay of the original, and a header `part` such as `2/3`.

use mqueue_hook_sdk::{Context, Edit, EnqueueHook, EnqueueVerdict, Item, Reason, export_enqueue};
use serde_json::Value;

struct Split;

export_enqueue!(Split);

impl EnqueueHook for Split {
    fn on_enqueue(_: &Context, item: Item) -> Result<EnqueueVerdict, String> {
        let Ok(Value::Array(values)) = item.json() else {
            return Ok(EnqueueVerdict::Keep);
        };
        if values.is_empty() {
            return Ok(EnqueueVerdict::Drop(Reason::new(
                "empty",
                "the batch has no elements",
            )));
        }
        let count = values.len();
        let part = |(index, value)| {
            Edit::new()
                .header(&item, "part", format!("{}/{count}", index + 1))
                .json(&value)
        };
        let parts: Result<Vec<Edit>, String> = values.into_iter().enumerate().map(part).collect();
        parts.map(EnqueueVerdict::Split)
    }
}

#[cfg(test)]
mod tests {
    use mqueue_hook_sdk::testing;

    use super::*;

    #[test]
    fn an_array_becomes_its_elements() {
        let verdict = Split::on_enqueue(&testing::context(), testing::item(r#"[{"a":1},2]"#));
        let Ok(EnqueueVerdict::Split(parts)) = verdict else {
            panic!("{verdict:?}");
        };
        let payloads: Vec<_> = parts
            .iter()
            .map(|part| part.payload.as_deref().unwrap())
            .collect();
        assert_eq!(payloads, [&br#"{"a":1}"#[..], b"2"]);
        assert_eq!(
            parts[1].headers,
            Some(vec![("part".to_owned(), "2/2".to_owned())])
        );
    }

    #[test]
    fn everything_else_stays_one_item() {
        let verdict = |payload: &str| Split::on_enqueue(&testing::context(), testing::item(payload)).unwrap();
        assert!(matches!(verdict(r#"{"a":[1,2]}"#), EnqueueVerdict::Keep));
        assert!(matches!(verdict("not JSON"), EnqueueVerdict::Keep));
        assert!(matches!(verdict("[]"), EnqueueVerdict::Drop(_)));
    }
}
