//! A small image out of the machine's busybox: a docker archive made by hand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

/// Writes `busybox:1` into `folder`; `None` when the machine has no static busybox.
pub fn busybox(folder: &Path) -> Option<PathBuf> {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())?;
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("bin")).ok()?;
    std::fs::create_dir_all(root.join("www")).ok()?;
    std::fs::copy(program, root.join("bin/busybox")).ok()?;
    for name in ["sh", "sleep", "httpd", "wget", "cat"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).ok()?;
    }
    std::fs::write(root.join("www/index.html"), "hello\n").ok()?;
    let image = folder.join("image");
    std::fs::create_dir_all(&image).ok()?;
    tar(&root, &image.join("layer.tar"))?;
    let digest = Command::new("sha256sum").arg(image.join("layer.tar")).output().ok()?;
    let digest = String::from_utf8(digest.stdout).ok()?.split(' ').next()?.to_owned();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh", "-c", "trap exit TERM; httpd -p 8080 -h /www; sleep 3600 & wait"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["busybox:1"], "Layers": ["layer.tar"]}]);
    for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
        std::fs::File::create(image.join(name))
            .ok()?
            .write_all(content.to_string().as_bytes())
            .ok()?;
    }
    let archive = folder.join("busybox.tar");
    tar(&image, &archive)?;
    Some(archive)
}

fn tar(folder: &Path, archive: &Path) -> Option<()> {
    let made = Command::new("tar")
        .arg("-cf")
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .status()
        .ok()?;
    made.success().then_some(())
}
