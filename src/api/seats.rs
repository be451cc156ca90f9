//! Who may watch the events of a node: so many streams in all, few for one tenant, some only for who looks after
//! everything.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::Namespace;
use crate::tenant::Principal;

/// Most streams that are open at a time.
const ALL_MAX: usize = 64;
/// Of these, how many only tokens of every namespace may have.
const KEPT: usize = 16;
/// Most streams of the tokens of one set of namespaces, or of one subject that opens every namespace.
const HOLDER_MAX: usize = 8;

/// Who the seats of a stream count for.
///
/// Tokens of one set of namespaces are one holder, whatever their subjects: who may make tokens of a tenant makes
/// as many subjects as they like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    Everything(Arc<str>),
    Some(Vec<Namespace>),
}

impl Holder {
    fn of(principal: &Principal) -> Self {
        match principal.listed() {
            None => Self::Everything(principal.subject.clone()),
            Some(listed) => {
                let mut namespaces = listed.to_vec();
                namespaces.sort_unstable();
                namespaces.dedup();
                Self::Some(namespaces)
            }
        }
    }
}

/// The seats of a node's watchers.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_holder: HashMap<Holder, usize>,
}

/// One seat; dropping it makes room for another watcher.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    holder: Holder,
}

impl Seats {
    /// A seat for `principal`.
    ///
    /// # Errors
    /// What stands against it, when there is none.
    pub(super) fn take(&self, principal: &Principal) -> Result<Seat, String> {
        let holder = Holder::of(principal);
        let mut taken = self.0.lock();
        let most = match holder {
            Holder::Everything(_) => ALL_MAX,
            Holder::Some(_) => ALL_MAX - KEPT,
        };
        if taken.all >= most {
            return Err(format!("{} event streams are open on this node", taken.all));
        }
        let own = taken.by_holder.get(&holder).copied().unwrap_or_default();
        if own >= HOLDER_MAX {
            let whose = match holder {
                Holder::Everything(_) => "of this subject",
                Holder::Some(_) => "of tokens of these namespaces",
            };
            return Err(format!("{own} event streams {whose} are open on this node"));
        }
        taken.all += 1;
        taken.by_holder.insert(holder.clone(), own + 1);
        Ok(Seat {
            seats: self.clone(),
            holder,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_holder.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                taken.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::Scope;

    fn of(subject: &str, namespaces: &[&str]) -> Principal {
        let namespaces = namespaces.iter().map(|name| name.parse().unwrap()).collect();
        Principal::trusted(subject, Some(namespaces), &[Scope::Dequeue])
    }

    #[test]
    fn no_tenant_takes_every_seat_and_some_are_kept() {
        let seats = Seats::default();
        let mut held = Vec::new();
        for n in 0..HOLDER_MAX {
            held.push(seats.take(&of(&format!("subject {n}"), &["a", "b"])).unwrap());
        }
        let refused = seats.take(&of("another", &["b", "a"])).unwrap_err();
        assert!(refused.contains("of these namespaces"), "{refused}");
        held.pop();
        held.push(seats.take(&of("another", &["b", "a"])).unwrap());
        for n in HOLDER_MAX..ALL_MAX - KEPT {
            held.push(seats.take(&of("many", &[&format!("tenant-{n}")])).unwrap());
        }
        let refused = seats.take(&of("late", &["late"])).unwrap_err();
        assert!(refused.starts_with("48 "), "{refused}");
        let operator = |name: &str| Principal::trusted(name, None, &[Scope::Admin]);
        for _ in 0..HOLDER_MAX {
            held.push(seats.take(&operator("one")).unwrap());
        }
        assert!(
            seats
                .take(&operator("one"))
                .unwrap_err()
                .contains("of this subject")
        );
        for _ in 0..HOLDER_MAX {
            held.push(seats.take(&operator("two")).unwrap());
        }
        assert!(seats.take(&operator("three")).is_err());
        drop(held);
        let taken = seats.0.lock();
        assert_eq!((taken.all, taken.by_holder.len()), (0, 0));
    }
}
