//! The two wasmtime engines: one that runs calls, one that counts their instructions.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
};

use crate::model::HookLimits;

/// Which engine an artefact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Calls of production.
    Running,
    /// Rehearsals: every instruction is counted.
    Counting,
}

/// The part that decides which code is generated: the compile child must agree on it.
fn code(kind: Kind) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .epoch_interruption(true)
        .consume_fuel(kind == Kind::Counting)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_component_model(true)
        .memory_init_cow(true);
    config
}

/// An engine that only compiles.
pub(super) fn compiler(kind: Kind) -> wasmtime::Result<Engine> {
    Engine::new(&code(kind))
}

/// An engine that runs up to `instances` instances at once.
pub(super) fn running(ceilings: &HookLimits, instances: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(instances)
        .max_memories_per_component(1)
        .total_tables(instances * TABLES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(ceilings.table_elements as usize)
        .max_memory_size(usize::try_from(ceilings.memory_bytes).unwrap_or(usize::MAX))
        .max_unused_warm_slots(instances)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = code(Kind::Running);
    config.max_wasm_stack(ceilings.stack_bytes as usize);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// An engine that counts.
pub(super) fn counting(ceilings: &HookLimits) -> wasmtime::Result<Engine> {
    let mut config = code(Kind::Counting);
    config.max_wasm_stack(ceilings.stack_bytes as usize);
    Engine::new(&config)
}

/// Core modules a component may be made of: a guest with imports is three already, with its adapters, and one in Python 38.
pub(super) const CORE_INSTANCES: u32 = 48;
/// Tables of all its modules.
pub(super) const TABLES: u32 = 8;
