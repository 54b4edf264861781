//! One scrape target for proxy and application (revisions.md §5.7, metrics merge).

use serde_json::{Value, json};

/// Environment variable that tells the agent where the application's metrics are.
pub(crate) const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

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
    let find = |suffix: &str| {
        let wanted = format!("prometheus_io_{suffix}");
        annotations
            .iter()
            .find(|(key, _)| sanitised(key) == wanted)
            .map(|(key, value)| (key.clone(), value.clone()))
    };
    let (scrape, path, port) = (find("scrape"), find("path"), find("port"));
    let text =
        |found: &Option<(String, Value)>| found.as_ref().and_then(|(_, value)| value.as_str().map(str::to_owned));
    if text(&scrape).as_deref() == Some("false") {
        return Ok(None);
    }
    if let Some(port) = text(&port) {
        let number: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            format!("annotation prometheus.io/port: {port:?} is no port; use a number between 1 and 65535")
        })?;
        if number == status_port || RESERVED.contains(&number) {
            // Injecting twice finds the agent's own annotations; these are not the application's.
            if number == status_port && text(&path).as_deref() == Some("/stats/prometheus") {
                return Ok(None);
            }
            return Err(format!(
                "annotation prometheus.io/port: {number} belongs to the proxy; serve the application's metrics on another port"
            ));
        }
    }
    let config = json!({
        "scrape": text(&scrape).unwrap_or_default(),
        "path": text(&path).unwrap_or_default(),
        "port": text(&port).unwrap_or_default(),
    });
    for (key, _) in [&scrape, &path, &port].into_iter().flatten() {
        annotations.shift_remove(key);
    }
    annotations.insert("prometheus.io/port".to_owned(), json!(status_port.to_string()));
    annotations.insert("prometheus.io/path".to_owned(), json!("/stats/prometheus"));
    annotations.insert("prometheus.io/scrape".to_owned(), json!("true"));
    let asked = [scrape, path, port].iter().any(Option::is_some);
    Ok(asked.then(|| config.to_string()))
}

/// Prometheus' relabelling turns everything but letters and digits into underscores, so these are one name.
fn sanitised(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
