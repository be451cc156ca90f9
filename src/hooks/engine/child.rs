//! Compiling in a process of its own, so that no upload can take this one's memory, processor or life.
//!
//! The child is this binary again. It gets an [`Order`] as an argument and the upload on standard input; it
//! answers on standard output with a length and a JSON [`Answer`], then the component and the artefact.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::configure::{self, Kind};
use super::error::UploadError;
use super::inspect::{Facts, UploadLimits, inspect};
use super::wrap;

/// The command line's word for the child.
pub const COMPILE_COMMAND: &str = "__compile-hook";

/// Most bytes of an answer: an artefact is about three times its module.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// How far the child stands behind the rest of the machine.
const NICE: i32 = 10;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    kind: Kind,
    limits: UploadLimits,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done { facts: Facts, component_bytes: u64 },
    Refused(UploadError),
}

/// What the child made of an upload.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) facts: Facts,
    pub(super) component: Vec<u8>,
    pub(super) artefact: Vec<u8>,
}

/// Has `upload` normalised, inspected and compiled by a child process running `program`.
pub(super) async fn compile(
    program: &PathBuf,
    kind: Kind,
    limits: UploadLimits,
    upload: &[u8],
) -> Result<Compiled, UploadError> {
    let order = serde_json::to_string(&Order { kind, limits }).map_err(UploadError::internal)?;
    let mut child = Command::new(program)
        .args([COMPILE_COMMAND, &order])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(UploadError::internal)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(UploadError::Internal("the compiler has no pipes".into()));
    };
    let talk = async {
        let feed = async {
            // A child that refuses early closes its end: its answer says why.
            let _ = stdin.write_all(upload).await;
            drop(stdin);
        };
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(ANSWER_BYTES_MAX), stderr.take(4_096));
        let ((), read, _) = tokio::join!(
            feed,
            stdout.read_to_end(&mut answer),
            stderr.read_to_end(&mut complaint)
        );
        read.map_err(UploadError::internal)?;
        let status = child.wait().await.map_err(UploadError::internal)?;
        Ok::<_, UploadError>((answer, complaint, status))
    };
    let timed = tokio::time::timeout(Duration::from_millis(limits.compile_ms), talk).await;
    let Ok(talked) = timed else {
        // Dropping the child kills it.
        return Err(UploadError::Compile(format!(
            "it takes longer than {} ms",
            limits.compile_ms
        )));
    };
    let (answer, complaint, status) = talked?;
    if !status.success() {
        tracing::warn!(%status, complaint = %String::from_utf8_lossy(&complaint), "compiling a hook failed");
        return Err(UploadError::Compile(
            "it takes more memory or processor time than the server allows".into(),
        ));
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Compiled, UploadError> {
    let cut = || UploadError::Internal("the compiler's answer is cut short".into());
    let (length, rest) = answer.split_first_chunk::<4>().ok_or_else(cut)?;
    let (head, rest) = rest
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(cut)?;
    match serde_json::from_slice(head).map_err(UploadError::internal)? {
        Answer::Refused(error) => Err(error),
        Answer::Done {
            facts,
            component_bytes,
        } => {
            let length = usize::try_from(component_bytes).map_err(UploadError::internal)?;
            let (component, artefact) = rest.split_at_checked(length).ok_or_else(cut)?;
            Ok(Compiled {
                facts,
                component: component.to_vec(),
                artefact: artefact.to_vec(),
            })
        }
    }
}

/// The child's side: `order` is the argument it was given. Limits itself, reads the upload, answers.
///
/// Fails when it cannot limit itself or talk; what is wrong with the upload is part of the answer.
pub fn compile_in_this_process(order: &str) -> io::Result<()> {
    let order: Order = serde_json::from_str(order)?;
    limit(&order.limits)?;
    let mut upload = Vec::new();
    let most = order.limits.bytes + 1;
    io::stdin().lock().take(most).read_to_end(&mut upload)?;
    let mut stdout = io::stdout().lock();
    match work(upload, &order) {
        Ok(compiled) => {
            let component_bytes = compiled.component.len() as u64;
            let facts = compiled.facts;
            head(
                &mut stdout,
                &Answer::Done {
                    facts,
                    component_bytes,
                },
            )?;
            stdout.write_all(&compiled.component)?;
            stdout.write_all(&compiled.artefact)?;
        }
        Err(error) => head(&mut stdout, &Answer::Refused(error))?,
    }
    stdout.flush()
}

fn head(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let json = serde_json::to_vec(answer)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&json)
}

fn limit(limits: &UploadLimits) -> io::Result<()> {
    let both = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::As, both(limits.compile_memory_bytes))?;
    setrlimit(Resource::Cpu, both(limits.compile_cpu_s))?;
    setrlimit(Resource::Core, both(0))?;
    // Calls under way go first. Not as far back as one can be: a busy node compiles as well.
    nice(NICE)?;
    Ok(())
}

fn work(upload: Vec<u8>, order: &Order) -> Result<Compiled, UploadError> {
    if upload.len() as u64 > order.limits.bytes {
        return Err(UploadError::TooLarge {
            what: "the upload's bytes".into(),
            found: upload.len() as u64,
            limit: order.limits.bytes,
        });
    }
    let component = wrap::component(upload)?;
    let facts = inspect(&component, &order.limits)?;
    let engine = configure::compiler(order.kind).map_err(UploadError::internal)?;
    let artefact = engine.precompile_component(&component);
    let artefact = artefact.map_err(|error| UploadError::Compile(error.root_cause().to_string()))?;
    Ok(Compiled {
        facts,
        component,
        artefact,
    })
}
