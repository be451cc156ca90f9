//! Chains over a scripted runner.

use std::sync::Arc;

use crate::hooks::Version;
use crate::model::{Digest, HookLimits, HookRef, Manifest};

/// A version that a scripted runner knows by its name.
pub(super) fn version(hook: &str, number: u32) -> Arc<Version> {
    Arc::new(Version {
        namespace: "default".parse().unwrap(),
        hook: HookRef {
            hook: hook.parse().unwrap(),
            version: number,
        },
        digest: Digest([0; 32]),
        manifest: Manifest::default(),
        limits: HookLimits::default(),
        config: Arc::default(),
        secrets: Arc::default(),
    })
}
