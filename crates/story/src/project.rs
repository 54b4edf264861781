//! The folder in which the commands of stories run.

use std::path::{Path, PathBuf};

/// The project's root: above the story, or else above this program, wherever the program was called from.
#[must_use]
pub fn root(story: &Path, programs: &Path) -> PathBuf {
    let own = std::env::current_exe().ok();
    let above = |path: &Path| {
        let path = path.canonicalize().ok()?;
        path.ancestors().find(|folder| is_root(folder)).map(Path::to_owned)
    };
    above(story)
        .or_else(|| above(&own?))
        .unwrap_or_else(|| programs.parent().unwrap_or(Path::new(".")).to_owned())
}

/// What stories name lies there, in the repository as in a release.
fn is_root(folder: &Path) -> bool {
    folder.join("samples").is_dir() && folder.join("manifests").is_dir()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_root_is_above_the_story() {
        let project = tempfile::tempdir().unwrap();
        let project = project.path().canonicalize().unwrap();
        for folder in ["samples", "manifests", "e2e/walk"] {
            std::fs::create_dir_all(project.join(folder)).unwrap();
        }
        let story = project.join("e2e/walk/1.story");
        std::fs::write(&story, "").unwrap();
        for path in [story, project.join("e2e/walk"), project.join("e2e/walk/../walk")] {
            assert_eq!(root(&path, Path::new("/elsewhere/bin")), project, "{}", path.display());
        }
    }
}
