//! The security context of a container, worked out from the pod's and its own.

use crate::error::{Error, Result};
use crate::runtime::{Spec, User};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};
use std::collections::BTreeSet;

/// Every capability a privileged container gets: 0 to 40 of `linux/capability.h`.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// `runAsUser`/`runAsGroup` that apply to a container (its own win over the pod's).
pub(crate) fn run_as(pod: &Pod, container: &Container) -> (Option<i64>, Option<i64>) {
    let (outer, own) = contexts(pod, container);
    (
        own.run_as_user.or(outer.run_as_user),
        own.run_as_group.or(outer.run_as_group),
    )
}

fn contexts(pod: &Pod, container: &Container) -> (PodSecurityContext, SecurityContext) {
    let outer = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default();
    (outer, container.security_context.clone().unwrap_or_default())
}

/// Fills in user, groups, capabilities and the restrictions.
///
/// # Errors
/// If `runAsNonRoot` is asked for and the user is root or only known by name (kubelet's words).
pub(crate) fn apply(spec: &mut Spec, pod: &Pod, container: &Container, user: User, by_name: bool) -> Result<()> {
    let (outer, own) = contexts(pod, container);
    if own.run_as_non_root.or(outer.run_as_non_root) == Some(true) {
        if by_name {
            return Err(Error::Pod(
                "container has runAsNonRoot and image has non-numeric user, cannot verify user is non-root".into(),
            ));
        }
        if user.uid == 0 {
            return Err(Error::Pod(
                "container has runAsNonRoot and image will run as root".into(),
            ));
        }
    }
    spec.user = user;
    let extra = outer
        .supplemental_groups
        .iter()
        .flatten()
        .chain(&outer.fs_group)
        .filter_map(|g| u32::try_from(*g).ok());
    spec.user.groups.extend(extra);
    spec.user.groups.sort_unstable();
    spec.user.groups.dedup();
    spec.privileged = own.privileged == Some(true);
    spec.read_only_root = own.read_only_root_filesystem == Some(true);
    spec.unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    // CAP_SYS_ADMIN and privileged imply escalation; otherwise only an explicit false forbids it.
    spec.no_new_privileges = own.allow_privilege_escalation == Some(false) && !spec.privileged;
    spec.capabilities = capabilities(&own);
    Ok(())
}

/// The capabilities that the node itself may hand out, one bit each: inside a container or a restricted machine those
/// are not all, and the runtime refuses to start a container that is to have more.
pub(crate) fn bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
    line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

/// Whether a capability (`CAP_…`) is in a set of bits.
pub(crate) fn is_in(set: u64, capability: &str) -> bool {
    let name = capability.trim_start_matches("CAP_");
    ALL.iter()
        .position(|c| *c == name)
        .is_some_and(|bit| set >> bit & 1 == 1)
}

fn capabilities(own: &SecurityContext) -> Vec<String> {
    let all = || ALL.iter().map(|c| format!("CAP_{c}"));
    if own.privileged == Some(true) {
        return all().collect();
    }
    let named = |c: &str| format!("CAP_{}", c.to_ascii_uppercase().trim_start_matches("CAP_"));
    let mut set: BTreeSet<String> = crate::runtime::default_capabilities().collect();
    let caps = own.capabilities.clone().unwrap_or_default();
    let (add, drop) = (caps.add.unwrap_or_default(), caps.drop.unwrap_or_default());
    if drop.iter().any(|c| c.eq_ignore_ascii_case("ALL")) {
        set.clear();
    }
    if add.iter().any(|c| c.eq_ignore_ascii_case("ALL")) {
        set.extend(all());
    }
    for cap in &drop {
        set.remove(&named(cap));
    }
    let known: BTreeSet<String> = all().collect();
    set.extend(add.iter().map(|c| named(c)).filter(|c| known.contains(c)));
    set.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn check(pod: serde_json::Value, own: serde_json::Value, user: User) -> Result<Spec> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "securityContext": pod}}))
                .unwrap();
        let container: Container = serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap();
        let mut spec = Spec::default();
        apply(&mut spec, &pod, &container, user, false).map(|()| spec)
    }

    #[test]
    fn capabilities_are_dropped_then_added() {
        let spec = check(json!({}), json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "NONSENSE"]}, "allowPrivilegeEscalation": false}), User::default()).unwrap();
        assert_eq!(spec.capabilities, ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert!(spec.no_new_privileges);
        assert_eq!(
            check(json!({}), json!({"privileged": true}), User::default())
                .unwrap()
                .capabilities
                .len(),
            41
        );
        assert_eq!(
            check(json!({}), json!({}), User::default()).unwrap().capabilities.len(),
            14
        );
    }

    #[test]
    fn bits_are_numbered_as_the_kernel_does() {
        assert!(is_in(1 << 12, "CAP_NET_ADMIN") && is_in(1 << 21, "CAP_SYS_ADMIN") && !is_in(1 << 12, "CAP_CHOWN"));
    }

    #[test]
    fn groups_and_the_non_root_rule() {
        let spec = check(
            json!({"fsGroup": 7, "supplementalGroups": [9, 7]}),
            json!({}),
            User {
                uid: 1,
                gid: 1,
                groups: vec![3],
            },
        )
        .unwrap();
        assert_eq!(spec.user.groups, [3, 7, 9]);
        assert!(check(json!({"runAsNonRoot": true}), json!({}), User::default()).is_err());
        assert!(
            check(
                json!({"runAsNonRoot": true}),
                json!({"runAsNonRoot": false}),
                User::default()
            )
            .is_ok()
        );
    }
}
