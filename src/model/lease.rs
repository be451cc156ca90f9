//! Lease ids: opaque, URL-safe, authenticated handles that alone are enough to settle a delivery.

use super::{ItemId, TopicKey};

const MAC_BYTES: usize = 16;
const VERSION: u8 = 1;

/// What a lease id says once its authenticity is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRef {
    /// The topic the item was delivered from.
    pub topic: TopicKey,
    /// The item.
    pub id: ItemId,
    /// The delivery: a stale one is refused.
    pub generation: u32,
}

/// A lease id's text: base64url of `version | generation | id | namespace length | namespace | topic | MAC`.
pub type LeaseId = String;

/// The key that authenticates lease ids: keyed BLAKE3, cut to 128 bits.
#[derive(Clone)]
pub struct LeaseKey([u8; 32]);

impl std::fmt::Debug for LeaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseKey(..)")
    }
}

impl LeaseKey {
    /// A key derived from `secret`; nodes that share the secret accept each other's lease ids.
    pub fn derive(secret: &[u8]) -> Self {
        Self(blake3::derive_key("mqueue 2026-11 lease id", secret))
    }

    /// The lease id of one delivery.
    pub fn seal(&self, topic: &TopicKey, id: ItemId, generation: u32) -> LeaseId {
        let namespace = topic.namespace().as_str().as_bytes();
        let name = topic.topic().as_str().as_bytes();
        let mut bytes = Vec::with_capacity(14 + namespace.len() + name.len() + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&generation.to_le_bytes());
        bytes.extend_from_slice(&id.0.to_le_bytes());
        bytes.push(namespace.len() as u8);
        bytes.extend_from_slice(namespace);
        bytes.extend_from_slice(name);
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(&bytes)
    }

    /// What `text` says, or nothing when this key did not make it.
    pub fn open(&self, text: &str) -> Option<LeaseRef> {
        self.open_like(text, None)
    }

    /// As [`LeaseKey::open`]; `near` is the topic of the lease opened before, which most batches share.
    pub fn open_like(&self, text: &str, near: Option<&TopicKey>) -> Option<LeaseRef> {
        if text.len() > 512 {
            return None;
        }
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        // BLAKE3's own hash type compares in constant time; two cut MACs are padded to its width.
        if pad(mac) != pad(&self.mac(body)) {
            return None;
        }
        let (&version, rest) = body.split_first()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let (id, rest) = rest.split_first_chunk::<8>()?;
        let (&namespace_len, rest) = rest.split_first()?;
        let (namespace, topic) = rest.split_at_checked(usize::from(namespace_len))?;
        if version != VERSION {
            return None;
        }
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (namespace, topic) = (text(namespace)?, text(topic)?);
        let same =
            |near: &&TopicKey| near.topic().as_str() == topic && near.namespace().as_str() == namespace;
        Some(LeaseRef {
            topic: match near.filter(same) {
                Some(near) => near.clone(),
                None => TopicKey::parse(namespace, topic).ok()?,
            },
            id: ItemId(u64::from_le_bytes(*id)),
            generation: u32::from_le_bytes(*generation),
        })
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&blake3::keyed_hash(&self.0, body).as_bytes()[..MAC_BYTES]);
        mac
    }
}

fn pad(mac: &[u8]) -> blake3::Hash {
    let mut padded = [0; 32];
    padded[..MAC_BYTES].copy_from_slice(mac);
    blake3::Hash::from_bytes(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (LeaseKey, TopicKey, LeaseId) {
        let key = LeaseKey::derive(b"secret");
        let topic = TopicKey::parse("default", "orders").unwrap();
        let lease = key.seal(&topic, ItemId(42), 3);
        (key, topic, lease)
    }

    #[test]
    fn a_lease_id_opens_to_what_was_sealed() {
        let (key, topic, lease) = sample();
        assert_eq!(
            key.open(&lease),
            Some(LeaseRef {
                topic,
                id: ItemId(42),
                generation: 3
            })
        );
        assert!(
            lease
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }

    #[test]
    fn no_flipped_bit_and_no_other_key_opens_it() {
        let (key, _, lease) = sample();
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(&lease).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let text = base64_simd::URL_SAFE_NO_PAD.encode_to_string(&forged);
            assert_eq!(key.open(&text), None, "bit {bit}");
        }
        assert_eq!(LeaseKey::derive(b"other").open(&lease), None);
        for text in ["", "a", "!!!!", &lease[1..], &"A".repeat(10_000)] {
            assert_eq!(key.open(text), None);
        }
    }
}
