//! Section `[hooks]`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use crate::model::{CpuRate, HOOK_CPU_MS_MAX, HookLimits};

/// How tenants' hooks are run, and what they may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HooksConfig {
    /// Folder of hooks that are in force without an upload; none when empty. It need not be there.
    pub folder: Option<PathBuf>,
    /// Threads that run hooks; as many as there are processors when absent.
    pub threads: Option<usize>,
    /// Whether brief calls are made by the threads that serve requests.
    pub in_passing: bool,
    /// Processor time a namespace may use; [`super::QuotasConfig`] has what is in force.
    pub cpu: CpuRate,
    /// Calls of a namespace that may wait.
    pub queue_per_namespace: usize,
    /// How long a call waits for its turn at most.
    pub wait_max: Duration,
    /// Instances at once.
    pub instances: u32,
    /// Largest module, in bytes.
    pub module_bytes_max: u64,
    /// Time for compiling a module.
    pub compile_time: Duration,
    /// Memory for compiling a module, in bytes.
    pub compile_memory: u64,
    /// Most bytes of compiled modules kept on disk.
    pub cache_bytes_max: u64,
    /// Most bytes of compiled modules kept in memory.
    pub modules_bytes_max: u64,
    /// What one call may use.
    pub call: HookLimits,
    /// What a namespace may have.
    pub namespace: NamespaceHooksConfig,
}

/// How many of everything a namespace may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceHooksConfig {
    /// Hooks.
    pub hooks: usize,
    /// Versions kept of each.
    pub versions_per_hook: usize,
    /// Test cases of each.
    pub tests_per_hook: usize,
    /// Bindings that are on and could meet in one topic on one side.
    pub bindings_per_topic: usize,
    /// Bytes of all its modules.
    pub module_bytes: u64,
}

impl HooksConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let ms = |from: u64, to: u64| Duration::from_millis(from)..=Duration::from_millis(to);
        let threads: usize = reader.integer("hooks.threads", 0..=1_024);
        Self {
            folder: reader.path("hooks.folder"),
            threads: (threads > 0).then_some(threads),
            in_passing: reader.flag("hooks.in_passing"),
            cpu: CpuRate {
                per_second: reader.duration("hooks.cpu_per_second", ms(1, HOOK_CPU_MS_MAX.into())),
                burst: reader.duration("hooks.cpu_burst", ms(1, HOOK_CPU_MS_MAX.into())),
            },
            queue_per_namespace: reader.integer("hooks.queue_per_namespace", 1..=1_000_000),
            wait_max: reader.duration("hooks.wait_max", ms(1, 60_000)),
            instances: reader.integer("hooks.instances", 1..=10_000),
            module_bytes_max: reader.bytes("hooks.module_bytes_max", 1..=32 << 20),
            compile_time: reader.duration("hooks.compile_time", ms(100, 600_000)),
            compile_memory: reader.bytes("hooks.compile_memory", 64 << 20..=64 << 30),
            cache_bytes_max: reader.bytes("hooks.cache_bytes_max", 1 << 20..=1 << 40),
            modules_bytes_max: reader.bytes("hooks.modules_bytes_max", 1 << 20..=1 << 40),
            call: HookLimits {
                item_ms: reader.duration("hooks.item_time", ms(1, 1_000)).as_millis() as u32,
                batch_ms: reader.duration("hooks.batch_time", ms(1, 2_000)).as_millis() as u32,
                memory_bytes: reader.bytes("hooks.memory", 64 << 10..=1 << 30),
                table_elements: reader.integer("hooks.table_elements", 1_000..=1_000_000),
                stack_bytes: reader.bytes("hooks.stack", 64 << 10..=1 << 20) as u32,
                output_bytes: reader.bytes("hooks.output", 1..=16 << 20),
                host_calls: reader.integer("hooks.host_calls", 1..=10_000),
                log_lines: reader.integer("hooks.log_lines", 0..=1_000),
                log_line_bytes: reader.bytes("hooks.log_line", 64..=16 << 10) as u32,
                split_items: reader.integer("hooks.split_items", 1..=128),
                hops: reader.integer("hooks.hops", 1..=8),
            },
            namespace: NamespaceHooksConfig {
                hooks: reader.integer("hooks.hooks_per_namespace", 1..=10_000),
                versions_per_hook: reader.integer("hooks.versions_per_hook", 4..=10_000),
                tests_per_hook: reader.integer("hooks.tests_per_hook", 1..=10_000),
                bindings_per_topic: reader.integer("hooks.bindings_per_topic", 1..=16),
                module_bytes: reader.bytes("hooks.modules_per_namespace", 1 << 20..=1 << 40),
            },
        }
    }
}
