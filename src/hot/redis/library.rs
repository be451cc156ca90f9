//! The functions that run inside Redis: every change of a topic is one call of them, atomic and one round trip.

use std::sync::LazyLock;

/// The functions as Redis takes them, and the names they have there.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) code: String,
    /// For calls that Redis may always make.
    pub(super) name: String,
    /// For calls that bring items in: Redis refuses them when it is out of memory.
    pub(super) name_in: String,
    /// For the incarnations of slots.
    pub(super) name_slots: String,
    /// For rates that hold for all nodes together.
    pub(super) name_rate: String,
}

/// The parts in the order in which they build on each other.
const PARTS: [&str; 12] = [
    include_str!("lua/head.lua"),
    include_str!("lua/entry.lua"),
    include_str!("lua/cold.lua"),
    include_str!("lua/time.lua"),
    include_str!("lua/deliver.lua"),
    include_str!("lua/settle.lua"),
    include_str!("lua/flush.lua"),
    include_str!("lua/keys.lua"),
    include_str!("lua/refill.lua"),
    include_str!("lua/rates.lua"),
    include_str!("lua/main.lua"),
    include_str!("lua/register.lua"),
];

/// The library of this version. Its names carry a digest of it, so that nodes of two versions get along.
pub(super) static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let code = PARTS.join("\n");
    let digest = blake3::hash(code.as_bytes()).to_hex();
    let name = format!("mqueue_{}", &digest[..16]);
    Library {
        code: format!("#!lua name={name}\n{}", code.replace("NAME", &name)),
        name_in: format!("{name}_in"),
        name_slots: format!("{name}_slots"),
        name_rate: format!("{name}_rate"),
        name,
    }
});
