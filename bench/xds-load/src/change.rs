//! Changes of the mesh, and what they cost: who hears of one, when, and the control plane's work.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::fleet::Fleet;
use crate::place::Place;
use crate::process::busy;
use crate::report::ChangeFigures;
use crate::sidecar::now;
use crate::statistics::quantile;
use crate::{Shape, mesh};

/// Acknowledgements of what arrived last are taken in by then.
const ACKNOWLEDGED: Duration = Duration::from_millis(200);
/// This long without a response counts as the end of what a change leads to.
const QUIET: Duration = Duration::from_millis(400);

/// A service comes to have that many ready pods, and every sidecar has to hear of it: milliseconds until each did, sorted, and the control
/// plane's processor time.
pub async fn endpoint(
    place: &Place,
    shape: Shape,
    ready: usize,
    fleet: &mut Fleet,
    pid: Option<u32>,
) -> Result<(Vec<f64>, f64)> {
    fleet.forget();
    let before = work(pid)?;
    let made = now();
    place.endpoints(shape, 0, ready).await?;
    let wanted = (0..fleet.len()).collect();
    let arrivals = fleet.arrivals(made, &wanted, Duration::ZERO).await?;
    tokio::time::sleep(ACKNOWLEDGED).await;
    let spent = work(pid)? - before;
    let mut delays: Vec<f64> = arrivals.values().map(|arrival| arrival.first).collect();
    delays.sort_by(f64::total_cmp);
    Ok((delays, spent))
}

fn work(pid: Option<u32>) -> Result<f64> {
    pid.map(busy).transpose().map(Option::unwrap_or_default)
}

/// An object that appears, and which services' sidecars it concerns.
struct Change {
    name: &'static str,
    text: String,
    concerns: fn(Shape, usize) -> bool,
}

fn everybody(_: Shape, _: usize) -> bool {
    true
}

fn namespace_1(shape: Shape, service: usize) -> bool {
    service % shape.namespaces == 1
}

fn service_1(_: Shape, service: usize) -> bool {
    service == 1
}

fn object(api: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: change, namespace: ns-1}}\nspec: {spec}\n")
}

fn changes() -> Vec<Change> {
    const HOST: &str = "svc-1.ns-1.svc.cluster.local";
    const NETWORKING: &str = "networking.istio.io/v1";
    const SECURITY: &str = "security.istio.io/v1";
    let route = |export: &str| {
        let spec =
            format!("{{{export}hosts: [{HOST}], http: [{{timeout: 3s, route: [{{destination: {{host: {HOST}}}}}]}}]}}");
        object(NETWORKING, "VirtualService", &spec)
    };
    let rule = |export: &str| {
        let spec =
            format!("{{{export}host: {HOST}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 7}}}}}}}}");
        object(NETWORKING, "DestinationRule", &spec)
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: change, namespace: ns-1}\nspec:\n  clusterIP: 10.201.0.1\n  selector: {app: change}\n  ports:\n  - {name: http, port: 80, targetPort: 8080, protocol: TCP}\n";
    let change = |name, text, concerns| Change { name, text, concerns };
    vec![
        change(
            "VirtualService for its namespace",
            route("exportTo: [\".\"], "),
            namespace_1,
        ),
        change("VirtualService for all", route(""), everybody),
        change(
            "DestinationRule for its namespace",
            rule("exportTo: [\".\"], "),
            namespace_1,
        ),
        change("DestinationRule for all", rule(""), everybody),
        change(
            "AuthorizationPolicy of a workload",
            object(
                SECURITY,
                "AuthorizationPolicy",
                "{selector: {matchLabels: {app: svc-1}}, rules: [{from: [{source: {namespaces: [ns-2]}}]}]}",
            ),
            service_1,
        ),
        change("Service added", service.to_owned(), everybody),
        change(
            "a namespace's default deny",
            object(SECURITY, "AuthorizationPolicy", "{}"),
            namespace_1,
        ),
    ]
}

/// Makes each change and takes it back; by name.
pub async fn kinds(
    place: &Place,
    shape: Shape,
    fleet: &mut Fleet,
    pid: u32,
) -> Result<std::collections::BTreeMap<String, ChangeFigures>> {
    let mut rows = std::collections::BTreeMap::new();
    for change in changes() {
        let wanted: HashSet<usize> = (0..fleet.len())
            .filter(|number| (change.concerns)(shape, mesh::pod(shape, *number).service))
            .collect();
        fleet.forget();
        let before = busy(pid)?;
        let made = now();
        place.put(&change.text).await?;
        let arrivals = fleet
            .arrivals(made, &wanted, QUIET)
            .await
            .with_context(|| change.name.to_owned())?;
        let spent = busy(pid)? - before;
        let mut last: Vec<f64> = wanted
            .iter()
            .filter_map(|number| arrivals.get(number))
            .map(|arrival| arrival.last)
            .collect();
        last.sort_by(f64::total_cmp);
        let figures = ChangeFigures {
            concerned: wanted.len(),
            received: arrivals.len(),
            p50_ms: quantile(&last, 0.5),
            last_ms: quantile(&last, 1.0),
            cpu_s: spent,
        };
        rows.insert(change.name.to_owned(), figures);
        let taken_back = now();
        place.take(&change.text).await?;
        fleet.arrivals(taken_back, &wanted, QUIET).await?;
    }
    Ok(rows)
}
