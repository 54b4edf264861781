//! The functions that injection templates have beyond sprig's (revisions.md §5.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotemplate::{Template, TemplateError, Value, from_json, to_json, to_yaml};
use serde_json::Value as Json;

use crate::golang::{ORIGINAL, scalar};

type Result<T> = std::result::Result<T, TemplateError>;

fn argument<'a>(function: &str, arguments: &'a [Value], position: usize) -> Result<&'a Value> {
    arguments
        .get(position)
        .ok_or_else(|| TemplateError::Exec(format!("{function}: argument {} is missing", position + 1)))
}

fn text(value: &Value) -> String {
    match scalar(value) {
        Value::Nil => String::new(),
        other => other.to_string(),
    }
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

/// Adds the functions; where sprig has one of the same name, Istio's replaces it.
pub(crate) fn extend(template: Template) -> Template {
    let template = ports(template);
    let template = json(template);
    template
        .func("isset", |arguments| {
            let key = text(argument("isset", arguments, 1)?);
            Ok(Value::Bool(argument("isset", arguments, 0)?.field(&key).is_some()))
        })
        .func("annotation", |arguments| {
            let name = text(argument("annotation", arguments, 1)?);
            let annotations = argument("annotation", arguments, 0)?
                .field("Annotations")
                .cloned()
                .unwrap_or(Value::Nil);
            match annotations.field(&name) {
                Some(value) => Ok(value.clone()),
                None => Ok(string(text(argument("annotation", arguments, 2)?))),
            }
        })
        .func("valueOrDefault", |arguments| {
            let value = argument("valueOrDefault", arguments, 0)?;
            let value = if value.is_truthy() {
                value
            } else {
                argument("valueOrDefault", arguments, 1)?
            };
            Ok(scalar(value))
        })
        // Istio's argument order is the reverse of sprig's pipeline order: needle first here too, haystack second.
        .func("contains", |arguments| {
            let (needle, haystack) = (
                text(argument("contains", arguments, 0)?),
                text(argument("contains", arguments, 1)?),
            );
            Ok(Value::Bool(haystack.contains(&needle)))
        })
        .func("toLower", |arguments| {
            Ok(string(text(argument("toLower", arguments, 0)?).to_lowercase()))
        })
        .func("directory", |arguments| {
            let path = text(argument("directory", arguments, 0)?);
            let directory = match path.rsplit_once('/') {
                Some(("", _)) => "/",
                Some((directory, _)) => directory,
                None => ".",
            };
            Ok(string(directory))
        })
        .func("indent", |arguments| {
            let width = argument("indent", arguments, 0)?.as_int().unwrap_or(0).clamp(0, 256);
            let separator = format!("\n{}", " ".repeat(usize::try_from(width).unwrap_or(0)));
            Ok(string(
                text(argument("indent", arguments, 1)?)
                    .split('\n')
                    .collect::<Vec<_>>()
                    .join(&separator),
            ))
        })
        .func("env", |arguments| Ok(scalar(argument("env", arguments, 1)?)))
        .func("strdict", |arguments| {
            let pairs = arguments.chunks(2).map(|pair| {
                (
                    Arc::from(text(&pair[0])),
                    pair.get(1).map_or(string(""), |v| string(text(v))),
                )
            });
            Ok(Value::Map(Arc::new(pairs.collect())))
        })
        .func("mergeMaps", |arguments| Ok(Value::Map(Arc::new(merged(arguments)))))
        .func("omitNil", |arguments| {
            Ok(without_nil(argument("omitNil", arguments, 0)?))
        })
        .func("omit", |arguments| {
            let Value::Map(map) = argument("omit", arguments, 0)? else {
                return Ok(Value::Map(Arc::default()));
            };
            let keys: Vec<String> = arguments[1..].iter().map(text).collect();
            let kept = map.iter().filter(|(key, _)| !keys.iter().any(|k| **k == ***key));
            Ok(Value::Map(Arc::new(
                kept.map(|(k, v)| (k.clone(), v.clone())).collect(),
            )))
        })
        .func("appendMultusNetwork", |arguments| {
            let (existing, network) = (
                text(argument("appendMultusNetwork", arguments, 0)?),
                text(argument("appendMultusNetwork", arguments, 1)?),
            );
            Ok(string(append_network(&existing, &network)))
        })
        .func("formatDuration", |arguments| {
            Ok(string(text(argument("formatDuration", arguments, 0)?)))
        })
        .func("kubevirtInterfaces", |arguments| {
            Ok(string(text(argument("kubevirtInterfaces", arguments, 0)?)))
        })
        .func("excludeInterfaces", |arguments| {
            Ok(string(text(argument("excludeInterfaces", arguments, 0)?)))
        })
        .func("otelResourceAttributes", |arguments| {
            Ok(string(resource_attributes(arguments)))
        })
}

fn ports(template: Template) -> Template {
    template
        .func("excludeInboundPort", |arguments| {
            let port = text(argument("excludeInboundPort", arguments, 0)?);
            let listed = text(argument("excludeInboundPort", arguments, 1)?);
            let port = port.trim();
            let mut ports: Vec<&str> = listed.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
            if !port.is_empty() && port != "0" && !ports.contains(&port) {
                ports.push(port);
            }
            Ok(string(ports.join(",")))
        })
        .func("includeInboundPorts", |arguments| {
            Ok(string(container_ports(argument("includeInboundPorts", arguments, 0)?)))
        })
        .func("applicationPorts", |arguments| {
            Ok(string(container_ports(argument("applicationPorts", arguments, 0)?)))
        })
}

/// TCP ports of all containers but the proxy, in the order in which they are declared.
fn container_ports(containers: &Value) -> String {
    let mut ports = Vec::new();
    let Value::List(containers) = containers else {
        return String::new();
    };
    for container in containers
        .iter()
        .filter(|c| c.field("Name").map(text).as_deref() != Some("istio-proxy"))
    {
        let Some(Value::List(declared)) = container.field("Ports") else {
            continue;
        };
        for port in declared.iter() {
            let protocol = port.field("Protocol").map(text).unwrap_or_default();
            if matches!(protocol.as_str(), "UDP" | "SCTP") {
                continue;
            }
            ports.extend(port.field("ContainerPort").map(text));
        }
    }
    ports.join(",")
}

fn json(template: Template) -> Template {
    template
        .func("toJSON", |arguments| {
            Ok(string(plain(argument("toJSON", arguments, 0)?).to_string()))
        })
        .func("toJsonMap", |arguments| {
            let map = merged(arguments);
            Ok(string(if map.is_empty() {
                "{}".to_owned()
            } else {
                to_json(&Value::Map(Arc::new(map))).to_string()
            }))
        })
        .func("fromJSON", |arguments| {
            let text = text(argument("fromJSON", arguments, 0)?);
            serde_json::from_str::<Json>(&text)
                .map(|json| from_json(&json))
                .map_err(|error| TemplateError::Exec(format!("fromJSON: {error}")))
        })
        .func("structToJSON", |arguments| {
            Ok(string(struct_json(argument("structToJSON", arguments, 0)?)))
        })
        .func("protoToJSON", |arguments| {
            Ok(string(struct_json(argument("protoToJSON", arguments, 0)?)))
        })
        .func("toYaml", |arguments| {
            Ok(string(to_yaml(&plain(argument("toYaml", arguments, 0)?))))
        })
}

/// JSON of a value; a struct's own JSON where it has one.
fn plain(value: &Value) -> Json {
    match value.field(ORIGINAL) {
        Some(Value::String(original)) => serde_json::from_str(original).unwrap_or(Json::Null),
        _ => to_json(&scalar(value)),
    }
}

/// Order of a container port's fields in Kubernetes' Go type, which is the order in which it is written.
const PORT_FIELDS: [&str; 5] = ["name", "hostPort", "containerPort", "protocol", "hostIP"];

fn struct_json(value: &Value) -> String {
    let Json::Object(mut fields) = plain(value) else {
        return String::new();
    };
    if !fields.contains_key("containerPort") {
        return Json::Object(fields).to_string();
    }
    let ordered = PORT_FIELDS
        .iter()
        .filter_map(|field| fields.remove(*field).map(|value| ((*field).to_owned(), value)));
    Json::Object(ordered.collect()).to_string()
}

fn merged(maps: &[Value]) -> BTreeMap<Arc<str>, Value> {
    let mut result = BTreeMap::new();
    for map in maps {
        if let Value::Map(map) = map {
            result.extend(map.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    result
}

fn without_nil(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            let kept = map.iter().filter(|(_, value)| !matches!(value, Value::Nil));
            Value::Map(Arc::new(
                kept.map(|(key, value)| (key.clone(), without_nil(value))).collect(),
            ))
        }
        other => other.clone(),
    }
}

/// Adds a network to a Multus annotation, which is either a JSON list or comma-separated names.
fn append_network(existing: &str, network: &str) -> String {
    if existing.is_empty() {
        return network.to_owned();
    }
    match serde_json::from_str::<Vec<Json>>(existing) {
        Ok(mut networks) => {
            let (namespace, name) = network.split_once('/').unwrap_or(("", network));
            let entry = if namespace.is_empty() {
                serde_json::json!({ "name": name })
            } else {
                serde_json::json!({ "name": name, "namespace": namespace })
            };
            if !networks.contains(&entry) {
                networks.push(entry);
            }
            Json::Array(networks).to_string()
        }
        Err(_) if existing.split(',').any(|n| n.trim() == network) => existing.to_owned(),
        Err(_) => format!("{existing}, {network}"),
    }
}

/// OpenTelemetry's resource attributes, where the mesh asks for its names of services.
///
/// Arguments: mesh configuration, annotations, labels, namespace, containers.
fn resource_attributes(arguments: &[Value]) -> String {
    let [mesh, annotations, labels, namespace, containers] = arguments else {
        return String::new();
    };
    let asks = |provider: &Value| {
        let tracing = provider.field("Opentelemetry");
        let style = tracing.and_then(|tracing| tracing.field("ServiceAttributeEnrichment"));
        style.is_some_and(|style| text(style) == "OTEL_SEMANTIC_CONVENTIONS")
    };
    let Some(Value::List(providers)) = mesh.field("ExtensionProviders") else {
        return String::new();
    };
    if !providers.iter().any(asks) {
        return String::new();
    }
    let name_of = |container: &Value| container.field("Name").map(text).unwrap_or_default();
    let names: Vec<String> = match containers {
        Value::List(containers) => containers
            .iter()
            .map(name_of)
            .filter(|name| name != "istio-proxy")
            .collect(),
        _ => Vec::new(),
    };
    let given = |key: &str| annotations.field(&format!("resource.opentelemetry.io/{key}")).map(text);
    let label = |key: &str| labels.field(key).map(text).filter(|value| !value.is_empty());
    let namespace = Some(text(namespace))
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    let instance = match names.as_slice() {
        [only] => Some(format!("{namespace}.$(POD_NAME).{only}")),
        _ => Some(format!("{namespace}.$(POD_NAME)")),
    };
    let version = label("app.kubernetes.io/version").or_else(|| label("service.istio.io/canonical-revision"));
    let attributes = [
        ("service.namespace", given("service.namespace").or(Some(namespace))),
        ("service.version", given("service.version").or(version)),
        ("service.instance.id", given("service.instance.id").or(instance)),
    ];
    let attributes = attributes
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    attributes.collect::<Vec<_>>().join(",")
}
