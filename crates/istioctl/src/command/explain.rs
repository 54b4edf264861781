//! `istioctl explain injection`: who injects a workload, by which rule, and why not the others.

use clap::{Args, Subcommand, ValueEnum};
use install::api_server::kind;
use revision::decision::{Decision, Match, PodView, Skip, decide};
use revision::selector::Labels;
use revision::webhook::{REVISION_KEY, Rule};
use serde_json::{Value, json};

use super::injection::{self, Subject};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out::put;
use crate::policies::Policies;
use crate::table::{columns, row};
use crate::unanswered;

/// What is explained.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explains which revision injects a pod, a workload or a namespace, and why.
    Injection(Flags),
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// `[<type>/]<name>[.<namespace>]`, or `namespace/<name>`.
    workload: String,
    /// Output format.
    #[arg(short, long, default_value = "text")]
    output: Format,
}

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    put(&text(global, command).await?);
    Ok(())
}

/// What is printed.
pub async fn text(global: &Global, command: Command) -> Result<String, Failure> {
    let Command::Injection(flags) = command;
    let cluster = Cluster::connect(global).await?;
    let default = global
        .namespace
        .clone()
        .unwrap_or_else(|| cluster.default_namespace.clone());
    let subject = injection::find(&cluster, &flags.workload, &default).await?;
    let namespace = injection::namespace_labels(&cluster, &subject.namespace).await?;
    let injectors = injection::injectors(&cluster).await?;
    let labels = subject.labels.clone().unwrap_or_default();
    let decision = decide(&namespace, &labels, &injectors);
    let policies = Policies::read(&cluster, &global.istio_namespace).await;
    let skip = policies.skip(decision.revision(), view(&subject, &labels));
    let running = running(&cluster, &subject).await?;
    let problems = match decision.revision().filter(|_| skip.is_none()) {
        Some(revision) => {
            let asleep = injection::asleep(&cluster, &global.istio_namespace).await;
            let absence = asleep.get(revision);
            absence.map(|absence| injection::refusal(revision, *absence, &global.istio_namespace))
        }
        None => None,
    };
    let unanswered = unanswered::told(&subject.namespace, &namespace, &labels, &injectors);
    let explanation = Explanation {
        subject: &subject,
        namespace: &namespace,
        decision: &decision,
        skip,
        running: &running,
        problems: problems
            .into_iter()
            .chain(unanswered.filter(|_| decision.matches.is_empty()))
            .chain(injection::disagreement(&injectors))
            .collect(),
    };
    Ok(match flags.output {
        Format::Text => explanation.text(),
        Format::Json => serde_json::to_string_pretty(&explanation.value())? + "\n",
        Format::Yaml => install::yaml::to_sorted(&explanation.value()),
    })
}

/// What istiod itself sees once it is called.
fn view<'a>(subject: &'a Subject, labels: &'a Labels) -> PodView<'a> {
    PodView {
        namespace: &subject.namespace,
        labels,
        annotations: &subject.annotations,
        host_network: subject.host_network,
    }
}

/// A running pod and the revision that injected it, if any.
struct Running {
    pod: String,
    revision: Option<String>,
}

async fn running(cluster: &Cluster, subject: &Subject) -> Result<Vec<Running>, Failure> {
    let mut pods = kind("", "v1", "Pod");
    subject.namespace.clone_into(&mut pods.namespace);
    let wanted = subject
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"));
    let selector = wanted.collect::<Vec<_>>().join(",");
    let found = cluster.server.list(&pods, &selector).await?;
    Ok(found
        .iter()
        .map(|pod| Running {
            pod: pod.name().to_owned(),
            revision: install::proof::injected_by(pod),
        })
        .collect())
}

/// The rule in words, with the label that made it fire.
fn rule(winner: &Match, namespace: &Labels) -> String {
    let name = winner.tag.as_deref().unwrap_or(&winner.revision);
    let beaten = namespace
        .get(REVISION_KEY)
        .map(|other| format!(", which wins over istio.io/rev={other} of the namespace"))
        .unwrap_or_default();
    match winner.rule {
        Some(Rule::NamespaceInjection) => "the namespace has label istio-injection=enabled".to_owned(),
        Some(Rule::NamespaceRevision) => format!("the namespace has label istio.io/rev={name}"),
        Some(Rule::PodRevision) => format!("the pod has label istio.io/rev={name}{beaten}"),
        Some(Rule::PodRevisionInjected) => {
            format!("the pod has label istio.io/rev={name}, which wins over istio-injection=enabled of the namespace")
        }
        Some(Rule::PodInjection) => "the pod has label sidecar.istio.io/inject=true".to_owned(),
        Some(Rule::Automatic) => "the installation injects every namespace that says nothing".to_owned(),
        None => format!("webhook {} is not one of Istio's", winner.webhook),
    }
}

fn skip_reason(skip: Skip) -> &'static str {
    match skip {
        Skip::HostNetwork => "the pod uses the node's network, which cannot be redirected",
        Skip::IgnoredNamespace => "the namespace is one of Kubernetes' own",
        Skip::Refused => "sidecar.istio.io/inject is false",
        Skip::NeverSelector => "neverInjectSelector of the injector configuration matches",
        Skip::PolicyDisabled => "the injection policy is disabled",
        Skip::PolicyUnknown => "the injection policy has an unknown value",
    }
}

fn headline(subject: &Subject, decision: &Decision, skip: Option<Skip>) -> String {
    let place = format!("{} in namespace {}", subject.title, subject.namespace);
    match (decision.matches.as_slice(), skip) {
        ([], _) => format!("{place}: not injected; no webhook selects it"),
        ([winner], None) => format!("{place}: injected by revision {}", winner.revision),
        ([winner], Some(skip)) => {
            format!(
                "{place}: not injected; revision {} is asked, but {}",
                winner.revision,
                skip_reason(skip)
            )
        }
        (several, _) => format!(
            "{place}: {} webhooks select it, which can lead to errors",
            several.len()
        ),
    }
}

/// Everything that there is to say.
struct Explanation<'a> {
    subject: &'a Subject,
    namespace: &'a Labels,
    decision: &'a Decision,
    skip: Option<Skip>,
    running: &'a [Running],
    /// What is wrong beside.
    problems: Vec<String>,
}

impl Explanation<'_> {
    /// For people.
    fn text(&self) -> String {
        let mut lines = vec![headline(self.subject, self.decision, self.skip)];
        for winner in &self.decision.matches {
            let via = winner.tag.as_ref().map(|tag| format!(", tag {tag}"));
            lines.push(format!(
                "  because {} (webhook {} of {}{})",
                rule(winner, self.namespace),
                winner.webhook,
                winner.config,
                via.unwrap_or_default()
            ));
        }
        let mut text = lines.join("\n") + "\n";
        if !self.decision.misses.is_empty() {
            let misses = self.decision.misses.iter();
            let rows = std::iter::once(row(["WEBHOOK", "REVISION", "REASON"]))
                .chain(misses.map(|miss| row([&miss.config, &miss.revision, &miss.reason.to_string()])));
            text += if self.decision.matches.is_empty() {
                "\nWhy none does:\n"
            } else {
                "\nThe others do not:\n"
            };
            text += &columns(&rows.collect::<Vec<_>>(), 2);
        }
        if !self.running.is_empty() {
            let next = self.decision.revision().filter(|_| self.skip.is_none());
            let rows = std::iter::once(row(["POD", "INJECTED BY", "AT THE NEXT RESTART"])).chain(
                self.running.iter().map(|pod| {
                    let now = pod.revision.as_deref();
                    let then = if now == next {
                        "unchanged"
                    } else {
                        next.unwrap_or("not injected")
                    };
                    row([&pod.pod, now.unwrap_or("-"), then])
                }),
            );
            text += "\nRunning pods:\n";
            text += &columns(&rows.collect::<Vec<_>>(), 2);
        }
        for problem in &self.problems {
            text += &format!("\n{problem}\n");
        }
        text
    }

    fn value(&self) -> Value {
        let mut value = json!({
            "workload": self.subject.title,
            "namespace": self.subject.namespace,
            "revision": self.decision.revision().filter(|_| self.skip.is_none()),
            "skipped": self.skip.map(skip_reason),
            "matches": self.decision.matches.iter().map(|m| json!({
                "webhookConfiguration": m.config, "webhook": m.webhook, "revision": m.revision, "tag": m.tag,
                "rule": rule(m, self.namespace),
            })).collect::<Vec<_>>(),
            "misses": self.decision.misses.iter().map(|m| json!({
                "webhookConfiguration": m.config, "revision": m.revision, "reason": m.reason.to_string(),
            })).collect::<Vec<_>>(),
            "pods": self.running.iter().map(|r| json!({"name": r.pod, "revision": r.revision})).collect::<Vec<_>>(),
        });
        if !self.problems.is_empty() {
            value["problem"] = json!(self.problems.join("\n"));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use revision::decision::Injector;
    use revision::name::{Revision, Tag};
    use revision::webhook::{Options, Precedence, of_revision, of_tag};

    fn labels(text: &str) -> Labels {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Revisions `old` and `new`, and the tag `default` at `old`.
    fn check(precedence: Precedence, namespace: &str, pod: &str, problems: &[&str], expected: &str) {
        let options = Options {
            precedence,
            ..Options::default()
        };
        let injector = |config: &str, revision: &str, tag: Option<&str>| Injector {
            config: config.to_owned(),
            revision: revision.to_owned(),
            tag: tag.map(str::to_owned),
            webhooks: match tag {
                Some(tag) => of_tag(&Tag::parse(tag).unwrap(), options),
                None => of_revision(&Revision::parse(revision).unwrap(), options),
            },
        };
        let injectors = [
            injector("istio-revision-tag-default", "old", Some("default")),
            injector("istio-sidecar-injector-new", "new", None),
        ];
        let (namespace, pod) = (labels(namespace), labels(pod));
        let decision = decide(&namespace, &pod, &injectors);
        let subject = Subject {
            title: "pod/web".to_owned(),
            namespace: "shop".to_owned(),
            labels: Some(pod),
            host_network: false,
            annotations: Labels::new(),
        };
        let explanation = Explanation {
            subject: &subject,
            namespace: &namespace,
            decision: &decision,
            skip: None,
            running: &[],
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
        };
        assert_eq!(explanation.text().trim_end(), expected);
    }

    #[test]
    fn where_nobody_injects_there_are_no_others() {
        check(
            Precedence::Namespace,
            "istio.io/rev=gone",
            "",
            &["WARNING: nobody answers"],
            "\
pod/web in namespace shop: not injected; no webhook selects it

Why none does:
WEBHOOK                     REVISION  REASON
istio-revision-tag-default  old       the namespace selects \"gone\"
istio-sidecar-injector-new  new       the namespace selects \"gone\"

WARNING: nobody answers",
        );
    }

    #[test]
    fn the_rule_that_fired_and_why_the_others_lost() {
        check(
            Precedence::Namespace,
            "istio-injection=enabled",
            "istio.io/rev=new",
            &[],
            "\
pod/web in namespace shop: injected by revision old
  because the namespace has label istio-injection=enabled (webhook namespace.sidecar-injector.istio.io of istio-revision-tag-default, tag default)

The others do not:
WEBHOOK                     REVISION  REASON
istio-sidecar-injector-new  new       the namespace has label istio-injection, which wins over istio.io/rev",
        );
        check(
            Precedence::Pod,
            "istio-injection=enabled",
            "istio.io/rev=new",
            &[],
            "\
pod/web in namespace shop: injected by revision new
  because the pod has label istio.io/rev=new, which wins over istio-injection=enabled of the namespace (webhook rev.object.enabled.sidecar-injector.istio.io of istio-sidecar-injector-new)

The others do not:
WEBHOOK                     REVISION  REASON
istio-revision-tag-default  old       the pod selects \"new\"",
        );
        check(
            Precedence::Pod,
            "istio.io/rev=default",
            "istio.io/rev=new",
            &[],
            "\
pod/web in namespace shop: injected by revision new
  because the pod has label istio.io/rev=new, which wins over istio.io/rev=default of the namespace (webhook rev.object.sidecar-injector.istio.io of istio-sidecar-injector-new)

The others do not:
WEBHOOK                     REVISION  REASON
istio-revision-tag-default  old       the pod selects \"new\"",
        );
        let absence = install::served::Absence {
            gone: false,
            refuses: true,
        };
        let refusal = injection::refusal("new", absence, "istio-system");
        check(
            Precedence::Namespace,
            "",
            "istio.io/rev=new",
            &[&refusal],
            "\
pod/web in namespace shop: injected by revision new
  because the pod has label istio.io/rev=new (webhook rev.object.sidecar-injector.istio.io of istio-sidecar-injector-new)

The others do not:
WEBHOOK                     REVISION  REASON
istio-revision-tag-default  old       the pod selects \"new\"

WARNING: no istiod of revision \"new\" is ready, and until one is, new pods that it injects are refused: restart none. See kubectl get pods -n istio-system -l app=istiod,istio.io/rev=new",
        );
    }
}
