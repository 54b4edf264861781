//! The OCI `config.json` of a container, from plain values.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that makes a container's process and its surroundings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) user: User,
    pub(crate) tty: bool,
    /// Capabilities with their `CAP_` prefix.
    pub(crate) capabilities: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
    /// `procMount: Unmasked`
    pub(crate) unmasked: bool,
    /// `None`: the host's (hostNetwork).
    pub(crate) netns: Option<PathBuf>,
    pub(crate) hostname: String,
    pub(crate) host_pid: bool,
    /// The process namespace to join; `None`: one of its own, or the host's.
    pub(crate) processes: Option<PathBuf>,
    pub(crate) host_ipc: bool,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) cgroup: String,
    pub(crate) limits: Limits,
    pub(crate) oom_score_adj: i32,
}

/// A user as numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// A folder or file of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// `rprivate`, `rslave` or `rshared`.
    pub(crate) propagation: &'static str,
}

/// Resource limits in the kernel's units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: Option<i64>,
    pub(crate) cpu_shares: Option<u64>,
    /// Microseconds of CPU per 100 ms.
    pub(crate) cpu_quota: Option<i64>,
}

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Capabilities a container has unless its security context says otherwise (as containerd).
pub(crate) fn default_capabilities() -> impl Iterator<Item = String> {
    DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_string())
}

const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Spec {
    /// `process` of the configuration; exec uses it too, with other arguments.
    fn process(&self) -> Value {
        // A process that is not root keeps what it is allowed in the bounding set, but holds nothing (no ambient set):
        // that is what Kubernetes does.
        let held: &[String] = if self.user.uid == 0 { &self.capabilities } else { &[] };
        json!({
            "terminal": self.tty,
            "user": {"uid": self.user.uid, "gid": self.user.gid, "additionalGids": self.user.groups},
            "args": self.args,
            "env": self.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            "cwd": self.cwd,
            "capabilities": {"bounding": self.capabilities, "effective": held, "permitted": held},
            "noNewPrivileges": self.no_new_privileges,
            "oomScoreAdj": self.oom_score_adj,
        })
    }

    /// The whole configuration.
    pub(crate) fn config(&self) -> Value {
        let mut namespaces = vec![json!({"type": "mount"})];
        let mut own = |kind: &str, wanted: bool| {
            if wanted {
                namespaces.push(json!({ "type": kind }));
            }
        };
        own("pid", !self.host_pid && self.processes.is_none());
        own("ipc", !self.host_ipc);
        own("uts", self.netns.is_some());
        if let Some(path) = self.processes.as_ref().filter(|_| !self.host_pid) {
            namespaces.push(json!({"type": "pid", "path": path}));
        }
        if let Some(path) = &self.netns {
            namespaces.push(json!({"type": "network", "path": path}));
        }
        let mut resources = json!({"devices": [{"allow": self.privileged, "access": "rwm"}]});
        if let Some(bytes) = self.limits.memory {
            resources["memory"] = json!({ "limit": bytes });
        }
        let cpu: BTreeMap<&str, i64> = [
            ("shares", self.limits.cpu_shares.and_then(|s| i64::try_from(s).ok())),
            ("quota", self.limits.cpu_quota),
            ("period", self.limits.cpu_quota.map(|_| 100_000)),
        ]
        .into_iter()
        .filter_map(|(k, v)| Some((k, v?)))
        .collect();
        if !cpu.is_empty() {
            resources["cpu"] = json!(cpu);
        }
        let mut linux = json!({"cgroupsPath": self.cgroup, "namespaces": namespaces, "resources": resources});
        if !self.privileged && !self.unmasked {
            linux["maskedPaths"] = json!(MASKED);
            linux["readonlyPaths"] = json!(READ_ONLY);
        }
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": self.process(),
            "root": {"path": "rootfs", "readonly": self.read_only_root},
            "mounts": self.all_mounts(),
            "linux": linux,
        });
        if self.netns.is_some() {
            config["hostname"] = json!(self.hostname);
        }
        config
    }

    fn all_mounts(&self) -> Vec<Value> {
        let system = if self.privileged { "rw" } else { "ro" };
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", system]}),
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", system]}),
        ];
        // A mount inside another one must come after it.
        let mut own: Vec<&Mount> = self.mounts.iter().collect();
        own.sort_by_key(|m| m.target.trim_end_matches('/').split('/').count());
        for mount in own {
            let access = if mount.read_only { "ro" } else { "rw" };
            mounts.push(json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": ["rbind", access, mount.propagation]}));
        }
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_security_context_shows() {
        let mut spec = Spec {
            user: User {
                uid: 1337,
                gid: 1337,
                groups: vec![5],
            },
            capabilities: vec!["CAP_KILL".into()],
            netns: Some("/n".into()),
            hostname: "pod".into(),
            ..Spec::default()
        };
        let config = spec.config();
        assert_eq!(
            config["process"]["capabilities"],
            json!({"bounding": ["CAP_KILL"], "effective": [], "permitted": []})
        );
        assert_eq!(config["hostname"], "pod");
        assert!(config["linux"]["maskedPaths"].is_array());
        spec.user.uid = 0;
        spec.privileged = true;
        spec.netns = None;
        let config = spec.config();
        assert_eq!(config["process"]["capabilities"]["effective"], json!(["CAP_KILL"]));
        assert_eq!(
            config["linux"]["namespaces"],
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}])
        );
        assert!(config.get("hostname").is_none() && config["linux"].get("maskedPaths").is_none());
    }

    #[test]
    fn outer_mounts_come_first() {
        let mount = |t: &str| Mount {
            source: "/s".into(),
            target: t.into(),
            read_only: true,
            propagation: "rprivate",
        };
        let spec = Spec {
            mounts: vec![mount("/a/b"), mount("/a")],
            ..Spec::default()
        };
        let targets: Vec<Value> = spec.all_mounts()[6..]
            .iter()
            .map(|m| m["destination"].clone())
            .collect();
        assert_eq!(targets, ["/a", "/a/b"]);
    }
}
