//! Where SQLite and PostgreSQL need different words: bulk inserts and lists of keys. Everything else is one
//! text for both, with `$1` for the first value.

use sea_orm::sea_query::ArrayType;
use sea_orm::{DbBackend, Statement, Value};

use crate::model::ItemId;

/// Most rows in one insert. SQLite allows 32,766 values in a statement.
pub(super) const ROWS_MAX: usize = 1_024;
/// Most keys in one list.
pub(super) const KEYS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    IntOrNull,
    Text,
    TextOrNull,
    Bytes,
}

/// A table that is filled in bulk.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns, those of the primary key first.
    pub(super) columns: &'static [(&'static str, Kind)],
    /// How many columns the primary key has.
    pub(super) key_width: usize,
}

impl Table {
    fn names(&self, width: usize) -> String {
        let names: Vec<_> = self.columns[..width].iter().map(|&(name, _)| name).collect();
        names.join(", ")
    }

    /// Overwrites every column outside the key, those the insert leaves out included.
    fn on_conflict(&self) -> String {
        let sets: Vec<_> = self.columns[self.key_width..]
            .iter()
            .map(|(name, _)| format!("{name} = excluded.{name}"))
            .collect();
        format!(
            " ON CONFLICT ({}) DO UPDATE SET {}",
            self.names(self.key_width),
            sets.join(", ")
        )
    }
}

impl Dialect {
    pub(super) fn backend(self) -> DbBackend {
        match self {
            Self::Sqlite => DbBackend::Sqlite,
            Self::Postgres => DbBackend::Postgres,
        }
    }

    pub(super) fn statement(
        self,
        sql: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    /// The statements that store `cells`, row after row, in the first `width` columns of `table`; rows
    /// whose key exists are overwritten. At most [`ROWS_MAX`] rows, no key twice.
    pub(super) fn upserts(self, table: &Table, width: usize, cells: Vec<Value>) -> Vec<Statement> {
        if cells.is_empty() {
            return vec![];
        }
        match self {
            Self::Sqlite => self.rows_of_values(table, width, cells),
            Self::Postgres => vec![self.columns_of_arrays(table, width, cells)],
        }
    }

    /// Splits the rows into powers of two, so that a handful of statement texts covers every length and
    /// the connection finds each of them compiled.
    fn rows_of_values(self, table: &Table, width: usize, cells: Vec<Value>) -> Vec<Statement> {
        let head = format!("INSERT INTO {} ({}) VALUES ", table.name, table.names(width));
        let row = format!("({})", vec!["?"; width].join(","));
        let tail = table.on_conflict();
        let mut left = cells.len() / width;
        let mut cells = cells.into_iter();
        let mut statements = vec![];
        while left > 0 {
            let rows = 1 << left.ilog2();
            let mut sql = String::with_capacity(head.len() + tail.len() + rows * (row.len() + 1));
            sql.push_str(&head);
            for n in 0..rows {
                if n > 0 {
                    sql.push(',');
                }
                sql.push_str(&row);
            }
            sql.push_str(&tail);
            statements.push(self.statement(sql, cells.by_ref().take(rows * width)));
            left -= rows;
        }
        statements
    }

    /// One array a column: PostgreSQL plans it once, whatever the number of rows. The arrays cannot hold
    /// nulls on their way through sea-query, so a null travels as a value that stands for it.
    fn columns_of_arrays(self, table: &Table, width: usize, cells: Vec<Value>) -> Statement {
        let columns = &table.columns[..width];
        let rows = cells.len() / width;
        let mut arrays: Vec<_> = (0..width).map(|_| Vec::with_capacity(rows)).collect();
        for (n, cell) in cells.into_iter().enumerate() {
            arrays[n % width].push(null_as_value(cell));
        }
        let mut values = Vec::with_capacity(width);
        let (mut selects, mut unnests) = (vec![], vec![]);
        for (n, (&(name, kind), array)) in columns.iter().zip(arrays).enumerate() {
            let (array_type, sql_type, select) = match kind {
                Kind::Int => (ArrayType::BigInt, "bigint", name.to_owned()),
                Kind::IntOrNull => (
                    ArrayType::BigInt,
                    "bigint",
                    format!("NULLIF({name}, {})", i64::MIN),
                ),
                Kind::Text => (ArrayType::String, "text", format!("SUBSTR({name}, 2)")),
                Kind::TextOrNull => (
                    ArrayType::String,
                    "text",
                    format!("CASE WHEN {name} = '' THEN NULL ELSE SUBSTR({name}, 2) END"),
                ),
                Kind::Bytes => (ArrayType::Bytes, "bytea", name.to_owned()),
            };
            selects.push(select);
            unnests.push(format!("${}::{sql_type}[]", n + 1));
            values.push(Value::Array(array_type, Some(Box::new(array))));
        }
        let names = table.names(width);
        let sql = format!(
            "INSERT INTO {} ({names}) SELECT {} FROM UNNEST({}) AS given({names}){}",
            table.name,
            selects.join(", "),
            unnests.join(", "),
            table.on_conflict()
        );
        self.statement(sql, values)
    }

    /// The condition that `column` is one of the integers bound as `$place` by [`Dialect::ids`].
    pub(super) fn is_one_of(self, column: &str, place: usize) -> String {
        match self {
            Self::Sqlite => format!("{column} IN (SELECT value FROM json_each(${place}))"),
            Self::Postgres => format!("{column} = ANY(${place})"),
        }
    }

    /// Ids as one value, so that a statement's text does not depend on their number.
    pub(super) fn ids(self, ids: &[ItemId]) -> Value {
        match self {
            Self::Sqlite => {
                let mut json = String::with_capacity(ids.len() * 20 + 2);
                let mut buffer = itoa::Buffer::new();
                json.push('[');
                for (n, id) in ids.iter().enumerate() {
                    if n > 0 {
                        json.push(',');
                    }
                    json.push_str(buffer.format(id.0));
                }
                json.push(']');
                json.into()
            }
            Self::Postgres => {
                let ids = ids.iter().map(|id| Value::from(id.0 as i64)).collect();
                Value::Array(ArrayType::BigInt, Some(Box::new(ids)))
            }
        }
    }

    /// The condition that `column` is one of the hashes bound as `$place` by [`Dialect::hashes`].
    pub(super) fn is_hash_of(self, column: &str, place: usize) -> String {
        match self {
            Self::Sqlite => format!("{column} IN (SELECT unhex(value) FROM json_each(${place}))"),
            Self::Postgres => format!("{column} = ANY(${place})"),
        }
    }

    /// Hashes as one value.
    pub(super) fn hashes(self, hashes: &[u128]) -> Value {
        match self {
            Self::Sqlite => {
                let hex: Vec<_> = hashes.iter().map(|hash| format!("\"{hash:032x}\"")).collect();
                format!("[{}]", hex.join(",")).into()
            }
            Self::Postgres => {
                let hashes = hashes
                    .iter()
                    .map(|hash| Value::from(hash.to_be_bytes().to_vec()))
                    .collect();
                Value::Array(ArrayType::Bytes, Some(Box::new(hashes)))
            }
        }
    }
}

/// Texts get a first character that is cut again, which leaves the empty text free to stand for null.
fn null_as_value(cell: Value) -> Value {
    match cell {
        Value::BigInt(None) => i64::MIN.into(),
        Value::String(None) => String::new().into(),
        Value::String(Some(text)) => format!("={text}").into(),
        cell => cell,
    }
}
