//! Write hooks for MQueue in Rust: one function, one item.
//!
//! ```
//! use mqueue_hook_sdk::{Context, EnqueueHook, EnqueueVerdict, Item, Reason, export_enqueue};
//!
//! struct NotEmpty;
//!
//! impl EnqueueHook for NotEmpty {
//!     fn on_enqueue(_: &Context, item: Item) -> Result<EnqueueVerdict, String> {
//!         if item.payload.is_empty() {
//!             return Ok(EnqueueVerdict::Reject(Reason::new("empty", "an order has a body")));
//!         }
//!         Ok(EnqueueVerdict::Keep)
//!     }
//! }
//!
//! export_enqueue!(NotEmpty);
//! # fn main() {}
//! ```
//!
//! An `Err` says that the hook failed on this item, and the binding's failure policy decides what becomes of it. Say what you
//! decided about the item with a verdict, never with an `Err`.
//!
//! Natively, as under `cargo test`, the imports are fakes that [`testing`] sets and reads.

mod host;
mod item;
mod settings;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub mod bindings;
pub mod log;

pub use bindings::types::{Context, DequeueVerdict, Edit, EnqueueVerdict, Item, Reason};
pub use host::{now, random, secret};
pub use settings::{config, setting};

/// A hook on the write path: runs before an item is stored.
pub trait EnqueueHook {
    /// Decides about one item.
    ///
    /// Fails when the hook cannot tell; the binding's policy for errors is then applied to the item.
    fn on_enqueue(context: &Context, item: Item) -> Result<EnqueueVerdict, String>;
}

/// A hook on the read path: runs whenever an item is handed out.
pub trait DequeueHook {
    /// Decides about one item; it is asked again when the item is delivered again.
    ///
    /// Fails when the hook cannot tell; the binding's policy for errors is then applied to the item.
    fn on_dequeue(context: &Context, item: Item) -> Result<DequeueVerdict, String>;
}

/// Makes the type the component's enqueue hook.
#[macro_export]
macro_rules! export_enqueue {
    ($hook:ty) => {
        // Native linkers do not take the exports' names, and tests call the hook itself.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Context, $crate::Item) -> Result<$crate::EnqueueVerdict, String> =
            <$hook as $crate::EnqueueHook>::on_enqueue;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;

            impl $crate::bindings::enqueue::exports::mqueue::hooks::enqueue::Guest for Exported {
                fn on_enqueue(
                    context: $crate::Context,
                    items: Vec<$crate::Item>,
                ) -> Vec<Result<$crate::EnqueueVerdict, String>> {
                    let decide = |item| <$hook as $crate::EnqueueHook>::on_enqueue(&context, item);
                    items.into_iter().map(decide).collect()
                }
            }

    $crate::bindings::enqueue::export!(Exported with_types_in $crate::bindings::enqueue);
        };
    };
}

/// Makes the type the component's dequeue hook.
#[macro_export]
macro_rules! export_dequeue {
    ($hook:ty) => {
        // Native linkers do not take the exports' names, and tests call the hook itself.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Context, $crate::Item) -> Result<$crate::DequeueVerdict, String> =
            <$hook as $crate::DequeueHook>::on_dequeue;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;

            impl $crate::bindings::dequeue::exports::mqueue::hooks::dequeue::Guest for Exported {
                fn on_dequeue(
                    context: $crate::Context,
                    items: Vec<$crate::Item>,
                ) -> Vec<Result<$crate::DequeueVerdict, String>> {
                    let decide = |item| <$hook as $crate::DequeueHook>::on_dequeue(&context, item);
                    items.into_iter().map(decide).collect()
                }
            }

    $crate::bindings::dequeue::export!(Exported with_types_in $crate::bindings::dequeue);
        };
    };
}

/// Makes the type both the component's enqueue hook and its dequeue hook.
#[macro_export]
macro_rules! export_hooks {
    ($hook:ty) => {
        $crate::export_enqueue!($hook);
        $crate::export_dequeue!($hook);
    };
}
