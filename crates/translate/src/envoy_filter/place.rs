//! Placing the value of a patch in a list: filters, routes.

use super::{Operation, Patch};

/// Adds what a patch adds. `named` says whether the patch names an element to go by, `matches` whether it is this one.
/// Without one to go by, before is first and after is last; with one that is not there, nothing happens.
pub(super) fn place<T: Clone>(list: &mut Vec<T>, patch: &Patch, new: &T, named: bool, matches: impl Fn(&T) -> bool) {
    let found = list.iter().position(matches).filter(|_| named);
    let at = match (patch.operation, named, found) {
        (Operation::Add, ..) => list.len(),
        (Operation::InsertFirst, ..) | (Operation::InsertBefore, false, _) => 0,
        (Operation::InsertAfter, false, _) => list.len(),
        (Operation::InsertBefore, true, Some(index)) => index,
        (Operation::InsertAfter, true, Some(index)) => index + 1,
        (Operation::Replace, true, Some(index)) => {
            list[index] = new.clone();
            return;
        }
        _ => return,
    };
    list.insert(at, new.clone());
}

/// Whether the operation adds to a list.
pub(super) fn adds(operation: Operation) -> bool {
    !matches!(operation, Operation::Merge | Operation::Remove)
}
