//! Names of namespaces and topics, and the slot a topic lives in.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::NAME_BYTES_MAX;

/// Why a text cannot name a namespace or a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`NAME_BYTES_MAX`].
    #[error("a name must be at most {NAME_BYTES_MAX} characters long")]
    TooLong,
    /// The text has a character that names cannot have.
    #[error("a name may contain only letters, digits, '.', '_' and '-'")]
    Character,
    /// The text is `.` or `..`, which paths would take for folders.
    #[error("'.' and '..' are not names")]
    Dots,
}

fn check(text: &str) -> Result<(), NameError> {
    match text {
        "" => return Err(NameError::Empty),
        "." | ".." => return Err(NameError::Dots),
        _ if text.len() > NAME_BYTES_MAX => return Err(NameError::TooLong),
        _ => {}
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// A tenant: the unit of tokens, quotas, hooks and isolation.
    Namespace
}
name_type! {
    /// A topic's name within its namespace.
    TopicName
}
name_type! {
    /// A hook's name within its namespace.
    HookName
}

/// How many slots topics are spread over; fixed for ever, since stored rows carry their slot.
pub const SLOT_COUNT: u16 = 4_096;

/// One of the [`SLOT_COUNT`] places topics hash into; slots, not topics, are assigned to shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

/// A namespace and a topic in it: the key of a queue. Cheap to clone, hashed once.
#[derive(Clone)]
pub struct TopicKey(Arc<TopicKeyParts>);

struct TopicKeyParts {
    namespace: Namespace,
    topic: TopicName,
    hash: u64,
}

impl TopicKey {
    /// The key of `topic` in `namespace`.
    pub fn new(namespace: Namespace, topic: TopicName) -> Self {
        // The namespace's length goes first, so that ("ab", "c") and ("a", "bc") are different inputs.
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(namespace.0.len() as u32).to_le_bytes());
        hasher.update(namespace.0.as_bytes());
        hasher.update(topic.0.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(Arc::new(TopicKeyParts {
            namespace,
            topic,
            hash: u64::from_le_bytes(first),
        }))
    }

    /// Parses both names and makes their key.
    pub fn parse(namespace: &str, topic: &str) -> Result<Self, NameError> {
        Ok(Self::new(namespace.parse()?, topic.parse()?))
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// The topic's name in its namespace.
    pub fn topic(&self) -> &TopicName {
        &self.0.topic
    }

    /// The slot: the low 12 bits of the key's BLAKE3 hash, the same on every node and for ever.
    pub fn slot(&self) -> Slot {
        Slot((self.0.hash % u64::from(SLOT_COUNT)) as u16)
    }
}

impl PartialEq for TopicKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.topic == other.0.topic
                && self.0.namespace == other.0.namespace)
    }
}

impl Eq for TopicKey {}

impl PartialOrd for TopicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TopicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.0.namespace, &self.0.topic).cmp(&(&other.0.namespace, &other.0.topic))
    }
}

impl Hash for TopicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self.0.topic)
    }
}

impl fmt::Debug for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!("orders.v2_eu-1".parse::<TopicName>().is_ok());
        for (text, error) in [
            ("", NameError::Empty),
            ("..", NameError::Dots),
            ("a/b", NameError::Character),
            ("a\0b", NameError::Character),
            ("ünï", NameError::Character),
            (&"x".repeat(129), NameError::TooLong),
        ] {
            assert_eq!(text.parse::<TopicName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_slot_hash_separates_namespace_from_topic() {
        let one = TopicKey::parse("ab", "c").unwrap();
        let other = TopicKey::parse("a", "bc").unwrap();
        assert_ne!(one, other);
        assert_ne!(one.0.hash, other.0.hash);
    }

    #[test]
    fn the_slot_of_a_topic_never_changes() {
        // Stored rows depend on these: a change strands every backlog.
        let slot = |ns, topic| TopicKey::parse(ns, topic).unwrap().slot().0;
        assert_eq!(
            [slot("default", "orders"), slot("a", "b")],
            [SLOT_OF_ORDERS, SLOT_OF_A_B]
        );
    }

    const SLOT_OF_ORDERS: u16 = 1_445;
    const SLOT_OF_A_B: u16 = 2_534;
}
