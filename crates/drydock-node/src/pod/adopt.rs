//! Taking over what an earlier node process left: its records, and containers that still run.

use super::backoff::Backoff;
use super::site::Site;
use super::unit::{Ended, Phase, Run, Unit};
use crate::runtime::{Exit, shim};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Restores every container's state from the pod's folder and from what the status said of it last.
pub(super) async fn units(site: &Site, pod: &Pod, units: &mut [Unit]) {
    for unit in units.iter_mut() {
        let attempts = attempts(site, &unit.name);
        let Some(last) = attempts.last().copied() else { continue };
        unit.backoff = Backoff::resumed(last);
        unit.previous = last.checked_sub(1).and_then(|n| ended(site, &unit.name, n));
        match read_run(site, &unit.name, last) {
            Some(run) => match shim::read_exit(&site.place(&unit.name, last)) {
                Some(exit) => {
                    unit.begin(run, false);
                    unit.end(exit, None, std::time::Instant::now());
                }
                None => {
                    unit.begin(run, false);
                    if let Some(status) = status_of(pod, &unit.name) {
                        unit.startup_done = status.started == Some(true);
                        unit.probe_ready = status.ready;
                    }
                }
            },
            // The node died while it was starting this one.
            None => discard(site, &unit.name, last).await,
        }
    }
}

/// After a reboot nothing runs any more: what ran counts as killed, and init containers run again.
pub(super) fn lost(units: &mut [Unit]) {
    for unit in units.iter_mut() {
        if matches!(unit.phase, Phase::Running(_)) {
            unit.end(
                Exit {
                    code: 137,
                    out_of_memory: false,
                    never_ran: false,
                    at: jiff::Timestamp::now(),
                },
                Some("the node was restarted".into()),
                std::time::Instant::now(),
            );
        }
    }
}

/// Numbers of the runs that have a folder, in order.
pub(super) fn attempts(site: &Site, container: &str) -> Vec<u32> {
    let dir = site.dir.join("containers").join(container);
    let mut list: Vec<u32> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    list.sort_unstable();
    list
}

fn read_run(site: &Site, container: &str, attempt: u32) -> Option<Run> {
    serde_json::from_slice(&std::fs::read(site.place(container, attempt).dir.join("run.json")).ok()?).ok()
}

fn ended(site: &Site, container: &str, attempt: u32) -> Option<Ended> {
    let exit = shim::read_exit(&site.place(container, attempt))?;
    Some(Ended {
        run: read_run(site, container, attempt)?,
        exit,
        message: None,
    })
}

/// Removes one run with everything that belongs to it.
pub(super) async fn discard(site: &Site, container: &str, attempt: u32) {
    let place = site.place(container, attempt);
    site.node.runtime.delete(&place.id).await;
    place.unmount();
    let _ = std::fs::remove_dir_all(&place.dir);
    let _ = std::fs::remove_file(&place.socket);
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .chain(status.ephemeral_container_statuses.iter().flatten())
        .find(|s| s.name == name)
}
