//! The version's configuration, read into types.

use serde::Deserializer;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::host::imports;

/// The configuration as a struct: each of its fields is a top-level key.
///
/// Fails when a field is missing and has no default, or has another type. Keys that are no field are ignored.
pub fn config<T: DeserializeOwned>() -> Result<T, String> {
    T::deserialize(Keys).map_err(|error| format!("configuration: {error}"))
}

/// One top-level key of the configuration; nothing when it is not there.
///
/// Fails when it has another type.
pub fn setting<T: DeserializeOwned>(key: &str) -> Result<Option<T>, String> {
    let text = imports::get(key);
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| format!("configuration: `{key}`: {error}"))
}

/// The server hands out one key at a time, so a struct is read by asking for each field it has.
struct Keys;

impl<'de> Deserializer<'de> for Keys {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut object = Map::new();
        for field in fields {
            if let Some(value) = setting::<Value>(field).map_err(Error::custom)? {
                object.insert((*field).to_owned(), value);
            }
        }
        Value::Object(object)
            .deserialize_struct(name, fields, visitor)
            .map_err(Error::custom)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("read it into a struct without `flatten`"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Settings {
        limit: u32,
        #[serde(default)]
        words: Vec<String>,
    }

    #[test]
    fn a_struct_is_read_by_its_fields() {
        testing::set_config(json!({"limit": 3, "other": true}));
        assert_eq!(
            config(),
            Ok(Settings {
                limit: 3,
                words: Vec::new()
            })
        );
        assert_eq!(setting::<bool>("other"), Ok(Some(true)));
        assert_eq!(setting::<bool>("nothing"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        testing::set_config(json!({}));
        assert!(config::<Settings>().unwrap_err().contains("limit"));
        testing::set_config(json!({"limit": "x"}));
        assert!(config::<Settings>().unwrap_err().contains("u32"));
        assert!(setting::<u32>("limit").unwrap_err().contains("`limit`"));
    }
}
