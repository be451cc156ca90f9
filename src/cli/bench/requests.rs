//! Requests rendered once, sent many times.

use std::fmt::Write as _;

use tokio::time::Instant;

/// Bytes at the start of a payload that hold when the item was due: 6 that tell runs apart, then 12
/// digits of microseconds since the run began. 18 bytes are 24 characters of base64 without remainder.
pub(super) const STAMP_BYTES: usize = 18;
/// Characters of a stamp in base64.
pub(super) const STAMP_CHARS: usize = 24;
const RUN_BYTES: usize = 6;

/// What the requests of a run look like.
pub(super) struct Shape<'a> {
    pub(super) host: String,
    pub(super) token: Option<&'a str>,
    /// Path of each topic.
    pub(super) paths: Vec<String>,
    pub(super) batch: usize,
    pub(super) payload_bytes: usize,
    pub(super) priorities: usize,
}

/// The requests of a run.
pub(super) struct Requests {
    enqueues: Vec<Vec<Enqueue>>,
    dequeues: Vec<[Vec<u8>; 2]>,
    ack_head: String,
    run: [u8; RUN_BYTES],
}

/// One enqueue request: its bytes, and where its items' stamps are.
#[derive(Debug, Clone)]
pub(super) struct Enqueue {
    pub(super) bytes: Vec<u8>,
    stamps: Vec<usize>,
}

/// Whether a dequeue waits for items.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// It answers at once.
    No,
    /// It waits for up to a second.
    Second,
}

impl Requests {
    pub(super) fn render(shape: &Shape<'_>) -> Self {
        // A batch holds all priorities it has room for; single items need a request for each.
        let variants = if shape.batch == 1 { shape.priorities } else { 1 };
        let mut run = [0; RUN_BYTES];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut run);
        let enqueue = |path: &String| (0..variants).map(|first| shape.enqueue(path, first)).collect();
        let dequeue = |path: &String| {
            [0, 1_000].map(|wait_ms| {
                let body = format!(r#"{{"max":{},"wait_ms":{wait_ms}}}"#, shape.batch);
                shape.request(&format!("{path}/dequeue"), &body)
            })
        };
        Self {
            enqueues: shape.paths.iter().map(enqueue).collect(),
            dequeues: shape.paths.iter().map(dequeue).collect(),
            ack_head: shape.head("/v1/ack"),
            run,
        }
    }

    pub(super) fn topics(&self) -> usize {
        self.dequeues.len()
    }

    /// The enqueue requests of a topic, one for each priority.
    pub(super) fn enqueues(&self, topic: usize) -> Vec<Enqueue> {
        self.enqueues[topic % self.topics()].clone()
    }

    pub(super) fn dequeue(&self, topic: usize, wait: Wait) -> &[u8] {
        &self.dequeues[topic % self.topics()][wait as usize]
    }

    /// Renders the ack of `leases` into `request`.
    pub(super) fn ack<'l>(&self, leases: impl Iterator<Item = &'l [u8]> + Clone, request: &mut Vec<u8>) {
        const OPEN: &[u8] = br#"{"leases":["#;
        const CLOSE: &[u8] = b"]}";
        const ENTRY: &[u8] = br#"{"lease_id":""#;
        let count = leases.clone().count();
        let texts: usize = leases.clone().map(<[u8]>::len).sum();
        let length = OPEN.len() + CLOSE.len() + count * (ENTRY.len() + 2) + texts + count.saturating_sub(1);
        request.clear();
        request.extend_from_slice(self.ack_head.as_bytes());
        request.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
        request.extend_from_slice(OPEN);
        for (index, lease) in leases.enumerate() {
            if index > 0 {
                request.push(b',');
            }
            request.extend_from_slice(ENTRY);
            request.extend_from_slice(lease);
            request.extend_from_slice(br#""}"#);
        }
        request.extend_from_slice(CLOSE);
    }

    /// Writes into every item of `enqueue` that it was due at `due`.
    pub(super) fn stamp(&self, enqueue: &mut Enqueue, epoch: Instant, due: Instant) {
        let micros = due.saturating_duration_since(epoch).as_micros();
        let mut raw = [0; STAMP_BYTES];
        raw[..RUN_BYTES].copy_from_slice(&self.run);
        raw[RUN_BYTES..].copy_from_slice(
            format!("{micros:012}")
                .as_bytes()
                .last_chunk::<12>()
                .unwrap_or(&[b'0'; 12]),
        );
        let mut encoded = [0; STAMP_CHARS];
        let encoded = base64_simd::STANDARD.encode(&raw, base64_simd::Out::from_slice(&mut encoded));
        for &at in &enqueue.stamps {
            enqueue.bytes[at..at + STAMP_CHARS].copy_from_slice(encoded);
        }
    }

    /// When the item with this payload was due, in microseconds since the run began; none when another
    /// run left it behind.
    pub(super) fn due_us(&self, payload: &[u8]) -> Option<u64> {
        let mut raw = [0; STAMP_BYTES];
        let raw = base64_simd::STANDARD
            .decode(
                payload.get(..STAMP_CHARS)?,
                base64_simd::Out::from_slice(&mut raw),
            )
            .ok()?;
        let digits = raw.strip_prefix(self.run.as_slice())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

impl Shape<'_> {
    fn enqueue(&self, path: &str, first_priority: usize) -> Enqueue {
        let payload = base64_simd::STANDARD.encode_to_string(vec![b'm'; self.payload_bytes]);
        let mut body = String::from(r#"{"items":["#);
        let mut stamps = Vec::new();
        for item in 0..self.batch {
            if item > 0 {
                body.push(',');
            }
            let priority = (first_priority + item) % self.priorities;
            let _ = write!(body, r#"{{"priority":{priority},"payload":""#);
            if self.payload_bytes >= STAMP_BYTES {
                stamps.push(body.len());
            }
            body.push_str(&payload);
            body.push_str(r#""}"#);
        }
        body.push_str("]}");
        let bytes = self.request(&format!("{path}/enqueue"), &body);
        let head = bytes.len() - body.len();
        for at in &mut stamps {
            *at += head;
        }
        Enqueue { bytes, stamps }
    }

    fn request(&self, path: &str, body: &str) -> Vec<u8> {
        let head = self.head(path);
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn head(&self, path: &str) -> String {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n",
            self.host
        );
        if let Some(token) = self.token {
            let _ = write!(head, "authorization: Bearer {token}\r\n");
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn requests(batch: usize) -> Requests {
        Requests::render(&Shape {
            host: "localhost:1".into(),
            token: Some("t"),
            paths: vec!["/v1/namespaces/a/topics/b".into()],
            batch,
            payload_bytes: 20,
            priorities: 2,
        })
    }

    fn body(request: &[u8]) -> serde_json::Value {
        let text = std::str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), body.len());
        assert!(head.contains("authorization: Bearer t"));
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn an_item_carries_when_it_was_due() {
        let requests = requests(3);
        let mut enqueue = requests.enqueues(0).remove(0);
        let epoch = Instant::now();
        requests.stamp(&mut enqueue, epoch, epoch + Duration::from_micros(1_234_567));
        let body = body(&enqueue.bytes);
        let items = body["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        for (item, priority) in items.iter().zip([0, 1, 0]) {
            assert_eq!(item["priority"], priority);
            let payload = item["payload"].as_str().unwrap();
            assert_eq!(requests.due_us(payload.as_bytes()), Some(1_234_567));
            assert_eq!(base64_simd::STANDARD.decode_to_vec(payload).unwrap().len(), 20);
        }
    }

    #[test]
    fn what_another_run_left_behind_is_told_apart() {
        let (one, other) = (requests(1), requests(1));
        let mut enqueue = one.enqueues(0).remove(0);
        let epoch = Instant::now();
        one.stamp(&mut enqueue, epoch, epoch);
        let body = body(&enqueue.bytes);
        let payload = body["items"][0]["payload"].as_str().unwrap().as_bytes();
        assert_eq!(one.due_us(payload), Some(0));
        assert_eq!(other.due_us(payload), None);
        assert_eq!(one.due_us(b"c2hvcnQ="), None);
    }

    #[test]
    fn acks_and_dequeues_are_well_formed() {
        let requests = requests(1);
        assert_eq!(requests.enqueues(0).len(), 2, "one request for each priority");
        let mut ack = Vec::new();
        requests.ack([b"L1".as_slice(), b"L22"].into_iter(), &mut ack);
        assert_eq!(
            body(&ack),
            serde_json::json!({"leases": [{"lease_id": "L1"}, {"lease_id": "L22"}]})
        );
        assert_eq!(body(requests.dequeue(0, Wait::Second))["wait_ms"], 1_000);
        assert_eq!(body(requests.dequeue(0, Wait::No))["wait_ms"], 0);
    }
}
