//! The walk over a component before it is compiled: its size in every direction, what it uses, and whether it
//! keeps the contract.

use serde::{Deserialize, Serialize};
use wasmparser::{Encoding, Operator, Parser, Payload, Validator, WasmFeatures};

use super::bindings::{PACKAGE, VERSION, interface, signature};
use super::configure::{CORE_INSTANCES, TABLES};
use super::error::UploadError;
use crate::model::Side;

/// All that a hook may import.
pub(super) const ALLOWED_IMPORTS: [&str; 5] = [
    "mqueue:hooks/types@0.1.0",
    "mqueue:hooks/log@0.1.0",
    "mqueue:hooks/clock@0.1.0",
    "mqueue:hooks/random@0.1.0",
    "mqueue:hooks/config@0.1.0",
];

/// Components without code within a component.
const INNER_COMPONENTS_MAX: u64 = 16;

/// How large a module may be, in every direction; what is beyond is refused before anything is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadLimits {
    /// Bytes of the upload, and of the component made of it.
    pub bytes: u64,
    /// Functions of all its modules.
    pub functions: u64,
    /// Globals.
    pub globals: u64,
    /// Types.
    pub types: u64,
    /// Exports and imports of all its modules.
    pub externs: u64,
    /// Bytes of a function's body.
    pub body_bytes: u64,
    /// Locals of a function.
    pub locals: u64,
    /// Locals of all functions.
    pub locals_sum: u64,
    /// Targets of all branch tables.
    pub branch_targets: u64,
    /// Linear memory it begins with, in bytes.
    pub memory_bytes: u64,
    /// Elements of each of its tables.
    pub table_elements: u64,
    /// Time for compiling, in milliseconds; wide, so that a busy machine does not refuse what an idle one takes.
    pub compile_ms: u64,
    /// Processor time for compiling, in seconds.
    pub compile_cpu_s: u64,
    /// Address space for compiling, in bytes.
    pub compile_memory_bytes: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            functions: 50_000,
            globals: 10_000,
            types: 20_000,
            externs: 20_000,
            body_bytes: 512 << 10,
            locals: 10_000,
            locals_sum: 1_000_000,
            branch_targets: 200_000,
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            compile_ms: 120_000,
            compile_cpu_s: 60,
            compile_memory_bytes: 2 << 30,
        }
    }
}

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) exports: Vec<Side>,
    pub(super) imports: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// What of WebAssembly hooks may use.
fn features() -> WasmFeatures {
    WasmFeatures::default()
        - WasmFeatures::THREADS
        - WasmFeatures::MEMORY64
        - WasmFeatures::MULTI_MEMORY
        - WasmFeatures::RELAXED_SIMD
        - WasmFeatures::EXCEPTIONS
        - WasmFeatures::FUNCTION_REFERENCES
        - WasmFeatures::GC
        - WasmFeatures::CM_ASYNC
}

/// Looks `component` over.
pub(super) fn inspect(component: &[u8], limits: &UploadLimits) -> Result<Facts, UploadError> {
    Walk::new(limits).whole(component)
}

/// Counts on the way through a component and the modules in it.
struct Walk<'a> {
    limits: &'a UploadLimits,
    facts: Facts,
    other_exports: Vec<String>,
    /// The components and modules around what is read.
    within: Vec<Encoding>,
    inner_components: u64,
    modules: u64,
    functions: u64,
    globals: u64,
    types: u64,
    externs: u64,
    memories: u64,
    tables: u64,
    locals: u64,
    branch_targets: u64,
}

fn within(what: &str, found: u64, limit: u64) -> Result<(), UploadError> {
    if found <= limit {
        return Ok(());
    }
    Err(UploadError::TooLarge {
        what: what.into(),
        found,
        limit,
    })
}

fn malformed(error: wasmparser::BinaryReaderError) -> UploadError {
    UploadError::Malformed(error.to_string())
}

impl<'a> Walk<'a> {
    fn new(limits: &'a UploadLimits) -> Self {
        Self {
            limits,
            facts: Facts::default(),
            other_exports: Vec::new(),
            within: Vec::new(),
            inner_components: 0,
            modules: 0,
            functions: 0,
            globals: 0,
            types: 0,
            externs: 0,
            memories: 0,
            tables: 0,
            locals: 0,
            branch_targets: 0,
        }
    }

    fn whole(mut self, component: &[u8]) -> Result<Facts, UploadError> {
        within("the component's bytes", component.len() as u64, self.limits.bytes)?;
        for payload in Parser::new(0).parse_all(component) {
            self.payload(payload.map_err(malformed)?)?;
        }
        // The sizes are known to be sane by now: validating takes time in proportion to them.
        let mut validator = Validator::new_with_features(features());
        validator.validate_all(component).map_err(|error| {
            UploadError::Malformed(format!(
                "{error} (hooks may use WebAssembly without threads, 64-bit and several memories, exceptions, \
                 garbage collection and relaxed SIMD)"
            ))
        })?;
        self.contract()
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), UploadError> {
        let limits = self.limits;
        match payload {
            Payload::Version { encoding, .. } => {
                if encoding == Encoding::Component && !self.within.is_empty() {
                    self.inner_components += 1;
                    within("components within", self.inner_components, INNER_COMPONENTS_MAX)?;
                }
                self.within.push(encoding);
            }
            Payload::End(_) => {
                self.within.pop();
            }
            Payload::ModuleSection { .. } => {
                self.outermost_only()?;
                self.modules += 1;
                within("core modules", self.modules, CORE_INSTANCES.into())?;
            }
            Payload::ComponentSection { .. }
            | Payload::InstanceSection(_)
            | Payload::ComponentCanonicalSection(_)
            | Payload::ComponentStartSection { .. } => self.outermost_only()?,
            Payload::TypeSection(section) => self.types += u64::from(section.count()),
            Payload::CoreTypeSection(section) => self.types += u64::from(section.count()),
            Payload::ComponentTypeSection(section) => self.types += u64::from(section.count()),
            Payload::ImportSection(section) => self.externs += u64::from(section.count()),
            Payload::ExportSection(section) => self.externs += u64::from(section.count()),
            Payload::FunctionSection(section) => {
                self.functions += u64::from(section.count());
                within("functions", self.functions, limits.functions)?;
            }
            Payload::GlobalSection(section) => {
                self.globals += u64::from(section.count());
                within("globals", self.globals, limits.globals)?;
            }
            Payload::MemorySection(section) => self.memory(section)?,
            Payload::TableSection(section) => self.table(section)?,
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    if self.within.len() == 1 {
                        self.facts.imports.push(import.name.name.to_owned());
                    }
                    self.externs += 1;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    if self.within.len() == 1 {
                        self.other_exports.push(export.name.name.to_owned());
                    }
                    self.externs += 1;
                }
            }
            _ => {}
        }
        within("types", self.types, limits.types)?;
        within("imports and exports", self.externs, limits.externs)
    }

    /// Refuses what only the outermost component may have. Toolchains put a component without code around each
    /// interface, to name its types; components with code are adapted to each other, which hooks need not be.
    fn outermost_only(&self) -> Result<(), UploadError> {
        if self.within.len() == 1 {
            return Ok(());
        }
        Err(UploadError::Forbidden(
            "a component within the component has code of its own; hooks are one component: link at build time"
                .into(),
        ))
    }

    fn memory(&mut self, section: wasmparser::MemorySectionReader<'_>) -> Result<(), UploadError> {
        for memory in section {
            let memory = memory.map_err(malformed)?;
            self.memories += 1;
            if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                return Err(UploadError::Forbidden(
                    "hooks have one 32-bit memory that is not shared, with pages of 64 KiB".into(),
                ));
            }
            let bytes = memory.initial.saturating_mul(64 << 10);
            within("bytes of memory it begins with", bytes, self.limits.memory_bytes)?;
        }
        within("memories", self.memories, 1)
    }

    fn table(&mut self, section: wasmparser::TableSectionReader<'_>) -> Result<(), UploadError> {
        for table in section {
            let table = table.map_err(malformed)?;
            self.tables += 1;
            within(
                "elements of a table",
                table.ty.initial,
                self.limits.table_elements,
            )?;
        }
        within("tables", self.tables, TABLES.into())
    }

    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), UploadError> {
        let limits = self.limits;
        within(
            "bytes of a function",
            body.range().len() as u64,
            limits.body_bytes,
        )?;
        let mut locals = 0_u64;
        for local in body.get_locals_reader().map_err(malformed)? {
            locals += u64::from(local.map_err(malformed)?.0);
        }
        within("locals of a function", locals, limits.locals)?;
        self.locals += locals;
        within("locals of all functions", self.locals, limits.locals_sum)?;
        for operator in body.get_operators_reader().map_err(malformed)? {
            if let Operator::BrTable { targets } = operator.map_err(malformed)? {
                self.branch_targets += u64::from(targets.len());
                within(
                    "targets of branch tables",
                    self.branch_targets,
                    limits.branch_targets,
                )?;
            }
        }
        Ok(())
    }

    /// Whether the names fit; types are checked when it is compiled.
    fn contract(mut self) -> Result<Facts, UploadError> {
        for import in &self.facts.imports {
            if !ALLOWED_IMPORTS.contains(&import.as_str()) {
                return Err(UploadError::Contract(forbidden_import(import)));
            }
        }
        for side in Side::ALL {
            if self.other_exports.iter().any(|name| name == interface(side)) {
                self.facts.exports.push(side);
            }
        }
        self.other_exports
            .retain(|name| !Side::ALL.iter().any(|side| name == interface(*side)));
        if self.facts.exports.is_empty() {
            return Err(UploadError::Contract(no_hook(&self.other_exports)));
        }
        let unused = self
            .other_exports
            .iter()
            .map(|name| format!("the export `{name}` is not used"));
        self.facts.warnings.extend(unused.take(16));
        Ok(self.facts)
    }
}

/// What to say of an import that no hook can have.
pub(super) fn forbidden_import(import: &str) -> String {
    if import.starts_with("wasi") {
        return format!(
            "the module imports `{import}`, and hooks have no WASI: build with --stub-wasi (Python), with \
             disableFeatures of all features (JavaScript), or for wasm32-unknown-unknown (Rust)"
        );
    }
    if import.starts_with(PACKAGE) {
        return format!(
            "the component imports `{import}`, and this server speaks version {VERSION}: build it against GET /v1/hooks/wit"
        );
    }
    format!(
        "the component imports `{import}`, which no hook can have; it may import {}",
        ALLOWED_IMPORTS.join(", ")
    )
}

fn no_hook(exports: &[String]) -> String {
    let wanted = Side::ALL.map(|side| format!("`{}` with `{}`", interface(side), signature(side)));
    let wanted = wanted.join(" or ");
    match exports.iter().find(|name| name.starts_with(PACKAGE)) {
        Some(other) => {
            format!(
                "the component exports `{other}`, and this server speaks version {VERSION}: export {wanted}"
            )
        }
        None => format!("the component exports no hook: export {wanted}"),
    }
}
