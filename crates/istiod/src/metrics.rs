//! The metrics page, under the names that dashboards of Istio use (revisions.md §11.4).
//!
//! Counters keep Istio's names, which lack the `_total` that OpenMetrics asks for, so the page is written in
//! Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ads::counters::{Counters, Histogram, PerKind};
use ads::{Registry, kinds};
use ca::Current;
use cluster::budget::Writer;
use jiff::Timestamp;

use crate::engine::Engine;
use crate::sets::Translate;
use crate::version;
use crate::webhook::{InjectionMetrics, Validations};

/// Numbers of a control plane that has a cluster.
pub struct Cluster {
    /// Webhook configurations.
    pub webhooks: Arc<cluster::webhooks::Counters>,
    /// Writes.
    pub ledger: Arc<cluster::budget::Ledger>,
    /// Who signs.
    pub authority: Current,
    /// When istiod's own certificate ends, in seconds since 1970.
    pub serving_end: Arc<AtomicI64>,
    /// Certificates asked for.
    pub signed: Arc<ca::service::Counters>,
}

/// Where the numbers come from.
pub struct Metrics {
    started: Instant,
    ads: Arc<Counters>,
    validations: Arc<Validations>,
    cluster: Option<Cluster>,
    injection: prometheus_client::registry::Registry,
}

impl Metrics {
    /// The page over these numbers, and the injector's own.
    pub fn new(
        ads: Arc<Counters>,
        validations: Arc<Validations>,
        cluster: Option<Cluster>,
    ) -> (Self, InjectionMetrics) {
        let mut injection = prometheus_client::registry::Registry::default();
        let counters = InjectionMetrics::register(&mut injection);
        (
            Self {
                started: Instant::now(),
                ads,
                validations,
                cluster,
                injection,
            },
            counters,
        )
    }

    /// The page.
    pub fn render<T: Translate>(&self, engine: &Engine<T>, registry: &Registry) -> String {
        let mut page = Page::default();
        let version = version::number();
        page.family("istio_build", "gauge", "Version of this build");
        page.sample("istio_build", &[("component", "pilot"), ("tag", &version)], 1.0);
        page.family("pilot_info", "gauge", "Version of this control plane");
        page.sample("pilot_info", &[("version", &version)], 1.0);
        page.single(
            "istiod_uptime_seconds",
            "gauge",
            "Time since start",
            self.started.elapsed().as_secs_f64(),
        );
        self.streams(&mut page, registry);
        let snapshot = engine.snapshot();
        page.single(
            "pilot_services",
            "gauge",
            "Services known",
            snapshot.services().len() as f64,
        );
        page.single(
            "pilot_virt_services",
            "gauge",
            "VirtualServices known",
            snapshot.virtual_services.iter().count() as f64,
        );
        page.single(
            "pilot_proxy_classes",
            "gauge",
            "Classes of connected proxies",
            engine.classes() as f64,
        );
        let counters = &engine.counters;
        page.family("pilot_inbound_updates", "counter", "Changes of objects received");
        page.sample(
            "pilot_inbound_updates",
            &[("type", "config")],
            load(&counters.config_events),
        );
        page.sample(
            "pilot_inbound_updates",
            &[("type", "svc")],
            load(&counters.registry_events),
        );
        page.single(
            "pilot_push_batches",
            "counter",
            "Batches of changes worked on",
            load(&counters.batches),
        );
        page.single(
            "pilot_unreadable_objects",
            "counter",
            "Objects left out because they cannot be read",
            load(&counters.unreadable),
        );
        page.single(
            "pilot_push_busy_seconds",
            "counter",
            "Time spent on changes",
            load(&counters.busy_micros) / 1e6,
        );
        if let Some(cluster) = &self.cluster {
            cluster.render(&mut page, Timestamp::now());
        }
        page.validations(&self.validations);
        page.text + &self.injection()
    }

    fn streams(&self, page: &mut Page, registry: &Registry) {
        page.family("pilot_xds", "gauge", "Connected clients by version");
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        for connection in registry.connections() {
            *versions.entry(connection.info.istio_version.clone()).or_default() += 1;
        }
        for (version, count) in &versions {
            page.sample("pilot_xds", &[("version", version)], *count as f64);
        }
        page.per_kind("pilot_xds_pushes", "Responses sent", &self.ads.pushes);
        page.per_kind(
            "pilot_total_xds_rejects",
            "Responses rejected by proxies",
            &self.ads.rejects,
        );
        page.per_kind(
            "pilot_xds_expired_nonce",
            "Answers to responses that were not the last",
            &self.ads.expired_nonces,
        );
        page.per_kind(
            "pilot_xds_abandoned_resources",
            "Resources taken from proxies that had rejected what may refer to them",
            &self.ads.abandoned,
        );
        page.single(
            "pilot_xds_refused",
            "counter",
            "Streams refused",
            load(&self.ads.refused),
        );
        page.histogram(
            "pilot_proxy_convergence_time",
            "Seconds from a change to its sending",
            &self.ads.convergence,
        );
        page.histogram("pilot_xds_config_size_bytes", "Size of responses", &self.ads.sizes);
    }

    fn injection(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.injection).is_err() {
            return String::new();
        }
        // The text format proper has no end marker.
        text.trim_end().trim_end_matches("# EOF").to_owned()
    }
}

impl Cluster {
    fn render(&self, page: &mut Page, now: Timestamp) {
        page.family(
            "webhook_patch_attempts_total",
            "counter",
            "Attempts to write a webhook configuration",
        );
        // All configurations in one, by the ending of their webhooks' names, as Istio counts them.
        let name = [("name", "sidecar-injector.istio.io")];
        page.sample("webhook_patch_attempts_total", &name, self.webhooks.attempts() as f64);
        let patches = self.webhooks.patches();
        page.family(
            "webhook_patch_failures_total",
            "counter",
            "Failed attempts to write a webhook configuration",
        );
        for ((name, reason), count) in &patches.failures {
            let labels = [("name", &**name), ("reason", reason.name())];
            page.sample("webhook_patch_failures_total", &labels, *count as f64);
        }
        page.family(
            "webhook_patch_retries_total",
            "counter",
            "Failed attempts to write a webhook configuration that are made again",
        );
        for (name, count) in &patches.retries {
            page.sample("webhook_patch_retries_total", &[("name", name)], *count as f64);
        }
        page.family(
            "istiod_webhook_without_endpoints",
            "gauge",
            "Webhooks whose service has no ready endpoint",
        );
        for finding in self.webhooks.findings() {
            let labels = [
                ("configuration", &*finding.configuration),
                ("webhook", &*finding.webhook),
                ("service", &*finding.service),
                ("fails", if finding.fails_closed { "closed" } else { "open" }),
            ];
            page.sample("istiod_webhook_without_endpoints", &labels, 1.0);
        }
        page.family("istiod_writes_total", "counter", "Writes to the Kubernetes API");
        for writer in Writer::ALL {
            let (written, _) = self.ledger.read(writer);
            page.sample("istiod_writes_total", &[("writer", writer.name())], written as f64);
        }
        page.family(
            "istiod_writes_held_total",
            "counter",
            "Writes held back because the writer's budget for the object is used up",
        );
        for writer in Writer::ALL {
            let (_, held) = self.ledger.read(writer);
            page.sample("istiod_writes_held_total", &[("writer", writer.name())], held as f64);
        }
        let authority = self.authority.load();
        let root = authority.roots_not_after().map_or(0, Timestamp::as_second);
        let serving = self.serving_end.load(Relaxed);
        for (what, help, end) in [
            ("citadel_server_root_cert_expiry", "the first root ends", root),
            (
                "citadel_server_cert_chain_expiry",
                "the signing certificate ends",
                authority.not_after().as_second(),
            ),
            ("istiod_serving_cert_expiry", "istiod's own certificate ends", serving),
        ] {
            let (timestamp, seconds) = (format!("{what}_timestamp"), format!("{what}_seconds"));
            page.single(
                &timestamp,
                "gauge",
                &format!("When {help}, in seconds since 1970"),
                end as f64,
            );
            page.single(
                &seconds,
                "gauge",
                &format!("Seconds until {help}"),
                (end - now.as_second()) as f64,
            );
        }
        for (what, help, number) in [
            ("csr_count", "Certificates asked for", &self.signed.requests),
            (
                "success_cert_issuance_count",
                "Certificates issued",
                &self.signed.issued,
            ),
            (
                "authentication_failure_count",
                "Requests without an identity",
                &self.signed.unauthenticated,
            ),
            (
                "csr_parsing_err_count",
                "Requests that cannot be read",
                &self.signed.unreadable,
            ),
            (
                "csr_sign_err_count",
                "Certificates that could not be signed",
                &self.signed.unsigned,
            ),
        ] {
            page.single(&format!("citadel_server_{what}"), "counter", help, load(number));
        }
    }
}

fn load(number: &AtomicU64) -> f64 {
    number.load(Relaxed) as f64
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    fn validations(&mut self, validations: &Validations) {
        let counts = validations.read();
        self.family("galley_validation_passed", "counter", "Objects that may be written");
        for (of, count) in &counts.passed {
            let labels = [("group", of.group), ("version", of.version), ("resource", of.resource)];
            self.sample("galley_validation_passed", &labels, *count as f64);
        }
        self.family("galley_validation_failed", "counter", "Objects that may not be written");
        for ((of, reason), count) in &counts.failed {
            let labels = [
                ("group", of.group),
                ("version", of.version),
                ("resource", of.resource),
                ("reason", *reason),
            ];
            self.sample("galley_validation_failed", &labels, *count as f64);
        }
        self.family(
            "galley_validation_http_error",
            "counter",
            "Requests to the validation webhook that are no reviews",
        );
        for (status, count) in &counts.http_errors {
            let status = status.to_string();
            self.sample("galley_validation_http_error", &[("status", &status)], *count as f64);
        }
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn per_kind(&mut self, name: &str, help: &str, numbers: &PerKind) {
        self.family(name, "counter", help);
        for (rank, number) in numbers.iter().enumerate() {
            self.sample(name, &[("type", kinds::short_name_of_rank(rank))], load(number));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let (bounds, counts, sum) = histogram.read();
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(at).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], total as f64);
        }
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], total as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cluster(now: Timestamp) -> Cluster {
        let Ok(authority) = ca::Authority::self_signed("cluster.local", now) else {
            panic!("a root")
        };
        Cluster {
            webhooks: Arc::default(),
            ledger: Arc::default(),
            authority: Current::new(authority),
            serving_end: Arc::new(AtomicI64::new(now.as_second() + 60)),
            signed: Arc::default(),
        }
    }

    /// Rows of the table below a heading, as they are written.
    fn rows<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
        let section = page.split_once(heading).map_or("", |(_, rest)| rest);
        let lines = section.lines().skip_while(|line| !line.starts_with("| `"));
        lines.take_while(|line| line.starts_with("| `")).collect()
    }

    #[test]
    fn every_metric_is_documented_and_no_other() {
        let (metrics, _) = Metrics::new(Arc::default(), Arc::default(), Some(cluster(Timestamp::now())));
        let translation = crate::source::Translation::new(mesh::Mesh::default().snapshot());
        let engine = Engine::new(mesh::Mesh::default(), translation);
        let page = metrics.render(&engine, &Registry::default());
        let kinds: BTreeMap<&str, &str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        let told: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
            .map(|(name, help)| {
                let ending = if page.contains(&format!("\n{name}_total ")) {
                    "_total"
                } else {
                    ""
                };
                format!(
                    "| `{name}{ending}` | {} | {} |",
                    kinds[name],
                    help.trim_end_matches('.')
                )
            })
            .collect();
        let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
        let documented = rows(include_str!("../../../docs/istiod.md"), "\n## Metrics\n");
        let (lacks, has) = (&told - &documented, &documented - &told);
        assert!(
            lacks.is_empty() && has.is_empty(),
            "docs/istiod.md lacks {lacks:#?}\nand has, besides {has:#?}"
        );
    }

    #[test]
    fn what_expires_is_told_in_time() {
        let now = Timestamp::UNIX_EPOCH + jiff::Span::new().hours(24 * 20_000);
        let mut page = Page::default();
        cluster(now).render(&mut page, now);
        for line in [
            "citadel_server_root_cert_expiry_seconds 315360000",
            "citadel_server_cert_chain_expiry_seconds 315360000",
            "citadel_server_root_cert_expiry_timestamp 2043360000",
            "istiod_serving_cert_expiry_seconds 60",
            "citadel_server_csr_count 0",
        ] {
            assert!(page.text.contains(&format!("\n{line}\n")), "{line}:\n{}", page.text);
        }
    }

    #[test]
    fn validation_is_counted_by_what_was_to_be_written() {
        let validations = Validations::default();
        let gateway = serde_json::json!({
            "resource": { "group": "networking.istio.io", "version": "v1", "resource": "gateways" },
        });
        validations.passed(&gateway);
        validations.failed(&gateway, "invalid_resource");
        validations.http_error(415);
        let mut page = Page::default();
        page.validations(&validations);
        let labels = r#"group="networking.istio.io",version="v1",resource="gateways""#;
        for line in [
            format!("galley_validation_passed{{{labels}}} 1"),
            format!(r#"galley_validation_failed{{{labels},reason="invalid_resource"}} 1"#),
            r#"galley_validation_http_error{status="415"} 1"#.to_owned(),
        ] {
            assert!(page.text.contains(&format!("\n{line}\n")), "{line}:\n{}", page.text);
        }
    }

    #[test]
    fn the_page_is_prometheus_text() {
        let mut page = Page::default();
        page.family("a", "gauge", "help");
        page.sample("a", &[("v", "x\"y")], 1.0);
        page.single("b", "counter", "help", 2.5);
        assert_eq!(
            page.text,
            "# HELP a help\n# TYPE a gauge\na{v=\"x\\\"y\"} 1\n# HELP b help\n# TYPE b counter\nb 2.5\n"
        );
    }
}
