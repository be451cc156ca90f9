//! The routes of hooks. As in the table of all routes, a method names the path, documents it and calls one
//! handler.

use std::sync::Arc;

use poem::Result;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};

use super::super::ApiState;
use super::super::body::JsonBody;
use super::super::caller::Caller;
use super::super::dto::Count;
use super::super::reply::{
    Acts, ActsOn, Known, Looks, Module, Saved, SavedTagged, Stream, Tagged, Takes, TakesOn, TextAnswer,
};
use super::super::routes::{Audience, JsonAnswer};
use super::bindings::Step;
use super::conditions::Conditions;
use super::logs::LogQuery;
use super::upload::UploadBody;
use super::{bindings, dry_run, dto, logs, observed, test_cases, versions};

/// Those who write hooks.
pub(in super::super) struct HooksApi(pub(in super::super) Arc<ApiState>);

#[OpenApi(tag = "Audience::Hooks")]
impl HooksApi {
    /// List hooks
    #[oai(
        path = "/v1/namespaces/:ns/hooks",
        method = "get",
        operation_id = "list_hooks"
    )]
    async fn list(&self, caller: Caller, ns: Path<String>) -> JsonAnswer<dto::HookList, Looks> {
        Ok(versions::list(&self.0, &caller, &ns)?.into())
    }

    /// Show a hook
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook",
        method = "get",
        operation_id = "get_hook"
    )]
    async fn get(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
    ) -> JsonAnswer<dto::HookDetail, Looks> {
        Ok(versions::get(&self.0, &caller, (&ns, &hook))?.into())
    }

    /// List a hook's versions
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions",
        method = "get",
        operation_id = "list_hook_versions"
    )]
    async fn versions(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
    ) -> JsonAnswer<dto::HookVersionList, Looks> {
        Ok(versions::versions(&self.0, &caller, (&ns, &hook))?.into())
    }

    /// Upload a version
    ///
    /// Makes the hook with its first one. A bare module, or JSON with the manifest, configuration and secrets
    /// too; what is left out is taken over from the newest version. 200 when the newest version is already
    /// exactly this. One upload of a namespace at a time.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions",
        method = "post",
        operation_id = "add_hook_version"
    )]
    async fn add(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        /// A word on why, for uploads that are not JSON.
        note: Query<Option<String>>,
        body: UploadBody,
    ) -> Result<Saved<dto::AddedVersion, Takes>> {
        Ok(versions::add(&self.0, &caller, (&ns, &hook), note.0, body)
            .await?
            .into())
    }

    /// Upload a version, unless the newest is just this
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions",
        method = "put",
        operation_id = "put_hook_version"
    )]
    async fn put(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        /// A word on why, for uploads that are not JSON.
        note: Query<Option<String>>,
        body: UploadBody,
    ) -> Result<Saved<dto::AddedVersion, Takes>> {
        Ok(versions::add(&self.0, &caller, (&ns, &hook), note.0, body)
            .await?
            .into())
    }

    /// Show a version
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions/:version",
        method = "get",
        operation_id = "get_hook_version"
    )]
    async fn version(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        version: Path<u32>,
    ) -> JsonAnswer<dto::HookVersion, Looks> {
        Ok(versions::version(&self.0, &caller, (&ns, &hook), version.0)?.into())
    }

    /// Download a version's module
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions/:version/module",
        method = "get",
        operation_id = "get_hook_module"
    )]
    async fn module(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        version: Path<u32>,
        /// ETags that are known already.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<Module<Looks>> {
        let known = if_none_match.0;
        Ok(versions::module(&self.0, &caller, (&ns, &hook), version.0, known)
            .await?
            .into())
    }

    /// Delete a version that no binding names
    ///
    /// The hook goes with its last version.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions/:version",
        method = "delete",
        operation_id = "delete_hook_version"
    )]
    async fn delete(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        version: Path<u32>,
    ) -> JsonAnswer<Count, Acts> {
        Ok(versions::delete(&self.0, &caller, (&ns, &hook), version.0)
            .await?
            .into())
    }

    /// Let a version run again that is in quarantine
    ///
    /// A version is in quarantine when a hundred of its calls on one node ran into the memory, the stack or the calls of
    /// imports they may have. Until this is said, its binding's policy for overload applies without running it.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions/:version/acknowledge",
        method = "post",
        operation_id = "acknowledge_hook_version"
    )]
    async fn acknowledge(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        version: Path<u32>,
    ) -> JsonAnswer<dto::HookVersion, Acts> {
        Ok(versions::acknowledge(&self.0, &caller, (&ns, &hook), version.0)
            .await?
            .into())
    }

    /// Run a version on items without writing anything
    ///
    /// On given items, or on items that are in a topic now: the verdict, what would change, what it used and
    /// how near it came to its limits.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions/:version/dry-run",
        method = "post",
        operation_id = "dry_run_hook"
    )]
    async fn dry_run(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        version: Path<u32>,
        body: JsonBody<dto::DryRunRequest>,
    ) -> JsonAnswer<dto::DryRun, Takes> {
        Ok(
            dry_run::run(&self.0, &caller, (&ns, &hook), version.0, body.incoming)
                .await?
                .into(),
        )
    }

    /// Run a version on the stored test cases
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/versions/:version/tests",
        method = "post",
        operation_id = "run_hook_tests"
    )]
    async fn run_tests(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        version: Path<u32>,
    ) -> JsonAnswer<dto::TestsRun, Acts> {
        Ok(test_cases::run(&self.0, &caller, (&ns, &hook), version.0)
            .await?
            .into())
    }

    /// List test cases
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/tests",
        method = "get",
        operation_id = "list_hook_tests"
    )]
    async fn tests(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
    ) -> JsonAnswer<dto::TestList, Looks> {
        Ok(test_cases::list(&self.0, &caller, (&ns, &hook)).await?.into())
    }

    /// Show a test case
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/tests/:test",
        method = "get",
        operation_id = "get_hook_test"
    )]
    async fn test(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        test: Path<String>,
    ) -> JsonAnswer<dto::StoredTest, Looks> {
        Ok(test_cases::get(&self.0, &caller, (&ns, &hook), &test)
            .await?
            .into())
    }

    /// Store a test case
    ///
    /// Every version must pass all test cases of its hook before it goes into force.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/tests/:test",
        method = "put",
        operation_id = "put_hook_test"
    )]
    async fn put_test(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        test: Path<String>,
        body: JsonBody<dto::TestCase>,
    ) -> Result<Saved<dto::StoredTest, Takes>> {
        Ok(
            test_cases::put(&self.0, &caller, (&ns, &hook), &test, body.incoming)
                .await?
                .into(),
        )
    }

    /// Delete a test case
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/tests/:test",
        method = "delete",
        operation_id = "delete_hook_test"
    )]
    async fn delete_test(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        test: Path<String>,
    ) -> JsonAnswer<Count, Acts> {
        Ok(test_cases::delete(&self.0, &caller, (&ns, &hook), &test)
            .await?
            .into())
    }

    /// The contract that hooks are written against, as WIT text
    #[oai(path = "/v1/hooks/wit", method = "get", operation_id = "get_hook_wit")]
    async fn wit(&self, caller: Caller) -> Result<TextAnswer<Known>> {
        Ok(observed::wit(&self.0, &caller)?.into())
    }

    /// The limits of hooks
    #[oai(path = "/v1/hooks/limits", method = "get", operation_id = "get_hook_limits")]
    async fn limits(&self, caller: Caller) -> JsonAnswer<dto::HookLimits, Known> {
        Ok(observed::limits(&self.0, &caller)?.into())
    }
}

/// Those who put hooks in force and watch them.
pub(in super::super) struct BindingsApi(pub(in super::super) Arc<ApiState>);

#[OpenApi(tag = "Audience::Hooks")]
impl BindingsApi {
    /// List bindings
    #[oai(
        path = "/v1/namespaces/:ns/bindings",
        method = "get",
        operation_id = "list_bindings"
    )]
    async fn list(&self, caller: Caller, ns: Path<String>) -> JsonAnswer<dto::BindingList, Looks> {
        Ok(bindings::list(&self.0, &caller, &ns)?.into())
    }

    /// Show a binding
    #[oai(
        path = "/v1/namespaces/:ns/bindings/:binding",
        method = "get",
        operation_id = "get_binding"
    )]
    async fn get(
        &self,
        caller: Caller,
        ns: Path<String>,
        binding: Path<String>,
    ) -> Result<Tagged<dto::Binding, Looks>> {
        Ok(bindings::get(&self.0, &caller, (&ns, &binding))?.into())
    }

    /// Make or replace a binding
    ///
    /// With If-None-Match: * it makes a new one; with If-Match it changes what its caller has seen. A version
    /// that was not in force before must pass the gate: it runs here, exports the side and passes all stored
    /// test cases.
    #[oai(
        path = "/v1/namespaces/:ns/bindings/:binding",
        method = "put",
        operation_id = "put_binding"
    )]
    async fn put(
        &self,
        caller: Caller,
        ns: Path<String>,
        binding: Path<String>,
        /// The ETag of what is replaced.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
        /// `*`: only when there is none yet.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
        body: JsonBody<dto::BindingDraft>,
    ) -> Result<SavedTagged<dto::Binding, TakesOn>> {
        let conditions = Conditions {
            if_match: if_match.0,
            if_none_match: if_none_match.0,
        };
        let path = (ns.as_str(), binding.as_str());
        Ok(bindings::put(&self.0, &caller, path, conditions, body.incoming)
            .await?
            .into())
    }

    /// Delete a binding
    #[oai(
        path = "/v1/namespaces/:ns/bindings/:binding",
        method = "delete",
        operation_id = "delete_binding"
    )]
    async fn delete(
        &self,
        caller: Caller,
        ns: Path<String>,
        binding: Path<String>,
        /// The ETag of what is deleted.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
    ) -> JsonAnswer<Count, ActsOn> {
        Ok(
            bindings::delete(&self.0, &caller, (&ns, &binding), matching(if_match))
                .await?
                .into(),
        )
    }

    /// Put a version in force, or on trial with a share of the items
    #[oai(
        path = "/v1/namespaces/:ns/bindings/:binding/activate",
        method = "post",
        operation_id = "activate_binding"
    )]
    async fn activate(
        &self,
        caller: Caller,
        ns: Path<String>,
        binding: Path<String>,
        /// The ETag of the binding.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
        body: JsonBody<dto::Activation>,
    ) -> Result<Tagged<dto::Binding, TakesOn>> {
        let path = (ns.as_str(), binding.as_str());
        Ok(
            bindings::activate(&self.0, &caller, path, matching(if_match), body.incoming)
                .await?
                .into(),
        )
    }

    /// Put the version on trial in force
    #[oai(
        path = "/v1/namespaces/:ns/bindings/:binding/promote",
        method = "post",
        operation_id = "promote_binding"
    )]
    async fn promote(
        &self,
        caller: Caller,
        ns: Path<String>,
        binding: Path<String>,
        /// The ETag of the binding.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
    ) -> Result<Tagged<dto::Binding, ActsOn>> {
        let path = (ns.as_str(), binding.as_str());
        Ok(
            bindings::step(&self.0, &caller, path, matching(if_match), Step::Promote)
                .await?
                .into(),
        )
    }

    /// Take the version on trial away, or go back to the version before
    #[oai(
        path = "/v1/namespaces/:ns/bindings/:binding/rollback",
        method = "post",
        operation_id = "rollback_binding"
    )]
    async fn rollback(
        &self,
        caller: Caller,
        ns: Path<String>,
        binding: Path<String>,
        /// The ETag of the binding.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
    ) -> Result<Tagged<dto::Binding, ActsOn>> {
        let path = (ns.as_str(), binding.as_str());
        Ok(
            bindings::step(&self.0, &caller, path, matching(if_match), Step::Rollback)
                .await?
                .into(),
        )
    }

    /// A hook's log on this node
    ///
    /// With `follow` as server-sent events: each is a line, with its number as id, so that an interrupted
    /// follower goes on where it was.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/logs",
        method = "get",
        operation_id = "get_hook_logs"
    )]
    async fn logs(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
        /// Lines after this one; the newest when absent.
        after: Query<Option<u64>>,
        /// The most lines, 1 to 1000; 100 when absent.
        limit: Query<Option<u32>>,
        /// Whether to go on with the lines to come.
        follow: Query<Option<bool>>,
        /// The last line an interrupted follower saw.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<Stream<dto::LogList, Looks>> {
        let query = LogQuery {
            after: after.0,
            limit: limit.0.map(|limit| limit as usize),
            follow: follow.0.unwrap_or(false),
            last_event_id: last_event_id.0,
        };
        Ok(logs::logs(&self.0, &caller, (&ns, &hook), &query)?.into())
    }

    /// What each version of a hook did on this node
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/stats",
        method = "get",
        operation_id = "get_hook_stats"
    )]
    async fn stats(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
    ) -> JsonAnswer<dto::HookStatsList, Looks> {
        Ok(observed::stats(&self.0, &caller, (&ns, &hook))?.into())
    }

    /// The items a hook failed on
    ///
    /// Within a day, on this node, of versions whose manifest has them kept.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/failures",
        method = "get",
        operation_id = "get_hook_failures"
    )]
    async fn failures(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
    ) -> JsonAnswer<dto::FailureList, Looks> {
        Ok(observed::failures(&self.0, &caller, (&ns, &hook))?.into())
    }

    /// The items a hook's shadow said something else of
    ///
    /// The last ones on this node: what counted, what the shadow said, and how the two differ.
    #[oai(
        path = "/v1/namespaces/:ns/hooks/:hook/differences",
        method = "get",
        operation_id = "get_hook_differences"
    )]
    async fn differences(
        &self,
        caller: Caller,
        ns: Path<String>,
        hook: Path<String>,
    ) -> JsonAnswer<dto::DifferenceList, Looks> {
        Ok(observed::differences(&self.0, &caller, (&ns, &hook))?.into())
    }
}

fn matching(if_match: Header<Option<String>>) -> Conditions {
    Conditions {
        if_match: if_match.0,
        if_none_match: None,
    }
}
