//! Trials: what is uploaded is instantiated once before anything is asked of it.

use std::sync::Arc;

use super::Machine;
use super::bindings;
use super::call::Manner;
use super::error::UploadError;
use super::inspect::Facts;
use super::modules::Module;
use crate::clock::Timestamp;
use crate::hooks::{Call, HookContext, Version};
use crate::model::{Digest, HookLimits, HookRef, Manifest, Namespace, Side, TopicKey};

impl Machine {
    /// Takes a freshly compiled module and tries it: its start function must end within the limits, and its
    /// exports must have the contract's types.
    pub(super) fn adopt(
        &self,
        digest: Digest,
        artefact: &[u8],
        trial: &Call,
        facts: &Facts,
    ) -> Result<(), UploadError> {
        let was_loaded = self.running.is_loaded(digest);
        let module = self.running.add(digest, artefact);
        let module = module.map_err(|error| UploadError::Contract(format!("{error:#}")))?;
        let tried = self.try_out(&module, trial, facts);
        match tried {
            Err(_) => self.running.remove(digest),
            // What is uploaded is not in force yet, and may never be.
            Ok(()) if !was_loaded => self.running.unload(digest),
            Ok(()) => {}
        }
        tried
    }

    fn try_out(&self, module: &Module, trial: &Call, facts: &Facts) -> Result<(), UploadError> {
        let _ticking = self.ticker.begin();
        let mut running = self
            .instance(module, trial, Manner::Own)
            .map_err(|failure| UploadError::Start(failure.to_string()))?;
        facts.exports.iter().try_for_each(|side| {
            running.check(module, *side).map_err(|detail| {
                UploadError::Contract(format!(
                    "`{}` has another type ({detail}): the contract says `{}`",
                    bindings::interface(*side),
                    bindings::signature(*side)
                ))
            })
        })
    }
}

/// An upload as a version, before it is one.
pub(super) fn trial_version(
    namespace: &Namespace,
    digest: Digest,
    limits: HookLimits,
) -> Result<Arc<Version>, UploadError> {
    let name = "upload".parse().map_err(UploadError::internal)?;
    Ok(Arc::new(Version {
        namespace: namespace.clone(),
        hook: HookRef {
            hook: name,
            version: 1,
        },
        digest,
        manifest: Manifest::default(),
        limits,
        config: Arc::default(),
        secrets: Arc::default(),
        quarantined: false,
    }))
}

/// A call with no items, to instantiate `version` by.
pub(super) fn trial_call(version: Arc<Version>, now: Timestamp) -> Result<Call, UploadError> {
    let topic = "upload".parse().map_err(UploadError::internal)?;
    Ok(Call {
        side: Side::Enqueue,
        context: Arc::new(HookContext {
            topic: TopicKey::new(version.namespace.clone(), topic),
            now,
            principal: "".into(),
            scopes: Arc::new([]),
        }),
        version,
        items: Arc::new([]),
        range: 0..0,
        rehearsal: true,
    })
}
