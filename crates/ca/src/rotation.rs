//! When a self-signed root is renewed (control-plane.md §5): less than a fifth of its life is left. The new root has
//! the same private key, so that certificates signed before verify under both.

use std::time::Duration;

use jiff::Timestamp;

use crate::authority::{Authority, AuthorityError};

/// How often to look, before jitter.
pub const CHECK_EVERY: Duration = Duration::from_secs(3600);
/// Share of the life that must be left, in percent.
pub const MIN_LEFT_PERCENT: i64 = 20;

/// Whether a certificate valid from `not_before` to `not_after` is to be renewed at `now`.
pub fn is_due(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    let life = i128::from(not_after.as_second()) - i128::from(not_before.as_second());
    let left = i128::from(not_after.as_second()) - i128::from(now.as_second());
    left * 100 < life * i128::from(MIN_LEFT_PERCENT)
}

/// The renewed authority if `authority` is self-signed and due at `now`; a plugged-in one is its owner's to renew.
///
/// # Errors
/// If the new certificate cannot be made; the old one stays usable.
pub fn rotate(authority: &Authority, now: Timestamp) -> Result<Option<Authority>, AuthorityError> {
    if !authority.is_self_signed() || !is_due(authority.not_before(), authority.not_after(), now) {
        return Ok(None);
    }
    authority.renewed(now).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn due_when_less_than_a_fifth_is_left() {
        let check = |now, due| assert_eq!(is_due(at(0), at(1000), at(now)), due, "at {now}");
        check(0, false);
        check(800, false);
        check(801, true);
        check(5000, true);
    }

    #[test]
    fn renewed_root_has_the_same_key() {
        let old = Authority::self_signed("cluster.local", at(1_700_000_000)).unwrap();
        assert!(rotate(&old, at(1_700_000_000)).unwrap().is_none());
        let late = at(old.not_after().as_second() - 1000);
        let new = rotate(&old, late).unwrap().unwrap();
        assert!(new.not_after() > old.not_after());
        assert_ne!(new.roots(), old.roots());
        assert_eq!(new.to_files()["ca-key.pem"], old.to_files()["ca-key.pem"]);
    }

    proptest! {
        #[test]
        fn once_due_stays_due(life in 1i64..1_000_000_000, a in 0i64..1_000_000_000, b in 0i64..1_000_000_000) {
            let (early, late) = (a.min(b), a.max(b));
            prop_assert!(!is_due(at(0), at(life), at(early)) || is_due(at(0), at(life), at(late)));
        }
    }
}
