//! `mqueue hooks build`: the tools of a folder's language make its source a component.

mod js;
mod python;
mod rust;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::super::{CliError, output};
use super::template::Language;

#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The hook's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where to put the component [default: hook.wasm in the folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where installed tools are kept [default: the folder]
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
}

/// What the tools of every language need to know.
struct Job {
    folder: PathBuf,
    out: PathBuf,
    tools: PathBuf,
    wit: PathBuf,
}

pub(super) fn run(args: &BuildArgs) -> Result<(), CliError> {
    let folder = std::fs::canonicalize(&args.folder)
        .map_err(|error| CliError::failed(args.folder.display().to_string(), error))?;
    let Some(language) = Language::of(|file| folder.join(file).is_file()) else {
        return Err(CliError::Usage(format!(
            "{} has none of Cargo.toml, hook.js, hook.py and hook.wat; `mqueue hooks new` makes a folder to start from",
            args.folder.display()
        )));
    };
    let absolute = |path: &Option<PathBuf>, default: PathBuf| match path {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        None => default,
    };
    let job = Job {
        out: absolute(&args.out, folder.join("hook.wasm")),
        tools: absolute(&args.tools, folder.clone()),
        wit: wit(&folder)?,
        folder,
    };
    match language {
        Language::Wat => return output::line("hook.wat needs no building: test and push it as it is"),
        Language::Rust => rust::build(&job)?,
        Language::Js => js::build(&job)?,
        Language::Python => python::build(&job)?,
    }
    let size = std::fs::metadata(&job.out).map_or(0, |file| file.len());
    output::line(&format!(
        "built {} ({} KiB)",
        job.out.display(),
        size.div_ceil(1024)
    ))
}

/// The contract: in the hook's folder, or next to the folders of the examples.
fn wit(folder: &Path) -> Result<PathBuf, CliError> {
    ["wit", "../../wit"]
        .map(|place| folder.join(place))
        .into_iter()
        .find(|place| place.join("hooks.wit").is_file())
        .ok_or_else(|| {
            CliError::Usage(
                "the folder has no wit/hooks.wit; make it with: mkdir wit && mqueue hooks wit > wit/hooks.wit".to_owned(),
            )
        })
}

impl Job {
    /// The world that a source which mentions `on_enqueue` or `on_dequeue`, written as in its language, is meant for.
    fn world(&self, source: &str, marks: [&str; 2]) -> Result<&'static str, CliError> {
        let path = self.folder.join(source);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| CliError::failed(format!("cannot read {}", path.display()), error))?;
        match marks.map(|mark| text.contains(mark)) {
            [true, true] => Ok("full-hook"),
            [true, false] => Ok("enqueue-hook"),
            [false, true] => Ok("dequeue-hook"),
            [false, false] => Err(CliError::failed(
                format!("{source} is no hook"),
                format!("it defines neither {} nor {}", marks[0], marks[1]),
            )),
        }
    }
}

/// Runs a tool; what it prints goes to this command's standard error.
fn tool(command: &mut Command, missing: &str) -> Result<(), CliError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| CliError::failed(format!("cannot run {name}"), format!("{error}; {missing}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(CliError::failed(name, format!("ended with {status}")))
    }
}

/// What a tool prints, without the white space around it; nothing when it fails or is not there.
fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
