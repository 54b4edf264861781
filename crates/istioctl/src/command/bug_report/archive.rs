//! A compressed archive that is made in memory.

use flate2::Compression;
use flate2::write::GzEncoder;

/// Folder that everything is in.
const FOLDER: &str = "bug-report";

/// Files to be written.
#[derive(Debug, Default)]
pub struct Archive {
    files: Vec<(String, Vec<u8>)>,
    size: u64,
}

impl Archive {
    /// Bytes of its content so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Adds a file.
    pub fn add(&mut self, path: &str, text: &str) {
        self.size += text.len() as u64;
        self.files.push((format!("{FOLDER}/{path}"), text.as_bytes().to_vec()));
    }

    /// The archive's bytes.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (path, content) in self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, path, content.as_slice())?;
        }
        builder.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_goes_in_comes_out() {
        let mut archive = Archive::default();
        archive.add("pods/a/x.log", "one line\n");
        assert_eq!((archive.files(), archive.size()), (1, 9));
        let bytes = archive.finish().unwrap();
        let mut reader = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let mut entry = reader.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(
            (entry.path().unwrap().to_str(), text.as_str()),
            (Some("bug-report/pods/a/x.log"), "one line\n")
        );
    }
}
