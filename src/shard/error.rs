//! What goes wrong in a database, in the words of the contract: no SQL, no address, no value.

use sea_orm::sqlx;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

use super::ShardError;

impl From<DbErr> for ShardError {
    fn from(error: DbErr) -> Self {
        match &error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => {
                unavailable("no connection became free in time")
            }
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => {
                unavailable("the connections are closed")
            }
            DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime) => from_runtime(runtime),
            // The migrator reports a migration it does not know, or one that is half applied, as text.
            DbErr::Custom(_) | DbErr::Migration(_) => {
                corrupt("the schema was made by another version of mqueue")
            }
            _ => corrupt("a column holds something unexpected"),
        }
    }
}

/// Whether `error` says that the server behind the connection is not, or no longer, the one that takes writes:
/// another one may be found at the same address.
pub(super) fn is_of_another_server(error: &DbErr) -> bool {
    let (DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) = error else {
        return false;
    };
    let RuntimeErr::SqlxError(error) = runtime else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "25006" | "57P01" | "57P02" | "57P03"))
}

/// A [`ShardError::Unavailable`] that says `message`.
pub(super) fn unavailable(message: impl Into<String>) -> ShardError {
    ShardError::Unavailable(message.into())
}

/// A [`ShardError::Corrupt`] that says `message`.
pub(super) fn corrupt(message: impl Into<String>) -> ShardError {
    ShardError::Corrupt(message.into())
}

fn from_runtime(error: &RuntimeErr) -> ShardError {
    match error {
        RuntimeErr::SqlxError(error) => from_sqlx(error),
        RuntimeErr::Internal(_) => unavailable("the database layer failed"),
    }
}

fn from_sqlx(error: &sqlx::Error) -> ShardError {
    use sqlx::Error;
    match error {
        Error::Io(error) => unavailable(format!("the connection broke: {}", error.kind())),
        Error::Tls(_) => unavailable("the connection cannot be encrypted"),
        Error::PoolTimedOut => unavailable("no connection became free in time"),
        Error::PoolClosed => unavailable("the connections are closed"),
        Error::WorkerCrashed => unavailable("the database thread stopped"),
        Error::Configuration(_) => ShardError::Address("it cannot be parsed".to_owned()),
        Error::Database(error) => from_code(&error.code().unwrap_or_default()),
        Error::ColumnDecode { .. } | Error::Decode(_) | Error::ColumnNotFound(_) => {
            corrupt("a column holds something unexpected")
        }
        Error::ColumnIndexOutOfBounds { .. } | Error::TypeNotFound { .. } => corrupt("a column is missing"),
        _ => unavailable("the database answered out of turn"),
    }
}

/// `code` is an SQLSTATE on PostgreSQL (five characters) and an extended result code on SQLite, whose low
/// byte is the kind of error.
fn from_code(code: &str) -> ShardError {
    if code.len() == 5 {
        return match code {
            "25006" => unavailable("the database is read-only"),
            "53300" => unavailable("the database has no connection left"),
            "57P01" | "57P02" | "57P03" => unavailable("the database is stopping or starting"),
            "57014" => unavailable("a statement took too long"),
            "55P03" => unavailable("a lock was not free in time"),
            "53100" => unavailable("the disk is full"),
            "28000" | "28P01" => unavailable("the database refused the user or the password"),
            "3D000" => unavailable("the database does not exist"),
            "42P01" | "42703" => corrupt("a table or a column is missing"),
            "XX001" | "XX002" => corrupt("the database found itself damaged"),
            _ => unavailable(format!("the database refused, SQLSTATE {code}")),
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => unavailable("the database is locked by another process"),
        Ok(8) => unavailable("the database is read-only"),
        Ok(13) => unavailable("the disk is full"),
        Ok(14) => unavailable("the database file cannot be opened"),
        Ok(11 | 26) => corrupt("the database file is damaged or not a database"),
        _ => unavailable(format!("the database refused, code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_dialects_are_understood() {
        for (code, message) in [
            ("57014", "a statement took too long"),
            ("261", "the database is locked by another process"),
            ("13", "the disk is full"),
            ("53100", "the disk is full"),
            ("25006", "the database is read-only"),
            ("57P01", "the database is stopping or starting"),
            ("23505", "the database refused, SQLSTATE 23505"),
            ("1", "the database refused, code 1"),
        ] {
            let ShardError::Unavailable(said) = from_code(code) else {
                panic!("{code}");
            };
            assert_eq!(said, message);
        }
        for code in ["11", "26", "XX001", "42P01"] {
            assert!(matches!(from_code(code), ShardError::Corrupt(_)), "{code}");
        }
    }
}
