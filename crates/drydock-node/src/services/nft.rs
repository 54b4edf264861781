//! The table as nftables rules: rendered as text, applied in one transaction.

use super::table::{Back, Front, Protocol, Table};
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddrV4;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Replaces the cluster's table by this one; readers see either the old or the new rules.
pub(crate) async fn apply(config: &NodeConfig, table: &Table) -> Result<()> {
    nft(&render(config, table)).await
}

/// Removes the cluster's table.
pub(crate) async fn remove(config: &NodeConfig) -> Result<()> {
    let name = config.nft_table();
    nft(&format!("table ip {name}\ndelete table ip {name}\n")).await
}

async fn nft(rules: &str) -> Result<()> {
    let failed = |message: String| Error::Command {
        command: "nft -f -".into(),
        message,
    };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("{e}: is nftables installed?")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(rules.as_bytes())
            .await
            .map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().await.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()))
    }
}

/// A front with endpoints is an element of a verdict map that leads to a chain per service port; a front without is
/// rejected. Chains are shared by all fronts of a service port (ClusterIP, NodePort, LoadBalancer).
fn render(config: &NodeConfig, table: &Table) -> String {
    let name = config.nft_table();
    let mut chains: BTreeMap<(&str, Protocol), (String, &Back)> = BTreeMap::new();
    let (mut services, mut rejected, mut hairpin) = (Vec::new(), Vec::new(), Vec::new());
    for (front, back) in &table.fronts {
        let Front { ip, protocol, port } = front;
        let element = format!("{ip} . {} . {port}", protocol.name());
        if back.endpoints.is_empty() {
            rejected.push(element);
            continue;
        }
        let next = chains.len();
        let chain = &chains
            .entry((&back.name, *protocol))
            .or_insert_with(|| (format!("svc-{next}"), back))
            .0;
        services.push(format!("{element} : goto {chain}"));
        hairpin.extend(back.endpoints.iter().map(|e| format!("{0} . {0}", e.ip())));
    }
    hairpin.sort();
    hairpin.dedup();
    let mut out = format!("table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n");
    let set = |out: &mut String, head: &str, elements: &[String]| {
        let _ = writeln!(out, "  {head}");
        if !elements.is_empty() {
            let _ = writeln!(out, "    elements = {{ {} }}", elements.join(",\n      "));
        }
        out.push_str("  }\n");
    };
    set(
        &mut out,
        "map services {\n    type ipv4_addr . inet_proto . inet_service : verdict",
        &services,
    );
    set(
        &mut out,
        "set rejected {\n    type ipv4_addr . inet_proto . inet_service",
        &rejected,
    );
    set(&mut out, "set hairpin {\n    type ipv4_addr . ipv4_addr", &hairpin);
    for ((service, protocol), (chain, back)) in &chains {
        let protocol = protocol.name();
        let list: Vec<&SocketAddrV4> = back.endpoints.iter().collect();
        let target = match list.as_slice() {
            [one] => format!("{}:{}", one.ip(), one.port()),
            many => {
                let pick = if back.sticky { "jhash ip saddr" } else { "numgen random" };
                let map: Vec<String> = many
                    .iter()
                    .enumerate()
                    .map(|(i, e)| format!("{i} : {} . {}", e.ip(), e.port()))
                    .collect();
                format!("{pick} mod {} map {{ {} }}", many.len(), map.join(", "))
            }
        };
        let _ = writeln!(
            out,
            "  chain {chain} {{\n    comment \"{service}\"\n    meta l4proto {protocol} dnat ip to {target}\n  }}"
        );
    }
    // Behind the translation, an address of the service range is one that no service has (any more).
    let (bridge, pods, range) = (config.bridge(), config.pod_cidr, config.service_cidr);
    let lookup = "ip daddr . meta l4proto . th dport";
    let _ = write!(
        out,
        "  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {lookup} vmap @services
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {lookup} vmap @services
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr . ip daddr @hairpin masquerade
    ip saddr {pods} oifname != \"{bridge}*\" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ip daddr {range} reject
    {lookup} @rejected reject
  }}
  chain host {{
    type filter hook output priority filter; policy accept;
    ip daddr {range} reject
    {lookup} @rejected reject
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    {lookup} @rejected reject
  }}
}}
"
    );
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::services::Here;
    use k8s_openapi::api::core::v1::{Pod, Service};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn config() -> NodeConfig {
        NodeConfig::new(
            "n",
            "/x",
            "10.244.0.0/24".parse().unwrap(),
            "10.96.0.0/16".parse().unwrap(),
        )
    }

    fn service(name: &str, spec: Value) -> Arc<Service> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "namespace": "d"}, "spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": "10.244.0.1"}]}}})).unwrap())
    }

    fn slice(name: &str, port: u16, endpoints: Value) -> Arc<EndpointSlice> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "namespace": "d", "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4", "ports": [{"name": "http", "port": port}], "endpoints": endpoints})).unwrap())
    }

    fn example() -> Table {
        let services = [
            service(
                "web",
                json!({"type": "LoadBalancer", "clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
            ),
            service(
                "one",
                json!({"clusterIP": "10.96.0.6", "ports": [{"name": "http", "port": 80}]}),
            ),
            service(
                "none",
                json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}),
            ),
            service(
                "near",
                json!({"clusterIP": "10.96.0.8", "internalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80, "nodePort": 30081}]}),
            ),
            service(
                "headless",
                json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}),
            ),
        ];
        let slices = [
            slice(
                "web",
                8080,
                json!([{"addresses": ["10.244.0.3"]}, {"addresses": ["10.244.0.4"]}, {"addresses": ["10.244.0.5"], "conditions": {"ready": false}}]),
            ),
            slice(
                "one",
                8080,
                json!([{"addresses": ["10.244.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}}]),
            ),
            slice(
                "near",
                53,
                json!([{"addresses": ["10.244.0.10"], "nodeName": "n"}, {"addresses": ["10.244.1.10"], "nodeName": "far"}]),
            ),
            slice("headless", 8080, json!([{"addresses": ["10.244.0.9"]}])),
        ];
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}]}, "status": {"podIP": "10.244.0.8"}})).unwrap();
        let here = Here {
            node: config().name,
            addresses: vec![config().node_ip()],
        };
        Table::build(&services, &slices, &[Arc::new(pod)], &here)
    }

    #[test]
    fn rules_are_as_expected() {
        let rules = render(&config(), &example());
        let inner: String = rules
            .lines()
            .skip(2)
            .take_while(|l| !l.contains("chain prerouting"))
            .map(|l| format!("{l}\n"))
            .collect();
        insta::assert_snapshot!(inner.replace(&config().nft_table(), "TABLE"), @r#"
        table ip TABLE {
          map services {
            type ipv4_addr . inet_proto . inet_service : verdict
            elements = { 10.96.0.5 . tcp . 80 : goto svc-0,
              10.96.0.6 . tcp . 80 : goto svc-1,
              10.96.0.8 . tcp . 80 : goto svc-2,
              10.244.0.1 . tcp . 80 : goto svc-0,
              10.244.0.1 . tcp . 30080 : goto svc-0,
              10.244.0.1 . tcp . 30081 : goto svc-3,
              10.244.0.1 . udp . 5353 : goto svc-4 }
          }
          set rejected {
            type ipv4_addr . inet_proto . inet_service
            elements = { 10.96.0.7 . tcp . 80 }
          }
          set hairpin {
            type ipv4_addr . ipv4_addr
            elements = { 10.244.0.10 . 10.244.0.10,
              10.244.0.3 . 10.244.0.3,
              10.244.0.4 . 10.244.0.4,
              10.244.0.6 . 10.244.0.6,
              10.244.0.8 . 10.244.0.8,
              10.244.1.10 . 10.244.1.10 }
          }
          chain svc-3 {
            comment "d/near:80"
            meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.10 . 53, 1 : 10.244.1.10 . 53 }
          }
          chain svc-2 {
            comment "d/near:80 (local)"
            meta l4proto tcp dnat ip to 10.244.0.10:53
          }
          chain svc-1 {
            comment "d/one:80"
            meta l4proto tcp dnat ip to 10.244.0.6:8080
          }
          chain svc-4 {
            comment "d/p hostPort 5353"
            meta l4proto udp dnat ip to 10.244.0.8:53
          }
          chain svc-0 {
            comment "d/web:80"
            meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.3 . 8080, 1 : 10.244.0.4 . 8080 }
          }
        "#);
    }

    /// The rules must not only look right: the kernel has to take them, twice, and let go of them.
    #[tokio::test]
    async fn the_kernel_takes_them() {
        if !nix::unistd::geteuid().is_root() || nft("").await.is_err() {
            println!("skipped: needs root and nft");
            return;
        }
        let mut config = config();
        config.data_dir = format!("/nft-test-{}", std::process::id()).into();
        for table in [example(), Table::default(), example()] {
            apply(&config, &table).await.unwrap();
        }
        remove(&config).await.unwrap();
    }
}
