//! What shadows said otherwise: the last few items of each hook, within a bound of bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::ShadowDifference;
use crate::clock::Timestamp;
use crate::hooks::Comparison;
use crate::hooks::rehearse::{Outcome, PayloadDiff};

/// Differences kept of a hook.
const KEPT_MAX: usize = 20;
/// Once so many are kept, the next is not looked at sooner than this after the last, in milliseconds: showing it
/// costs time that is not the tenant's.
const APART_MS: i64 = 100;
/// Bytes of payloads that are looked into; larger ones are compared as bytes.
const PAYLOADS_BYTES_MAX: usize = 64 << 10;
/// Bytes of one difference with all its changes.
const WHOLE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the differences of all hooks; beyond it a hook keeps nothing new but in place of its own.
const BYTES_MAX: usize = 32 << 20;

/// The differences of one hook.
#[derive(Debug, Default)]
pub(super) struct Differences(Mutex<VecDeque<ShadowDifference>>);

impl Differences {
    /// Keeps `comparison` when the two differ; `bytes` are those of all hooks.
    pub(super) fn add(&self, comparison: &Comparison<'_>, shadow: u32, now: Timestamp, bytes: &AtomicUsize) {
        let Some(said) = &comparison.said else { return };
        let is_soon = {
            let kept = self.0.lock();
            let newest = kept.back();
            kept.len() == KEPT_MAX && newest.is_some_and(|newest| now.since_ms(newest.at) < APART_MS)
        };
        if is_soon {
            return;
        }
        let Some(difference) = shown(comparison, said, shadow, now) else {
            return;
        };
        let size = size_of_difference(&difference);
        let mut kept = self.0.lock();
        if kept.len() == KEPT_MAX {
            forget(&mut kept, bytes);
        }
        while bytes.load(Ordering::Relaxed) + size > BYTES_MAX {
            if kept.is_empty() {
                return;
            }
            forget(&mut kept, bytes);
        }
        bytes.fetch_add(size, Ordering::Relaxed);
        kept.push_back(difference);
    }

    /// All that are kept, the newest first.
    pub(super) fn list(&self) -> Vec<ShadowDifference> {
        self.0.lock().iter().rev().cloned().collect()
    }

    /// Lets all go.
    pub(super) fn clear(&self, bytes: &AtomicUsize) {
        let mut kept = self.0.lock();
        while !kept.is_empty() {
            forget(&mut kept, bytes);
        }
    }
}

fn forget(kept: &mut VecDeque<ShadowDifference>, bytes: &AtomicUsize) {
    if let Some(difference) = kept.pop_front() {
        bytes.fetch_sub(size_of_difference(&difference), Ordering::Relaxed);
    }
}

fn size_of_difference(difference: &ShadowDifference) -> usize {
    let texts = [
        Some(&difference.counted),
        Some(&difference.said),
        difference.diff.as_ref(),
    ];
    let texts = texts.into_iter().flatten().map(|text| text.get().len());
    size_of::<ShadowDifference>() + texts.sum::<usize>()
}

/// The difference as people are shown it: whole, or without the changes where those are large.
fn shown(
    comparison: &Comparison<'_>,
    said: &[Outcome; 2],
    shadow: u32,
    now: Timestamp,
) -> Option<ShadowDifference> {
    let original = comparison.item;
    let payloads = said.iter().flat_map(|outcome| &outcome.edits);
    let payloads = payloads.filter_map(|edit| edit.payload.as_deref());
    let bytes = original.item.payload.len() + payloads.map(<[u8]>::len).sum::<usize>();
    let difference = |said: &[Outcome; 2], diff: Option<PayloadDiff>, cut: bool| {
        let [counted, other] = said;
        let diff = match diff {
            Some(diff) => Some(raw(&diff)?),
            None => None,
        };
        Some(ShadowDifference {
            at: now,
            side: comparison.side,
            topic: comparison.context.topic.topic().clone(),
            id: original.item.id,
            version: comparison.version,
            shadow,
            outcome: comparison.outcome,
            counted: raw(&counted.view(original))?,
            said: raw(&other.view(original))?,
            diff,
            cut,
        })
    };
    let made = said.each_ref().map(|outcome| match &outcome.edits[..] {
        [edit] => edit.payload.as_deref(),
        _ => None,
    });
    let compare = |compare: fn(&[u8], &[u8]) -> PayloadDiff| match made {
        [Some(counted), Some(other)] => Some(compare(counted, other)),
        _ => None,
    };
    if bytes <= PAYLOADS_BYTES_MAX {
        let whole = difference(said, compare(PayloadDiff::between), false)?;
        if size_of_difference(&whole) <= WHOLE_BYTES_MAX {
            return Some(whole);
        }
    }
    let without = said.each_ref().map(|outcome| Outcome {
        edits: Vec::new(),
        ..outcome.clone()
    });
    difference(&without, compare(PayloadDiff::bytes), true)
}

fn raw(value: &impl Serialize) -> Option<Arc<RawValue>> {
    to_raw_value(value).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::registry::tests::{item, ns};
    use crate::hooks::rehearse::VerdictWord;
    use crate::hooks::{EnqueueVerdict, HookContext, ShadowOutcome};
    use crate::model::{Side, TopicKey};

    fn differ(differences: &Differences, counted: &[u8], shadow: &[u8], at: i64, bytes: &AtomicUsize) {
        let context = HookContext {
            topic: TopicKey::parse(ns().as_str(), "orders").unwrap(),
            principal: "ada".into(),
            scopes: [].into(),
            now: Timestamp::ZERO,
        };
        let replace = |payload: &[u8]| Outcome::of_enqueue(&EnqueueVerdict::Replace(payload.into()));
        let comparison = Comparison {
            context: &context,
            side: Side::Enqueue,
            item: &item(7),
            version: 1,
            outcome: ShadowOutcome::Different,
            said: Some([replace(counted), replace(shadow)]),
        };
        differences.add(&comparison, 2, Timestamp::from_ms(at), bytes);
    }

    #[test]
    fn the_last_few_are_kept_with_what_differs() {
        let (differences, bytes) = (Differences::default(), AtomicUsize::new(0));
        for at in 0..30 {
            differ(&differences, br#"{"a":1}"#, br#"{"a":2}"#, at * APART_MS, &bytes);
        }
        let kept = differences.list();
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept[0].at, Timestamp::from_ms(29 * APART_MS));
        let patch = r#"{"kind":"json","patch":[{"op":"replace","path":"/a","value":2}]}"#;
        assert_eq!(kept[0].diff.as_ref().unwrap().get(), patch);
        assert!(kept[0].said.get().contains(VerdictWord::Replace.as_str()));
        differ(&differences, b"x", b"y", 29 * APART_MS + 1, &bytes);
        assert_eq!(differences.list()[0].at, kept[0].at);
        differences.clear(&bytes);
        assert_eq!(bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn large_payloads_are_left_out() {
        let (differences, bytes) = (Differences::default(), AtomicUsize::new(0));
        let mut large = vec![b'x'; 1 << 20];
        let before = large.clone();
        large[5] = b'y';
        differ(&differences, &before, &large, 0, &bytes);
        let [kept] = &differences.list()[..] else {
            panic!("one was kept")
        };
        assert!(
            kept.cut
                && kept
                    .diff
                    .as_ref()
                    .unwrap()
                    .get()
                    .contains("\"same_prefix_bytes\":5")
        );
        assert!(bytes.load(Ordering::Relaxed) < 1 << 10);
    }
}
