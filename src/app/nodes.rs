//! Takes this node's number for this process: nobody else may have it meanwhile.

use std::io::{ErrorKind, Write};
use std::path::Path;

use super::StartError;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::NodeId;
use crate::queue::Tenure;
use crate::shard::{Catalog, Claim, NodeRow, ShardError, Shards};
use crate::wal::Lsn;

/// The file in the data folder that says whose number it is: who is started on the same data may take the number
/// over at once, and nobody else before the claim has ended. The log keeps two processes at once apart.
const HOLDER: &str = "holder";

fn failed(number: usize) -> impl Fn(ShardError) -> StartError {
    move |error| StartError::Shard { number, error }
}

/// What this process claims: the number for the data in the configured folder.
pub(super) fn claim_of(config: &Config) -> Result<Claim, StartError> {
    let dir = &config.start.storage.data_dir;
    let holder =
        holder(dir).map_err(|error| StartError::io(format!("cannot use {}", dir.display()), error))?;
    Ok(Claim {
        node: config.start.node.id,
        holder,
        incarnation: nonzero(),
    })
}

fn nonzero() -> u64 {
    rand::random::<u64>().max(1)
}

/// Reads the holder's name, and makes one up at the first start.
fn holder(dir: &Path) -> std::io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(HOLDER);
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
    {
        Ok(mut file) => {
            let holder = nonzero();
            file.write_all(format!("{holder:016x}\n").as_bytes())?;
            file.sync_all()?;
            Ok(holder)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(&path)?;
            // One that was not written to its end names nobody, so nobody is kept out by another one.
            Ok(u64::from_str_radix(text.trim(), 16).unwrap_or_else(|_| nonzero()))
        }
        Err(error) => Err(error),
    }
}

/// Refuses to go on while a node on other data holds the number. Nothing is changed: the log of this one may yet
/// turn out to be another process's.
pub(super) async fn check_is_free(claim: Claim, catalog: &Catalog) -> Result<(), StartError> {
    let nodes = catalog.nodes().await.map_err(failed(0))?;
    let held =
        |row: &&NodeRow| row.claim.node == claim.node && row.claim.holder != claim.holder && row.is_held();
    match nodes.iter().find(held) {
        Some(row) => Err(taken(row)),
        None => Ok(()),
    }
}

/// Takes the number, and with it the right to make checkpoints. `progress` is what the log was replayed by: it
/// must still be true, or somebody else was this node meanwhile.
pub(super) async fn take(
    claim: Claim,
    config: &Config,
    clock: &Clock,
    catalog: &Catalog,
    shards: &Shards,
    progress: &[Lsn],
) -> Result<Tenure, StartError> {
    let since = clock.monotonic();
    let ttl = config.start.node.claim;
    let address = config.start.server.listen.to_string();
    if let Some(row) = catalog
        .claim_node(claim, &address, ttl)
        .await
        .map_err(failed(0))?
    {
        return Err(taken(&row));
    }
    for (number, (shard, replayed)) in shards.iter().zip(progress).enumerate() {
        let stored = shard
            .take_over(claim.node, claim.incarnation)
            .await
            .map_err(failed(number))?;
        if stored != *replayed {
            return Err(StartError::NodeTaken {
                node: claim.node.number(),
                by: "a process that has just ended, and stored something; start again".to_owned(),
            });
        }
    }
    Ok(Tenure::new(claim, ttl, since))
}

fn taken(row: &NodeRow) -> StartError {
    let silent_s = row.now.since_ms(row.heard_at).max(0) / 1_000;
    StartError::NodeTaken {
        node: row.claim.node.number(),
        by: format!(
            "the node that listens on {} (last heard {silent_s} s ago)",
            row.address
        ),
    }
}

/// Why a node that lost its number ends.
pub(super) fn displaced(node: NodeId) -> StartError {
    StartError::NodeTaken {
        node: node.number(),
        by: "another process, which has taken it from this one".to_owned(),
    }
}
