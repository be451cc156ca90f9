//! What is uploaded: a module as it is, or JSON with everything a version has.

use std::borrow::Cow;
use std::collections::BTreeMap;

use poem::Request;
use poem::http::header;
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::ApiState;
use super::super::body::{BodyRule, Incoming, is_json, parse};
use super::super::problem::{Code, Problem};
use super::super::reply::binary;
use super::{Owner, dto};
use crate::hooks::registry::NewVersion;
use crate::model::{HookConfig, Manifest};

/// Room for the rest of a JSON upload, in bytes: configuration, secrets, manifest and white space.
const REST_BYTES_MAX: usize = 1 << 20;

/// The body of an upload, read once its sender has a place.
pub(super) struct UploadBody {
    incoming: Incoming,
    is_json: bool,
}

impl<'a> ApiExtractor<'a> for UploadBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        dto::VersionUpload::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let media = |content_type, schema| MetaMediaType { content_type, schema };
        Some(MetaRequest {
            description: Some(
                "A component or core module, the text of either, or JSON with all a version has.",
            ),
            content: vec![
                media("application/wasm", binary()),
                media("text/wat", String::schema_ref()),
                media("application/json", dto::VersionUpload::schema_ref()),
            ],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut poem::RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        Ok(Self {
            is_json: kind.is_some_and(|kind| is_json(kind.as_bytes())),
            incoming: Incoming::new(request.headers(), body.take()?),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JsonUpload<'a> {
    #[serde(borrow)]
    module: Option<Cow<'a, str>>,
    #[serde(borrow)]
    wat: Option<Cow<'a, str>>,
    manifest: Option<Manifest>,
    config: Option<BTreeMap<Box<str>, Box<RawValue>>>,
    secrets: Option<HookConfig>,
    note: Option<String>,
}

/// Reads a version. What the upload leaves out is taken over from the hook's newest version, so that a new
/// module keeps its secrets, which nobody can read back.
///
/// # Errors
/// 413 over the limit, 400 for a body that does not fit, 422 for a first version without a module.
pub(super) async fn read(
    state: &ApiState,
    owner: &Owner,
    note: Option<String>,
    body: UploadBody,
) -> Result<NewVersion, Problem> {
    let bytes_max = state.hooks.upload_bytes_max;
    let rule = |bytes_max| BodyRule {
        bytes_max,
        ..state.limits.batch()
    };
    if !body.is_json {
        let module = body.incoming.any(rule(bytes_max)).await?.into();
        return complete(
            state,
            owner,
            Some(module),
            JsonUpload {
                note,
                ..JsonUpload::default()
            },
        )
        .await;
    }
    // Base64 takes four bytes for three.
    let bytes = body
        .incoming
        .any(rule(bytes_max / 3 * 4 + REST_BYTES_MAX))
        .await?;
    let mut upload: JsonUpload<'_> = parse(&bytes)?;
    let module = match (upload.module.take(), upload.wat.take()) {
        (None, None) => None,
        (None, Some(wat)) => Some(wat.into_owned().into_bytes()),
        (Some(base64), None) => Some(base64_simd::STANDARD.decode_to_vec(&*base64).map_err(|_| {
            let detail = "not base64 (the standard alphabet, padded with '=')";
            Problem::field(Code::MalformedBody, "module", detail)
        })?),
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                Code::MalformedBody,
                "module",
                "give only one of module and wat",
            ));
        }
    };
    upload.note = upload.note.or(note);
    complete(state, owner, module, upload).await
}

async fn complete(
    state: &ApiState,
    owner: &Owner,
    module: Option<Vec<u8>>,
    upload: JsonUpload<'_>,
) -> Result<NewVersion, Problem> {
    let registry = &state.hooks.registry;
    let newest = registry
        .hook(owner.namespace(), &owner.hook)
        .and_then(|view| view.summary.latest)
        .and_then(|latest| registry.version(owner.namespace(), &owner.hook, latest));
    let module = match (module, &newest) {
        (Some(module), _) => module,
        (None, Some(newest)) => registry
            .module(newest.digest)
            .await?
            .ok_or_else(|| Problem::internal(format!("module {} is gone", newest.digest)))?,
        (None, None) => {
            let detail = "the first version of a hook needs a module or wat";
            return Err(Problem::field(Code::InvalidField, "module", detail));
        }
    };
    let text = |(key, value): (Box<str>, Box<RawValue>)| (key, value.get().into());
    let config = upload.config.map(|config| config.into_iter().map(text).collect());
    let newest = newest.as_deref();
    let kept = |part: fn(&crate::hooks::Version) -> HookConfig| newest.map(part).unwrap_or_default();
    Ok(NewVersion {
        module,
        manifest: upload
            .manifest
            .or_else(|| newest.map(|newest| newest.manifest.clone()))
            .unwrap_or_default(),
        config: config.unwrap_or_else(|| kept(|newest| (*newest.config).clone())),
        secrets: upload
            .secrets
            .unwrap_or_else(|| kept(|newest| (*newest.secrets).clone())),
        note: upload.note,
    })
}
