//! Python: componentize-py, from PyPI, in a virtual environment.

use std::process::Command;

use super::super::super::CliError;
use super::{Job, tool};

const MISSING: &str = "install python 3.10 or later, with venv and pip";

pub(super) fn build(job: &Job) -> Result<(), CliError> {
    let world = job.world("hook.py", ["on_enqueue", "on_dequeue"])?;
    let bin = job.tools.join("venv/bin");
    if !bin.join("componentize-py").is_file() {
        eprintln!("installing componentize-py, once");
        let mut venv = Command::new("python3");
        venv.current_dir(&job.tools).args(["-m", "venv", "venv"]);
        tool(&mut venv, MISSING)?;
        let mut pip = Command::new(bin.join("pip"));
        pip.current_dir(&job.tools).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            "requirements.txt",
        ]);
        tool(&mut pip, MISSING)?;
    }
    let mut componentize = Command::new(bin.join("componentize-py"));
    componentize
        .current_dir(&job.folder)
        .arg("-d")
        .arg(&job.wit)
        .args(["-w", world, "componentize", "hook", "--stub-wasi", "-p"])
        .arg(&job.folder)
        .arg("-o")
        .arg(&job.out);
    tool(&mut componentize, MISSING)
}
