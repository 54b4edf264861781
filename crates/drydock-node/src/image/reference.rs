//! Image references, completed the way docker and containerd complete them.

/// A completed reference: `docker.io/library/busybox:latest`. Two spellings of one image compare equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(String);

/// Longest reference accepted (bytes); the distribution specification's names are at most 255 long, plus tag and digest.
const MAX: usize = 512;

impl Reference {
    /// Completes `text` with registry, `library/` and `:latest`. `None` if it is no reference at all (a pod that asks
    /// for it gets `InvalidImageName`).
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        if text.is_empty() || text.len() > MAX || !text.chars().all(plain) {
            return None;
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |i| i + 1);
        let (path, tag) = match name[slash..].find(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        let (host, rest) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("docker.io", path),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let library = if host == "docker.io" && !rest.contains('/') {
            "library/"
        } else {
            ""
        };
        if rest.is_empty()
            || rest.split('/').any(str::is_empty)
            || tag == Some("")
            || rest.contains(|c: char| c.is_ascii_uppercase())
        {
            return None;
        }
        Some(Self(match (digest, tag) {
            (Some(digest), _) => format!("{host}/{library}{rest}@{digest}"),
            (None, tag) => format!("{host}/{library}{rest}:{}", tag.unwrap_or("latest")),
        }))
    }

    /// The whole reference.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Registry and path, without tag or digest.
    pub fn repository(&self) -> &str {
        let end = self
            .0
            .find('@')
            .unwrap_or_else(|| self.0.rfind(':').unwrap_or(self.0.len()));
        &self.0[..end]
    }

    /// The digest, if the reference is by digest.
    pub fn digest(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, d)| d)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&str>) {
        assert_eq!(Reference::parse(text).as_ref().map(Reference::as_str), want, "{text}");
    }

    #[test]
    fn completes_as_docker_does() {
        check("curlimages/curl", Some("docker.io/curlimages/curl:latest"));
        check("busybox:1.36", Some("docker.io/library/busybox:1.36"));
        check("docker.io/kong/httpbin", Some("docker.io/kong/httpbin:latest"));
        check("localhost:5000/a/b", Some("localhost:5000/a/b:latest"));
        check(
            "registry.istio.io/release/x:1.0",
            Some("registry.istio.io/release/x:1.0"),
        );
        check("a/b:1@sha256:00", Some("docker.io/a/b@sha256:00"));
        for bad in ["", "A/b", "a b", "a//b", "a:", "x\n"] {
            check(bad, None);
        }
        assert_eq!(
            Reference::parse("localhost:5000/a/b")
                .as_ref()
                .map(Reference::repository),
            Some("localhost:5000/a/b")
        );
    }
}
