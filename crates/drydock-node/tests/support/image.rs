//! The image of the tests: busybox, as an OCI layout.

use serde_json::json;
use std::path::{Path, PathBuf};

/// A busybox that needs no libraries.
pub fn busybox() -> Option<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|p| {
            p.is_file() && !String::from_utf8_lossy(&std::fs::read(p).unwrap_or_default()).contains("/lib64/ld-linux")
        })
}

/// Writes the layout with the name `docker.io/library/busybox:latest`.
pub fn write(dir: &Path) {
    let mut tar = tar::Builder::new(Vec::new());
    let header = || {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    let (mut link, mut file) = (header(), header());
    let mut header = header();
    let data = std::fs::read(busybox().unwrap()).unwrap();
    header.set_size(data.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    tar.append_data(&mut header, "bin/busybox", data.as_slice()).unwrap();
    for name in [
        "sh", "sleep", "cat", "nc", "id", "ls", "env", "hostname", "grep", "printf", "mkdir", "echo", "httpd", "touch",
        "true", "false", "kill",
    ] {
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        tar.append_link(&mut link, format!("bin/{name}"), "busybox").unwrap();
    }
    for (name, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\napp:x:1000:\n"),
    ] {
        file.set_size(text.len() as u64);
        file.set_mode(0o644);
        tar.append_data(&mut file, name, text.as_bytes()).unwrap();
    }
    let layer = tar.into_inner().unwrap();
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |data: &[u8]| {
        let digest: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data)
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        std::fs::write(blobs.join(&digest), data).unwrap();
        format!("sha256:{digest}")
    };
    let layer = put(&layer);
    let config = put(
        json!({"config": {"Cmd": ["sh"], "Env": ["FROM_IMAGE=1"]}, "rootfs": {"type": "layers", "diff_ids": [layer]}})
            .to_string()
            .as_bytes(),
    );
    let manifest = put(
        json!({"schemaVersion": 2, "config": {"digest": config}, "layers": [{"digest": layer}]})
            .to_string()
            .as_bytes(),
    );
    let annotations = json!({"org.opencontainers.image.ref.name": "docker.io/library/busybox:latest"});
    std::fs::write(
        dir.join("index.json"),
        json!({"manifests": [{"digest": manifest, "annotations": annotations}]}).to_string(),
    )
    .unwrap();
}
