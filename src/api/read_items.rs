//! The body of an enqueue, deserialised straight from its bytes into the queue's own items.
//!
//! One pass, borrowed strings, base64 decoded once, `json` payloads kept as their text; no tree of values
//! is ever built. Every error names the item and the field.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::model::PayloadKind;
use crate::model::limits::{BATCH_ITEMS_MAX, HEADERS_MAX};
use crate::queue::{Durability, NewItem};

/// Deepest nesting of a `json` payload.
pub(crate) const JSON_DEPTH_MAX: usize = 32;

/// What an enqueue asks for.
#[derive(Debug)]
pub(crate) struct EnqueueBody {
    /// The items, at least one and at most [`BATCH_ITEMS_MAX`].
    pub(crate) items: Vec<NewItem>,
    /// How safe they must be when the answer leaves.
    pub(crate) durability: Durability,
}

/// Text borrowed from the body where it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for EnqueueBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor;
        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = EnqueueBody;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with items")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnqueueBody, A::Error> {
                let (mut items, mut durability) = (None, None);
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "items" if items.is_none() => items = Some(map.next_value::<Items>()?.0),
                        "durability" if durability.is_none() => {
                            durability = Some(field(&mut map, "durability")?);
                        }
                        "items" | "durability" => return Err(twice(&key)),
                        other => return Err(unknown(other)),
                    }
                }
                Ok(EnqueueBody {
                    items: items.ok_or_else(|| A::Error::custom("items: is missing"))?,
                    durability: durability.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_map(BodyVisitor)
    }
}

struct Items(Vec<NewItem>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
                let mut items = Vec::new();
                loop {
                    let next = seq.next_element::<Item>().map_err(|e| at(items.len(), &e))?;
                    match next {
                        None if items.is_empty() => {
                            return Err(A::Error::custom("items: must hold at least one item"));
                        }
                        None => return Ok(Items(items)),
                        Some(_) if items.len() == BATCH_ITEMS_MAX => {
                            return Err(A::Error::custom(format_args!(
                                "items: must hold at most {BATCH_ITEMS_MAX} items"
                            )));
                        }
                        Some(Item(item)) => items.push(item),
                    }
                }
            }
        }
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

/// Puts the item's index before an error that may already name its field.
fn at<E: Error>(index: usize, error: &E) -> E {
    let text = error.to_string();
    let separator = if text.starts_with('.') { "" } else { ": " };
    E::custom(format_args!("items[{index}]{separator}{text}"))
}

struct Item(NewItem);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

const FIELDS: [&str; 13] = [
    "payload",
    "json",
    "text",
    "priority",
    "content_type",
    "headers",
    "deliver_after",
    "delay_ms",
    "ttl_ms",
    "lease_ms",
    "max_attempts",
    "idempotency_key",
    "id",
];

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut item = NewItem::default();
        let mut seen = 0_u16;
        while let Some(Text(key)) = map.next_key()? {
            let Some(index) = FIELDS.iter().position(|field| *field == key) else {
                return Err(A::Error::custom(format_args!(".{}", unknown::<A::Error>(&key))));
            };
            if seen & (1 << index) != 0 {
                return Err(A::Error::custom(format_args!(".{}", twice::<A::Error>(&key))));
            }
            seen |= 1 << index;
            read_field(&mut map, FIELDS[index], &mut item)?;
        }
        if item.kind.is_none() {
            return Err(A::Error::custom(".payload: give one of payload, json and text"));
        }
        Ok(Item(item))
    }
}

fn read_field<'de, A: MapAccess<'de>>(
    map: &mut A,
    name: &'static str,
    item: &mut NewItem,
) -> Result<(), A::Error> {
    match name {
        "payload" | "json" | "text" => read_payload(map, name, item),
        "priority" => dotted(map, name).map(|value| item.priority = value),
        "content_type" => {
            let text: Option<Text<'_>> = dotted(map, name)?;
            item.content_type = text.map(|text| text.0.into());
            Ok(())
        }
        "headers" => dotted(map, name).map(|value: Option<Headers>| {
            item.headers = value.map(|headers| headers.0).unwrap_or_default();
        }),
        "deliver_after" => dotted(map, name).map(|value: Option<Timestamp>| item.deliver_after = value),
        "delay_ms" => dotted(map, name).map(|value| item.delay_ms = value),
        "ttl_ms" => dotted(map, name).map(|value| item.ttl_ms = value),
        "lease_ms" => dotted(map, name).map(|value| item.lease_ms = value),
        "max_attempts" => dotted(map, name).map(|value| item.max_attempts = value),
        "idempotency_key" => {
            let text: Option<Text<'_>> = dotted(map, name)?;
            item.idempotency_key = text.map(|text| text.0.into());
            Ok(())
        }
        // Named so that a client that sends an item back as it got it hears the reason.
        _ => Err(A::Error::custom(".id: the server gives ids; leave it out")),
    }
}

fn read_payload<'de, A: MapAccess<'de>>(
    map: &mut A,
    name: &'static str,
    item: &mut NewItem,
) -> Result<(), A::Error> {
    let (kind, bytes): (_, Box<[u8]>) = match name {
        "json" => {
            let raw: &RawValue = dotted(map, name)?;
            check_depth(raw.get()).map_err(A::Error::custom)?;
            (PayloadKind::Json, raw.get().as_bytes().into())
        }
        _ => match dotted::<A, Option<Text<'_>>>(map, name)? {
            None => return Ok(()),
            Some(Text(text)) if name == "text" => (PayloadKind::Text, text.as_bytes().into()),
            Some(Text(text)) => (PayloadKind::Bytes, base64(&text).map_err(A::Error::custom)?),
        },
    };
    if item.kind.is_some() {
        return Err(A::Error::custom(format_args!(
            ".{name}: give only one of payload, json and text"
        )));
    }
    item.kind = Some(kind);
    item.payload = bytes;
    Ok(())
}

/// The bytes of standard base64 with padding.
///
/// # Errors
/// A text for the field `payload` when it is anything else.
pub(crate) fn base64(text: &str) -> Result<Box<[u8]>, &'static str> {
    base64_simd::STANDARD
        .decode_to_vec(text)
        .map(Vec::into_boxed_slice)
        .map_err(|_| ".payload: not base64 (the standard alphabet, padded with '=')")
}

/// Counts brackets outside strings; the text is already known to be JSON.
fn check_depth(json: &str) -> Result<(), &'static str> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(".json: nested deeper than 32 levels");
                }
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

struct Headers(Vec<(Box<str>, Box<str>)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers: Vec<(Box<str>, Box<str>)> = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    if headers.iter().any(|(known, _)| **known == *name) {
                        return Err(twice(&name));
                    }
                    if headers.len() >= HEADERS_MAX {
                        return Err(A::Error::custom(format_args!(
                            "at most {HEADERS_MAX} headers are allowed"
                        )));
                    }
                    let Text(value) = map.next_value()?;
                    headers.push((name.into(), value.into()));
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(HeadersVisitor)
    }
}

fn field<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A, name: &str) -> Result<T, A::Error> {
    map.next_value()
        .map_err(|error| A::Error::custom(format_args!("{name}: {error}")))
}

fn dotted<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A, name: &str) -> Result<T, A::Error> {
    map.next_value()
        .map_err(|error| A::Error::custom(format_args!(".{name}: {error}")))
}

fn twice<E: Error>(name: &str) -> E {
    E::custom(format_args!("{name}: is given twice"))
}

fn unknown<E: Error>(name: &str) -> E {
    // A field's name is the caller's text: cut, so that it cannot flood the answer.
    let name: String = name.chars().take(64).collect();
    E::custom(format_args!("{name}: is not a field"))
}

#[cfg(test)]
mod tests {
    use super::super::body::parse;
    use super::*;

    fn read(body: &str) -> Result<EnqueueBody, String> {
        parse(body.as_bytes()).map_err(|problem| problem.to_string())
    }

    fn one(item: &str) -> Result<NewItem, String> {
        read(&format!("{{\"items\":[{item}]}}")).map(|mut body| body.items.remove(0))
    }

    #[test]
    fn every_field_is_read() {
        let item = one(
            r#"{"payload":"aGk=","priority":-5,"content_type":"a/b","headers":{"z":"1","a":"2"},
            "deliver_after":"2030-01-01T00:00:00Z","ttl_ms":9,"lease_ms":5000,"max_attempts":3,
            "idempotency_key":"k\n1"}"#,
        )
        .unwrap();
        assert_eq!(
            (&*item.payload, item.kind),
            (&b"hi"[..], Some(PayloadKind::Bytes))
        );
        assert_eq!(
            (item.priority, item.ttl_ms, item.lease_ms),
            (Some(-5), Some(9), Some(5_000))
        );
        assert_eq!(item.headers[0], ("z".into(), "1".into()));
        assert_eq!(item.idempotency_key.as_deref(), Some("k\n1"));
        assert_eq!(
            item.deliver_after.unwrap().to_string(),
            "2030-01-01T00:00:00.000Z"
        );
        let body = read(r#"{"durability":"stored","items":[{"text":"é\u0000"},{"json": [1, {"a":null}]}]}"#)
            .unwrap();
        assert_eq!(body.durability, Durability::Stored);
        assert_eq!(&*body.items[0].payload, "é\0".as_bytes());
        assert_eq!(
            (&*body.items[1].payload, body.items[1].kind),
            (&br#"[1, {"a":null}]"#[..], Some(PayloadKind::Json))
        );
        assert_eq!(one(r#"{"json":null}"#).unwrap().kind, Some(PayloadKind::Json));
    }

    #[test]
    fn errors_name_the_item_and_the_field() {
        for (body, start) in [
            (
                r#"{"items":[{"text":"a"},{"payload":"%%"}]}"#,
                "malformed_body: items[1].payload: not base64",
            ),
            (
                r#"{"items":[{"payload":"aGk"}]}"#,
                "malformed_body: items[0].payload: not base64",
            ),
            (
                r#"{"items":[{"text":"a","priority":"high"}]}"#,
                "malformed_body: items[0].priority: invalid type",
            ),
            (
                r#"{"items":[{"text":"a","priority":3000000000}]}"#,
                "malformed_body: items[0].priority: invalid value",
            ),
            (
                r#"{"items":[{"text":"a","prio":1}]}"#,
                "malformed_body: items[0].prio: is not a field",
            ),
            (
                r#"{"items":[{"text":"a","text":"b"}]}"#,
                "malformed_body: items[0].text: is given twice",
            ),
            (
                r#"{"items":[{"text":"a","json":1}]}"#,
                "malformed_body: items[0].json: give only one",
            ),
            (
                r#"{"items":[{"priority":1}]}"#,
                "malformed_body: items[0].payload: give one of",
            ),
            (
                r#"{"items":[{"text":"a","id":"1"}]}"#,
                "malformed_body: items[0].id: the server gives ids",
            ),
            (
                r#"{"items":[{"text":"a","headers":{"a":"1","a":"2"}}]}"#,
                "malformed_body: items[0].headers: a: is given twice",
            ),
            (
                r#"{"items":[{"text":"a","deliver_after":"soon"}]}"#,
                "malformed_body: items[0].deliver_after: not an RFC 3339",
            ),
            (
                r#"{"items":[{"text":"a"},7]}"#,
                "malformed_body: items[1]: invalid type: integer `7`, expected an item",
            ),
            (r#"{"items":[]}"#, "malformed_body: items: must hold at least one"),
            (r#"{}"#, "malformed_body: items: is missing"),
            (
                r#"{"items":[{"text":"a"}],"items":[]}"#,
                "malformed_body: items: is given twice",
            ),
            (
                r#"{"items":[{"text":"a"}],"durability":"maybe"}"#,
                "malformed_body: durability: unknown variant",
            ),
            (
                r#"{"items":[{"text":"\ud800"}]}"#,
                "malformed_body: items[0].text: ",
            ),
            (
                r#"[{"text":"a"}]"#,
                "malformed_body: the body does not fit: invalid type: sequence, expected an object",
            ),
            ("", "malformed_body: the body does not fit: EOF"),
            (
                r#"{"items":[{"text":"a"}]} x"#,
                "malformed_body: the body does not fit: trailing characters",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.starts_with(start), "{body} gave {error}");
        }
    }

    #[test]
    fn nesting_and_batch_size_are_bounded() {
        let nested = |depth: usize| format!("{{\"json\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(one(&nested(32)).is_ok());
        assert!(
            one(&nested(33))
                .unwrap_err()
                .contains("items[0].json: nested deeper")
        );
        assert!(
            one(&format!("{{\"json\":{:?}}}", "[".repeat(50))).is_ok(),
            "brackets in a string do not count"
        );
        assert!(one(r#"{"json":"a\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#).is_ok());
        let many = |n: usize| format!("{{\"items\":[{}]}}", vec![r#"{"text":""}"#; n].join(","));
        assert_eq!(read(&many(1_000)).unwrap().items.len(), 1_000);
        assert!(read(&many(1_001)).unwrap_err().contains("at most 1000 items"));
    }
}
