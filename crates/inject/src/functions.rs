//! The functions that injection templates have beyond sprig's (revisions.md §5.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::lenient::Duration;
use gotemplate::{Template, TemplateError, Value, from_json, json_text, to_json, to_yaml};
use serde_json::{Map, Value as Json};

use crate::golang::{self, ORIGINAL, scalar};

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
            // A zero and `false` are values: only what was not given has a default.
            let given = match value {
                Value::Nil => false,
                Value::String(text) => !text.is_empty(),
                _ => true,
            };
            let value = if given {
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
            // With the slash that ends it.
            Ok(string(&path[..path.rfind('/').map_or(0, |slash| slash + 1)]))
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
            let given = text(argument("formatDuration", arguments, 0)?);
            // Nothing is no time.
            let duration = if given.is_empty() {
                Ok(Duration::default())
            } else {
                given.parse()
            };
            let duration: Duration =
                duration.map_err(|error| TemplateError::Exec(format!("formatDuration: {error}")))?;
            Ok(string(golang::duration(duration)))
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
            // What needs no addition stays as it was written.
            if port.is_empty() || port == "0" || listed.split(',').any(|item| item == port) {
                return Ok(string(listed));
            }
            let ports = listed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(string(ports.chain([port]).collect::<Vec<_>>().join(",")))
        })
        .func("includeInboundPorts", |arguments| {
            Ok(string(container_ports(
                argument("includeInboundPorts", arguments, 0)?,
                |_| true,
            )))
        })
        .func("applicationPorts", |arguments| {
            Ok(string(container_ports(
                argument("applicationPorts", arguments, 0)?,
                |name| name != "istio-proxy",
            )))
        })
}

/// TCP ports of the containers whose name counts, in the order in which they are declared.
fn container_ports(containers: &Value, counts: fn(&str) -> bool) -> String {
    let mut ports = Vec::new();
    let Value::List(containers) = containers else {
        return String::new();
    };
    for container in containers
        .iter()
        .filter(|c| counts(&c.field("Name").map(text).unwrap_or_default()))
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
            let json = plain(argument("toJSON", arguments, 0)?);
            Ok(string(if json.is_null() {
                "{}".to_owned()
            } else {
                json_text(&json)
            }))
        })
        .func("toJsonMap", |arguments| {
            Ok(string(json_text(&to_json(&Value::Map(Arc::new(merged(arguments)))))))
        })
        .func("fromJSON", |arguments| {
            let text = text(argument("fromJSON", arguments, 0)?);
            // As Istio has it: what is no JSON is an empty map's text, not the end of the pod.
            Ok(serde_json::from_str::<Json>(&text).map_or_else(|_| string("{}"), |json| from_json(&json)))
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
        return json_text(&Json::Object(fields));
    }
    let ordered = PORT_FIELDS
        .iter()
        .filter_map(|field| fields.remove(*field).map(|value| ((*field).to_owned(), value)));
    json_text(&Json::Object(ordered.collect()))
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

/// A value without what is nil in it, and without the maps and lists of which nothing is left then.
fn without_nil(value: &Value) -> Value {
    fn kept(value: &Value) -> Option<Value> {
        match value {
            Value::Nil => None,
            Value::Map(map) if map.is_empty() => Some(value.clone()),
            Value::Map(map) => {
                let fields = map.iter().filter_map(|(key, value)| Some((key.clone(), kept(value)?)));
                let fields: BTreeMap<Arc<str>, Value> = fields.collect();
                (!fields.is_empty()).then(|| Value::Map(Arc::new(fields)))
            }
            Value::List(items) if items.is_empty() => Some(value.clone()),
            Value::List(items) => {
                let items: Vec<Value> = items.iter().filter_map(kept).collect();
                (!items.is_empty()).then(|| Value::List(items.into()))
            }
            other => Some(other.clone()),
        }
    }
    kept(value).unwrap_or(Value::Nil)
}

/// Adds a network to a Multus annotation, which is either a JSON list or comma-separated names. What is there already
/// stays as it was written.
fn append_network(existing: &str, network: &str) -> String {
    if existing.is_empty() {
        return network.to_owned();
    }
    let Some(end) = existing.rfind(']') else {
        return if existing.split(',').any(|listed| listed.trim() == network) {
            existing.to_owned()
        } else {
            format!("{existing}, {network}")
        };
    };
    let Ok(networks) = serde_json::from_str::<Vec<Map<String, Json>>>(existing) else {
        return existing.to_owned();
    };
    let (namespace, name) = network.split_once('/').unwrap_or(("", network));
    let is_it = |listed: &Map<String, Json>| {
        let of = listed.get("namespace").filter(|namespace| !namespace.is_null());
        listed.get("name").is_some_and(|listed| listed == name) && of.map_or(namespace.is_empty(), |of| of == namespace)
    };
    if networks.iter().any(is_it) {
        return existing.to_owned();
    }
    let entry = if namespace.is_empty() {
        format!(", {{\"name\": {}}}", Json::from(name))
    } else {
        format!(
            ", {{\"name\": {}, \"namespace\": {}}}",
            Json::from(name),
            Json::from(namespace)
        )
    };
    format!("{}{entry}{}", &existing[..end], &existing[end..])
}

/// Tag and digest of an image: `[registry[:port]/]name[:tag][@digest]`.
fn tag_and_digest(image: &str) -> (&str, &str) {
    let (image, digest) = image.split_once('@').unwrap_or((image, ""));
    let name = image.rsplit('/').next().unwrap_or_default();
    (name.rsplit_once(':').map_or("", |(_, tag)| tag), digest)
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
    let given = |map: &Value, key: &str| map.field(key).map(text).filter(|value| !value.is_empty());
    let annotated = |key: &str| given(annotations, &format!("resource.opentelemetry.io/{key}"));
    let namespace = text(namespace);
    let containers: &[Value] = match containers {
        Value::List(containers) => containers,
        _ => &[],
    };
    let of_image = || {
        let [only] = containers else { return None };
        let image = only.field("Image").map(text)?;
        let (tag, digest) = tag_and_digest(&image);
        let parts: Vec<&str> = [tag, digest].into_iter().filter(|part| !part.is_empty()).collect();
        Some(parts.join("@")).filter(|version| !version.is_empty())
    };
    let instance = || {
        let name = containers.first()?.field("Name").map(text).unwrap_or_default();
        // The pod has no name yet; Kubernetes fills it in.
        Some(format!("{namespace}.$(POD_NAME).{name}"))
    };
    let attributes = [
        (
            "service.namespace",
            annotated("service.namespace").or_else(|| Some(namespace.clone()).filter(|name| !name.is_empty())),
        ),
        (
            "service.version",
            annotated("service.version")
                .or_else(|| given(labels, "app.kubernetes.io/version"))
                .or_else(of_image),
        ),
        (
            "service.instance.id",
            annotated("service.instance.id").or_else(instance),
        ),
    ];
    let attributes = attributes
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    attributes.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "functions_tests.rs"]
mod tests;
