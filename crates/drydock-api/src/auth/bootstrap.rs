//! The roles and bindings every cluster starts with (`rbac-defaults`), as one table.
//!
//! A rule is `verbs | api groups | resources`, or `verbs || paths`; `RW` and `R` abbreviate the usual verb sets and
//! `core` the group without a name.

use super::rbac::{GROUP, Rule};
use serde_json::{Value, json};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";

/// Role, what it aggregates to (`admin`, `edit`, `view`) or from, and its rules.
type Row = (&'static str, Part, &'static [&'static str]);

#[derive(Clone, Copy)]
enum Part {
    /// A role by itself.
    Plain,
    /// Contributes its rules to another role.
    Of(&'static str),
    /// Collects the rules of its parts, and may itself be part of another.
    Whole(Option<&'static str>),
}
use Part::{Of, Plain, Whole};

const ROLES: &[Row] = &[
    ("cluster-admin", Plain, &["* | * | *", "* || *"]),
    (
        "system:discovery",
        Plain,
        &["get || /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"],
    ),
    (
        "system:public-info-viewer",
        Plain,
        &["get || /healthz /livez /readyz /version /version/"],
    ),
    (
        "system:monitoring",
        Plain,
        &["get || /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"],
    ),
    (
        "system:basic-user",
        Plain,
        &[
            "create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews",
            "create | authentication.k8s.io | selfsubjectreviews",
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        Plain,
        &[
            "get || /.well-known /.well-known/* /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        ],
    ),
    ("admin", Whole(None), &[]),
    ("edit", Whole(Some("admin")), &[]),
    ("view", Whole(Some("edit")), &[]),
    (
        "system:aggregate-to-admin",
        Of("admin"),
        &[
            "create | authorization.k8s.io | localsubjectaccessreviews",
            "RW | rbac.authorization.k8s.io | rolebindings roles",
        ],
    ),
    (
        "system:aggregate-to-edit",
        Of("edit"),
        &[
            "R | core | pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
            "impersonate | core | serviceaccounts",
            "W | core | pods pods/attach pods/exec pods/portforward pods/proxy",
            "create | core | pods/eviction",
            "W | core | configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
            "create | core | serviceaccounts/token",
            "W | apps | daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
            "W | autoscaling | horizontalpodautoscalers",
            "W | batch | cronjobs jobs",
            "W | extensions | daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
            "W | policy | poddisruptionbudgets",
            "W | networking.k8s.io | ingresses networkpolicies",
            "RW | coordination.k8s.io | leases",
        ],
    ),
    (
        "system:aggregate-to-view",
        Of("view"),
        &[
            "R | core | configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
            "R | core | bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
            "R | core | namespaces",
            "R | discovery.k8s.io | endpointslices",
            "R | apps | controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
            "R | autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status",
            "R | batch | cronjobs cronjobs/status jobs jobs/status",
            "R | extensions | daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
            "R | policy | poddisruptionbudgets poddisruptionbudgets/status",
            "R | networking.k8s.io | ingresses ingresses/status networkpolicies",
        ],
    ),
    (
        "system:auth-delegator",
        Plain,
        &[
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
        ],
    ),
    (
        "system:node",
        Plain,
        &[
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | localsubjectaccessreviews subjectaccessreviews",
            "R | core | services",
            "create get list watch | core | nodes",
            "patch update | core | nodes nodes/status",
            "create patch update | core | events",
            "create delete get list watch | core | pods",
            "patch update | core | pods/status",
            "create | core | pods/eviction",
            "R | core | configmaps secrets",
            "get | core | persistentvolumeclaims persistentvolumes endpoints",
            "R | discovery.k8s.io | endpointslices",
            "create | certificates.k8s.io | certificatesigningrequests",
            "R | core | namespaces serviceaccounts",
            "create | core | serviceaccounts/token",
            "create delete get patch update | coordination.k8s.io | leases",
            "R | node.k8s.io | runtimeclasses",
            "create patch update | events.k8s.io | events",
        ],
    ),
    (
        "system:node-proxier",
        Plain,
        &[
            "R | core | nodes services endpoints",
            "R | discovery.k8s.io | endpointslices",
            "create patch update | core events.k8s.io | events",
        ],
    ),
    (
        "system:kube-scheduler",
        Plain,
        &[
            "create patch update | core events.k8s.io | events",
            "RW | coordination.k8s.io | leases",
            "R | core | namespaces nodes pods services replicationcontrollers persistentvolumeclaims persistentvolumes",
            "delete | core | pods",
            "create | core | bindings pods/binding",
            "patch update | core | pods/status",
            "R | apps | replicasets statefulsets",
            "R | policy | poddisruptionbudgets",
            "R | storage.k8s.io | csidrivers csinodes csistoragecapacities storageclasses volumeattachments",
        ],
    ),
    (
        // Real clusters split this over one service account per controller; here the controllers are one client.
        "system:kube-controller-manager",
        Plain,
        &[
            "RW | core | configmaps endpoints events namespaces namespaces/finalize namespaces/status nodes nodes/status persistentvolumeclaims persistentvolumeclaims/status persistentvolumes persistentvolumes/status pods pods/binding pods/eviction pods/finalizers pods/status replicationcontrollers replicationcontrollers/scale replicationcontrollers/status secrets serviceaccounts serviceaccounts/token services services/status",
            "RW | apps autoscaling batch certificates.k8s.io coordination.k8s.io discovery.k8s.io events.k8s.io policy | *",
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
            "delete deletecollection get list patch update watch | * | *",
        ],
    ),
];

/// Binding (named like its role) and its groups or users.
const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["Group system:masters"]),
    ("system:discovery", &["Group system:authenticated"]),
    ("system:basic-user", &["Group system:authenticated"]),
    (
        "system:public-info-viewer",
        &["Group system:authenticated", "Group system:unauthenticated"],
    ),
    ("system:monitoring", &["Group system:monitoring"]),
    (
        "system:service-account-issuer-discovery",
        &["Group system:serviceaccounts"],
    ),
    ("system:node", &[]),
    ("system:node-proxier", &["User system:kube-proxy"]),
    ("system:kube-scheduler", &["User system:kube-scheduler"]),
    (
        "system:kube-controller-manager",
        &["User system:kube-controller-manager"],
    ),
];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|w| if w == "core" { String::new() } else { w.to_owned() })
        .collect()
}

fn rule(row: &str) -> Rule {
    let mut parts = row.split('|').map(str::trim);
    let verbs = match parts.next().unwrap_or_default() {
        "R" => words(READ),
        "W" => words(WRITE),
        "RW" => words("create delete deletecollection get list patch update watch"),
        other => words(other),
    };
    let (groups, last) = (
        words(parts.next().unwrap_or_default()),
        words(parts.next().unwrap_or_default()),
    );
    if groups.is_empty() {
        Rule {
            verbs,
            paths: last,
            ..Rule::default()
        }
    } else {
        Rule {
            verbs,
            groups,
            resources: last,
            ..Rule::default()
        }
    }
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
    })
}

/// The default cluster roles, without uid and the like; aggregated ones already hold their parts' rules.
#[must_use]
pub fn cluster_roles() -> Vec<Value> {
    let mut out: Vec<Value> = ROLES
        .iter()
        .map(|(name, part, rows)| {
            let mut role =
                json!({ "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole", "metadata": metadata(name) });
            let label = |of: &str| format!("rbac.authorization.k8s.io/aggregate-to-{of}");
            if let Of(of) | Whole(Some(of)) = part {
                role["metadata"]["labels"][label(of)] = json!("true");
            }
            if let Whole(_) = part {
                let mut labels = serde_json::Map::new();
                labels.insert(label(name), json!("true"));
                role["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": labels }] });
            }
            role["rules"] = rows.iter().map(|r| rule(r).to_json()).collect();
            role
        })
        .collect();
    // view becomes part of edit, edit of admin: three steps until nothing changes.
    for _ in 0..3 {
        let before = out.clone();
        for role in &mut out {
            if let Some(rules) = super::aggregation::aggregated(role, before.iter()) {
                role["rules"] = rules;
            }
        }
    }
    out
}

/// The default cluster role bindings, without uid and the like.
#[must_use]
pub fn cluster_role_bindings() -> Vec<Value> {
    BINDINGS
        .iter()
        .map(|(name, subjects)| {
            let subjects: Vec<Value> = subjects
                .iter()
                .filter_map(|s| s.split_once(' '))
                .map(|(kind, name)| json!({ "apiGroup": GROUP, "kind": kind, "name": name }))
                .collect();
            let mut binding = json!({
                "apiVersion": format!("{GROUP}/v1"),
                "kind": "ClusterRoleBinding",
                "metadata": metadata(name),
                "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": name },
            });
            if !subjects.is_empty() {
                binding["subjects"] = json!(subjects);
            }
            binding
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn admin_holds_what_edit_and_view_hold() {
        let roles = cluster_roles();
        let count = |name: &str| {
            roles.iter().find(|r| r["metadata"]["name"] == name).unwrap()["rules"]
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(count("view"), 10);
        assert_eq!(count("edit"), 10 + 13);
        assert_eq!(count("admin"), 10 + 13 + 2);
        let admin = roles.iter().find(|r| r["metadata"]["name"] == "cluster-admin").unwrap();
        assert_eq!(admin["rules"][1], json!({"verbs":["*"],"nonResourceURLs":["*"]}));
    }
}
