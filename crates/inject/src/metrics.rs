//! One scrape target for proxy and application (revisions.md §5.7, metrics merge).

use serde_json::{Map, Value, json};

/// Environment variable that tells the agent where the application's metrics are.
pub(crate) const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

/// Where the agent serves the merged metrics.
const AGENT_PATH: &str = "/stats/prometheus";
/// Annotation with several endpoints of the application.
const TARGETS: &str = "prometheus.istio.io/scrape-targets";
/// Annotation with the port of the proxy that serves the merged metrics over mutual TLS, and the variable it comes from.
const SECURE_PORT: (&str, &str) = ("prometheus.istio.io/secure-port", "ENVOY_SECURE_MERGED_METRICS_PORT");

/// Ports of proxy and agent, where no application can serve metrics.
const RESERVED: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// Merges the pod's own scrape annotations into the agent's; returns what the agent has to know.
///
/// `Err` says why the application's metrics port cannot be used.
pub(crate) fn merge(pod: &mut Value, mesh_default: bool, status_port: u16) -> Result<Option<String>, String> {
    let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() else {
        return Ok(None);
    };
    let wanted = named(annotations, "prometheus_io_scrape").find_map(|(_, value)| flag(value));
    let merged = text(annotations, "prometheus.istio.io/merge-metrics").and_then(flag);
    if wanted == Some(false) || !merged.unwrap_or(mesh_default) {
        return Ok(None);
    }
    let own = |name: &str| named(annotations, name).map(|(_, value)| value.to_owned()).next_back();
    let port = own("prometheus_io_port");
    let agent = status_port.to_string();
    if port.as_ref() == Some(&agent) {
        // An earlier injection has done it, or the user knows what he does.
        return Ok(None);
    }
    let mut config = Map::new();
    config.insert(
        "scrape".to_owned(),
        json!(own("prometheus_io_scrape").unwrap_or_default()),
    );
    let targets = own("prometheus_istio_io_scrape_targets").and_then(|targets| parse_targets(&targets));
    let targets = targets.unwrap_or_default();
    if let Some((first_port, first_path)) = targets.first() {
        for (port, _) in &targets {
            check_port(port, status_port, TARGETS)?;
        }
        // Agents that know of one endpoint only take the first.
        config.insert("path".to_owned(), json!(first_path));
        config.insert("port".to_owned(), json!(first_port));
        let targets = targets.iter().map(|(port, path)| json!({"port": port, "path": path}));
        config.insert("targets".to_owned(), targets.collect());
    } else {
        let port = port.unwrap_or_default();
        if !port.is_empty() {
            check_port(&port, status_port, "prometheus.io/port")?;
        }
        config.insert("path".to_owned(), json!(own("prometheus_io_path").unwrap_or_default()));
        config.insert("port".to_owned(), json!(port));
    }
    clear(annotations);
    annotations.insert("prometheus.io/port".to_owned(), json!(agent));
    annotations.insert("prometheus.io/path".to_owned(), json!(AGENT_PATH));
    annotations.insert("prometheus.io/scrape".to_owned(), json!("true"));
    let told = config
        .values()
        .any(|value| value.as_str().is_none_or(|text| !text.is_empty()));
    Ok(told.then(|| gotemplate::json_text(&Value::Object(config))))
}

/// Removes the annotations that an earlier injection wrote for the agent.
pub(crate) fn undo(annotations: &mut Map<String, Value>, status_port: u16) {
    let agent = status_port.to_string();
    if named(annotations, "prometheus_io_port").any(|(_, port)| port == agent) {
        clear(annotations);
    }
}

/// Tells Prometheus of the port with mutual TLS, unless the user does.
pub(crate) fn tell_secure_port(pod: &mut Value, proxy: &Value) {
    let (annotation, variable) = SECURE_PORT;
    let environment = proxy["env"].as_array().into_iter().flatten();
    let port = environment
        .filter(|entry| entry["name"] == variable)
        .find_map(|entry| entry["value"].as_str().filter(|port| !port.is_empty() && *port != "0"));
    if let (Some(port), Some(annotations)) = (port, pod["metadata"]["annotations"].as_object_mut())
        && named(annotations, "prometheus_istio_io_secure_port").next().is_none()
    {
        annotations.insert(annotation.to_owned(), json!(port));
    }
}

/// Annotations with one of the spellings that are one name to Prometheus.
fn named<'a>(annotations: &'a Map<String, Value>, name: &str) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> {
    let texts = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    texts.filter(move |(key, _)| sanitised(key) == name)
}

fn text<'a>(annotations: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    annotations.get(name).and_then(Value::as_str)
}

fn clear(annotations: &mut Map<String, Value>) {
    annotations.retain(|key, _| {
        !matches!(
            sanitised(key).as_str(),
            "prometheus_io_scrape" | "prometheus_io_path" | "prometheus_io_port" | "prometheus_istio_io_scrape_targets"
        )
    });
}

/// A flag as Go reads one; `None` for anything else.
pub(crate) fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn check_port(port: &str, status_port: u16, annotation: &str) -> Result<(), String> {
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

/// Several endpoints of one pod: `8080:/metrics,9100:/custom`. `None` if one has no port: then the annotation says
/// nothing.
fn parse_targets(text: &str) -> Option<Vec<(String, String)>> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (port, path) = item.split_once(':').unwrap_or((item, ""));
            let (port, path) = (port.trim(), path.trim());
            let path = if path.is_empty() { "/metrics" } else { path };
            (!port.is_empty()).then(|| (port.to_owned(), path.to_owned()))
        })
        .collect()
}

/// Prometheus' relabelling turns everything but letters and digits into underscores, so these are one name.
fn sanitised(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(annotations: Value, told: Result<Option<&str>, &str>, left: Value) {
        let mut pod = json!({"metadata": {"annotations": annotations}});
        let outcome = merge(&mut pod, true, 15020);
        assert_eq!(outcome.as_ref().map(Option::as_deref).map_err(String::as_str), told);
        assert_eq!(pod["metadata"]["annotations"], left);
    }

    #[test]
    fn the_application_s_endpoint_is_told_to_the_agent() {
        let agent = json!({"prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus", "prometheus.io/scrape": "true"});
        check(json!({}), Ok(None), agent.clone());
        check(
            json!({"prometheus.io/port": "80", "prometheus_io/path": "/m?a=1&b=2"}),
            Ok(Some(r#"{"scrape":"","path":"/m?a=1\u0026b=2","port":"80"}"#)),
            agent.clone(),
        );
        check(
            json!({"prometheus.istio.io/scrape-targets": " 80:/m , 90: ", "prometheus.io/scrape": "true"}),
            Ok(Some(
                r#"{"scrape":"true","path":"/m","port":"80","targets":[{"port":"80","path":"/m"},{"port":"90","path":"/metrics"}]}"#,
            )),
            agent.clone(),
        );
        check(json!({"prometheus.istio.io/scrape-targets": ":/m"}), Ok(None), agent);
    }

    #[test]
    fn who_is_not_to_be_scraped_or_is_merged_already_stays_as_it_is() {
        for annotations in [
            json!({"prometheus.io/scrape": "0", "prometheus.io/port": "80"}),
            json!({"prometheus.istio.io/merge-metrics": "F", "prometheus.io/port": "80"}),
            json!({"prometheus.io/port": "15020", "prometheus.io/path": "/mine"}),
        ] {
            check(annotations.clone(), Ok(None), annotations);
        }
    }

    #[test]
    fn a_port_of_the_proxy_serves_no_application() {
        let annotations = json!({"prometheus.io/port": "15090"});
        let refused = "annotation prometheus.io/port: 15090 belongs to the proxy; serve the application's metrics on another port";
        check(annotations.clone(), Err(refused), annotations);
        let annotations = json!({"prometheus.istio.io/scrape-targets": "80,x"});
        let refused =
            "annotation prometheus.istio.io/scrape-targets: \"x\" is no port; use a number between 1 and 65535";
        check(annotations.clone(), Err(refused), annotations);
    }

    #[test]
    fn the_port_with_mutual_tls_is_announced_once() {
        let proxy = json!({"env": [{"name": "ENVOY_SECURE_MERGED_METRICS_PORT", "value": "15092"}]});
        let announce = |mut annotations: Value, proxy: &Value| {
            let mut pod = json!({"metadata": {"annotations": annotations.take()}});
            tell_secure_port(&mut pod, proxy);
            pod["metadata"]["annotations"].take()
        };
        assert_eq!(
            announce(json!({}), &proxy),
            json!({"prometheus.istio.io/secure-port": "15092"})
        );
        let own = json!({"prometheus_istio.io/secure-port": "1"});
        assert_eq!(announce(own.clone(), &proxy), own);
        assert_eq!(announce(json!({}), &json!({"env": []})), json!({}));
    }
}
