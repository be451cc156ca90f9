//! x
use super::*;
use std::sync::Arc;
#[tokio::test]
async fn scratch_js() {
    let node = Node::start();
    let bytes = std::fs::read("/tmp/a-js/hook.wasm").unwrap();
    let t = std::time::Instant::now();
    let prepared = node.engine.prepare(&bytes, &namespace()).await.unwrap();
    eprintln!("prepare {:?} compile_ms {}", t.elapsed(), prepared.compile_ms);
    let mut v = version(prepared.digest);
    v.limits.memory_bytes = 64 << 20;
    let fresh = Arc::new(v);
    let w = warm(version(prepared.digest));
    for v in [&fresh, &w] {
        for _ in 0..3 {
            let r = node.call(v, &["hello", "there"]).await;
            eprintln!("{:?} {:?}", r.outcome, r.usage);
        }
    }
    let t = std::time::Instant::now();
    for _ in 0..5000 {
        let r = node.call(&w, &["hello", "there"]).await;
        assert!(r.outcome.is_ok(), "{r:?}");
    }
    eprintln!("5000 warm {:?}", t.elapsed());
}
