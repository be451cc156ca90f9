//! What hooks do with items, and how they say it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, DequeueVerdict, Edit, EnqueueVerdict, Item, Reason};

impl Context {
    /// Whether the token that asks has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|word| word == scope)
    }
}

impl Item {
    /// The payload, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.payload)
            .map_err(|error| format!("the payload is not the JSON expected: {error}"))
    }

    /// The payload, read as text.
    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.payload).map_err(|error| format!("the payload is not UTF-8: {error}"))
    }

    /// The value of a header; names are compared as they are.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Reason {
    /// A code for machines (1 to 64 of a-z, 0-9, `_` and `-`) and a message for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}

impl Edit {
    /// No change.
    pub fn new() -> Self {
        Self {
            payload: None,
            headers: None,
            priority: None,
            deliver_after: None,
            topic: None,
        }
    }

    /// With this payload.
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..self
        }
    }

    /// With this payload, as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Self, String> {
        Ok(self.payload(to_json(value)?))
    }

    /// With the item's headers and this one, which takes the place of one with the same name.
    pub fn header(self, item: &Item, name: &str, value: impl Into<String>) -> Self {
        let mut headers = self.headers.unwrap_or_else(|| item.headers.clone());
        headers.retain(|(header, _)| header != name);
        headers.push((name.to_owned(), value.into()));
        Self {
            headers: Some(headers),
            ..self
        }
    }

    /// With this priority; smaller is served first.
    pub fn priority(self, priority: i32) -> Self {
        Self {
            priority: Some(priority),
            ..self
        }
    }

    /// Not delivered before this time, in milliseconds since the Unix epoch.
    pub fn deliver_after(self, deliver_after: u64) -> Self {
        Self {
            deliver_after: Some(deliver_after),
            ..self
        }
    }

    /// In another topic of the same namespace.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        Self {
            topic: Some(topic.into()),
            ..self
        }
    }
}

impl Default for Edit {
    fn default() -> Self {
        Self::new()
    }
}

impl EnqueueVerdict {
    /// Store the value as JSON in the payload's place.
    pub fn replace_json<T: Serialize>(value: &T) -> Result<Self, String> {
        to_json(value).map(Self::Replace)
    }
}

impl DequeueVerdict {
    /// Hand out the value as JSON in the payload's place.
    pub fn deliver_json<T: Serialize>(value: &T) -> Result<Self, String> {
        to_json(value).map(Self::DeliverAs)
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| format!("cannot write JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing;

    #[test]
    fn payloads_are_read_as_json_and_as_text() {
        let item = testing::item(r#"{"a":1}"#);
        assert_eq!(item.json::<Value>(), Ok(json!({"a": 1})));
        assert_eq!(item.text(), Ok(r#"{"a":1}"#));
        let broken = testing::item(b"\xff".to_vec());
        assert!(broken.json::<Value>().unwrap_err().contains("not the JSON"));
        assert!(broken.text().unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_header_is_set_beside_the_others() {
        let mut item = testing::item("");
        item.headers = vec![("a".into(), "1".into()), ("b".into(), "2".into())];
        let edit = Edit::new().header(&item, "a", "3").header(&item, "c", "4");
        let headers = edit.headers.unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(headers, [("b", "2"), ("a", "3"), ("c", "4")]);
        assert_eq!(item.header("b"), Some("2"));
        assert_eq!(item.header("B"), None);
    }
}
