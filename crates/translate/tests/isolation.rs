//! Nobody is sent what is not for him, of any type: not because a rule was forgotten, and not because somebody else
//! asked first and the answer was kept.
//!
//! Random meshes are made of objects that each carry a mark that their resources cannot avoid. A mark that turns up at
//! a proxy which may not see its object is a leak, whatever computed it. What a class is sent by a generator that has
//! answered for others before, in any order, must be what a generator of its own would send; and what its resources
//! rest on must be within what it may read.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use mesh::{Event, Input, Kind, Mesh, Object, SecretReader, Snapshot};
use proptest::prelude::*;
use testkit::ProxySpec;
use translate::{Generator, Proxy, ProxyClass, ResourceType, Role};

const NAMESPACES: [&str; 3] = ["red", "blue", "istio-system"];

/// Who may see an object.
#[derive(Clone, Copy, Debug)]
enum May {
    /// Proxies of the namespace.
    Namespace,
    /// Proxies of the other namespace: it is exported there, and nowhere else.
    Other,
    /// Sidecars of the namespace with the label `app: chosen`.
    Chosen,
    /// Proxies of the namespace; all if it is the root namespace.
    Everywhere,
    /// Gateways of the namespace, if they proved to be there.
    Proved,
}

/// An object with its mark.
#[derive(Clone, Debug)]
struct Marked {
    object: Object,
    mark: String,
    namespace: &'static str,
    may: May,
}

/// Objects of one namespace; `MARK` becomes each one's mark, `namespace: NS` names the namespace, `OTHER` the other one.
const TEMPLATES: &[(May, &str)] = &[
    (
        May::Namespace,
        "apiVersion: v1\nkind: Service\nmetadata: { name: MARK, namespace: NS, annotations: { networking.istio.io/exportTo: '.' } }\n\
         spec: { clusterIP: 10.9.NUM.1, ports: [{ name: http, port: 80 }, { name: tcp, port: 7000 }] }",
    ),
    (
        May::Other,
        "apiVersion: v1\nkind: Service\nmetadata: { name: MARK, namespace: NS, annotations: { networking.istio.io/exportTo: OTHER } }\n\
         spec: { clusterIP: 10.9.NUM.2, ports: [{ name: http, port: 80 }, { name: tcp, port: 7001 }] }",
    ),
    (
        May::Namespace,
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: own, namespace: NS }\n\
         spec: { hosts: [MARK.example.com], exportTo: ['.'], resolution: STATIC, ports: [{ number: 80, name: http, protocol: HTTP }], endpoints: [{ address: 203.0.113.NUM }] }",
    ),
    (
        May::Other,
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: exported, namespace: NS }\n\
         spec: { hosts: [MARK.example.com], exportTo: [OTHER], resolution: DNS, ports: [{ number: 443, name: tls, protocol: TLS }] }",
    ),
    (
        May::Namespace,
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: own, namespace: NS }\n\
         spec: { hosts: [shared.red.svc.cluster.local], exportTo: ['.'], http: [{ headers: { request: { set: { x: MARK } } }, route: [{ destination: { host: shared.red.svc.cluster.local } }] }] }",
    ),
    (
        May::Other,
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: exported, namespace: NS }\n\
         spec: { hosts: [shared.blue.svc.cluster.local], exportTo: [OTHER], http: [{ headers: { request: { set: { x: MARK } } }, route: [{ destination: { host: shared.blue.svc.cluster.local } }] }] }",
    ),
    (
        May::Namespace,
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: own, namespace: NS }\n\
         spec: { host: shared.red.svc.cluster.local, exportTo: ['.'], subsets: [{ name: MARK, labels: { version: v1 } }] }",
    ),
    (
        May::Chosen,
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: chosen, namespace: NS }\n\
         spec: { host: shared.blue.svc.cluster.local, workloadSelector: { matchLabels: { app: chosen } }, trafficPolicy: { tls: { mode: SIMPLE, sni: MARK } } }",
    ),
    (
        May::Chosen,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: chosen, namespace: NS }\n\
         spec: { selector: { matchLabels: { app: chosen } }, rules: [{ to: [{ operation: { paths: [/MARK] } }] }] }",
    ),
    (
        May::Everywhere,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: all, namespace: NS }\n\
         spec: { action: DENY, rules: [{ to: [{ operation: { paths: [/MARK] } }] }] }",
    ),
    (
        May::Chosen,
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: chosen, namespace: NS }\n\
         spec: { selector: { matchLabels: { app: chosen } }, jwtRules: [{ issuer: MARK, jwks: '{\"keys\":[]}' }] }",
    ),
    (
        May::Everywhere,
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: all, namespace: NS }\n\
         spec: { jwtRules: [{ issuer: MARK, jwks: '{\"keys\":[]}' }] }",
    ),
    (
        May::Chosen,
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: chosen, namespace: NS }\n\
         spec: { workloadSelector: { labels: { app: chosen } }, configPatches: [{ applyTo: CLUSTER, match: { context: ANY }, patch: { operation: ADD, value: { name: MARK } } }] }",
    ),
    (
        May::Everywhere,
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: all, namespace: NS }\n\
         spec: { configPatches: [{ applyTo: CLUSTER, match: { context: ANY }, patch: { operation: ADD, value: { name: MARK } } }] }",
    ),
    (
        May::Chosen,
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: chosen, namespace: NS }\n\
         spec: { selector: { matchLabels: { app: chosen } }, accessLogging: [{ providers: [{ name: envoy }], filter: { expression: 'response.code == 500 && request.host == \"MARK\"' } }] }",
    ),
    (
        May::Chosen,
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: chosen, namespace: NS }\n\
         spec: { workloadSelector: { labels: { app: chosen } }, ingress: [{ port: { number: 3000, protocol: HTTP, name: http }, defaultEndpoint: 'unix:///MARK' }] }",
    ),
    (
        May::Chosen,
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: extension, namespace: NS }\n\
         spec: { workloadSelector: { labels: { app: chosen } }, configPatches: [{ applyTo: EXTENSION_CONFIG, match: { context: ANY }, patch: { operation: ADD, value: { name: MARK, typedConfig: { '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } } } }] }",
    ),
    (
        May::Proved,
        "apiVersion: v1\nkind: Secret\nmetadata: { name: cert, namespace: NS }\n\
         stringData: { tls.crt: MARK, tls.key: MARK, ca.crt: MARK }",
    ),
];

/// What is there in every mesh: services that all see, and gateways that name their own secrets and those of others.
const COMMON: &str = r"
apiVersion: v1
kind: Service
metadata: { name: shared, namespace: red }
spec: { clusterIP: 10.8.0.1, selector: { app: chosen }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: shared, namespace: blue }
spec: { clusterIP: 10.8.0.2, selector: { app: chosen }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front, namespace: red }
spec:
  selector: { istio: gateway }
  servers:
  - { port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }
  - { port: { number: 443, name: own, protocol: HTTPS }, hosts: [own.example.com], tls: { mode: MUTUAL, credentialName: cert } }
  - { port: { number: 444, name: a, protocol: HTTPS }, hosts: [a.example.com], tls: { mode: SIMPLE, credentialName: kubernetes://blue/cert } }
  - { port: { number: 445, name: b, protocol: HTTPS }, hosts: [b.example.com], tls: { mode: SIMPLE, credentialName: kubernetes-gateway://red/cert } }
  - { port: { number: 446, name: c, protocol: HTTPS }, hosts: [c.example.com], tls: { mode: SIMPLE, credentialName: kubernetes-gateway://istio-system/cert } }
";

static MARKED: LazyLock<Vec<Marked>> = LazyLock::new(|| {
    let mut marked = Vec::new();
    for (at, namespace) in NAMESPACES.into_iter().enumerate() {
        for (number, (may, template)) in TEMPLATES.iter().enumerate() {
            let mark = format!("mark-{number}-of-{namespace}");
            let other = if namespace == "red" { "blue" } else { "red" };
            let text = template
                .replace("MARK", &mark)
                .replace("OTHER", other)
                .replace("NUM", &(10 * at + 1).to_string())
                .replace("namespace: NS", &format!("namespace: {namespace}"));
            let object = testkit::objects(&text).unwrap().remove(0);
            marked.push(Marked {
                object,
                mark,
                namespace,
                may: *may,
            });
        }
    }
    marked
});

/// A proxy, and whether it proved where it is.
#[derive(Clone, Debug)]
struct Who {
    class: ProxyClass,
    chosen: bool,
    proved: bool,
}

fn everybody(snapshot: &Snapshot) -> Vec<Who> {
    let mut all = Vec::new();
    for (at, namespace) in NAMESPACES.into_iter().enumerate() {
        for (number, (role, labels, proved, place)) in [
            ("sidecar", [("app", "chosen")], true, "r1/z1"),
            ("sidecar", [("app", "chosen")], false, "r1/z2"),
            ("sidecar", [("app", "plain")], true, ""),
            ("router", [("istio", "gateway")], true, "r1/z1"),
            ("router", [("istio", "gateway")], false, ""),
        ]
        .into_iter()
        .enumerate()
        {
            // They differ in whatever a class has, so that an answer which is kept for too many is found out.
            let address = match number {
                4 => format!("fd00::{at}:{number}"),
                _ => format!("10.7.{at}.{number}"),
            };
            let spec = ProxySpec {
                role: role.to_owned(),
                locality: place.to_owned(),
                network: (number == 2).then(|| "net-2".to_owned()),
                cluster_id: (number == 1).then(|| "elsewhere".to_owned()),
                istio_version: (number == 2).then(|| "1.24.0".to_owned()),
                metadata: [("DNS_CAPTURE".to_owned(), "true".into())].into(),
                ..ProxySpec::sidecar(namespace, &format!("pod-{number}"), &address, &labels)
            };
            let mut proxy = Proxy::of_node(&spec.node()).unwrap();
            proxy.secrets = proved.then(|| SecretReader::of_verified_namespace(namespace));
            all.push(Who {
                class: proxy.class(snapshot),
                chosen: labels[0].1 == "chosen",
                proved,
            });
        }
    }
    all
}

impl Marked {
    fn is_for(&self, who: &Who) -> bool {
        let own = *who.class.namespace == *self.namespace;
        let root = self.namespace == "istio-system";
        let other = if self.namespace == "red" { "blue" } else { "red" };
        match self.may {
            May::Namespace => own,
            May::Other => *who.class.namespace == *other,
            // A selector in the root namespace selects in all namespaces.
            May::Chosen => who.chosen && (own || root),
            May::Everywhere => own || root,
            May::Proved => own && who.proved && who.class.role == Role::Router,
        }
    }
}

/// Bytes of everything that a class is sent.
fn sent(generator: &mut Generator, class: &ProxyClass) -> Vec<(ResourceType, String, String)> {
    let id = generator.open(class.clone());
    let sets = generator.sets(id);
    generator.close(id);
    sets.iter()
        .flat_map(|(resource_type, set)| {
            set.iter().map(|resource| {
                let content = String::from_utf8_lossy(&resource.body.to_bytes()).into_owned();
                (*resource_type, resource.name.to_string(), content)
            })
        })
        .collect()
}

/// Whether a class may read an input at all.
fn may_read(who: &Who, resource_type: ResourceType, input: &Input, snapshot: &Snapshot) -> bool {
    let near = |namespace: &str| namespace == &*who.class.namespace || namespace == "istio-system";
    match input {
        Input::Secret(namespace, _) => {
            resource_type == ResourceType::Secret && who.proved && *namespace == who.class.namespace
        }
        // The mode of a service's endpoints is its namespace's affair; clients must know it.
        Input::InNamespace(Kind::PeerAuthentication, _) => true,
        Input::InNamespace(_, namespace) => near(namespace),
        Input::Service(key) | Input::Endpoints(key) | Input::Identities(key) => {
            let seen = |service: &Arc<mesh::Service>| service.visibility.includes(&who.class.namespace);
            snapshot.service(key).is_none_or(seen) || key.namespace == who.class.namespace
        }
        // Whole indexes are read to find what is visible, of kinds that are visible elsewhere; the marks tell whether more
        // got through.
        Input::Kind(kind) => matches!(
            kind,
            Kind::VirtualService | Kind::DestinationRule | Kind::Gateway | Kind::Sidecar | Kind::Telemetry
        ),
        Input::Mesh | Input::Services => true,
    }
}

/// What is common to all, and some of the marked objects.
fn mesh_with<'a>(objects: impl IntoIterator<Item = &'a Marked>) -> Mesh {
    let mut mesh = Mesh::default();
    mesh.apply(testkit::events(COMMON).unwrap());
    mesh.apply(objects.into_iter().map(|marked| Event::Apply(marked.object.clone())));
    mesh
}

fn check(chosen: &BTreeSet<usize>, order: &[usize]) -> Result<(), TestCaseError> {
    let objects: Vec<&Marked> = chosen.iter().map(|at| &MARKED[*at]).collect();
    let mesh = mesh_with(objects.iter().copied());
    let snapshot = mesh.snapshot();
    let everybody = everybody(&snapshot);

    // Who comes first asks for one type only, so that answers are kept from all sides.
    let mut shared = Generator::new(snapshot.clone());
    for (at, who) in order.iter().map(|at| (at, &everybody[at % everybody.len()])) {
        let id = shared.open(who.class.clone());
        shared.set(id, ResourceType::ALL[at % ResourceType::ALL.len()]);
    }
    for at in order {
        let who = &everybody[at % everybody.len()];
        let id = shared.open(who.class.clone());
        let mut alone = Generator::new(snapshot.clone());
        let own = alone.open(who.class.clone());
        for resource_type in ResourceType::ALL {
            let (kept, fresh) = (shared.set(id, resource_type), alone.set(own, resource_type));
            let names = |set: &xds::resource::ResourceSet| {
                set.iter().map(|r| format!("{} {}", r.name, r.hash)).collect::<Vec<_>>()
            };
            prop_assert_eq!(names(&kept), names(&fresh), "{} for {:?}", resource_type, who);
            for input in shared.inputs(id, resource_type) {
                prop_assert!(
                    may_read(who, resource_type, &input, &snapshot),
                    "{} for {:?} rests on {:?}",
                    resource_type,
                    who,
                    input
                );
            }
        }
    }
    for who in &everybody {
        for (resource_type, name, content) in sent(&mut shared, &who.class) {
            for marked in objects.iter().filter(|marked| !marked.is_for(who)) {
                let leaked = name.contains(&marked.mark) || content.contains(&marked.mark);
                prop_assert!(!leaked, "{} {} for {:?} has {}", resource_type, name, who, marked.mark);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_sent_what_is_not_for_him(
        chosen in prop::collection::btree_set(0..MARKED.len(), 1..MARKED.len()),
        order in prop::collection::vec(0..105_usize, 4..10),
    ) {
        check(&chosen, &order)?;
    }
}

/// The marks do turn up where they should: a test of isolation that looks for the wrong thing would always pass.
#[test]
fn everybody_is_sent_what_is_for_him() {
    let mut unseen = Vec::new();
    for marked in MARKED.iter() {
        let snapshot = mesh_with([marked]).snapshot();
        let mut generator = Generator::new(snapshot.clone());
        let reached = everybody(&snapshot).iter().any(|who| {
            let sent = sent(&mut generator, &who.class);
            sent.iter()
                .any(|(_, name, content)| name.contains(&marked.mark) || content.contains(&marked.mark))
        });
        if !reached {
            unseen.push((marked.mark.as_str(), marked.object.key().to_string()));
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}

/// Every type has something in it that could leak.
#[test]
fn every_type_is_looked_at() {
    let snapshot = mesh_with(MARKED.iter()).snapshot();
    let mut generator = Generator::new(snapshot.clone());
    let mut types = BTreeSet::new();
    for who in everybody(&snapshot) {
        let sent = sent(&mut generator, &who.class);
        let marked = |name: &str, content: &str| name.contains("mark-") || content.contains("mark-");
        types.extend(
            sent.iter()
                .filter(|(_, name, content)| marked(name, content))
                .map(|(kind, ..)| *kind),
        );
    }
    assert_eq!(types, BTreeSet::from(ResourceType::ALL));
}

/// A gateway that names secrets of other namespaces is not sent them, and a proxy that proved nothing none at all.
#[test]
fn a_secret_goes_to_its_own_namespace_only() {
    let snapshot = mesh_with(MARKED.iter()).snapshot();
    let mut generator = Generator::new(snapshot.clone());
    let mut answered = BTreeSet::new();
    for who in everybody(&snapshot) {
        let id = generator.open(who.class.clone());
        for resource in generator.set(id, ResourceType::Secret).iter() {
            let content = String::from_utf8_lossy(&resource.body.to_bytes()).into_owned();
            let foreign = NAMESPACES
                .iter()
                .filter(|namespace| **namespace != &*who.class.namespace);
            for namespace in foreign {
                assert!(
                    !content.contains(&format!("-of-{namespace}")),
                    "{} at {who:?}",
                    resource.name
                );
            }
            assert!(who.proved, "{} at {who:?}", resource.name);
            answered.insert((who.class.namespace.to_string(), resource.name.to_string()));
        }
    }
    assert!(answered.iter().any(|(namespace, _)| namespace == "red"), "{answered:?}");
}

/// A Sidecar hides what it does not import, from those whom it selects and from nobody else.
#[test]
fn a_sidecar_hides_what_it_does_not_import() {
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: own, namespace: red }\n\
                   spec: { workloadSelector: { labels: { app: chosen } }, egress: [{ hosts: ['./*'] }] }";
    let mut mesh = mesh_with([]);
    mesh.apply(testkit::events(sidecar).unwrap());
    let snapshot = mesh.snapshot();
    let mut generator = Generator::new(snapshot.clone());
    for who in everybody(&snapshot) {
        let sent = sent(&mut generator, &who.class);
        let sees = sent
            .iter()
            .any(|(_, name, content)| name.contains("shared.blue") || content.contains("shared.blue"));
        let hidden = &*who.class.namespace == "red" && who.chosen;
        assert_eq!(sees, !hidden, "{who:?}");
    }
}
