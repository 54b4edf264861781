//! What is in our images.

use super::Request;
use super::layer::Item;
use std::path::{Path, PathBuf};

/// The version before this one. Until there is a release to take it from it is the same code under another number, so
/// that an upgrade has two sides to show.
const OLDER: &str = "0.1.0";
const CURRENT: &str = env!("CARGO_PKG_VERSION");
const HUB: &str = "docker.io/trysail";
/// User and group that injected sidecars run as.
const PROXY_USER: u32 = 1337;

/// One OCI layout with one or more images.
#[derive(Debug)]
pub struct Recipe {
    /// Folder of the layout.
    pub name: &'static str,
    /// Images, which may share layers.
    pub images: Vec<Image>,
}

/// One image.
#[derive(Debug)]
pub struct Image {
    /// Everything it is called.
    pub references: Vec<String>,
    /// Lowest first. Layers with the same content are stored once.
    pub layers: Vec<Vec<Item>>,
    /// `ENV`
    pub env: Vec<(&'static str, String)>,
    /// `ENTRYPOINT`
    pub entrypoint: Vec<&'static str>,
    /// `CMD`
    pub cmd: Vec<&'static str>,
    /// `USER`
    pub user: &'static str,
}

impl Recipe {
    /// Files of the machine that go into the layout.
    pub fn inputs(&self) -> Vec<&Path> {
        let items = self.images.iter().flat_map(|i| &i.layers).flatten();
        items
            .filter_map(|i| match i {
                Item::Program { from, .. } | Item::File { from, .. } => Some(from.as_path()),
                _ => None,
            })
            .collect()
    }
}

/// All layouts.
pub fn all(request: &Request) -> Vec<Recipe> {
    vec![istiod(request), proxy(request), samples(request)]
}

/// What every image has: users, name lookup, certificate authorities, `/tmp`.
fn base() -> Vec<Item> {
    vec![
        Item::text(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\nistio-proxy:x:1337:1337::/home/istio-proxy:/bin/sh\n",
        ),
        Item::text("etc/group", "root:x:0:\nnogroup:x:65534:\nistio-proxy:x:1337:\n"),
        Item::text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        Item::file(
            "etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/certs/ca-certificates.crt",
        ),
        Item::folder("tmp", 0o1777, 0),
        Item::folder("root", 0o700, 0),
        Item::folder("home/istio-proxy", 0o755, PROXY_USER),
        // The C library loads these by name at run time, so no binary names them.
        Item::Library("libnss_dns.so.2"),
        Item::Library("libnss_files.so.2"),
        Item::Library("libresolv.so.2"),
    ]
}

/// A shell and the usual tools, in one file.
fn tools() -> Vec<Item> {
    let mut items = vec![Item::program("bin/busybox", "/usr/bin/busybox")];
    for name in [
        "sh", "ash", "cat", "chmod", "cp", "cut", "date", "echo", "env", "false", "grep", "head", "hostname", "id",
        "kill", "ls", "mkdir", "mv", "nc", "netstat", "printf", "ps", "rm", "sed", "seq", "sleep", "sort", "tail",
        "tar", "test", "touch", "tr", "true", "uname", "vi", "wc", "wget", "which", "xargs",
    ] {
        items.push(Item::link(format!("bin/{name}"), "busybox"));
    }
    items
}

fn versions() -> [&'static str; 2] {
    [CURRENT, OLDER]
}

fn istiod(request: &Request) -> Recipe {
    let image = |version: &str| Image {
        references: vec![format!("{HUB}/istiod:{version}")],
        layers: vec![
            base(),
            vec![
                Item::program("usr/local/bin/pilot-discovery", request.binary("istiod")),
                Item::link("usr/local/bin/istiod".into(), "pilot-discovery"),
            ],
        ],
        env: vec![("TRYSAIL_VERSION", version.to_string())],
        entrypoint: vec!["/usr/local/bin/pilot-discovery"],
        cmd: vec![],
        user: "1337:1337",
    };
    Recipe {
        name: "istiod",
        images: versions().map(image).into(),
    }
}

fn proxy(request: &Request) -> Recipe {
    let mut lowest = base();
    lowest.extend(tools());
    lowest.push(Item::program(
        "usr/sbin/xtables-nft-multi",
        "/usr/sbin/xtables-nft-multi",
    ));
    for name in [
        "iptables",
        "iptables-save",
        "iptables-restore",
        "ip6tables",
        "ip6tables-save",
        "ip6tables-restore",
        "iptables-nft",
        "iptables-nft-save",
        "iptables-nft-restore",
        "ip6tables-nft",
        "ip6tables-nft-save",
        "ip6tables-nft-restore",
    ] {
        lowest.push(Item::link(format!("usr/sbin/{name}"), "xtables-nft-multi"));
    }
    lowest.push(Item::Extensions);
    for folder in [
        "etc/istio/proxy",
        "etc/istio/config",
        "var/lib/istio",
        "var/lib/istio/data",
        "var/lib/istio/envoy",
        "var/run/secrets/istio",
    ] {
        lowest.push(Item::folder(folder, 0o775, PROXY_USER));
    }
    let image = |version: &str| Image {
        references: vec![format!("{HUB}/proxyv2:{version}")],
        layers: vec![
            lowest.clone(),
            vec![Item::program("usr/local/bin/envoy", &request.envoy)],
            vec![Item::program(
                "usr/local/bin/pilot-agent",
                request.binary("pilot-agent"),
            )],
        ],
        env: vec![
            ("TRYSAIL_VERSION", version.to_string()),
            ("ISTIO_META_ISTIO_PROXY_SHA", format!("trysail-{version}")),
        ],
        entrypoint: vec!["/usr/local/bin/pilot-agent"],
        cmd: vec![],
        user: "1337:1337",
    };
    Recipe {
        name: "proxyv2",
        images: versions().map(image).into(),
    }
}

fn samples(request: &Request) -> Recipe {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
    let mut client = base();
    client.extend(tools());
    client.push(Item::program("usr/bin/curl", "/usr/bin/curl"));
    let server = || {
        vec![
            base(),
            vec![Item::program("usr/local/bin/sample-app", request.binary("sample-app"))],
        ]
    };
    let image = |references: &[&str], env: Vec<(&'static str, String)>, application: &'static str| Image {
        references: names(references),
        layers: server(),
        env,
        entrypoint: vec!["/usr/local/bin/sample-app"],
        cmd: vec![application],
        user: "",
    };
    let hello = |version: &str| {
        let name = format!("examples-helloworld-{version}:1.0");
        image(
            &[
                &format!("docker.io/istio/{name}"),
                &format!("registry.istio.io/release/{name}"),
            ],
            vec![("SERVICE_VERSION", version.to_string())],
            "helloworld",
        )
    };
    let book = |service: &'static str, version: &str| {
        let name = format!("examples-bookinfo-{service}-{version}:1.20.3");
        image(
            &[
                &format!("docker.io/istio/{name}"),
                &format!("registry.istio.io/release/{name}"),
            ],
            vec![("SERVICE_VERSION", version.to_string())],
            service,
        )
    };
    Recipe {
        name: "samples",
        images: vec![
            Image {
                references: names(&["docker.io/curlimages/curl:latest", "docker.io/curlimages/curl:8.16.0"]),
                layers: vec![client],
                env: vec![],
                entrypoint: vec!["/usr/bin/curl"],
                cmd: vec!["--help"],
                user: "",
            },
            image(
                &[
                    "docker.io/mccutchen/go-httpbin:v2.15.0",
                    "docker.io/mccutchen/go-httpbin:latest",
                ],
                vec![],
                "httpbin",
            ),
            image(
                &["docker.io/kong/httpbin:latest", "docker.io/kennethreitz/httpbin:latest"],
                vec![("PORT", "80".into())],
                "httpbin",
            ),
            hello("v1"),
            hello("v2"),
            book("productpage", "v1"),
            book("details", "v1"),
            book("ratings", "v1"),
            book("reviews", "v1"),
            book("reviews", "v2"),
            book("reviews", "v3"),
        ],
    }
}

impl Item {
    fn text(path: &str, text: &str) -> Self {
        Self::Text {
            path: path.into(),
            text: text.into(),
        }
    }

    fn file(path: &str, from: &str) -> Self {
        Self::File {
            path: path.into(),
            from: from.into(),
        }
    }

    fn program(path: &str, from: impl Into<PathBuf>) -> Self {
        Self::Program {
            path: path.into(),
            from: from.into(),
        }
    }

    fn link(path: String, target: &str) -> Self {
        Self::Link {
            path,
            target: target.into(),
        }
    }

    fn folder(path: &str, mode: u32, owner: u32) -> Self {
        Self::Folder {
            path: path.into(),
            mode,
            owner,
        }
    }
}
