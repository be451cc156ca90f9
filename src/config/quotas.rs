//! Section `[quotas]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use figment::value::{Dict, Value};

use super::ByteSize;
use super::reader::{Reader, text_of};
use crate::model::{CpuRate, HOOK_CPU_MS_MAX, Namespace, Quota, QuotaPatch, Rate};

/// The fields of a namespace's entry.
const FIELDS: [&str; 6] = [
    "per_minute",
    "burst",
    "stored_bytes",
    "leases",
    "hook_cpu_per_second",
    "hook_cpu_burst",
];

/// How much each namespace may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuotasConfig {
    /// Quota of a namespace that has none of its own.
    pub default: Quota,
    /// Quotas by namespace; what they leave out is as in `default`.
    pub namespaces: BTreeMap<Namespace, QuotaPatch>,
}

impl QuotasConfig {
    pub(super) fn read(reader: &mut Reader<'_>, hook_cpu: CpuRate) -> Self {
        let per_minute = NonZeroU32::new(reader.integer("quotas.default_per_minute", 0..=u32::MAX));
        let burst = NonZeroU32::new(reader.integer("quotas.default_burst", 0..=u32::MAX));
        let rate = |per_minute| Rate { per_minute, burst };
        let limit = |most: u64| (most > 0).then_some(most);
        let default = Quota {
            rate: per_minute.map(rate),
            stored_bytes: limit(reader.bytes("quotas.default_stored_bytes", 0..=u64::MAX)),
            leases: limit(reader.integer("quotas.default_leases", 0..=u64::from(u32::MAX))),
            hook_cpu,
        };
        let namespaces = reader.value("quotas.namespaces", BTreeMap::new(), |value| match value {
            Value::Dict(_, dict) => table(dict),
            other => list(&text_of(other)),
        });
        Self { default, namespaces }
    }
}

/// `tenant-a = 1000` or `tenant-a = { per_minute = 1000, burst = 200, stored_bytes = "1GiB" }`.
fn table(dict: &Dict) -> Result<BTreeMap<Namespace, QuotaPatch>, String> {
    let mut quotas = BTreeMap::new();
    for (name, value) in dict {
        let quota = match value {
            Value::Dict(_, fields) => entry(name, fields)?,
            other => rate(name, &text_of(other), None)?,
        };
        quotas.insert(namespace(name)?, quota);
    }
    Ok(quotas)
}

fn entry(name: &str, fields: &Dict) -> Result<QuotaPatch, String> {
    if let Some(field) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let known = FIELDS.join(", ");
        return Err(format!("{name}: no such field {field}; there are {known}"));
    }
    let field = |key| fields.get(key).map(text_of);
    let number = |key| field(key).map(|text| number(name, &text, key)).transpose();
    let quota = QuotaPatch {
        per_minute: number("per_minute")?,
        burst: number("burst")?,
        stored_bytes: field("stored_bytes").map(|text| bytes(name, &text)).transpose()?,
        leases: number("leases")?.map(u64::from),
        hook_cpu_ms_per_s: field("hook_cpu_per_second")
            .map(|text| time(name, &text, "hook_cpu_per_second"))
            .transpose()?,
        hook_cpu_burst_ms: field("hook_cpu_burst")
            .map(|text| time(name, &text, "hook_cpu_burst"))
            .transpose()?,
    };
    match quota.problem() {
        Some((field, detail)) => Err(format!("{name}: {field}: {detail}")),
        None => Ok(quota),
    }
}

/// `tenant-a:1000,tenant-b:500:50`.
fn list(text: &str) -> Result<BTreeMap<Namespace, QuotaPatch>, String> {
    let mut quotas = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut fields = part.split(':').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let (per_minute, burst) = (fields.next().unwrap_or_default(), fields.next());
        if fields.next().is_some() {
            return Err(format!(
                "{part:?} is not namespace:per_minute or namespace:per_minute:burst"
            ));
        }
        let quota = rate(name, per_minute, burst)?;
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

fn rate(name: &str, per_minute: &str, burst: Option<&str>) -> Result<QuotaPatch, String> {
    let least_one = |text: &str, what| match number(name, text, what) {
        Ok(0) => Err(format!(
            "{name}: {what} must be a whole number from 1 to {}",
            u32::MAX
        )),
        other => other,
    };
    Ok(QuotaPatch {
        per_minute: Some(least_one(per_minute, "enqueues per minute")?),
        burst: burst.map(|text| least_one(text, "burst")).transpose()?,
        ..QuotaPatch::default()
    })
}

fn number(name: &str, text: &str, what: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{name}: {what} must be a whole number from 1 to {}", u32::MAX))
}

fn bytes(name: &str, text: &str) -> Result<u64, String> {
    let size: Result<ByteSize, _> = text.trim().parse();
    size.map(|ByteSize(bytes)| bytes)
        .map_err(|error| format!("{name}: stored_bytes: {error}"))
}

fn time(name: &str, text: &str, what: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text.trim()).ok();
    let ms = time.and_then(|time: Duration| u32::try_from(time.as_millis()).ok());
    let fits = ms.filter(|ms| (1..=HOOK_CPU_MS_MAX).contains(ms));
    fits.ok_or_else(|| format!("{name}: {what} must be a duration from 1ms to 1000s, such as 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    fn patch(per_minute: u32, burst: Option<u32>) -> QuotaPatch {
        QuotaPatch {
            per_minute: Some(per_minute),
            burst,
            ..QuotaPatch::default()
        }
    }

    #[test]
    fn the_seeds_list_is_read() {
        let quotas = list("tenant-a:1000, tenant-b:500:50").unwrap();
        let of = |name: &str| quotas[&name.parse::<Namespace>().unwrap()];
        assert_eq!(of("tenant-a"), patch(1_000, None));
        assert_eq!(of("tenant-b"), patch(500, Some(50)));
        assert!(list("").unwrap().is_empty());
    }

    #[test]
    fn a_file_has_every_quota_and_its_defaults() {
        let text = "[quotas]\ndefault_per_minute = 60\ndefault_burst = 5\ndefault_stored_bytes = '1MiB'\n\
                    [hooks]\ncpu_per_second = '250ms'\n\
                    [quotas.namespaces]\nplain = 7\n\
                    full = { stored_bytes = '2KiB', leases = 3, hook_cpu_per_second = '50ms', hook_cpu_burst = '1s' }\n\
                    free = { per_minute = 0, stored_bytes = 0 }";
        let inputs = Inputs {
            file: Some(("my.toml".into(), text.into())),
            ..Inputs::default()
        };
        let quotas = load(&inputs).unwrap().live.quotas;
        assert_eq!(quotas.default.rate.unwrap().at_once().get(), 5);
        assert_eq!(quotas.default.stored_bytes, Some(1 << 20));
        assert_eq!(quotas.default.hook_cpu.per_second, Duration::from_millis(250));
        let of = |name: &str| quotas.namespaces[&name.parse::<Namespace>().unwrap()].over(&quotas.default);
        let plain = of("plain").rate.unwrap();
        assert_eq!((plain.at_once().get(), plain.burst), (7, None));
        let full = of("full");
        assert_eq!((full.stored_bytes, full.leases), (Some(2_048), Some(3)));
        assert_eq!(full.hook_cpu.per_second, Duration::from_millis(50));
        assert_eq!((of("free").rate, of("free").stored_bytes), (None, None));
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
        for (entry, says) in [
            ("per_min = 5", "no such field per_min"),
            ("burst = 0", "burst: must be at least 1"),
            ("stored_bytes = 'much'", "stored_bytes"),
            ("hook_cpu_per_second = '0ms'", "from 1ms"),
            ("leases = -1", "leases must be"),
        ] {
            let inputs = Inputs {
                file: Some((
                    "my.toml".into(),
                    format!("[quotas.namespaces]\na = {{ {entry} }}"),
                )),
                ..Inputs::default()
            };
            let error = load(&inputs).unwrap_err().to_string();
            assert!(error.contains(says), "{entry}: {error}");
        }
    }
}
