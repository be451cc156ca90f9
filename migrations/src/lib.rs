//! The schema of MQueue.
