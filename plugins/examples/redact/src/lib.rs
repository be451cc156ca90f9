//! Masks personal data in JSON payloads on delivery, unless the consumer's token has the scope word `pii`.
//!
//! What is stored stays as it was, so that a consumer with the scope still reads all of it.

use mqueue_hook_sdk::{Context, DequeueHook, DequeueVerdict, Item, export_dequeue, setting};
use serde_json::Value;

/// Fields that are masked when the configuration has no list `fields`.
const FIELDS: [&str; 5] = ["email", "phone", "address", "iban", "birthday"];
const MASK: &str = "***";

struct Redact;

export_dequeue!(Redact);

impl DequeueHook for Redact {
    fn on_dequeue(context: &Context, item: Item) -> Result<DequeueVerdict, String> {
        if context.has_scope("pii") {
            return Ok(DequeueVerdict::Deliver);
        }
        // What is no JSON has no fields to mask.
        let Ok(mut payload) = item.json::<Value>() else {
            return Ok(DequeueVerdict::Deliver);
        };
        let fields = setting::<Vec<String>>("fields")?.unwrap_or_else(|| FIELDS.map(str::to_owned).to_vec());
        if !mask(&mut payload, &fields) {
            return Ok(DequeueVerdict::Deliver);
        }
        DequeueVerdict::deliver_json(&payload)
    }
}

/// Masks the fields wherever they are; says whether there were any.
fn mask(value: &mut Value, fields: &[String]) -> bool {
    let mut masked = false;
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if !value.is_null() && fields.contains(name) {
                    *value = MASK.into();
                    masked = true;
                } else {
                    masked |= mask(value, fields);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                masked |= mask(value, fields);
            }
        }
        _ => {}
    }
    masked
}

#[cfg(test)]
mod tests {
    use mqueue_hook_sdk::testing;
    use serde_json::json;

    use super::*;

    fn delivered(context: &Context, payload: Value) -> Option<Value> {
        match Redact::on_dequeue(context, testing::item(payload.to_string())).unwrap() {
            DequeueVerdict::DeliverAs(payload) => Some(serde_json::from_slice(&payload).unwrap()),
            DequeueVerdict::Deliver => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_are_masked_at_every_depth() {
        let order = json!({"id": 1, "customer": {"email": "a@b.c"}, "copies": [{"phone": 5}], "iban": null});
        let masked =
            json!({"id": 1, "customer": {"email": "***"}, "copies": [{"phone": "***"}], "iban": null});
        assert_eq!(delivered(&testing::context(), order), Some(masked));
        assert_eq!(delivered(&testing::context(), json!({"id": 1})), None);
    }

    #[test]
    fn the_scope_opens_everything() {
        let mut context = testing::context();
        context.scopes = vec!["dequeue".to_owned(), "pii".to_owned()];
        assert_eq!(delivered(&context, json!({"email": "a@b.c"})), None);
    }

    #[test]
    fn the_configuration_names_other_fields() {
        testing::set_config(json!({"fields": ["name"]}));
        let masked = json!({"name": "***", "email": "a@b.c"});
        assert_eq!(
            delivered(&testing::context(), json!({"name": "x", "email": "a@b.c"})),
            Some(masked)
        );
    }
}
