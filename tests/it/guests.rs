//! Guests made of text: the template of `plugins/fixtures` with pieces put in.

use crate::documents::root;

/// A guest in the making.
#[derive(Debug, Clone, Copy, Default)]
pub struct Guest<'a> {
    pub imports: &'a str,
    pub fields: &'a str,
    pub body: &'a str,
    pub item: &'a str,
}

pub const LOG: &str = r#"(import "mqueue:hooks/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
pub const NOW: &str = r#"(import "mqueue:hooks/clock@0.1.0" "now" (func $now (result i64)))"#;
pub const RANDOM: &str = r#"(import "mqueue:hooks/random@0.1.0" "next" (func $random (result i64)))"#;
pub const CONFIG: &str = r#"(import "mqueue:hooks/config@0.1.0" "get" (func $get (param i32 i32 i32)))
(import "mqueue:hooks/config@0.1.0" "secret" (func $secret (param i32 i32 i32)))"#;

/// Upper-cases the payload's ASCII in place and gives it back: `replace`, or `deliver-as`.
pub const UPPER: &str = r"
    (local.set $at (i32.load offset=60 (local.get $item)))
    (local.set $end (i32.add (local.get $at) (i32.load offset=64 (local.get $item))))
    (block $upper (loop $byte
      (br_if $upper (i32.ge_u (local.get $at) (local.get $end)))
      (if (i32.lt_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 97)) (i32.const 26))
        (then (i32.store8 (local.get $at) (i32.sub (i32.load8_u (local.get $at)) (i32.const 32)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $byte)))
    (i32.store8 offset=8 (local.get $verdict) (i32.const 1))
    (i32.store offset=16 (local.get $verdict) (i32.load offset=60 (local.get $item)))
    (i32.store offset=20 (local.get $verdict) (i32.load offset=64 (local.get $item)))";

/// Takes no time for a payload of three bytes, and for ever for a longer one.
pub const DAWDLE: &str =
    "(if (i32.gt_u (i32.load offset=64 (local.get $item)) (i32.const 3)) (then (loop $l (br $l))))";

impl Guest<'_> {
    /// The text of an enqueue hook.
    pub fn enqueue(&self) -> String {
        let template = std::fs::read_to_string(root().join("plugins/fixtures/template.wat")).unwrap();
        template
            .replace("(;IMPORTS;)", self.imports)
            .replace("(;FIELDS;)", self.fields)
            .replace("(;BODY;)", self.body)
            .replace("(;ITEM;)", self.item)
            .replace(
                "(local $out i32)",
                "(local $out i32) (local $at i32) (local $end i32) (local $n i64)",
            )
    }

    /// The text of a dequeue hook.
    pub fn dequeue(&self) -> String {
        self.enqueue()
            .replace("hooks/enqueue@", "hooks/dequeue@")
            .replace("#on-enqueue", "#on-dequeue")
    }
}
