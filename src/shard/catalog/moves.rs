//! Slots on their way from one shard to another. Every step is a transaction under one row's lock, the counter
//! `slots`; it goes up with each step and with each start of a node, so that a step that was prepared under one
//! number is not taken under another.

use std::collections::BTreeSet;

use sea_orm::{DatabaseTransaction, QueryResult, Value};

use super::hooks::column;
use super::nodes::NodeRow;
use super::{Catalog, Claim};
use crate::shard::ShardError;
use crate::shard::error::corrupt;

/// How far the move of a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoveState {
    /// It is to be moved.
    Planned,
    /// Nobody stores anything in its shards, so that it can be copied.
    Frozen,
    /// It belongs to its new shard; still nobody stores anything, so that nobody reads what is old.
    Flipped,
    /// Its rows are removed from its old shard.
    Clearing,
}

impl MoveState {
    fn from_code(code: i64) -> Option<Self> {
        [Self::Planned, Self::Frozen, Self::Flipped, Self::Clearing]
            .into_iter()
            .find(|state| *state as i64 == code)
    }
}

/// A slot on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotMove {
    /// The slot.
    pub slot: u16,
    /// The shard it comes from.
    pub source: u16,
    /// The shard it goes to.
    pub target: u16,
    /// How far it is.
    pub state: MoveState,
}

/// Where every slot is and which are on their way, as of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotContents {
    /// The number of the last step.
    pub epoch: u64,
    /// Every slot's shard, in slot order.
    pub owners: Vec<u16>,
    /// The slots on their way, by slot.
    pub moves: Vec<SlotMove>,
}

impl Catalog {
    /// Where every slot is and which are on their way.
    pub async fn slots(&self) -> Result<SlotContents, ShardError> {
        let read = self.database.begin_read().await?;
        let sql = "SELECT value FROM counters WHERE name = 'slots'";
        let Some(row) = self.database.row(&read, sql, []).await? else {
            return Err(corrupt("the catalog has lost count of its slots"));
        };
        let epoch = column::<i64>(&row, "value")?.cast_unsigned();
        let owners = self.owners_on(&read).await?;
        let sql = "SELECT slot, source, target, state FROM slot_moves ORDER BY slot";
        let rows = self.database.rows(&read, sql, []).await?;
        let moves = rows.iter().map(decode).collect::<Result<_, _>>()?;
        self.database.commit(read).await?;
        Ok(SlotContents { epoch, owners, moves })
    }

    /// Plans moves. False, and nothing is changed, when others are under way or a slot is not where they say.
    pub async fn plan_moves(&self, moves: &[SlotMove]) -> Result<bool, ShardError> {
        let transaction = self.database.begin_write().await?;
        self.next_epoch(&transaction).await?;
        let sql = "SELECT COUNT(*) AS found FROM slot_moves";
        if self.count(&transaction, sql, []).await? > 0 {
            return Ok(false);
        }
        for (source, target) in pairs(moves) {
            let of_pair: Vec<_> = moves
                .iter()
                .copied()
                .filter(|step| (step.source, step.target) == (source, target))
                .collect();
            let sql = format!(
                "INSERT INTO slot_moves (slot, source, target, state)
                SELECT slot, shard, $2, 0 FROM slots WHERE shard = $1 AND {}",
                is_among(&of_pair)
            );
            let values = [source, target].map(number);
            if self.run(&transaction, &sql, values).await? != of_pair.len() as u64 {
                return Ok(false);
            }
        }
        self.database.commit(transaction).await?;
        Ok(true)
    }

    /// Notes that the node does as step number `epoch` says.
    pub async fn see_slots(&self, claim: Claim, epoch: u64) -> Result<(), ShardError> {
        let transaction = self.database.begin_write().await?;
        let sql = "UPDATE nodes SET slots_seen = $1 WHERE id = $2 AND incarnation = $3";
        let values = [
            epoch.cast_signed().into(),
            i64::from(claim.node.number()).into(),
            claim.incarnation.cast_signed().into(),
        ];
        self.run(&transaction, sql, values).await?;
        self.database.commit(transaction).await
    }

    /// The nodes that may have something to store and do not yet do as step number `epoch` says.
    pub async fn unaware_of(&self, epoch: u64) -> Result<Vec<NodeRow>, ShardError> {
        let nodes = self.nodes().await?;
        let unaware = |row: &NodeRow| !row.gave_up() && row.slots_seen < epoch;
        Ok(nodes.into_iter().filter(unaware).collect())
    }

    /// Makes this node the one that moves slots, unless another one that runs is.
    pub async fn lead_moves(&self, claim: Claim) -> Result<bool, ShardError> {
        let now = self.now_sql();
        let sql = format!(
            "UPDATE counters SET value = $1 WHERE name = 'mover' AND (value = $1 OR value NOT IN
                (SELECT incarnation FROM nodes WHERE expires_at > {now}))"
        );
        let transaction = self.database.begin_write().await?;
        let leads = self.run(&transaction, &sql, [me(claim)]).await? == 1;
        self.database.commit(transaction).await?;
        Ok(leads)
    }

    /// Takes the slots of `moves` to `state`, if this is still step number `epoch` and this node still moves
    /// slots. With [`MoveState::Flipped`] they belong to their new shard, which is refused unless every node
    /// does as `epoch` says. False, and nothing is changed, when it is too late.
    pub async fn step_moves(
        &self,
        claim: Claim,
        epoch: u64,
        moves: &[SlotMove],
        state: MoveState,
    ) -> Result<bool, ShardError> {
        let transaction = self.database.begin_write().await?;
        if !self.is_my_step(&transaction, claim, epoch).await? {
            return Ok(false);
        }
        if state == MoveState::Flipped {
            let sql = "SELECT COUNT(*) AS found FROM nodes WHERE expires_at <> 0 AND slots_seen < $1";
            if self
                .count(&transaction, sql, [epoch.cast_signed().into()])
                .await?
                > 0
            {
                return Ok(false);
            }
        }
        let sql = format!("UPDATE slot_moves SET state = $1 WHERE {}", is_among(moves));
        self.run(&transaction, &sql, [(state as i64).into()]).await?;
        if state == MoveState::Flipped {
            let sql = format!(
                "UPDATE slots SET shard = (SELECT target FROM slot_moves m WHERE m.slot = slots.slot) WHERE {}",
                is_among(moves)
            );
            self.run(&transaction, &sql, []).await?;
        }
        self.database.commit(transaction).await?;
        Ok(true)
    }

    /// Forgets moves that are through.
    pub async fn finish_moves(
        &self,
        claim: Claim,
        epoch: u64,
        moves: &[SlotMove],
    ) -> Result<bool, ShardError> {
        let transaction = self.database.begin_write().await?;
        if !self.is_my_step(&transaction, claim, epoch).await? {
            return Ok(false);
        }
        let sql = format!("DELETE FROM slot_moves WHERE {}", is_among(moves));
        self.run(&transaction, &sql, []).await?;
        self.database.commit(transaction).await?;
        Ok(true)
    }

    /// Whether `epoch` was the last step and this node takes the next; then it is taken.
    async fn is_my_step(
        &self,
        transaction: &DatabaseTransaction,
        claim: Claim,
        epoch: u64,
    ) -> Result<bool, ShardError> {
        let next = self.next_epoch(transaction).await?;
        let sql = "SELECT COUNT(*) AS found FROM counters WHERE name = 'mover' AND value = $1";
        Ok(next == epoch + 1 && self.count(transaction, sql, [me(claim)]).await? == 1)
    }

    /// Takes the step's lock until `transaction` ends, and a number for it.
    pub(super) async fn next_epoch(&self, transaction: &DatabaseTransaction) -> Result<u64, ShardError> {
        let sql = "UPDATE counters SET value = value + 1 WHERE name = 'slots' RETURNING value";
        match self.database.row(transaction, sql, []).await? {
            Some(row) => Ok(column::<i64>(&row, "value")?.cast_unsigned()),
            None => Err(corrupt("the catalog has lost count of its slots")),
        }
    }

    async fn count(
        &self,
        transaction: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<i64, ShardError> {
        match self.database.row(transaction, sql, values).await? {
            Some(row) => column(&row, "found"),
            None => Ok(0),
        }
    }
}

/// The shards that slots of `moves` come from and go to.
fn pairs(moves: &[SlotMove]) -> BTreeSet<(u16, u16)> {
    moves.iter().map(|step| (step.source, step.target)).collect()
}

/// A condition on `slot`: numbers need no quotes, and such statements are too rare to be worth preparing.
fn is_among(moves: &[SlotMove]) -> String {
    let slots: Vec<_> = moves.iter().map(|step| step.slot.to_string()).collect();
    format!("slot IN ({})", slots.join(", "))
}

fn number(number: u16) -> Value {
    i64::from(number).into()
}

fn me(claim: Claim) -> Value {
    claim.incarnation.cast_signed().into()
}

fn decode(row: &QueryResult) -> Result<SlotMove, ShardError> {
    let number = |of| {
        u16::try_from(column::<i64>(row, of)?)
            .map_err(|_| corrupt(format!("a moving slot's {of} is out of range")))
    };
    Ok(SlotMove {
        slot: number("slot")?,
        source: number("source")?,
        target: number("target")?,
        state: MoveState::from_code(column(row, "state")?)
            .ok_or_else(|| corrupt("a moving slot's state is unknown"))?,
    })
}
