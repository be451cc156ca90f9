use proptest::prelude::*;

use super::error::UploadError;
use super::inspect::{UploadLimits, inspect};
use super::wrap;

/// What the compile child does with an upload before it compiles it.
fn examine(upload: Vec<u8>) -> Result<(), UploadError> {
    let component = wrap::component(upload)?;
    inspect(&component, &UploadLimits::default()).map(drop)
}

fn template() -> Vec<u8> {
    include_bytes!("../../../plugins/fixtures/template.wat").to_vec()
}

#[test]
fn the_template_is_a_hook() {
    assert_eq!(examine(template()), Ok(()));
}

#[test]
fn a_module_that_wants_wasi_is_told_what_to_do() {
    let module = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "mqueue:hooks/enqueue@0.1.0#on-enqueue") (param i32 i32 i32) (result i32) unreachable))"#;
    let refused = examine(module.as_bytes().to_vec()).unwrap_err().to_string();
    assert!(
        refused.contains("wasi_snapshot_preview1") && refused.contains("wasm32-unknown-unknown"),
        "{refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn broken_components_are_refused_in_peace(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut component = wrap::component(template()).unwrap();
        for (at, byte) in flips {
            let at = at.index(component.len());
            component[at] = byte;
        }
        if let Err(error) = examine(component) {
            prop_assert!(!matches!(error, UploadError::Internal(_)), "{error:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_peace(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in any::<u8>()) {
        let headers: [&[u8]; 3] = [b"", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"];
        bytes.splice(0..0, headers[usize::from(magic % 3)].iter().copied());
        prop_assert!(examine(bytes).is_err());
    }
}
