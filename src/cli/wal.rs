//! `mqueue wal`: looks at a log, checks it, saves what is readable of a damaged one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::CliError;
use super::output::{self, OutputArgs};
use super::settings::ConfigArgs;
use crate::config::ByteSize;
use crate::wal::WalOpenError;
use crate::wal::disk::RealDisk;
use crate::wal::inspect::{self, LogSummary, RepairReport};

#[derive(Debug, Subcommand)]
pub(super) enum WalCommand {
    /// Show the segments of a log and what they hold
    Inspect {
        #[command(flatten)]
        log: LogArgs,
        /// Show every frame
        #[arg(long)]
        frames: bool,
    },
    /// Say whether the log can be opened; exit code 1 when it cannot
    Verify {
        #[command(flatten)]
        log: LogArgs,
    },
    /// Copy damaged files aside and save what is readable; the server must be stopped
    Repair {
        #[command(flatten)]
        log: LogArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Folder of the log [default: the configured one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl LogArgs {
    fn folder(&self) -> Result<PathBuf, CliError> {
        let folder = match &self.dir {
            Some(dir) => dir.clone(),
            None => {
                let start = self.config.load(Vec::new())?.start;
                start.wal.folder(&start.storage)
            }
        };
        // A folder that is not there is a typing error, not an empty log.
        match std::fs::read_dir(&folder) {
            Ok(_) => Ok(folder),
            Err(error) => Err(CliError::failed(
                format!("there is no log in {}", folder.display()),
                error,
            )),
        }
    }
}

pub(super) fn run(command: &WalCommand) -> Result<(), CliError> {
    match command {
        WalCommand::Inspect { log, frames } => inspect(log, *frames),
        WalCommand::Verify { log } => verify(log),
        WalCommand::Repair { log } => repair(log),
    }
}

fn unreadable(folder: &Path) -> impl Fn(WalOpenError) -> CliError {
    let what = format!("the log in {}", folder.display());
    move |error| CliError::failed(&what, error)
}

fn inspect(args: &LogArgs, frames: bool) -> Result<(), CliError> {
    let folder = args.folder()?;
    let mut list = Vec::new();
    let mut visit = |frame| {
        if frames {
            list.push(frame);
        }
    };
    let disk = RealDisk::new();
    let summary = inspect::inspect_frames(&disk, &folder, &mut visit).map_err(unreadable(&folder))?;
    if args.output.is_json() {
        let frames = frames.then_some(&list);
        return output::json(&json!({ "log": summary, "frames": frames }));
    }
    output::line(&segments(&summary))?;
    if frames {
        let header = ["segment", "offset", "bytes", "lsn", "kind", "items"];
        let rows = list.iter().map(|frame| {
            let numbers =
                [frame.segment, frame.offset, frame.bytes, frame.lsn.0].map(|number| number.to_string());
            let mut row = numbers.to_vec();
            row.push(format!("{:?}", frame.kind).to_lowercase());
            row.push(frame.records.items.to_string());
            row
        });
        output::line(&output::table(&header, rows))?;
    }
    match &summary.problem {
        Some(problem) => output::line(&format!("damaged: {problem}")),
        None => output::line(&format!("sound; {} spare files", summary.spares)),
    }
}

fn segments(summary: &LogSummary) -> String {
    let header = [
        "file",
        "state",
        "size",
        "used",
        "node",
        "first lsn",
        "last lsn",
        "frames",
        "items",
        "deliver",
        "patch",
        "settle",
        "purge",
        "keys",
        "lost",
    ];
    let rows = summary.segments.iter().map(|segment| {
        let counts = segment.records;
        let mut row = vec![
            segment.file.clone(),
            format!("{:?}", segment.state).to_lowercase(),
            ByteSize(segment.bytes).to_string(),
            segment.used_bytes.to_string(),
            segment.node.to_string(),
        ];
        let numbers = [
            segment.first_lsn.0,
            segment.last_lsn.0,
            segment.frames,
            counts.items,
            counts.deliver,
            counts.patch,
            counts.settle,
            counts.purge,
            counts.keys,
            counts.lost,
        ];
        row.extend(numbers.map(|number| number.to_string()));
        row
    });
    output::table(&header, rows)
}

fn verify(args: &LogArgs) -> Result<(), CliError> {
    let folder = args.folder()?;
    let problem = inspect::verify(&RealDisk::new(), &folder).map_err(unreadable(&folder))?;
    if args.output.is_json() {
        output::json(&json!({ "sound": problem.is_none(), "problem": problem }))?;
    }
    match problem {
        None if args.output.is_json() => Ok(()),
        None => output::line("the log is sound"),
        Some(problem) => Err(CliError::Partly(format!(
            "the log is damaged: {problem}; `mqueue wal repair` saves what is readable"
        ))),
    }
}

fn repair(args: &LogArgs) -> Result<(), CliError> {
    let folder = args.folder()?;
    let report = inspect::repair(&RealDisk::new(), &folder).map_err(unreadable(&folder))?;
    if args.output.is_json() {
        output::json(&report)?;
    } else {
        output::line(&repaired(&report))?;
    }
    match &report.left {
        Some(problem) => Err(CliError::Partly(format!("the log is still damaged: {problem}"))),
        None => Ok(()),
    }
}

fn repaired(report: &RepairReport) -> String {
    if report.steps.is_empty() && report.left.is_none() {
        return "the log is sound; nothing was changed".to_owned();
    }
    let mut lines: Vec<_> = report
        .steps
        .iter()
        .map(|step| match &step.lost {
            None => format!("{}: repaired, nothing was lost", step.problem),
            Some(loss) => format!("{}: lost {loss}", step.problem),
        })
        .collect();
    if let Some(backup) = &report.backup {
        lines.push(format!("the damaged files are kept as they were in {backup}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::NodeId;
    use crate::wal::{Wal, WalOptions};

    fn args(dir: &Path) -> LogArgs {
        LogArgs {
            dir: Some(dir.to_path_buf()),
            config: ConfigArgs::default(),
            output: OutputArgs {
                output: output::Format::Table,
            },
        }
    }

    #[test]
    fn a_log_is_inspected_found_damaged_and_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("wal");
        assert!(
            matches!(verify(&args(&dir)), Err(CliError::Failed { .. })),
            "there is no log yet"
        );
        let options = WalOptions {
            segment_bytes: 64 << 10,
            bytes_max: 1 << 20,
            ..WalOptions::new(&dir, NodeId::new(1).unwrap())
        };
        let disk = Arc::new(RealDisk::new());
        Wal::open(options, disk, Arc::default(), &mut |_, _| {})
            .unwrap()
            .close();
        let log = args(&dir);
        inspect(&log, true).unwrap();
        verify(&log).unwrap();
        assert_eq!(
            repaired(&inspect::repair(&RealDisk::new(), &dir).unwrap()),
            "the log is sound; nothing was changed"
        );

        // The magic at the head of the first segment goes.
        let summary = inspect::inspect(&RealDisk::new(), &dir).unwrap();
        let file = dir.join(&summary.segments[0].file);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[20] ^= 0xff;
        std::fs::write(&file, bytes).unwrap();
        let error = verify(&log).unwrap_err();
        assert!(error.to_string().contains("mqueue wal repair"), "{error}");
        assert_eq!(error.exit_code(), 1);
        let report = inspect::repair(&RealDisk::new(), &dir).unwrap();
        assert!(repaired(&report).contains("kept as they were"), "{report:?}");
        verify(&log).unwrap();
    }
}
