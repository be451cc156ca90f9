//! MQueue.
fn main() {}
