//! Volumes that change as a whole: the files live in a dated folder, `..data` points to it, and names point through
//! `..data`. Replacing that one link shows readers all new files at once (kubelet does the same, and programs rely on it).

use super::Files;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::Path;

const DATA: &str = "..data";

/// Makes `dir` show exactly `files`; does nothing if it already does.
pub(super) fn write(dir: &Path, files: &Files, group: Option<u32>) -> Result<()> {
    if shows(dir, files) {
        return Ok(());
    }
    let old = std::fs::read_link(dir.join(DATA)).ok();
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = dir.join(&name);
    make_dir(&fresh, group)?;
    for (path, file) in files {
        let target = fresh.join(path);
        for parent in Path::new(path)
            .ancestors()
            .skip(1)
            .filter(|p| !p.as_os_str().is_empty())
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            make_dir(&fresh.join(parent), group)?;
        }
        std::fs::write(&target, &file.data).map_err(Error::io("write", &target))?;
        let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))
            .map_err(Error::io("change mode of", &target))?;
        chown(&target, None, group).map_err(Error::io("change group of", &target))?;
    }
    let (link, data) = (dir.join("..data_tmp"), dir.join(DATA));
    let _ = std::fs::remove_file(&link);
    symlink(&name, &link).map_err(Error::io("link", &link))?;
    std::fs::rename(&link, &data).map_err(Error::io("rename", &link))?;
    let tops: BTreeSet<&str> = files.keys().filter_map(|p| p.split('/').next()).collect();
    for top in &tops {
        let visible = dir.join(top);
        if std::fs::symlink_metadata(&visible).is_err() {
            symlink(Path::new(DATA).join(top), &visible).map_err(Error::io("link", &visible))?;
        }
    }
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(name.as_ref()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    if let Some(old) = old {
        let _ = std::fs::remove_dir_all(dir.join(old));
    }
    Ok(())
}

fn make_dir(path: &Path, group: Option<u32>) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(Error::io("create", path))?;
    chown(path, None, group).map_err(Error::io("change group of", path))
}

/// Whether the folder shows these files already: same names, same content.
fn shows(dir: &Path, files: &Files) -> bool {
    let data = dir.join(DATA);
    if !data.exists() || count(&data) != files.len() {
        return false;
    }
    files
        .iter()
        .all(|(path, file)| std::fs::read(data.join(path)).is_ok_and(|d| d == file.data))
}

fn count(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::volumes::File;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(p, d)| {
                (
                    (*p).to_string(),
                    File {
                        data: d.as_bytes().to_vec(),
                        mode: 0o644,
                    },
                )
            })
            .collect()
    }

    fn seen(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| !n.starts_with(".."))
            .collect();
        names.sort();
        names
            .iter()
            .map(|n| format!("{n}={}", std::fs::read_to_string(dir.join(n)).unwrap_or("dir".into())))
            .collect()
    }

    #[test]
    fn shows_all_new_files_and_no_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1"), ("b", "2"), ("c/d", "3")]), None).unwrap();
        assert_eq!(seen(dir.path()), ["a=1", "b=2", "c=dir"]);
        let before = std::fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &files(&[("a", "1"), ("b", "2"), ("c/d", "3")]), None).unwrap();
        assert_eq!(std::fs::read_link(dir.path().join(DATA)).unwrap(), before);
        write(dir.path(), &files(&[("a", "9")]), None).unwrap();
        assert_eq!(seen(dir.path()), ["a=9"]);
        assert_eq!(
            std::fs::read_dir(dir.path())
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("..20"))
                .count(),
            1
        );
    }
}
