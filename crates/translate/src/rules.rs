//! Which DestinationRule applies to a service, for a client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::networking::DestinationRule;
use api::networking::destination_rule::TrafficPolicy;
use mesh::{Config, Meta, Visibility};

use crate::client::Client;
use crate::graph::Cx;
use crate::host;
use crate::sensitivity::names_the_node;

type Rule = Config<DestinationRule>;

/// All rules by the host they name, older first.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rules {
    by_host: BTreeMap<String, Vec<(Arc<Rule>, Visibility)>>,
    /// Hosts that are patterns.
    wildcards: Vec<String>,
    root: Arc<str>,
}

/// The rules that may concern one host, most specific host first, older first.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct HostRules {
    rules: Vec<(String, Arc<Rule>, Visibility)>,
    root: Arc<str>,
}

/// The rule that applies: several of one host are united.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Applied {
    /// The object it is named after.
    pub(crate) meta: Meta,
    /// Its content.
    pub(crate) spec: DestinationRule,
}

impl Applied {
    /// Whether some policy of it leaves the choice of the endpoint to the client.
    pub(crate) fn mentions_passthrough(&self) -> bool {
        let own = self.spec.traffic_policy.iter();
        let subsets = self.spec.subsets.iter().filter_map(|s| s.traffic_policy.as_ref());
        own.chain(subsets).any(|policy| {
            let ports = policy
                .port_level_settings
                .iter()
                .filter_map(|p| p.load_balancer.as_ref());
            policy
                .load_balancer
                .iter()
                .chain(ports)
                .any(|b| b.simple.as_deref() == Some("PASSTHROUGH"))
        })
    }
}

pub(crate) fn all(cx: &mut Cx<'_>) -> Rules {
    let mesh = cx.mesh().clone();
    let domain = cx.domain();
    let mut rules: Vec<&Arc<Rule>> = cx.all().iter().collect();
    rules.sort_by(|a, b| a.meta.age_order(&b.meta));
    let mut by_host: BTreeMap<String, Vec<(Arc<Rule>, Visibility)>> = BTreeMap::new();
    for rule in rules {
        let name = host::full_name(&rule.spec.host, &rule.meta.namespace, domain);
        // A rule that selects workloads is for its own namespace.
        let visibility = if rule.spec.workload_selector.is_some() {
            Visibility::Only([rule.meta.namespace.clone()].into())
        } else {
            Visibility::parse(
                &rule.spec.export_to,
                &mesh.default_destination_rule_export_to,
                &rule.meta.namespace,
            )
        };
        by_host.entry(name).or_default().push((rule.clone(), visibility));
    }
    Rules {
        wildcards: by_host.keys().filter(|h| host::is_wildcard(h)).cloned().collect(),
        by_host,
        root: mesh.root_namespace.as_str().into(),
    }
}

pub(crate) fn of_host(cx: &mut Cx<'_>, name: &Arc<str>) -> HostRules {
    let all = cx.rules();
    let exact = all.by_host.get_key_value(&**name).map(|(host, _)| host);
    let patterns = all.wildcards.iter().filter(|w| ***w != **name && host::covers(w, name));
    let mut hosts: Vec<&String> = exact.into_iter().chain(patterns).collect();
    hosts.sort_by(|a, b| host::by_specificity(a, b));
    let rules = hosts
        .into_iter()
        .flat_map(|h| {
            all.by_host[h]
                .iter()
                .map(|(rule, visibility)| (h.clone(), rule.clone(), visibility.clone()))
        })
        .collect();
    HostRules {
        rules,
        root: all.root.clone(),
    }
}

/// Whether clients of a namespace may see a rule otherwise than clients of most: it is there, or names them.
fn names(rule: &Rule, visibility: &Visibility, namespace: &str) -> bool {
    *rule.meta.namespace == *namespace
        || matches!(visibility, Visibility::Only(namespaces) if namespaces.contains(namespace))
}

/// Labels of client and endpoint that should agree, of each policy of the rule that names some.
fn agreeing_labels(rule: &DestinationRule) -> impl Iterator<Item = &[String]> {
    let own = rule.traffic_policy.iter();
    own.chain(rule.subsets.iter().filter_map(|s| s.traffic_policy.as_ref()))
        .flat_map(|policy| {
            let ports = policy.port_level_settings.iter();
            let ports = ports.filter_map(|p| p.load_balancer.as_ref());
            policy.load_balancer.iter().chain(ports)
        })
        .filter_map(|balancer| balancer.locality_lb_setting.as_ref())
        .map(|setting| setting.failover_priority.as_slice())
        .filter(|labels| !labels.is_empty())
}

/// Whether some policy of the rule names labels of client and endpoint that should agree.
fn orders_by_labels(rule: &DestinationRule) -> bool {
    agreeing_labels(rule).next().is_some()
}

/// Whether some policy of the rule prefers endpoints on the client's node.
fn orders_by_node(rule: &DestinationRule) -> bool {
    agreeing_labels(rule).any(names_the_node)
}

impl Rules {
    /// Namespaces whose clients may see some rule otherwise than clients of all other namespaces do.
    pub(crate) fn named(&self) -> BTreeSet<Arc<str>> {
        let mut namespaces = BTreeSet::new();
        for (rule, visibility) in self.by_host.values().flatten() {
            namespaces.insert(rule.meta.namespace.clone());
            if let Visibility::Only(only) = visibility {
                namespaces.extend(only.iter().cloned());
            }
        }
        namespaces
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// Whether the order of endpoints may depend on labels of the client.
    pub(crate) fn order_by_labels(&self) -> bool {
        self.select_by_labels()
            || self
                .by_host
                .values()
                .flatten()
                .any(|(rule, _)| orders_by_labels(&rule.spec))
    }

    /// Whether the order of endpoints may depend on the client's node.
    pub(crate) fn order_by_node(&self) -> bool {
        let mut rules = self.by_host.values().flatten();
        rules.any(|(rule, _)| orders_by_node(&rule.spec))
    }

    /// Whether some rule selects clients by their labels.
    pub(crate) fn select_by_labels(&self) -> bool {
        self.by_host
            .values()
            .flatten()
            .any(|(rule, _)| rule.spec.workload_selector.is_some())
    }
}

impl HostRules {
    /// Whether there is none, so that no client's namespace matters.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the namespace matters: clients of all that do not are served alike.
    pub(crate) fn names(&self, namespace: &str) -> bool {
        self.rules.iter().any(|(_, rule, v)| names(rule, v, namespace))
    }

    /// Whether the order of endpoints may depend on labels of the client.
    pub(crate) fn order_by_labels(&self) -> bool {
        self.select_by_labels() || self.rules.iter().any(|(_, rule, _)| orders_by_labels(&rule.spec))
    }

    /// Whether the order of endpoints may depend on the client's node.
    pub(crate) fn order_by_node(&self) -> bool {
        self.rules.iter().any(|(_, rule, _)| orders_by_node(&rule.spec))
    }

    /// Whether some rule selects clients by their labels.
    pub(crate) fn select_by_labels(&self) -> bool {
        self.rules
            .iter()
            .any(|(_, rule, _)| rule.spec.workload_selector.is_some())
    }

    /// The rule for a client of the service in `service_namespace`: of the client's namespace, else of the service's
    /// or of the root namespace if it is exported to the client.
    pub(crate) fn resolve(&self, client: &Client, service_namespace: &str) -> Option<Applied> {
        let own = client.namespace();
        // Rules of the root namespace are the mesh's defaults: for proxies there, only private ones come first.
        let local = |rule: &Rule, visibility: &Visibility| {
            *rule.meta.namespace == *own
                && visibility.includes(own)
                && (*own != *self.root || *visibility != Visibility::All || rule.spec.workload_selector.is_some())
        };
        self.first(client, local)
            .or_else(|| {
                self.first(client, |rule, v| {
                    *rule.meta.namespace == *service_namespace && v.includes(own)
                })
            })
            .or_else(|| self.first(client, |rule, v| *rule.meta.namespace == *self.root && v.includes(own)))
    }

    fn first(&self, client: &Client, accept: impl Fn(&Rule, &Visibility) -> bool) -> Option<Applied> {
        let accepted: Vec<_> = self.rules.iter().filter(|(_, rule, v)| accept(rule, v)).collect();
        let most_specific = &accepted.first()?.0;
        let of_host: Vec<_> = accepted
            .iter()
            .filter(|(h, ..)| h == most_specific)
            .map(|(_, rule, _)| rule)
            .collect();
        let selected = of_host.iter().find(|rule| {
            rule.spec.workload_selector.as_ref().is_some_and(|selector| {
                client
                    .labels
                    .as_ref()
                    .is_some_and(|l| selector.match_labels.iter().all(|(k, v)| l.get(k) == Some(v)))
            })
        });
        let group: Vec<&&Arc<Rule>> = match selected {
            Some(rule) => of_host
                .iter()
                .filter(|r| r.spec.workload_selector == rule.spec.workload_selector)
                .collect(),
            None => of_host.iter().filter(|r| r.spec.workload_selector.is_none()).collect(),
        };
        unite(&group)
    }
}

/// The first policy wins whole, subsets are united, of two of one name the first is kept.
fn unite(group: &[&&Arc<Rule>]) -> Option<Applied> {
    let (first, others) = group.split_first()?;
    let mut applied = Applied {
        meta: first.meta.clone(),
        spec: first.spec.clone(),
    };
    for other in others {
        for subset in &other.spec.subsets {
            if applied.spec.subsets.iter().all(|s| s.name != subset.name) {
                applied.spec.subsets.push(subset.clone());
            }
        }
        if applied.spec.traffic_policy.is_none() {
            applied.spec.traffic_policy.clone_from(&other.spec.traffic_policy);
        }
    }
    Some(applied)
}

/// The policy for a port: a port's own replaces the general one and inherits nothing.
pub(crate) fn policy_for_port(policy: Option<&TrafficPolicy>, port: u16) -> Option<TrafficPolicy> {
    let policy = policy?;
    let own = policy
        .port_level_settings
        .iter()
        .find(|p| p.port.as_ref().is_some_and(|n| n.number.0 == u32::from(port)));
    Some(match own {
        None => policy.clone(),
        Some(own) => TrafficPolicy {
            load_balancer: own.load_balancer.clone(),
            connection_pool: own.connection_pool.clone(),
            outlier_detection: own.outlier_detection.clone(),
            tls: own.tls.clone(),
            ..TrafficPolicy::default()
        },
    })
}

/// The policy of a subset: its fields override those of the whole service.
pub(crate) fn policy_for_subset(
    whole: Option<&TrafficPolicy>,
    subset: Option<&TrafficPolicy>,
    port: u16,
) -> Option<TrafficPolicy> {
    let Some(own) = policy_for_port(subset, port) else {
        return whole.cloned();
    };
    let Some(whole) = whole else { return Some(own) };
    // A port's own policy inherits nothing of what it could say itself.
    let replaces = subset.is_some_and(|s| {
        s.port_level_settings
            .iter()
            .any(|p| p.port.as_ref().is_some_and(|n| n.number.0 == u32::from(port)))
    });
    let nothing = TrafficPolicy::default();
    let inherited = if replaces { &nothing } else { whole };
    Some(TrafficPolicy {
        load_balancer: own.load_balancer.or_else(|| inherited.load_balancer.clone()),
        connection_pool: own.connection_pool.or_else(|| inherited.connection_pool.clone()),
        outlier_detection: own.outlier_detection.or_else(|| inherited.outlier_detection.clone()),
        tls: own.tls.or_else(|| inherited.tls.clone()),
        tunnel: own.tunnel.or_else(|| whole.tunnel.clone()),
        proxy_protocol: own.proxy_protocol.or_else(|| whole.proxy_protocol.clone()),
        retry_budget: own.retry_budget.or_else(|| whole.retry_budget.clone()),
        port_level_settings: Vec::new(),
    })
}
