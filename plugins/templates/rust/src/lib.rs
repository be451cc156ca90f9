//! {{does}}

use mqueue_hook_sdk::{Context, Item, Reason, {{Side}}Hook, {{Side}}Verdict, export_{{side}}, log};

struct Hook;

export_{{side}}!(Hook);

impl {{Side}}Hook for Hook {
    fn on_{{side}}(context: &Context, item: Item) -> Result<{{Side}}Verdict, String> {
        if item.payload.is_empty() {
            log::info(&format!("item {} of {} is empty", item.id, context.topic));
            return Ok({{Side}}Verdict::{{Refuse}}(Reason::new("empty", "the payload is empty")));
        }
        Ok({{Side}}Verdict::{{Pass}})
    }
}

#[cfg(test)]
mod tests {
    use mqueue_hook_sdk::testing;

    use super::*;

    #[test]
    fn empty_payloads_do_not_pass() {
        let verdict = |payload: &str| Hook::on_{{side}}(&testing::context(), testing::item(payload));
        assert!(matches!(verdict("hello"), Ok({{Side}}Verdict::{{Pass}})));
        assert!(matches!(verdict(""), Ok({{Side}}Verdict::{{Refuse}}(reason)) if reason.code == "empty"));
        assert_eq!(testing::take_log().len(), 1);
    }
}
