//! Volumes of a pod: from the spec to folders on the node that containers mount.

mod atomic;
mod payload;
mod token;

pub(crate) use payload::{Context, Sources, config_maps, secrets};
pub(crate) use token::Tokens;

use crate::beneath;
use crate::error::{Error, Result};
use crate::mounts;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, Volume, VolumeMount};
use nix::mount::{MsFlags, mount};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

/// Volumes of one pod, made by [`Volumes::prepare`].
#[derive(Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    fs_group: Option<u32>,
}

impl Volumes {
    pub(crate) fn new(pod_dir: &Path, pod: &Pod) -> Self {
        let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
        Self {
            dir: pod_dir.join("volumes"),
            fs_group: security.and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok()),
        }
    }

    /// Makes every volume of the pod and fills those that come from objects. May be called again: what is there stays,
    /// what changed in the objects is replaced.
    ///
    /// # Errors
    /// Naming the volume that cannot be made (yet): the pod waits and an event `FailedMount` says so.
    pub(crate) async fn prepare(&self, pod: &Pod, context: &Context<'_>) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.dir)
            .map_err(Error::io("create", &self.dir))?;
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let named = |e: Error| Error::Pod(format!("MountVolume.SetUp failed for volume \"{}\" : {e}", volume.name));
            self.one(pod, volume, context).await.map_err(named)?;
        }
        self.nested(pod)
    }

    /// A mount beneath another (`/var/run/secrets/istio/crl`) needs its folder in the outer volume, which may be
    /// read-only by the time the runtime would make it; kubelet makes it too.
    fn nested(&self, pod: &Pod) -> Result<()> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let made: Vec<&str> = spec
            .volumes
            .iter()
            .flatten()
            .filter(|v| v.host_path.is_none())
            .map(|v| v.name.as_str())
            .collect();
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let mounts: Vec<&VolumeMount> = container.volume_mounts.iter().flatten().collect();
            for outer in mounts
                .iter()
                .filter(|m| m.sub_path.is_none() && m.sub_path_expr.is_none() && made.contains(&m.name.as_str()))
            {
                for inner in &mounts {
                    let Ok(rest) = Path::new(&inner.mount_path).strip_prefix(&outer.mount_path) else {
                        continue;
                    };
                    if rest.as_os_str().is_empty() || rest.components().any(|c| c == Component::ParentDir) {
                        continue;
                    }
                    let dir = self.dir.join(&outer.name).join(rest);
                    if !dir.exists() {
                        beneath::open(&self.dir.join(&outer.name), rest, Some(0o755))
                            .map_err(Error::io("create", &dir))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Rewrites volumes whose objects have changed; other volumes are left alone.
    pub(crate) async fn refresh(&self, pod: &Pod, context: &Context<'_>) -> Result<()> {
        for volume in pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .filter(|v| payload::is_projected(v))
        {
            self.one(pod, volume, context).await?;
        }
        Ok(())
    }

    async fn one(&self, pod: &Pod, volume: &Volume, context: &Context<'_>) -> Result<()> {
        let dir = self.dir.join(&volume.name);
        if payload::is_projected(volume) {
            self.memory(&dir, None)?;
            let files = payload::files(pod, volume, context).await?;
            return atomic::write(&dir, &files, self.fs_group);
        }
        if let Some(empty) = &volume.empty_dir {
            let fresh = !dir.is_dir();
            let size = empty.size_limit.as_ref().and_then(crate::pod::milli).map(|m| m / 1000);
            if empty.medium.as_deref() == Some("Memory") {
                self.memory(&dir, size)?;
            }
            if fresh {
                std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
            }
            // Anyone in the pod may write; with fsGroup new files belong to the group.
            let mode = if self.fs_group.is_some() { 0o2777 } else { 0o777 };
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode))
                .map_err(Error::io("change mode of", &dir))?;
            return chown(&dir, None, self.fs_group).map_err(Error::io("change group of", &dir));
        }
        if let Some(host) = &volume.host_path {
            return host_path(host);
        }
        Err(Error::Pod(
            "this kind of volume is not supported: use emptyDir, configMap, secret, projected, downwardAPI or hostPath"
                .into(),
        ))
    }

    /// A file system in memory: secrets do not reach the disk.
    fn memory(&self, dir: &Path, size: Option<i128>) -> Result<()> {
        if is_mount(dir) {
            return Ok(());
        }
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let size = size.filter(|s| *s > 0).map_or(String::new(), |s| format!(",size={s}"));
        mount(
            Some("tmpfs"),
            dir,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(format!("mode=755{size}").as_str()),
        )
        .map_err(Error::errno("mount", dir))
    }

    /// Where a mount of a container comes from, and whether it is read-only by nature. A part of a volume is held at
    /// `held`: by its name it could be something else when the runtime comes to mount it.
    pub(crate) fn source(
        &self,
        pod: &Pod,
        mount: &VolumeMount,
        sub_path: Option<&str>,
        held: &Path,
    ) -> Result<(PathBuf, bool)> {
        let volume = pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .find(|v| v.name == mount.name);
        let volume =
            volume.ok_or_else(|| Error::Pod(format!("volumeMount {} names no volume of the pod", mount.name)))?;
        let base = match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => self.dir.join(&volume.name),
        };
        let read_only = payload::is_projected(volume);
        match sub_path.filter(|p| !p.is_empty()) {
            None => Ok((base, read_only)),
            Some(sub) => {
                hold(&below(&base, sub)?, held)?;
                Ok((held.to_path_buf(), read_only))
            }
        }
    }

    /// Unmounts and removes everything. What a `hostPath` points to is not ours.
    pub(crate) fn remove(&self) {
        if let Err(error) = mounts::remove(&self.dir) {
            tracing::debug!(%error, "volumes not removed yet");
        }
    }
}

fn is_mount(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
    device(dir).is_some() && dir.parent().is_some_and(|parent| device(dir) != device(parent))
}

/// Opens a path inside a volume, made if it is not there, that does not leave the volume by links.
///
/// Links inside a volume count: a file of a ConfigMap is one. So it is found out first where they lead, and that is then
/// opened without following any: a container that puts a link there meanwhile only gets an error.
fn below(base: &Path, sub: &str) -> Result<OwnedFd> {
    let outside = || Error::Pod(format!("subPath {sub:?} leaves the volume"));
    let plain = |c| matches!(c, Component::Normal(_) | Component::CurDir);
    if !Path::new(sub).components().all(plain) {
        return Err(outside());
    }
    let base = base.canonicalize().map_err(Error::io("resolve", base))?;
    let path = base.join(sub);
    let mut existing = path.as_path();
    while let Some(parent) = existing.parent().filter(|_| existing.symlink_metadata().is_err()) {
        existing = parent;
    }
    let real = existing.canonicalize().map_err(Error::io("resolve", existing))?;
    let real = real.strip_prefix(&base).map_err(|_| outside())?;
    let missing = path.strip_prefix(existing).unwrap_or(Path::new(""));
    // New folders are as open as the volume: whoever may write to it may write to them.
    let mode = std::fs::metadata(&base)
        .map_err(Error::io("read", &base))?
        .permissions()
        .mode()
        & 0o7777;
    beneath::open(&base, &real.join(missing), Some(mode)).map_err(Error::io("open", &path))
}

/// Binds what was opened to `at`, where it stays until the container's run is taken apart.
fn hold(part: &OwnedFd, at: &Path) -> Result<()> {
    let made = at
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| beneath::is_folder(part))
        .and_then(|folder| {
            if folder {
                std::fs::create_dir(at)
            } else {
                std::fs::File::create_new(at).map(drop)
            }
        });
    made.map_err(Error::io("create", at))?;
    let source = beneath::in_proc(part);
    mount(Some(source.as_str()), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Error::errno("bind", at))?;
    // What happens to this mount later stays here.
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).map_err(Error::errno("bind", at))
}

fn host_path(host: &HostPathVolumeSource) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let path = Path::new(&host.path);
    let kind = host.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" => std::fs::create_dir_all(path).map_err(Error::io("create", path))?,
        "FileOrCreate" => drop(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(Error::io("create", path))?,
        ),
        _ => {}
    }
    if kind.is_empty() {
        return Ok(());
    }
    let found = std::fs::metadata(path).map_err(Error::io("find", path))?.file_type();
    let fits = match kind {
        "Directory" | "DirectoryOrCreate" => found.is_dir(),
        "File" | "FileOrCreate" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Error::Pod(format!(
            "hostPath type check failed: {} is not a {kind}",
            host.path
        )))
    }
}

/// Files of a volume by relative path.
pub(crate) type Files = BTreeMap<String, File>;

/// One file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("v");
        std::fs::create_dir_all(base.join("real")).unwrap();
        std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o2777)).unwrap();
        std::fs::write(base.join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", base.join("inside")).unwrap();
        std::os::unix::fs::symlink("/etc", base.join("out")).unwrap();
        let check = |sub: &str, opened: &str| {
            let part = below(&base, sub).unwrap();
            let path = std::fs::read_link(beneath::in_proc(&part)).unwrap();
            assert_eq!(path, base.canonicalize().unwrap().join(opened), "{sub}");
        };
        check("a/b", "a/b");
        check("inside/file", "real/file");
        check("inside/new", "real/new");
        let mode = std::fs::metadata(base.join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o2777, "as open as the volume");
        for bad in ["../x", "/etc", "out", "out/new"] {
            assert!(below(&base, bad).is_err(), "{bad}");
        }
    }
}
