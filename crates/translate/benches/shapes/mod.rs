//! What is measured, and on what: each type of resources for one proxy, as a cold build of everything and as an update
//! after one object changed.
//!
//! The shapes are in `../shared/conformance/benchmark-shapes`, or in `SHAPES=DIR`. Measured is a push: a cold one is
//! everything that has to be computed for the type and a proxy that connects to a new control plane which knows the mesh
//! already, an update is from the event in the mesh to the new set.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use gotemplate::Templates;
use mesh::{Event, Mesh, Object};
use serde_json::{Value, json};
use testkit::ProxySpec;
use translate::{Generator, Proxy, ProxyClass, ResourceType};

type Failure = Box<dyn std::error::Error>;

/// A shape: its objects, and the proxy that connects.
struct Shape {
    name: String,
    documents: Vec<Value>,
    objects: Vec<Object>,
    mesh_config: Value,
    class: ProxyClass,
    /// Kinds among its objects that are not translated yet.
    unknown: BTreeSet<String>,
    /// Types that the shape measures.
    types: Vec<ResourceType>,
}

/// Types in the words of the shapes' file.
const WORDS: [(&str, ResourceType); 3] = [
    ("clusters", ResourceType::Cluster),
    ("listeners", ResourceType::Listener),
    ("routes", ResourceType::Route),
];

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let folder = std::env::var_os("SHAPES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/benchmark-shapes"),
        PathBuf::from,
    );
    if !folder.join("cases.yaml").exists() {
        println!(
            "skipped: {} has no cases.yaml; SHAPES=DIR says where the shapes are",
            folder.display()
        );
        return Vec::new();
    }
    read(&folder).unwrap_or_else(|error| {
        println!("skipped: the shapes in {} cannot be read: {error}", folder.display());
        Vec::new()
    })
});

fn read(folder: &Path) -> Result<Vec<Shape>, Failure> {
    let text = std::fs::read_to_string(folder.join("cases.yaml"))?;
    let cases = testkit::documents(&text)?.into_iter().next().unwrap_or_default();
    let mut shapes = Vec::new();
    for case in cases["cases"].as_array().into_iter().flatten() {
        let types = match (case["only"].as_str(), case["skip"].as_str()) {
            (Some(only), _) => WORDS
                .iter()
                .filter(|(word, _)| *word == only)
                .map(|(_, t)| *t)
                .collect(),
            (None, skip) => ResourceType::ALL
                .into_iter()
                .filter(|t| !matches!(t, ResourceType::Secret | ResourceType::Extension))
                .filter(|t| !WORDS.iter().any(|(word, of)| Some(*word) == skip && of == t))
                .collect(),
        };
        let data = json!({ "Services": case["Services"], "Instances": case["Instances"], "Name": case["name"] });
        let template = std::fs::read_to_string(folder.join(text_of(&case["template"])))?;
        shapes.push(shape(
            &text_of(&case["name"]),
            &template,
            &data,
            &text_of(&case["proxyType"]),
            types,
            &cases,
        )?);
    }
    for case in cases["endpoints"].as_array().into_iter().flatten() {
        let (endpoints, services) = (number_of(&case["endpoints"]), number_of(&case["services"]));
        let name = format!("endpoints-{endpoints}x{services}");
        let template = spread(endpoints, services);
        shapes.push(shape(
            &name,
            &template,
            &json!({}),
            "sidecar",
            vec![ResourceType::Endpoints],
            &cases,
        )?);
    }
    for count in [10, 1000] {
        let template = std::fs::read_to_string(folder.join(text_of(&cases["secrets"]["template"])))?;
        let data = json!({ "Services": count, "Instances": 0, "Name": "secrets" });
        let named = template + "\n---\n" + &gateway_of_secrets(count);
        shapes.push(shape(
            &format!("secrets-{count}"),
            &named,
            &data,
            "router",
            vec![ResourceType::Secret],
            &cases,
        )?);
    }
    shapes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(shapes)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number_of(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// That many endpoints for each of that many services, over four networks.
fn spread(endpoints: u64, services: u64) -> String {
    let mut text = String::new();
    for service in 0..services {
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: s{service}, namespace: default }}\n\
             spec:\n  hosts: [s{service}.example.com]\n  ports: [{{ number: 80, name: http, protocol: HTTP }}]\n\
             \x20 resolution: STATIC\n  location: MESH_INTERNAL\n  endpoints:\n"
        );
        for number in 0..endpoints {
            let (high, low, network) = (number / 250, number % 250, number % 4);
            text += &format!("  - {{ address: 111.{service}.{high}.{low}, network: network-{network} }}\n");
        }
    }
    text
}

/// A gateway that asks for every secret of the shape.
fn gateway_of_secrets(count: u32) -> String {
    let servers: String = (0..count)
        .map(|number| {
            format!(
                "\n  - {{ port: {{ number: 443, name: https-{number}, protocol: HTTPS }}, hosts: [h{number}.example.com], \
                 tls: {{ mode: SIMPLE, credentialName: sds-credential-{number} }} }}"
            )
        })
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{ name: all, namespace: default }}\n\
         spec:\n  selector: {{ istio.io/benchmark: 'true' }}\n  servers:{servers}\n"
    )
}

fn shape(
    name: &str,
    template: &str,
    data: &Value,
    role: &str,
    types: Vec<ResourceType>,
    cases: &Value,
) -> Result<Shape, Failure> {
    let templates = Templates::parse([(name, template)], |set| set)?;
    let text = templates.render(name, &gotemplate::from_json(data))?;
    let (mut objects, mut unknown) = (Vec::new(), BTreeSet::new());
    // One by one: the shapes have more documents than a reader of files should take at once, and one of them leaves
    // out the lines between its documents.
    let mut documents = Vec::new();
    for part in text.replace("\napiVersion:", "\n---\napiVersion:").split("\n---") {
        documents.extend(testkit::documents(part)?);
    }
    for document in &mut documents {
        // The file says of whom the objects are by their place only; they are the proxy's.
        if document["metadata"]["namespace"].is_null() {
            document["metadata"]["namespace"] = cases["proxy"]["namespace"].clone();
        }
        let kind = text_of(&document["kind"]);
        match Object::from_json(document.clone())? {
            Some(object) => objects.push(object),
            None => drop(unknown.insert(kind)),
        }
    }
    let mesh_config = cases["meshConfigPatch"].clone();
    if role != "sidecar" && role != "router" {
        unknown.insert(format!("a proxy of type {role}"));
        return Ok(Shape {
            name: name.to_owned(),
            class: class("sidecar", cases, &Mesh::default())?,
            documents: Vec::new(),
            objects: Vec::new(),
            mesh_config,
            unknown,
            types: Vec::new(),
        });
    }
    let mesh = mesh_of(&objects, &mesh_config)?;
    let class = class(role, cases, &mesh)?;
    Ok(Shape {
        name: name.to_owned(),
        documents,
        objects,
        mesh_config,
        class,
        unknown,
        types,
    })
}

fn class(role: &str, cases: &Value, mesh: &Mesh) -> Result<ProxyClass, Failure> {
    let proxy = &cases["proxy"];
    let (namespace, pod) = (text_of(&proxy["namespace"]), text_of(&proxy["id"]));
    let labels: Vec<(String, String)> = proxy["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text_of(value)))
        .collect();
    let labels: Vec<(&str, &str)> = labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let pod = pod.split('.').next().unwrap_or_default();
    let spec = ProxySpec {
        role: role.to_owned(),
        istio_version: proxy["istioVersion"].as_str().map(str::to_owned),
        cluster_id: proxy["clusterID"].as_str().map(str::to_owned),
        ..ProxySpec::sidecar(&namespace, pod, &text_of(&proxy["ip"]), &labels)
    };
    let mut proxy = Proxy::of_node(&spec.node())?;
    proxy.secrets = Some(mesh::SecretReader::of_verified_namespace(&namespace));
    Ok(proxy.class(&mesh.snapshot()))
}

fn mesh_of(objects: &[Object], mesh_config: &Value) -> Result<Mesh, Failure> {
    let mut mesh = Mesh::default();
    let config = api::mesh_config::MeshConfig::from_json(mesh_config.clone())?;
    let objects = objects.iter().cloned().map(Event::Apply);
    mesh.apply(std::iter::once(Event::MeshConfig(Arc::new(config))).chain(objects));
    Ok(mesh)
}

/// One measurement: a shape and a type.
#[derive(Clone, Copy)]
struct Case(&'static Shape, ResourceType);

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.name, self.1)
    }
}

fn cases() -> Vec<Case> {
    SHAPES
        .iter()
        .flat_map(|shape| shape.types.iter().map(move |of| Case(shape, *of)))
        .collect()
}

/// The shapes that yield a mesh.
fn meshes() -> Vec<Case> {
    let measured = SHAPES
        .iter()
        .filter_map(|shape| Some(Case(shape, *shape.types.first()?)));
    measured.collect()
}

/// The mesh itself, from objects that are read already (what Istio calls the push context).
#[divan::bench(args = meshes(), sample_count = 10, sample_size = 1, max_time = 1)]
fn mesh(bencher: Bencher<'_, '_>, case: &Case) {
    bencher.bench_local(|| {
        mesh_of(&case.0.objects, &case.0.mesh_config)
            .map(|mesh| mesh.snapshot())
            .ok()
    });
}

/// Everything that the type needs, computed from nothing.
#[divan::bench(args = cases(), sample_count = 15, sample_size = 1, max_time = 1)]
fn cold(bencher: Bencher<'_, '_>, case: &Case) {
    let Ok(mesh) = mesh_of(&case.0.objects, &case.0.mesh_config) else {
        return;
    };
    let snapshot = mesh.snapshot();
    bencher
        .with_inputs(|| Generator::new(snapshot.clone()))
        .bench_local_values(|mut generator| {
            let id = generator.open(case.0.class.clone());
            let set = generator.set(id, case.1);
            (set, generator)
        });
}

/// One service's endpoints move, or what the shape is about changes, there and back.
#[divan::bench(args = cases(), sample_count = 50, sample_size = 1, max_time = 1)]
fn update(bencher: Bencher<'_, '_>, case: &Case) {
    let Ok(mut mesh) = mesh_of(&case.0.objects, &case.0.mesh_config) else {
        return;
    };
    let Some(forms) = two_forms(case) else { return };
    let mut generator = Generator::new(mesh.snapshot());
    let id = generator.open(case.0.class.clone());
    generator.set(id, case.1);
    let mut turn = 0;
    bencher.bench_local(|| {
        let update = mesh.apply([Event::Apply(forms[turn % 2].clone())]);
        turn += 1;
        generator.update(&update);
        generator.set(id, case.1)
    });
}

/// An object of the shape that matters to the type, in another form and in its own.
fn two_forms(case: &Case) -> Option<[Object; 2]> {
    let wanted: &[&str] = match case.1 {
        ResourceType::Secret => &["Secret"],
        ResourceType::Route => &["VirtualService", "ServiceEntry"],
        ResourceType::Listener => &["AuthorizationPolicy", "PeerAuthentication", "Gateway", "ServiceEntry"],
        _ => &["ServiceEntry"],
    };
    let find = |kind: &&str| {
        case.0
            .documents
            .iter()
            .rev()
            .find(|document| document["kind"] == **kind)
    };
    let own = wanted.iter().find_map(find)?;
    let object = |document: Value| Object::from_json(document).ok().flatten();
    Some([object(changed(own, case.1))?, object(own.clone())?])
}

/// The same object saying something else that matters to the type.
fn changed(document: &Value, resource_type: ResourceType) -> Value {
    let mut document = document.clone();
    let kind = text_of(&document["kind"]);
    let spec = &mut document["spec"];
    let list = |spec: &mut Value, field: &str, item: Value| match spec[field].as_array_mut() {
        Some(items) => items.push(item),
        None => spec[field] = json!([item]),
    };
    match kind.as_str() {
        "Secret" => document["data"]["tls.crt"] = json!("b3RoZXI="),
        "VirtualService" => spec["http"][0]["timeout"] = json!("7s"),
        "AuthorizationPolicy" => list(
            spec,
            "rules",
            json!({ "to": [{ "operation": { "paths": ["/other"] } }] }),
        ),
        "PeerAuthentication" => spec["mtls"] = json!({ "mode": "PERMISSIVE" }),
        "Gateway" => {
            let port = json!({ "number": 8443, "name": "other", "protocol": "HTTP" });
            list(
                spec,
                "servers",
                json!({ "port": port, "hosts": ["other.host.example"] }),
            );
        }
        _ if resource_type == ResourceType::Endpoints => list(spec, "endpoints", json!({ "address": "240.250.0.1" })),
        _ => list(
            spec,
            "ports",
            json!({ "number": 8081, "name": "http-other", "protocol": "HTTP" }),
        ),
    }
    document
}

pub(crate) fn main() {
    for shape in SHAPES.iter().filter(|shape| !shape.unknown.is_empty()) {
        let unknown: Vec<&str> = shape.unknown.iter().map(String::as_str).collect();
        println!("{}: not translated yet: {}", shape.name, unknown.join(", "));
    }
    divan::main();
}
