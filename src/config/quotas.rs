//! Section `[quotas]`.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::reader::{Reader, text_of};
use crate::model::Namespace;

/// How much each namespace may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuotasConfig {
    /// Quota of a namespace that has none of its own; none is no limit.
    pub default: Option<Quota>,
    /// Quotas by namespace.
    pub namespaces: BTreeMap<Namespace, Quota>,
}

/// A rate of enqueued items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Items per minute, at least 1.
    pub per_minute: u32,
    /// Items that may come at once; `per_minute` when none is given.
    pub burst: Option<u32>,
}

impl QuotasConfig {
    /// The quota of `namespace`; none is no limit.
    pub fn of(&self, namespace: &Namespace) -> Option<Quota> {
        self.namespaces.get(namespace).copied().or(self.default)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let per_minute: u32 = reader.integer("quotas.default_per_minute", 0..=u32::MAX);
        let default = (per_minute > 0).then_some(Quota {
            per_minute,
            burst: None,
        });
        let namespaces = reader.value("quotas.namespaces", BTreeMap::new(), |value| match value {
            Value::Dict(_, dict) => table(dict),
            other => list(&text_of(other)),
        });
        Self { default, namespaces }
    }
}

/// `tenant-a = 1000` or `tenant-a = { per_minute = 1000, burst = 200 }`.
fn table(dict: &Dict) -> Result<BTreeMap<Namespace, Quota>, String> {
    let mut quotas = BTreeMap::new();
    for (name, value) in dict {
        let quota = match value {
            Value::Dict(_, fields) => {
                if let Some(field) = fields
                    .keys()
                    .find(|key| !matches!(key.as_str(), "per_minute" | "burst"))
                {
                    return Err(format!(
                        "{name}: no such field {field}; there are per_minute and burst"
                    ));
                }
                let field = |key| fields.get(key).map(text_of);
                quota(
                    name,
                    &field("per_minute").unwrap_or_default(),
                    field("burst").as_deref(),
                )?
            }
            other => quota(name, &text_of(other), None)?,
        };
        quotas.insert(namespace(name)?, quota);
    }
    Ok(quotas)
}

/// `tenant-a:1000,tenant-b:500:50`.
fn list(text: &str) -> Result<BTreeMap<Namespace, Quota>, String> {
    let mut quotas = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut fields = part.split(':').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let (rate, burst) = (fields.next().unwrap_or_default(), fields.next());
        if fields.next().is_some() {
            return Err(format!(
                "{part:?} is not namespace:per_minute or namespace:per_minute:burst"
            ));
        }
        let quota = quota(name, rate, burst)?;
        if quotas.insert(namespace(name)?, quota).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(quotas)
}

fn namespace(name: &str) -> Result<Namespace, String> {
    name.parse()
        .map_err(|error| format!("{name:?} cannot be a namespace: {error}"))
}

fn quota(name: &str, per_minute: &str, burst: Option<&str>) -> Result<Quota, String> {
    let number = |text: &str, what| match text.parse::<u32>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!(
            "{name}: {what} must be a whole number from 1 to {}",
            u32::MAX
        )),
    };
    Ok(Quota {
        per_minute: number(per_minute, "enqueues per minute")?,
        burst: burst.map(|text| number(text, "burst")).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_list_is_read() {
        let quotas = list("tenant-a:1000, tenant-b:500:50").unwrap();
        let quota = |per_minute, burst| Quota { per_minute, burst };
        assert_eq!(
            quotas[&"tenant-a".parse::<Namespace>().unwrap()],
            quota(1000, None)
        );
        assert_eq!(
            quotas[&"tenant-b".parse::<Namespace>().unwrap()],
            quota(500, Some(50))
        );
        assert!(list("").unwrap().is_empty());
    }

    #[test]
    fn wrong_quotas_say_what_is_wrong() {
        for (text, says) in [
            ("tenant-a", "enqueues per minute"),
            ("tenant-a:0", "from 1"),
            ("a:1:2:3", "is not namespace:per_minute"),
            ("a:1,a:2", "twice"),
            ("a/b:1", "cannot be a namespace"),
        ] {
            let error = list(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
