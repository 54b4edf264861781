//! `/etc/hosts`, `/etc/resolv.conf` and the host name of a pod.

use super::key;
use crate::config::NodeConfig;
use k8s_openapi::api::core::v1::Pod;
use std::fmt::Write;

/// Longest host name the kernel takes.
const MAX_HOSTNAME: usize = 63;

/// The pod's host name: `spec.hostname` or its name, cut to what a host name may be.
pub(crate) fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .as_ref()
        .and_then(|s| s.hostname.as_deref())
        .filter(|h| !h.is_empty())
        .unwrap_or(key(pod).1);
    name.chars()
        .take(MAX_HOSTNAME)
        .collect::<String>()
        .trim_end_matches(['-', '.'])
        .to_string()
}

/// `host.subdomain.ns.svc.domain` if the pod has a subdomain.
pub(crate) fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{domain}", hostname(pod), key(pod).0))
}

/// The text of `/etc/hosts`.
pub(crate) fn hosts(pod: &Pod, ip: &str, domain: &str) -> String {
    let mut out = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    match fqdn(pod, domain) {
        Some(fqdn) => writeln!(out, "{ip}\t{fqdn}\t{}", hostname(pod)),
        None => writeln!(out, "{ip}\t{}", hostname(pod)),
    }
    .ok();
    let aliases = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten());
    for (i, alias) in aliases.enumerate() {
        if i == 0 {
            out.push_str("\n# Entries added by HostAliases.\n");
        }
        let _ = writeln!(
            out,
            "{}\t{}",
            alias.ip,
            alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
        );
    }
    out
}

/// The text of `/etc/resolv.conf`, by `dnsPolicy` and `dnsConfig`. `host` is the machine's own.
pub(crate) fn resolv_conf(pod: &Pod, config: &NodeConfig, dns: Option<&str>, host: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let words = |key: &str| {
        host.lines()
            .filter_map(|l| l.trim().strip_prefix(key))
            .flat_map(str::split_whitespace)
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let (mut servers, mut search, mut options) = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => (vec![], vec![], vec![]),
        "ClusterFirst" if !host_network => cluster(pod, config, dns, words("search")),
        "ClusterFirstWithHostNet" => cluster(pod, config, dns, words("search")),
        _ => (words("nameserver"), words("search"), words("options")),
    };
    if let Some(own) = &spec.dns_config {
        servers.extend(own.nameservers.iter().flatten().cloned());
        search.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|o: &String| o.split(':').next() != Some(name));
            options.push(
                option
                    .value
                    .as_ref()
                    .map_or_else(|| name.clone(), |v| format!("{name}:{v}")),
            );
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    search.retain(|s| seen.insert(s.clone()));
    let mut out = String::new();
    if !search.is_empty() {
        let _ = writeln!(out, "search {}", search.join(" "));
    }
    for server in servers.iter().take(3) {
        let _ = writeln!(out, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(out, "options {}", options.join(" "));
    }
    out
}

fn cluster(
    pod: &Pod,
    config: &NodeConfig,
    dns: Option<&str>,
    host_search: Vec<String>,
) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (ns, domain) = (key(pod).0, &config.cluster_domain);
    let mut search = vec![format!("{ns}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    search.extend(host_search);
    (
        vec![dns.map_or_else(|| config.dns_ip().to_string(), str::to_string)],
        search,
        vec!["ndots:5".into()],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p-0", "namespace": "d"}, "spec": spec})).unwrap()
    }

    fn resolv(spec: serde_json::Value) -> String {
        let config = NodeConfig::new(
            "n",
            "/x",
            "10.244.0.0/24".parse().unwrap(),
            "10.96.0.0/16".parse().unwrap(),
        );
        resolv_conf(&pod(spec), &config, None, "nameserver 9.9.9.9\nsearch corp\n")
    }

    #[test]
    fn names_are_found_in_the_cluster_first() {
        assert_eq!(
            resolv(json!({"containers": []})),
            "search d.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
        assert_eq!(
            resolv(json!({"containers": [], "hostNetwork": true})),
            "search corp\nnameserver 9.9.9.9\n"
        );
        assert_eq!(
            resolv(
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "1"}]}})
            ),
            "nameserver 1.1.1.1\noptions ndots:1\n"
        );
    }

    #[test]
    fn hosts_know_the_pod_and_its_aliases() {
        let text = hosts(
            &pod(
                json!({"containers": [], "hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
            ),
            "10.0.0.2",
            "cluster.local",
        );
        assert!(
            text.contains("10.0.0.2\th.s.d.svc.cluster.local\th\n") && text.ends_with("1.2.3.4\ta\tb\n"),
            "{text}"
        );
        assert_eq!(hostname(&pod(json!({"containers": []}))), "p-0");
    }
}
