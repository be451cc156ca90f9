//! What is generated from the WIT: the types once, and one module of exports per world, all over the same types.

pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        world: "imports",
    });
}

pub mod enqueue {
    wit_bindgen::generate!({
        path: "../wit",
        world: "enqueue-hook",
        pub_export_macro: true,
        export_macro_name: "export",
        with: {
            "mqueue:hooks/log@0.1.0": crate::bindings::imports::mqueue::hooks::log,
            "mqueue:hooks/clock@0.1.0": crate::bindings::imports::mqueue::hooks::clock,
            "mqueue:hooks/random@0.1.0": crate::bindings::imports::mqueue::hooks::random,
            "mqueue:hooks/config@0.1.0": crate::bindings::imports::mqueue::hooks::config,
            "mqueue:hooks/types@0.1.0": crate::bindings::imports::mqueue::hooks::types,
        },
    });
}

pub mod dequeue {
    wit_bindgen::generate!({
        path: "../wit",
        world: "dequeue-hook",
        pub_export_macro: true,
        export_macro_name: "export",
        with: {
            "mqueue:hooks/log@0.1.0": crate::bindings::imports::mqueue::hooks::log,
            "mqueue:hooks/clock@0.1.0": crate::bindings::imports::mqueue::hooks::clock,
            "mqueue:hooks/random@0.1.0": crate::bindings::imports::mqueue::hooks::random,
            "mqueue:hooks/config@0.1.0": crate::bindings::imports::mqueue::hooks::config,
            "mqueue:hooks/types@0.1.0": crate::bindings::imports::mqueue::hooks::types,
        },
    });
}

pub use imports::mqueue::hooks::types;
