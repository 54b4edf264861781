//! From a container of the spec to a running one.

use super::site::Site;
use super::unit::Run;
use super::{env, key, security};
use crate::error::{Error, Result};
use crate::image::{Image, Reference};
use crate::runtime::{Limits, Mount, Rootfs, Spec, shim, user, write_private};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Why a container does not run (yet).
#[derive(Debug)]
pub(crate) struct Refused {
    /// Reason of the waiting state.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Try again after this.
    pub(crate) retry: Duration,
}

impl Refused {
    pub(crate) fn create(error: &Error) -> Self {
        Self {
            reason: "CreateContainerError",
            message: error.to_string(),
            retry: Duration::from_secs(5),
        }
    }

    fn config(error: &Error) -> Self {
        Self {
            reason: "CreateContainerConfigError",
            message: error.to_string(),
            retry: Duration::from_secs(1),
        }
    }
}

/// How often the local store is asked again for an image that was not there: it costs one small file.
const IMAGE_RETRY: Duration = Duration::from_secs(1);

/// The image of a container, from the local store.
pub(crate) fn image(site: &Site, container: &Container) -> Result<Image, Refused> {
    let name = container.image.clone().unwrap_or_default();
    let Some(reference) = Reference::parse(&name) else {
        return Err(Refused {
            reason: "InvalidImageName",
            message: format!("Failed to apply default image tag \"{name}\": couldn't parse image name"),
            retry: Duration::from_secs(60),
        });
    };
    let found = site.node.images.find(&reference).map_err(|e| Refused {
        reason: "ErrImagePull",
        message: e.to_string(),
        retry: IMAGE_RETRY,
    })?;
    found.ok_or_else(|| {
        if container.image_pull_policy.as_deref() == Some("Never") {
            return Refused {
                reason: "ErrImageNeverPull",
                message: format!("Container image \"{name}\" is not present with pull policy of Never"),
                retry: IMAGE_RETRY,
            };
        }
        Refused {
            reason: "ErrImagePull",
            message: format!("image {reference} is not in this node's store: load it with 'drydock load'"),
            retry: IMAGE_RETRY,
        }
    })
}

/// What was decided about a container before it is started.
pub(crate) struct Launch {
    spec: Spec,
    image_id: String,
    stop_signal: String,
}

struct Lookup {
    maps: BTreeMap<String, std::sync::Arc<k8s_openapi::api::core::v1::ConfigMap>>,
    secrets: BTreeMap<String, std::sync::Arc<k8s_openapi::api::core::v1::Secret>>,
}

impl env::Sources for Lookup {
    fn config_map(&self, name: &str) -> Option<std::sync::Arc<k8s_openapi::api::core::v1::ConfigMap>> {
        self.maps.get(name).cloned()
    }
    fn secret(&self, name: &str) -> Option<std::sync::Arc<k8s_openapi::api::core::v1::Secret>> {
        self.secrets.get(name).cloned()
    }
}

/// Environment of a container, with everything that its references say now.
async fn environment(site: &Site, pod: &Pod, container: &Container) -> Result<BTreeMap<String, String>> {
    use crate::volumes::Sources;
    let namespace = key(pod).0;
    let (map_names, secret_names) = env::references(container);
    let mut lookup = Lookup {
        maps: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    for name in map_names {
        if let Some(map) = site.node.objects.config_map(namespace, &name).await? {
            lookup.maps.insert(name, map);
        }
    }
    for name in secret_names {
        if let Some(secret) = site.node.objects.secret(namespace, &name).await? {
            lookup.secrets.insert(name, secret);
        }
    }
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = env::service_variables(namespace, links, &site.node.objects.services());
    env::environment(
        pod,
        container,
        &lookup,
        &services,
        &site.addresses(),
        site.node.capacity,
    )
}

/// Works out image, user, environment, mounts and limits; mounts the root. The container sees the processes of the
/// namespace `processes`, or only its own.
pub(crate) async fn prepare(
    site: &Site,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    image: Image,
    processes: Option<PathBuf>,
) -> Result<Launch, Refused> {
    let vars = environment(site, pod, container)
        .await
        .map_err(|e| Refused::config(&e))?;
    let place = site.place(&container.name, attempt);
    let root = Rootfs::new(&place.dir);
    place.unmount();
    let _ = std::fs::remove_dir_all(&place.dir);
    root.mount(&image.layers).map_err(|e| Refused::create(&e))?;
    let mut launch = spec(site, pod, container, attempt, &image, &vars, &root).map_err(|e| {
        place.unmount();
        Refused::config(&e)
    })?;
    launch.spec.processes = processes;
    Ok(launch)
}

fn spec(
    site: &Site,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    image: &Image,
    vars: &BTreeMap<String, String>,
    root: &Rootfs,
) -> Result<Launch> {
    let path = root.path();
    let (run_as_user, run_as_group) = security::run_as(pod, container);
    let image_user = image.process.user.as_deref().unwrap_or_default();
    let account = user::resolve(
        image_user,
        run_as_user,
        run_as_group,
        &user::read(&path, "etc/passwd"),
        &user::read(&path, "etc/group"),
    )?;
    let mut out = Spec::default();
    security::apply(&mut out, pod, container, account.user.clone(), account.by_name)?;
    let held = security::bounding_set();
    out.capabilities.retain(|c| security::is_in(held, c));
    let expanded = |list: &Option<Vec<String>>| {
        list.as_ref()
            .filter(|l| !l.is_empty())
            .map(|l| l.iter().map(|a| env::expand(a, vars)).collect::<Vec<_>>())
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    // A command of the pod replaces entrypoint and arguments of the image; arguments alone keep the entrypoint.
    out.args = match (command, args) {
        (Some(command), args) => command.into_iter().chain(args.unwrap_or_default()).collect(),
        (None, Some(args)) => image.process.entrypoint.iter().flatten().cloned().chain(args).collect(),
        (None, None) => image
            .process
            .entrypoint
            .iter()
            .flatten()
            .chain(image.process.cmd.iter().flatten())
            .cloned()
            .collect(),
    };
    if out.args.is_empty() {
        return Err(Error::Pod(
            "no command specified: neither the pod nor the image names one".into(),
        ));
    }
    out.env = variables(image, vars, &account.home, &site.sandbox.hostname(&site.node, pod));
    out.cwd = container
        .working_dir
        .clone()
        .filter(|d| !d.is_empty())
        .or_else(|| image.process.working_dir.clone())
        .filter(|d| !d.is_empty())
        .unwrap_or_else(|| "/".into());
    out.tty = container.tty == Some(true);
    out.netns.clone_from(&site.sandbox.netns);
    out.hostname = site.sandbox.hostname(&site.node, pod);
    out.host_pid = pod.spec.as_ref().and_then(|s| s.host_pid) == Some(true);
    out.host_ipc = pod.spec.as_ref().and_then(|s| s.host_ipc) == Some(true);
    out.limits = limits(container);
    out.oom_score_adj = if out.limits.memory.is_some() { 500 } else { 1000 };
    out.mounts = mounts(site, pod, container, attempt, vars)?;
    out.cgroup = site.cgroup(&container.name, attempt);
    Ok(Launch {
        spec: out,
        image_id: image.id.clone(),
        stop_signal: image.process.stop_signal.clone().unwrap_or_default(),
    })
}

fn variables(image: &Image, vars: &BTreeMap<String, String>, home: &str, hostname: &str) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    all.insert(
        "PATH".into(),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
    );
    all.insert("HOSTNAME".into(), hostname.into());
    all.insert("HOME".into(), home.into());
    all.extend(
        image
            .process
            .env
            .iter()
            .flatten()
            .filter_map(|e| e.split_once('='))
            .map(|(k, v)| (k.to_string(), v.to_string())),
    );
    all.extend(vars.clone());
    all.into_iter().collect()
}

fn limits(container: &Container) -> Limits {
    let resources = container.resources.clone().unwrap_or_default();
    let get = |list: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>, name: &str| {
        list.as_ref().and_then(|l| l.get(name)).and_then(super::quantity::milli)
    };
    let cpu_request = get(&resources.requests, "cpu").or_else(|| get(&resources.limits, "cpu"));
    Limits {
        memory: get(&resources.limits, "memory")
            .and_then(|m| i64::try_from(m / 1000).ok())
            .filter(|m| *m > 0),
        cpu_shares: Some(cpu_request.map_or(2, |m| (m * 1024 / 1000).clamp(2, 262_144) as u64)),
        cpu_quota: get(&resources.limits, "cpu")
            .and_then(|m| i64::try_from(m * 100).ok())
            .map(|q| q.max(1000)),
    }
}

fn mounts(
    site: &Site,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    vars: &BTreeMap<String, String>,
) -> Result<Vec<Mount>> {
    let place = site.place(&container.name, attempt);
    let own = |source: PathBuf, target: &str| Mount {
        source,
        target: target.into(),
        read_only: false,
        propagation: "rprivate",
    };
    let termination = place.termination_log();
    std::fs::write(&termination, "").map_err(Error::io("create", &termination))?;
    // Whoever the container runs as must be able to leave its last words.
    std::fs::set_permissions(&termination, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .map_err(Error::io("change mode of", &termination))?;
    let mut out = vec![
        own(site.dir.join("shm"), "/dev/shm"),
        own(
            termination,
            container
                .termination_message_path
                .as_deref()
                .unwrap_or("/dev/termination-log"),
        ),
    ];
    for name in ["hosts", "hostname", "resolv.conf"] {
        out.push(own(site.dir.join("etc").join(name), &format!("/etc/{name}")));
    }
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let sub_path = mount
            .sub_path_expr
            .as_ref()
            .map(|e| env::expand(e, vars))
            .or_else(|| mount.sub_path.clone());
        let (source, read_only) =
            site.volumes
                .source(pod, mount, sub_path.as_deref(), &place.held.join(index.to_string()))?;
        out.retain(|m| m.target != mount.mount_path);
        out.push(Mount {
            source,
            target: mount.mount_path.clone(),
            read_only: read_only || mount.read_only == Some(true),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => "rslave",
                Some("Bidirectional") => "rshared",
                _ => "rprivate",
            },
        });
    }
    Ok(out)
}

/// Starts what was prepared.
///
/// # Errors
/// In the runtime's words (a program that is not in the image, for example).
pub(crate) async fn launch(site: &Site, container: &Container, attempt: u32, launch: &Launch) -> (Run, Result<()>) {
    let place = site.place(&container.name, attempt);
    let mut run = Run {
        attempt,
        id: place.id.clone(),
        image_id: launch.image_id.clone(),
        started_at: jiff::Timestamp::now(),
        stop_signal: launch.stop_signal.clone(),
    };
    let config = place.bundle().join("config.json");
    let terminal = shim::Terminal {
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
    };
    let started = async {
        write_private(&config, launch.spec.config().to_string().as_bytes())?;
        let started = shim::start(
            &site.node.shim,
            &site.node.runtime,
            &place,
            &launch.spec.cgroup,
            terminal,
        )
        .await?;
        run.started_at = started.at;
        Ok(())
    };
    let result = started.await;
    let record = place.dir.join("run.json");
    let written = serde_json::to_vec(&run)
        .map_err(|e| Error::Pod(e.to_string()))
        .and_then(|data| std::fs::write(&record, data).map_err(Error::io("write", &record)));
    (run, result.and(written))
}
