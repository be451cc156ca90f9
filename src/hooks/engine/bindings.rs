//! The types of `mqueue:hooks@0.1.0` as wasmtime lowers and lifts them. Inputs borrow: a payload is copied
//! once, into the guest.

use wasmtime::component::{ComponentType, Lift, Lower};

use super::super::{Call, DequeueVerdict, Edit, EnqueueVerdict, HookItem, LogLevel, Reason, Version};
use super::host::clean;
use crate::model::{InputMode, Side, some};

/// The package, up to the part of its version that may not change.
pub(super) const PACKAGE: &str = "mqueue:hooks/";
/// The version this module binds.
pub(super) const VERSION: &str = "0.1.0";

/// The interface a guest exports for `side`.
pub(super) const fn interface(side: Side) -> &'static str {
    match side {
        Side::Enqueue => "mqueue:hooks/enqueue@0.1.0",
        Side::Dequeue => "mqueue:hooks/dequeue@0.1.0",
    }
}

/// The function within that interface.
pub(super) const fn function(side: Side) -> &'static str {
    match side {
        Side::Enqueue => "on-enqueue",
        Side::Dequeue => "on-dequeue",
    }
}

/// Its type, for messages.
pub(super) const fn signature(side: Side) -> &'static str {
    match side {
        Side::Enqueue => {
            "on-enqueue: func(ctx: context, items: list<item>) -> list<result<enqueue-verdict, string>>"
        }
        Side::Dequeue => {
            "on-dequeue: func(ctx: context, items: list<item>) -> list<result<dequeue-verdict, string>>"
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct ContextIn<'a> {
    namespace: &'a str,
    topic: &'a str,
    now: u64,
    principal: &'a str,
    scopes: &'a [Box<str>],
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct ItemIn<'a> {
    id: u64,
    priority: i32,
    #[component(name = "enqueued-at")]
    enqueued_at: u64,
    #[component(name = "deliver-after")]
    deliver_after: u64,
    attempt: u32,
    hops: u32,
    #[component(name = "content-type")]
    content_type: Option<&'a str>,
    headers: &'a [(Box<str>, Box<str>)],
    payload: &'a [u8],
    #[component(name = "payload-len")]
    payload_len: u32,
}

impl<'a> ContextIn<'a> {
    pub(super) fn of(call: &'a Call) -> Self {
        let context = &*call.context;
        Self {
            namespace: context.topic.namespace().as_str(),
            topic: context.topic.topic().as_str(),
            now: millis(context.now),
            principal: &context.principal,
            scopes: &context.scopes,
        }
    }
}

impl<'a> ItemIn<'a> {
    pub(super) fn of(hook_item: &'a HookItem, input: InputMode) -> Self {
        let item = &*hook_item.item;
        let extra = item.extra.as_deref();
        Self {
            id: item.id.0,
            priority: item.priority,
            enqueued_at: millis(item.enqueued_at),
            deliver_after: millis(item.deliver_after),
            attempt: hook_item.attempt,
            hops: hook_item.hops,
            content_type: extra.and_then(|extra| extra.content_type.as_deref()),
            headers: extra.map_or(&[], |extra| &extra.headers),
            payload: match input {
                InputMode::Full => &item.payload,
                InputMode::Meta => &[],
            },
            payload_len: u32::try_from(item.payload.len()).unwrap_or(u32::MAX),
        }
    }

    /// Bytes this copies into the guest, fields of fixed size left out.
    pub(super) fn bytes(&self) -> u64 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        (self.payload.len() + headers) as u64
    }
}

fn millis(instant: crate::clock::Timestamp) -> u64 {
    u64::try_from(instant.ms()).unwrap_or(0)
}

type Headers = Vec<(Box<str>, Box<str>)>;

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct EditOut {
    payload: Option<Box<[u8]>>,
    headers: Option<Headers>,
    priority: Option<i32>,
    #[component(name = "deliver-after")]
    deliver_after: Option<u64>,
    topic: Option<Box<str>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct ReasonOut {
    code: Box<str>,
    message: Box<str>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum EnqueueOut {
    #[component(name = "keep")]
    Keep,
    #[component(name = "replace")]
    Replace(Box<[u8]>),
    #[component(name = "edit")]
    Edit(EditOut),
    #[component(name = "split")]
    Split(Vec<EditOut>),
    #[component(name = "drop")]
    Drop(ReasonOut),
    #[component(name = "reject")]
    Reject(ReasonOut),
    #[component(name = "dead-letter")]
    DeadLetter(ReasonOut),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum DequeueOut {
    #[component(name = "deliver")]
    Deliver,
    #[component(name = "deliver-as")]
    DeliverAs(Box<[u8]>),
    #[component(name = "deliver-edited")]
    DeliverEdited(EditOut),
    #[component(name = "defer")]
    Defer(u32),
    #[component(name = "drop")]
    Drop(ReasonOut),
    #[component(name = "dead-letter")]
    DeadLetter(ReasonOut),
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting, from its number")]
pub(super) enum LevelOut {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<LevelOut> for LogLevel {
    fn from(level: LevelOut) -> Self {
        match level {
            LevelOut::Trace => Self::Trace,
            LevelOut::Debug => Self::Debug,
            LevelOut::Info => Self::Info,
            LevelOut::Warn => Self::Warn,
            LevelOut::Error => Self::Error,
        }
    }
}

/// What is checked of verdicts here: what the contract says in words. Whether an edit makes a valid item is
/// for the chain to see.
pub(super) struct Rules<'a> {
    pub(super) version: &'a Version,
}

impl Rules<'_> {
    /// What `verdict` says by `rule`; the guest's own complaint is cleaned.
    pub(super) fn settle<Out, Verdict>(
        &self,
        verdict: Result<Out, String>,
        rule: impl Fn(&Self, Out) -> Result<Verdict, String>,
    ) -> Result<Verdict, String> {
        match verdict {
            Ok(out) => rule(self, out),
            Err(text) => Err(clean(self.version, &text).into()),
        }
    }

    fn reason(&self, reason: ReasonOut) -> Result<Reason, String> {
        let is_code = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if !(1..=64).contains(&reason.code.len()) || !reason.code.bytes().all(is_code) {
            return Err("a reason's code is 1 to 64 of a-z, 0-9, `_` and `-`".into());
        }
        Ok(Reason {
            code: reason.code,
            message: clean(self.version, &reason.message),
        })
    }

    pub(super) fn enqueue(&self, verdict: EnqueueOut) -> Result<EnqueueVerdict, String> {
        Ok(match verdict {
            EnqueueOut::Keep => EnqueueVerdict::Keep,
            EnqueueOut::Replace(payload) => EnqueueVerdict::Replace(payload),
            EnqueueOut::Edit(edit) => EnqueueVerdict::Edit(edit.into()),
            EnqueueOut::Split(edits) if edits.is_empty() => {
                return Err("a split into nothing: say `drop`".into());
            }
            EnqueueOut::Split(edits) if edits.len() > self.version.limits.split_items as usize => {
                return Err(format!(
                    "a split into {}, more than the {} that are allowed",
                    some(edits.len(), "item"),
                    self.version.limits.split_items
                ));
            }
            EnqueueOut::Split(edits) => EnqueueVerdict::Split(edits.into_iter().map(Edit::from).collect()),
            EnqueueOut::Drop(reason) => EnqueueVerdict::Drop(self.reason(reason)?),
            EnqueueOut::Reject(reason) => EnqueueVerdict::Reject(self.reason(reason)?),
            EnqueueOut::DeadLetter(reason) => EnqueueVerdict::DeadLetter(self.reason(reason)?),
        })
    }

    pub(super) fn dequeue(&self, verdict: DequeueOut) -> Result<DequeueVerdict, String> {
        Ok(match verdict {
            DequeueOut::Deliver => DequeueVerdict::Deliver,
            DequeueOut::DeliverAs(payload) => DequeueVerdict::DeliverAs(payload),
            DequeueOut::DeliverEdited(edit)
                if edit.priority.is_some() || edit.deliver_after.is_some() || edit.topic.is_some() =>
            {
                return Err("`deliver-edited` may change the payload and the headers only".into());
            }
            DequeueOut::DeliverEdited(edit) => DequeueVerdict::DeliverEdited(edit.into()),
            DequeueOut::Defer(ms) => DequeueVerdict::Defer(ms),
            DequeueOut::Drop(reason) => DequeueVerdict::Drop(self.reason(reason)?),
            DequeueOut::DeadLetter(reason) => DequeueVerdict::DeadLetter(self.reason(reason)?),
        })
    }
}

impl From<EditOut> for Edit {
    fn from(edit: EditOut) -> Self {
        Self {
            payload: edit.payload,
            headers: edit.headers,
            priority: edit.priority,
            deliver_after: edit.deliver_after,
            topic: edit.topic,
        }
    }
}

/// Bytes an edit holds.
pub(super) fn edit_bytes(edit: &Edit) -> u64 {
    let payload = edit.payload.as_ref().map_or(0, |payload| payload.len());
    let headers = edit.headers.iter().flatten();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    (payload + headers + edit.topic.as_ref().map_or(0, |topic| topic.len())) as u64
}
