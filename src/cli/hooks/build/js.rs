//! JavaScript: componentize-js, from npm.

use std::process::Command;

use super::super::super::CliError;
use super::super::template::JS_BUILD;
use super::{Job, tool};

const MISSING: &str = "install node 20 or later, with npm";

pub(super) fn build(job: &Job) -> Result<(), CliError> {
    let world = job.world("hook.js", ["onEnqueue", "onDequeue"])?;
    let modules = job.tools.join("node_modules");
    if !modules.join("@bytecodealliance/componentize-js").is_dir() {
        eprintln!("installing componentize-js, once; this takes half a minute");
        let how = match job.tools.join("package-lock.json").is_file() {
            true => "ci",
            false => "install",
        };
        let mut npm = Command::new("npm");
        npm.current_dir(&job.tools).args([how, "--no-fund", "--no-audit"]);
        tool(&mut npm, MISSING)?;
    }
    // Node looks for packages from where the script lies.
    let script = modules.join(".mqueue-build.mjs");
    std::fs::write(&script, JS_BUILD)
        .map_err(|error| CliError::failed(format!("cannot write {}", script.display()), error))?;
    let mut node = Command::new("node");
    node.current_dir(&job.folder)
        .arg(&script)
        .arg(job.folder.join("hook.js"))
        .arg(&job.wit)
        .arg(world)
        .arg(&job.out);
    tool(&mut node, MISSING)
}
