//! Refuses items whose JSON payload does not fit the schema in the configuration, and says where and why.
//!
//! Of JSON Schema it knows `type`, `required`, `properties`, `additionalProperties: false`, `items`, `enum`, `minimum`,
//! `maximum`, `minLength` and `maxLength`.

use mqueue_hook_sdk::{Context, EnqueueHook, EnqueueVerdict, Item, Reason, export_enqueue, setting};
use serde_json::Value;

struct Validate;

export_enqueue!(Validate);

impl EnqueueHook for Validate {
    fn on_enqueue(_: &Context, item: Item) -> Result<EnqueueVerdict, String> {
        let schema: Value = setting("schema")?.ok_or("the configuration has no `schema`")?;
        let checked = match item.json::<Value>() {
            Ok(payload) => check(&payload, &schema, "$").map_err(|detail| Reason::new("schema", detail)),
            Err(detail) => Err(Reason::new("not-json", detail)),
        };
        Ok(match checked {
            Ok(()) => EnqueueVerdict::Keep,
            Err(reason) => EnqueueVerdict::Reject(reason),
        })
    }
}

/// Compares a value with its schema; fails with the place and what is wrong there.
fn check(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    if let Some(wanted) = schema["type"].as_str()
        && !is_a(value, wanted)
    {
        return Err(format!("{at} must be of type {wanted}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Err(format!("{at} must be one of {}", schema["enum"]));
    }
    let size = match value {
        Value::Number(number) => number.as_f64().map(|number| (number, "minimum", "maximum")),
        Value::String(text) => Some((text.chars().count() as f64, "minLength", "maxLength")),
        _ => None,
    };
    if let Some((size, least, most)) = size {
        if schema[least].as_f64().is_some_and(|least| size < least) {
            return Err(format!("{at} is below its {least}, {}", schema[least]));
        }
        if schema[most].as_f64().is_some_and(|most| size > most) {
            return Err(format!("{at} is above its {most}, {}", schema[most]));
        }
    }
    match value {
        Value::Object(object) => {
            let required = schema["required"].as_array().into_iter().flatten();
            for name in required.filter_map(Value::as_str) {
                if !object.contains_key(name) {
                    return Err(format!("{at}.{name} is missing"));
                }
            }
            for (name, value) in object {
                match schema["properties"].get(name) {
                    Some(schema) => check(value, schema, &format!("{at}.{name}"))?,
                    None if schema["additionalProperties"] == false => {
                        return Err(format!("{at}.{name} is not in the schema"));
                    }
                    None => {}
                }
            }
        }
        Value::Array(values) if schema["items"].is_object() => {
            for (index, value) in values.iter().enumerate() {
                check(value, &schema["items"], &format!("{at}[{index}]"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_a(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use mqueue_hook_sdk::testing;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let schema = json!({
            "type": "object",
            "required": ["total"],
            "additionalProperties": false,
            "properties": {
                "total": {"type": "integer", "minimum": 1, "maximum": 100},
                "currency": {"enum": ["EUR", "USD"]},
                "lines": {"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": 3}}
            }
        });
        for (value, problem) in [
            (json!({"total": 1, "currency": "EUR", "lines": ["abc"]}), None),
            (json!([]), Some("$ must be of type object")),
            (json!({}), Some("$.total is missing")),
            (json!({"total": 1.5}), Some("$.total must be of type integer")),
            (json!({"total": 0}), Some("$.total is below its minimum, 1")),
            (json!({"total": 101}), Some("$.total is above its maximum, 100")),
            (
                json!({"total": 1, "currency": 5}),
                Some(r#"$.currency must be one of ["EUR","USD"]"#),
            ),
            (
                json!({"total": 1, "lines": ["ab", "abcd"]}),
                Some("$.lines[1] is above its maxLength, 3"),
            ),
            (
                json!({"total": 1, "more": 1}),
                Some("$.more is not in the schema"),
            ),
        ] {
            let expected = problem.map_or(Ok(()), |problem: &str| Err(problem.to_owned()));
            assert_eq!(check(&value, &schema, "$"), expected, "{value}");
        }
    }

    #[test]
    fn the_verdict_has_the_reason() {
        testing::set_config(json!({"schema": {"type": "object"}}));
        let verdict = |payload: &str| Validate::on_enqueue(&testing::context(), testing::item(payload));
        assert!(matches!(verdict("{}"), Ok(EnqueueVerdict::Keep)));
        assert!(matches!(verdict("[]"), Ok(EnqueueVerdict::Reject(reason)) if reason.code == "schema"));
        assert!(matches!(verdict("x"), Ok(EnqueueVerdict::Reject(reason)) if reason.code == "not-json"));
        testing::set_config(json!({}));
        assert!(verdict("{}").is_err());
    }
}
