//! Which proxies are init containers that keep running, unless a pod says otherwise (revisions.md §5.6).

use std::fmt;
use std::sync::Arc;

/// First release of Kubernetes whose nodes start native sidecars reliably.
const FIRST: (u32, u32) = (1, 33);

/// A rule for pods by the node that they are bound to; empty for those that are not bound yet.
#[derive(Clone)]
pub struct NativeSidecars(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl NativeSidecars {
    /// Asked for every pod, because nodes come, go and are upgraded.
    pub fn by_node(rule: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Whether the proxy of a pod on `node` is native.
    pub(crate) fn on(&self, node: &str) -> bool {
        (self.0)(node)
    }
}

/// The same for all pods.
impl From<bool> for NativeSidecars {
    fn from(native: bool) -> Self {
        Self::by_node(move |_| native)
    }
}

impl fmt::Debug for NativeSidecars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeSidecars")
    }
}

/// Whether nodes can run native sidecars: the pod's own, if its kubelet's version is known, else all of them, because the
/// pod may go to any.
pub fn can_run<'a>(own: Option<&'a str>, mut all: impl Iterator<Item = &'a str>) -> bool {
    own.map_or_else(|| all.all(is_recent), is_recent)
}

/// Of a version such as `v1.33.2` or `v1.33.1-gke.100`. One that cannot be read is none.
fn is_recent(kubelet: &str) -> bool {
    let number = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    };
    let mut parts = kubelet.trim_start_matches('v').split('.').map(number);
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    major.zip(minor).is_some_and(|version| version >= FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_s_own_node_decides_and_else_all_of_them() {
        let check = |own: Option<&str>, all: &[&str], expected| {
            assert_eq!(can_run(own, all.iter().copied()), expected, "{own:?} {all:?}");
        };
        check(None, &[], true);
        check(None, &["v1.33.0", "v1.36.2"], true);
        check(None, &["v1.33.0", "v1.32.9"], false);
        check(Some("v1.33.0"), &["v1.33.0", "v1.32.9"], true);
        check(Some("v1.32.9"), &["v1.33.0", "v1.32.9"], false);
        check(None, &["v1.33.1-gke.100"], true);
        check(None, &["1.33+"], true);
        check(None, &["v2.0.0"], true);
        check(None, &[""], false);
        check(None, &["nonsense"], false);
    }
}
