//! `mqueue hooks new`: a folder with a hook that builds.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::{CliError, output};
use super::template::{self, Language};
use crate::model::{HookName, Side};

/// [`Side`] as a word of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SideArg {
    /// Items on their way in
    Enqueue,
    /// Items on their way out
    Dequeue,
}

impl From<SideArg> for Side {
    fn from(side: SideArg) -> Self {
        match side {
            SideArg::Enqueue => Self::Enqueue,
            SideArg::Dequeue => Self::Dequeue,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NewArgs {
    /// The hook's name
    name: HookName,
    /// What to write it in
    #[arg(long, value_enum, default_value = "wat")]
    lang: Language,
    /// Which way it stands in
    #[arg(long, value_enum, default_value = "enqueue")]
    side: SideArg,
    /// Where to make it [default: a folder of the hook's name, here]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &NewArgs) -> Result<(), CliError> {
    let folder = args.dir.clone().unwrap_or_else(|| args.name.as_str().into());
    let files = template::files(&args.name, args.lang, args.side.into());
    for (path, _) in &files {
        let path = folder.join(path);
        if path.exists() {
            let what = format!(
                "{} is there already; name another folder with --dir",
                path.display()
            );
            return Err(CliError::Usage(what));
        }
    }
    for (path, text) in files {
        let path = folder.join(path);
        let failed = |error| CliError::failed(format!("cannot write {}", path.display()), error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&path, text).map_err(failed)?;
    }
    let shown = folder.display();
    let build = match args.lang {
        Language::Wat => String::new(),
        _ => format!("mqueue hooks build {shown} && "),
    };
    output::line(&format!("made {shown}; try: {build}mqueue hooks test {shown}"))
}
