//! One scrape target for proxy and application (revisions.md §5.7, metrics merge).

use serde_json::{Map, Value, json};

/// Environment variable that tells the agent where the application's metrics are.
pub(crate) const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

/// Where the agent serves the merged metrics.
const AGENT_PATH: &str = "/stats/prometheus";
/// Annotation with several endpoints of the application.
const TARGETS: &str = "prometheus.istio.io/scrape-targets";

/// Ports of proxy and agent, where no application can serve metrics.
const RESERVED: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// Merges the pod's own scrape annotations into the agent's; returns what the agent has to know.
///
/// `Err` says why the application's metrics port cannot be used.
pub(crate) fn merge(pod: &mut Value, mesh_default: bool, status_port: u16) -> Result<Option<String>, String> {
    let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() else {
        return Ok(None);
    };
    let enabled = match annotations
        .get("prometheus.istio.io/merge-metrics")
        .and_then(Value::as_str)
    {
        Some(value) => matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True"),
        None => mesh_default,
    };
    if !enabled {
        return Ok(None);
    }
    let take = |suffix: &str| {
        let wanted = format!("prometheus_io_{suffix}");
        annotations
            .iter()
            .find(|(key, _)| sanitised(key) == wanted)
            .map(|(key, value)| (key.clone(), value.clone()))
    };
    let (scrape, path, port) = (take("scrape"), take("path"), take("port"));
    let text = |found: &Option<(String, Value)>| {
        found
            .as_ref()
            .and_then(|(_, value)| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let (asked, own_path, own_port) = (text(&scrape), text(&path), text(&port));
    if asked == "false" {
        return Ok(None);
    }
    let targets = annotations.get(TARGETS).and_then(Value::as_str).map(str::to_owned);
    let agent = status_port.to_string();
    // The agent's own annotations from an earlier injection are not the application's.
    let from_agent = own_port == agent && own_path == AGENT_PATH;
    let mut config = Map::new();
    if !from_agent {
        check_port(&own_port, status_port, "prometheus.io/port")?;
        config.insert("scrape".to_owned(), json!(asked));
        config.insert("path".to_owned(), json!(own_path));
        config.insert("port".to_owned(), json!(own_port));
    }
    if let Some(targets) = targets {
        let targets = parse_targets(&targets, status_port)?;
        if let Some(first) = targets.first() {
            config.insert("scrape".to_owned(), json!("true"));
            config.insert("path".to_owned(), first["path"].clone());
            config.insert("port".to_owned(), first["port"].clone());
            config.insert("targets".to_owned(), Value::Array(targets));
        }
        annotations.shift_remove(TARGETS);
    }
    for (key, _) in [&scrape, &path, &port].into_iter().flatten() {
        annotations.shift_remove(key);
    }
    annotations.insert("prometheus.io/port".to_owned(), json!(agent));
    annotations.insert("prometheus.io/path".to_owned(), json!(AGENT_PATH));
    annotations.insert("prometheus.io/scrape".to_owned(), json!("true"));
    let told = config
        .values()
        .any(|value| value.as_str().is_none_or(|text| !text.is_empty()));
    Ok(told.then(|| Value::Object(config).to_string()))
}

fn check_port(port: &str, status_port: u16, annotation: &str) -> Result<(), String> {
    if port.is_empty() {
        return Ok(());
    }
    let number: Option<u16> = port.parse().ok().filter(|port| *port > 0);
    let number = number
        .ok_or_else(|| format!("annotation {annotation}: {port:?} is no port; use a number between 1 and 65535"))?;
    if number == status_port || RESERVED.contains(&number) {
        return Err(format!(
            "annotation {annotation}: {number} belongs to the proxy; serve the application's metrics on another port"
        ));
    }
    Ok(())
}

/// Several endpoints of one pod: `8080:/metrics,9100:/custom`.
fn parse_targets(text: &str, status_port: u16) -> Result<Vec<Value>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (port, path) = item.split_once(':').unwrap_or((item, "/metrics"));
            if port.is_empty() {
                return Err(format!("annotation {TARGETS}: {item:?} has no port; write PORT:PATH"));
            }
            check_port(port, status_port, TARGETS)?;
            Ok(json!({ "port": port, "path": path }))
        })
        .collect()
}

/// Prometheus' relabelling turns everything but letters and digits into underscores, so these are one name.
fn sanitised(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
