//! Counts in sentences.

/// So many of what has `name` as its singular, whose plural is regular: `1 item`, `2 items`.
pub fn some(count: impl TryInto<u64>, name: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [some(0_u32, "item"), some(1_u64, "hook"), some(21_usize, "test")],
            ["0 items", "1 hook", "21 tests"]
        );
    }
}
