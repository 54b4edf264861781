//! Who may lead: the revision-aware take-over rule of leader locks (revisions.md §4.2).
//!
//! The default revision takes a lock from another revision without waiting for it to expire. Nobody else steals, so
//! two revisions cannot take it back and forth as long as they agree on which one is the default.

/// Who holds, or wants, a lock: a revision, and whether the election runs in the replica's own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Revision of the replica.
    pub revision: String,
    /// Whether the election runs in a remote cluster, written as a leading `^`.
    pub remote: bool,
}

impl Key {
    /// Parses the holder key that a lock records.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix('^') {
            Some(revision) => Self {
                revision: revision.to_owned(),
                remote: true,
            },
            None => Self {
                revision: text.to_owned(),
                remote: false,
            },
        }
    }

    /// The text that a lock records.
    pub fn to_text(&self) -> String {
        if self.remote {
            format!("^{}", self.revision)
        } else {
            self.revision.clone()
        }
    }
}

/// Whether `me` may take a lock from a living holder. `default` is the default revision, if there is one.
pub fn may_steal(me: &Key, holder: &Key, default: Option<&str>) -> bool {
    if holder.revision != me.revision {
        return default.is_some_and(|default| default == me.revision);
    }
    !me.remote && holder.remote
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(me: &str, holder: &str, default: Option<&str>, expected: bool) {
        assert_eq!(
            may_steal(&Key::parse(me), &Key::parse(holder), default),
            expected,
            "{me} from {holder}, {default:?}"
        );
    }

    #[test]
    fn only_the_default_steals() {
        check("canary", "stable", Some("canary"), true);
        check("canary", "stable", Some("stable"), false);
        check("canary", "stable", None, false);
        check("stable", "canary", Some("canary"), false);
        check("canary", "canary", Some("canary"), false);
        check("canary", "^canary", None, true);
        check("^canary", "canary", Some("canary"), false);
    }

    #[test]
    fn nobody_steals_from_who_may_steal_from_it() {
        for default in [None, Some("a"), Some("b"), Some("c")] {
            for (me, other) in [("a", "b"), ("a", "^a"), ("^a", "b"), ("^a", "^b")] {
                let (me, other) = (Key::parse(me), Key::parse(other));
                assert!(
                    !(may_steal(&me, &other, default) && may_steal(&other, &me, default)),
                    "{me:?} {other:?} {default:?}"
                );
            }
        }
    }
}
