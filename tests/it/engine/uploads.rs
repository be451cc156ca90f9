//! What is taken and what is refused, and the cache behind it.

use std::sync::Arc;

use mqueue::clock::{Clock, Timestamp};
use mqueue::hooks::Runner;
use mqueue::hooks::engine::{Engine, UploadError};
use mqueue::model::{Digest, Side};

use super::{Catalog, Node, call, enqueued, namespace, options, replaced};
use crate::guests::{Guest, UPPER};

fn shout() -> String {
    let guest = Guest {
        item: UPPER,
        ..Guest::default()
    };
    guest.enqueue()
}

async fn refused(text: &str) -> UploadError {
    Node::start().upload(text).await.unwrap_err()
}

#[tokio::test]
async fn text_module_and_component_are_the_same_upload() {
    let node = Node::start();
    let from_text = node.upload(&shout()).await.unwrap();
    let module = wat::parse_str(shout()).unwrap();
    let from_module = node.engine.prepare(&module, &namespace()).await.unwrap();
    let from_component = node
        .engine
        .prepare(&from_text.component, &namespace())
        .await
        .unwrap();
    assert_eq!(from_text.digest, from_module.digest);
    assert_eq!(from_text.component, from_component.component);
    assert_eq!(from_text.exports, [Side::Enqueue]);
    assert!(node.engine.is_ready(from_text.digest));
}

#[tokio::test]
async fn what_is_no_webassembly_is_malformed() {
    let node = Node::start();
    let good = node.upload(&shout()).await.unwrap().component;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x55;
    for broken in [
        &b""[..],
        b"\0asm",
        b"\0asm\x07\0\0\0",
        b"(module",
        b"\xff\xfe",
        &good[..good.len() / 2],
    ] {
        let error = node.engine.prepare(broken, &namespace()).await.unwrap_err();
        assert!(
            matches!(error, UploadError::Malformed(_) | UploadError::Contract(_)),
            "{error:?}"
        );
    }
    // One bit may change anything but the node's health.
    if let Err(error) = node.engine.prepare(&flipped, &namespace()).await {
        assert!(!matches!(error, UploadError::Internal(_)), "{error:?}");
    }
}

#[tokio::test]
async fn the_contract_is_explained_to_who_misses_it() {
    let nothing = refused("(module)").await.to_string();
    assert!(
        nothing.contains("mqueue:hooks/enqueue@0.1.0#on-enqueue"),
        "{nothing}"
    );
    let empty = refused("(component)").await.to_string();
    assert!(
        empty.contains("exports no hook") && empty.contains("list<result<enqueue-verdict, string>>"),
        "{empty}"
    );
    let wasi = refused(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#)
        .await
        .to_string();
    assert!(wasi.contains("--stub-wasi"), "{wasi}");
    let sockets = refused(r#"(component (import "acme:net/sockets" (instance)))"#)
        .await
        .to_string();
    assert!(sockets.contains("which no hook can have"), "{sockets}");
    let future =
        refused(r#"(component (instance $i) (export "mqueue:hooks/enqueue@0.2.0" (instance $i)))"#).await;
    assert!(future.to_string().contains("speaks version 0.1.0"), "{future}");
    let future = shout().replace("hooks/enqueue@0.1.0", "hooks/enqueue@0.2.0");
    let future = refused(&future).await.to_string();
    assert!(
        future.contains("it exports `mqueue:hooks/enqueue@0.2.0#on-enqueue`"),
        "{future}"
    );
    let core = shout().replace(
        "(memory (export",
        r#"(import "env" "puts" (func)) (memory (export"#,
    );
    let core = refused(&core).await.to_string();
    assert!(
        core.contains("does not fit the contract") && core.contains("mqueue:hooks/log"),
        "{core}"
    );
    let wrong_type = r#"(component
        (core module $m (func (export "f")))
        (core instance $c (instantiate $m))
        (func $f (canon lift (core func $c "f")))
        (instance $i (export "on-enqueue" (func $f)))
        (export "mqueue:hooks/enqueue@0.1.0" (instance $i)))"#;
    let wrong_type = refused(wrong_type).await;
    assert_eq!(wrong_type.code(), "hook_contract");
    assert!(
        wrong_type.to_string().contains("on-enqueue: func(ctx: context"),
        "{wrong_type}"
    );
}

#[tokio::test]
async fn modules_that_are_too_large_in_some_way_are_refused() {
    let shout = shout();
    let with = |field: &str| {
        shout.replace(
            "(memory (export \"memory\") 1)",
            &format!("(memory (export \"memory\") 1) {field}"),
        )
    };
    let large = [
        shout.replace("\"memory\") 1)", "\"memory\") 65536)"),
        with("(table 4294967295 funcref)"),
        with(&"(table 1 funcref)".repeat(20)),
        with(&format!("(func (local {}))", "i32 ".repeat(20_000))),
        with(&"(func)".repeat(60_000)),
        with(&format!(
            "(func (param i32) (block (br_table {} (local.get 0))))",
            "0 ".repeat(210_000)
        )),
        with(&format!("(func {})", "(drop (i32.const 1))".repeat(200_000))),
        with(&format!("(func {})", exports(30_000))),
    ];
    let node = Node::start();
    for text in large {
        let error = node.upload(&text).await.unwrap_err();
        assert!(matches!(error, UploadError::TooLarge { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn bombs_for_the_compiler_are_refused_or_compiled() {
    let shout = shout();
    let with = |field: &str| {
        shout.replace(
            "(memory (export \"memory\") 1)",
            &format!("(memory (export \"memory\") 1) {field}"),
        )
    };
    let node = Node::start();
    let types: String = (0..30_000)
        .map(|number| format!("(type $t{number} (func (param {})))", "i32 ".repeat(number % 7)))
        .collect();
    assert!(matches!(
        node.upload(&with(&types)).await,
        Err(UploadError::TooLarge { .. })
    ));
    let bombs = [
        with(&format!(
            "(func (local {}) {})",
            "i64 ".repeat(9_000),
            "local.get 1 drop ".repeat(9_000)
        )),
        with(&format!(
            "(func {} {})",
            "i32.const 0 if ".repeat(20_000),
            "end ".repeat(20_000)
        )),
        with(&format!(
            "(func {} {})",
            "block ".repeat(10_000),
            "end ".repeat(10_000)
        )),
        with(&format!("(@custom \"x\" \"{}\")", "y".repeat(4 << 20))),
        with(&format!("(func $\"{}\")", "n".repeat(1 << 20))),
    ];
    for bomb in bombs {
        if let Err(error) = node.upload(&bomb).await {
            assert!(!matches!(error, UploadError::Internal(_)), "{error:?}");
        }
    }
    assert!(node.upload(&shout).await.is_ok());
}

fn exports(count: usize) -> String {
    (0..count)
        .map(|number| format!("(export \"e{number}\")"))
        .collect()
}

#[tokio::test]
async fn features_that_hooks_do_not_have_are_refused() {
    let node = Node::start();
    let shout = shout();
    let with = |field: &str| {
        shout.replace(
            "(memory (export \"memory\") 1)",
            &format!("(memory (export \"memory\") 1) {field}"),
        )
    };
    let forbidden = [
        with("(memory 1)"),
        with("(tag $t)"),
        shout.replace("\"memory\") 1)", "\"memory\") 1 2 shared)"),
        shout.replace("\"memory\") 1)", "\"memory\") i64 1)"),
        "(component (component (core module)))".to_owned(),
    ];
    for text in forbidden {
        let error = node.upload(&text).await.unwrap_err();
        assert!(
            !matches!(error, UploadError::Internal(_) | UploadError::Compile(_)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn compiling_ends_in_time_and_the_node_goes_on() {
    let node = Node::start_with(|options| options.upload.compile_ms = 1);
    assert!(matches!(
        node.upload(&shout()).await,
        Err(UploadError::Compile(_))
    ));
    let node = Node::start_with(|options| options.upload.compile_memory_bytes = 1 << 20);
    assert!(matches!(
        node.upload(&shout()).await,
        Err(UploadError::Compile(_) | UploadError::Internal(_))
    ));
    assert_eq!(node.engine.status().compiles, 0);
}

#[tokio::test]
async fn a_namespace_uploads_two_at_a_time() {
    let node = Node::start();
    let (text, namespace) = (shout(), namespace());
    let upload = || node.engine.prepare(text.as_bytes(), &namespace);
    let (first, second, third) = tokio::join!(upload(), upload(), upload());
    assert!(first.is_ok() && second.is_ok());
    assert!(matches!(third, Err(UploadError::Busy(_))), "{third:?}");
    assert!(upload().await.is_ok());
}

#[tokio::test]
async fn the_cache_outlives_the_engine_and_forgeries_do_not_count() {
    let node = Node::start();
    let version = Arc::new(node.version(&shout()).await);
    let (dir, catalog) = (node.dir, node.catalog);
    node.engine.stop();
    drop(node.engine);

    let start = |key, catalog: Arc<Catalog>| {
        let mut options = options(dir.path());
        options.node_key = key;
        Engine::start(options, Clock::manual(Timestamp::ZERO), catalog).unwrap()
    };
    let engine = start([7; 32], Arc::default());
    assert!(engine.is_ready(version.digest));
    let report = engine.call(call(&version, Side::Enqueue, &["x"])).await;
    assert_eq!(enqueued(&report), [replaced("X")]);
    drop(engine);

    // Of another key, every artefact is a forgery; it is compiled again from the catalog.
    let engine = start([8; 32], catalog);
    let report = engine.call(call(&version, Side::Enqueue, &["x"])).await;
    assert!(report.outcome.unwrap_err().to_string().contains("compiled"));
    engine.ensure(version.digest, &namespace()).await.unwrap();
    let report = engine.call(call(&version, Side::Enqueue, &["x"])).await;
    assert_eq!(enqueued(&report), [replaced("X")]);
    let unknown = engine.ensure(Digest([9; 32]), &namespace()).await;
    assert_eq!(unknown, Err(UploadError::Unknown));
    drop(engine);

    // A broken cache is set aside.
    std::fs::remove_dir_all(dir.path().join("hooks-cache")).unwrap();
    std::fs::write(dir.path().join("hooks-cache"), "no database").unwrap();
    let engine = start([7; 32], Arc::default());
    assert!(!engine.is_ready(version.digest));
    assert!(dir.path().join("hooks-cache.bad-1").exists());

    // A second engine in the same folder does without.
    let second = start([7; 32], Arc::default());
    assert_eq!(second.status().modules_cached, 0);
    assert!(!dir.path().join("hooks-cache.bad-2").exists());
}

#[tokio::test]
async fn modules_in_memory_are_bounded_in_bytes_and_mapped_back() {
    let node = Node::start_with(|options| options.modules_bytes_max = 1);
    let shout = Guest {
        item: UPPER,
        ..Guest::default()
    };
    let other = Guest {
        fields: "(func)",
        ..shout
    };
    let one = Arc::new(node.version(&shout.enqueue()).await);
    let two = Arc::new(node.version(&other.enqueue()).await);
    assert_ne!(one.digest, two.digest);
    assert_eq!(
        node.engine.status().modules_loaded,
        0,
        "what is uploaded is not in force"
    );
    for version in [&one, &two, &one, &two] {
        assert_eq!(enqueued(&node.call(version, &["x"]).await), [replaced("X")]);
        assert_eq!(node.engine.status().modules_loaded, 1);
    }
    assert_eq!(node.engine.status().modules_cached, 2);
}

#[tokio::test]
async fn a_version_whose_own_limits_are_too_low_is_found_out_before_any_call() {
    let node = Node::start();
    let mut version = node.version(&Guest::default().enqueue()).await;
    version.limits.memory_bytes = 1 << 20;
    let fine = Arc::new(version);
    assert_eq!(node.engine.try_out(fine.clone()).await, Ok(()));
    let mut version = node.version(&Guest::default().enqueue()).await;
    version.limits.memory_bytes = 1 << 10;
    let tried = node.engine.try_out(Arc::new(version)).await;
    assert!(matches!(tried, Err(UploadError::Start(_))), "{tried:?}");
}
