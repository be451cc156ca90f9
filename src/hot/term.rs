//! How long what is taken is its taker's.

/// Longer than a taker needs to decide, in milliseconds.
const UNDECIDED_MS: u32 = 60_000;

/// How long what is taken is its taker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// As long as each item says.
    Own,
    /// So many milliseconds.
    Ms(u32),
    /// Until the taker has decided where it goes, a minute at most: nobody was told of a lease yet. In a tier that
    /// outlives the node, what it had not decided when it ended is put back when it starts again.
    Undecided,
}

impl Term {
    /// The same in milliseconds for an item whose own lease is `own_ms`.
    pub(super) fn lease_ms(self, own_ms: u32) -> u32 {
        match self {
            Self::Own => own_ms,
            Self::Ms(ms) => ms,
            Self::Undecided => UNDECIDED_MS,
        }
    }
}
