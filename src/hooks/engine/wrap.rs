//! From what a tenant uploads to a component: text is parsed, a core module is wrapped.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::bindings::{PACKAGE, VERSION, function, interface};
use super::error::UploadError;
use crate::hooks::WIT;
use crate::model::Side;

/// The component in `upload`, which is a component, a core module, or the text of either.
pub(super) fn component(upload: Vec<u8>) -> Result<Vec<u8>, UploadError> {
    let binary = if upload.starts_with(b"\0asm") {
        upload
    } else {
        text(&upload)?
    };
    if wasmparser::Parser::is_component(&binary) {
        Ok(binary)
    } else if wasmparser::Parser::is_core_wasm(&binary) {
        wrapped(binary)
    } else {
        Err(UploadError::Malformed(
            "the version in its header is unknown".into(),
        ))
    }
}

fn text(upload: &[u8]) -> Result<Vec<u8>, UploadError> {
    let text = std::str::from_utf8(upload);
    let text = text.map_err(|_| UploadError::Malformed("neither a binary nor text".into()))?;
    wat::parse_str(text).map_err(|error| UploadError::Malformed(error.to_string()))
}

/// Wraps a core module against the world of this package that its exports fit.
fn wrapped(mut module: Vec<u8>) -> Result<Vec<u8>, UploadError> {
    let facts = core_facts(&module).map_err(|error| UploadError::Malformed(error.to_string()))?;
    if let Some(wasi) = &facts.wasi {
        return Err(UploadError::Contract(super::inspect::forbidden_import(wasi)));
    }
    if !facts.has_component_type {
        let world = match (facts.exports(Side::Enqueue), facts.exports(Side::Dequeue)) {
            (true, true) => "full-hook",
            (true, false) => "enqueue-hook",
            (false, true) => "dequeue-hook",
            (false, false) => {
                return Err(UploadError::Contract(facts.no_hook()));
            }
        };
        let mut resolve = Resolve::default();
        let package = resolve
            .push_source("hooks.wit", WIT)
            .map_err(UploadError::internal)?;
        let world = resolve
            .select_world(&[package], Some(world))
            .map_err(UploadError::internal)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .map_err(UploadError::internal)?;
    }
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder_with(&mut encoder, &module);
    encoder.map_err(|error| {
        UploadError::Contract(format!(
            "the core module does not fit the contract ({error}): it may import functions of {} only, and \
             must export `memory`, `cabi_realloc` and its hooks with their canonical names",
            super::inspect::ALLOWED_IMPORTS.join(", ")
        ))
    })
}

fn encoder_with(encoder: &mut ComponentEncoder, module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = std::mem::take(encoder).validate(true);
    let mut encoder = encoder.module(module).map_err(|error| format!("{error:#}"))?;
    encoder.encode().map_err(|error| format!("{error:#}"))
}

/// The name a core module exports the hook of `side` by.
fn canonical(side: Side) -> String {
    format!("{}#{}", interface(side), function(side))
}

struct CoreFacts {
    exports: Vec<String>,
    has_component_type: bool,
    /// An import that hooks cannot have, whatever it is wrapped with.
    wasi: Option<String>,
}

impl CoreFacts {
    fn exports(&self, side: Side) -> bool {
        let name = canonical(side);
        self.exports.iter().any(|export| export.ends_with(&name))
    }

    /// What to say of a module that exports no hook; the name that comes nearest is told.
    fn no_hook(&self) -> String {
        let wanted = Side::ALL
            .map(|side| format!("`{}`", canonical(side)))
            .join(" or ");
        let near = self.exports.iter().find(|export| export.contains(PACKAGE));
        let instead = near.map_or_else(String::new, |near| {
            format!(" (it exports `{near}`, and this server speaks version {VERSION})")
        });
        format!("the module exports no hook{instead}: export {wanted}, or upload a component")
    }
}

fn core_facts(module: &[u8]) -> wasmparser::Result<CoreFacts> {
    let mut facts = CoreFacts {
        exports: Vec::new(),
        has_component_type: false,
        wasi: None,
    };
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload? {
            wasmparser::Payload::ExportSection(exports) => {
                for export in exports {
                    let name = export?.name;
                    if name.contains('#') {
                        facts.exports.push(name.to_owned());
                    }
                }
            }
            wasmparser::Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let module = import?.module;
                    if module.starts_with("wasi") {
                        facts.wasi = Some(module.to_owned());
                    }
                }
            }
            wasmparser::Payload::CustomSection(section) => {
                facts.has_component_type |= section.name().starts_with("component-type");
            }
            _ => {}
        }
    }
    Ok(facts)
}
