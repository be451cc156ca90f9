//! Two compilations at a time on this node, of two namespaces, and not too many of one in waiting.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::UploadError;
use super::turns;
use crate::model::{Digest, Namespace};

/// Uploads of a namespace at once: one that is compiled and one that waits.
const UPLOADS_MAX: usize = 2;

/// Compilations at once: a namespace whose module takes long must not hold up another's.
const COMPILERS: usize = 2;

/// The way to the compiler.
pub(super) struct Gate {
    compiler: turns::Turns,
    uploads: Mutex<HashMap<Namespace, usize>>,
    background: Mutex<HashSet<Digest>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            compiler: turns::Turns::new(COMPILERS),
            uploads: Mutex::default(),
            background: Mutex::default(),
        }
    }
}

/// A namespace's place among the uploads.
struct Place<'a>(&'a Gate, &'a Namespace);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut uploads = self.0.uploads.lock();
        if let Some(count) = uploads.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                uploads.remove(self.1);
            }
        }
    }
}

/// The compiler is the holder's.
pub(super) struct Turn<'a> {
    _turn: turns::Turn,
    _place: Option<Place<'a>>,
}

impl Gate {
    /// Waits for the compiler; refuses at once when the namespace has its share of uploads.
    pub(super) async fn upload<'a>(&'a self, namespace: &'a Namespace) -> Result<Turn<'a>, UploadError> {
        let place = {
            let mut uploads = self.uploads.lock();
            let count = uploads.entry(namespace.clone()).or_default();
            if *count >= UPLOADS_MAX {
                return Err(UploadError::Busy(Duration::from_secs(5)));
            }
            *count += 1;
            Place(self, namespace)
        };
        let mut turn = self.turn(namespace).await?;
        turn._place = Some(place);
        Ok(turn)
    }

    /// Waits until the compiler is `namespace`'s.
    pub(super) async fn turn(&self, namespace: &Namespace) -> Result<Turn<'_>, UploadError> {
        let turn = self.compiler.turn(namespace).await;
        let turn = turn.ok_or_else(|| UploadError::internal("the node stops"))?;
        Ok(Turn {
            _turn: turn,
            _place: None,
        })
    }

    /// Notes that `digest` is compiled in the background; `false` when it already is.
    pub(super) fn begin_background(&self, digest: Digest) -> bool {
        self.background.lock().insert(digest)
    }

    /// The opposite.
    pub(super) fn end_background(&self, digest: Digest) {
        self.background.lock().remove(&digest);
    }

    /// Compilations in waiting or under way.
    pub(super) fn count(&self) -> usize {
        self.uploads.lock().values().sum::<usize>() + self.background.lock().len()
    }
}
