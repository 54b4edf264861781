//! PeerAuthentication: which mode of mutual TLS a port accepts, and what clients may conclude.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::security::PeerAuthentication;
use api::security::peer_authentication::MtlsMode;
use mesh::Config;

use crate::graph::Cx;

/// Mode that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mode {
    Disable,
    Permissive,
    Strict,
}

/// Modes of a workload's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    /// Of all ports but those below.
    pub(crate) general: Mode,
    /// Of single ports.
    pub(crate) ports: BTreeMap<u16, Mode>,
}

impl Modes {
    /// Mode of a port.
    pub(crate) fn of_port(&self, port: u16) -> Mode {
        self.ports.get(&port).copied().unwrap_or(self.general)
    }
}

fn mode(policy: &PeerAuthentication) -> Option<Mode> {
    known(policy.mtls.as_ref()?.mode?)
}

fn known(mode: MtlsMode) -> Option<Mode> {
    match mode {
        MtlsMode::Unset => None,
        MtlsMode::Disable => Some(Mode::Disable),
        MtlsMode::Permissive => Some(Mode::Permissive),
        MtlsMode::Strict => Some(Mode::Strict),
    }
}

fn is_for_namespace(policy: &PeerAuthentication) -> bool {
    policy.selector.as_ref().is_none_or(|s| s.match_labels.is_empty())
}

/// The oldest policy without a selector.
fn of_namespace<'a>(
    policies: impl Iterator<Item = &'a Arc<Config<PeerAuthentication>>>,
) -> Option<&'a Config<PeerAuthentication>> {
    policies
        .filter(|p| is_for_namespace(&p.spec))
        .min_by(|a, b| a.meta.age_order(&b.meta))
        .map(|p| &**p)
}

/// Modes of the workload with these labels.
pub(crate) fn modes(cx: &mut Cx<'_>, namespace: &Arc<str>, labels: &BTreeMap<String, String>) -> Modes {
    let root = cx.root();
    let mesh_wide = of_namespace(cx.of_namespace(&root)).and_then(|p| mode(&p.spec));
    let mut general = mesh_wide.unwrap_or(Mode::Permissive);
    if *root != **namespace {
        let policy = of_namespace(cx.of_namespace(namespace));
        general = policy.and_then(|p| mode(&p.spec)).unwrap_or(general);
    }
    let workload = cx
        .of_namespace::<PeerAuthentication>(namespace)
        .filter(|p| {
            !is_for_namespace(&p.spec)
                && p.spec
                    .selector
                    .as_ref()
                    .is_some_and(|s| s.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v)))
        })
        .min_by(|a, b| a.meta.age_order(&b.meta));
    let mut ports = BTreeMap::new();
    if let Some(policy) = workload {
        general = mode(&policy.spec).unwrap_or(general);
        for (port, setting) in &policy.spec.port_level_mtls {
            let Ok(port) = port.parse() else { continue };
            ports.insert(port, setting.mode.and_then(known).unwrap_or(general));
        }
    }
    Modes { general, ports }
}

/// What clients may conclude about a namespace: the mode of its policy, else the mesh's.
pub(crate) fn of_service_namespace(cx: &mut Cx<'_>, namespace: &Arc<str>) -> Mode {
    modes(cx, namespace, &BTreeMap::new()).general
}
