//! Test cases: an item, and what a hook is expected to say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::expect::Expected;
use crate::clock::Timestamp;
use crate::hooks::{HookContext, HookItem, Version};
use crate::model::{Extra, Item, ItemId, PayloadKind, Side, TopicKey, TopicName};

/// The time of cases that name none: 2026-01-01T00:00:00Z. Fixed, so that a case always goes the same way.
const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);
/// Most cases in one file.
const CASES_MAX: usize = 1_000;

/// One test of a hook.
///
/// ```json
/// {
///   "name": "orders without an address are refused",
///   "side": "enqueue",
///   "topic": "orders",
///   "item": {"json": {"total": 12}},
///   "expect": {"verdict": "reject", "code": "no-email"}
/// }
/// ```
///
/// A file of tests holds one such object or a list of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// What is tested, in a few words; unique in its file.
    #[serde(default)]
    pub name: Box<str>,
    /// Which export runs.
    pub side: Side,
    /// The topic; `test` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// Who asks; nobody when absent.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub principal: Box<str>,
    /// The words of the asker's scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Box<str>>,
    /// The time the hook sees; the beginning of 2026 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
    /// The configuration, in place of the version's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BTreeMap<Box<str>, Box<RawValue>>>,
    /// Stand-ins for secrets, in place of the version's: a test needs no real ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeMap<Box<str>, Box<str>>>,
    /// The item.
    pub item: TestItem,
    /// What the hook must say.
    pub expect: Expected,
}

/// The item of a test, or of a dry run: at most one of `json`, `text` and `payload`; without any the payload
/// is empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestItem {
    /// The payload as any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<RawValue>>,
    /// The payload as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// The payload as standard base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<str>>,
    /// The payload's media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Box<str>>,
    /// Headers, given to the hook in the order of their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Box<str>, Box<str>>,
    /// Smaller goes first; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// When the item was accepted; the case's `now` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueued_at: Option<Timestamp>,
    /// The earliest delivery; the acceptance when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_after: Option<Timestamp>,
    /// Which delivery it is; 0 on enqueue and 1 on dequeue when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How many times hooks have routed the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<u32>,
}

/// Reads a file of tests: one case or a list of them.
///
/// # Errors
/// The place and what to change there.
pub fn parse_cases(text: &str) -> Result<Vec<TestCase>, String> {
    let is_list = text.trim_start().starts_with('[');
    let parsed = if is_list {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|case| vec![case])
    };
    let cases: Vec<TestCase> = parsed.map_err(|error| error.to_string())?;
    if cases.len() > CASES_MAX {
        return Err(format!("a file holds at most {CASES_MAX} cases"));
    }
    let mut names = BTreeSet::new();
    for (at, case) in cases.iter().enumerate() {
        let place = |detail: String| {
            if is_list {
                format!("[{at}].{detail}")
            } else {
                detail
            }
        };
        case.check().map_err(place)?;
        if is_list && !case.name.is_empty() && !names.insert(&case.name) {
            return Err(place(format!("name: `{}` is there twice", case.name)));
        }
    }
    Ok(cases)
}

impl TestCase {
    /// Checks what the shape alone cannot say.
    ///
    /// # Errors
    /// The field and what to change.
    pub fn check(&self) -> Result<(), String> {
        if self.name.len() > 200 || self.name.chars().any(char::is_control) {
            return Err("name: must be at most 200 bytes without control characters".to_owned());
        }
        self.item
            .hook_item(self.side, NOW, ItemId(1))
            .map_err(|detail| format!("item.{detail}"))?;
        self.expect
            .check(self.side)
            .map_err(|detail| format!("expect.{detail}"))
    }

    /// The version with the case's own configuration, the context and the item.
    pub(super) fn prepare(
        &self,
        version: &Arc<Version>,
    ) -> Result<(Arc<Version>, Arc<HookContext>, HookItem), String> {
        let now = self.now.unwrap_or(NOW);
        let topic = match &self.topic {
            Some(topic) => topic.clone(),
            None => "test"
                .parse()
                .map_err(|error: crate::model::NameError| error.to_string())?,
        };
        let context = HookContext {
            topic: TopicKey::new(version.namespace.clone(), topic),
            now,
            principal: (*self.principal).into(),
            scopes: self.scopes.iter().cloned().collect(),
        };
        let item = self
            .item
            .hook_item(self.side, now, ItemId(1))
            .map_err(|detail| format!("item.{detail}"))?;
        Ok((self.configured(version), Arc::new(context), item))
    }

    fn configured(&self, version: &Arc<Version>) -> Arc<Version> {
        if self.config.is_none() && self.secrets.is_none() {
            return version.clone();
        }
        let config = self.config.as_ref().map(|config| {
            let text = config
                .iter()
                .map(|(key, value)| (key.clone(), value.get().into()));
            Arc::new(text.collect())
        });
        Arc::new(Version {
            namespace: version.namespace.clone(),
            hook: version.hook.clone(),
            digest: version.digest,
            manifest: version.manifest.clone(),
            limits: version.limits,
            config: config.unwrap_or_else(|| version.config.clone()),
            secrets: match &self.secrets {
                Some(secrets) => Arc::new(secrets.clone()),
                None => version.secrets.clone(),
            },
            quarantined: version.quarantined,
        })
    }
}

impl TestItem {
    /// The item as a hook is given it at `now`.
    ///
    /// # Errors
    /// The field and what to change.
    pub fn hook_item(&self, side: Side, now: Timestamp, id: ItemId) -> Result<HookItem, String> {
        let (kind, payload) = content(
            self.json.as_deref(),
            self.text.as_deref(),
            self.payload.as_deref(),
        )?
        .unwrap_or((PayloadKind::Bytes, Box::default()));
        let enqueued_at = self.enqueued_at.unwrap_or(now);
        let extra = Extra {
            content_type: self.content_type.clone(),
            headers: self.headers.clone().into_iter().collect(),
            ..Extra::default()
        };
        let item = Item {
            id,
            priority: self.priority.unwrap_or(0),
            lease_ms: 30_000,
            max_attempts: 10,
            kind,
            enqueued_at,
            deliver_after: self.deliver_after.unwrap_or(enqueued_at),
            expires_at: None,
            payload,
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
        };
        Ok(HookItem {
            item: Arc::new(item),
            attempt: self.attempt.unwrap_or(match side {
                Side::Enqueue => 0,
                Side::Dequeue => 1,
            }),
            hops: self.hops.unwrap_or(0),
        })
    }
}

/// A payload and how it is given.
pub(super) type Content = (PayloadKind, Box<[u8]>);

/// The one payload that is given, if any.
pub(super) fn content(
    json: Option<&RawValue>,
    text: Option<&str>,
    payload: Option<&str>,
) -> Result<Option<Content>, String> {
    match (json, text, payload) {
        (None, None, None) => Ok(None),
        (Some(json), None, None) => Ok(Some((PayloadKind::Json, json.get().as_bytes().into()))),
        (None, Some(text), None) => Ok(Some((PayloadKind::Text, text.as_bytes().into()))),
        (None, None, Some(base64)) => base64_simd::STANDARD
            .decode_to_vec(base64)
            .map(|bytes| Some((PayloadKind::Bytes, bytes.into())))
            .map_err(|_| "payload: not base64 (the standard alphabet, padded with '=')".to_owned()),
        _ => Err("payload: give only one of json, text and payload".to_owned()),
    }
}
