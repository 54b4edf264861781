//! What of clients matters to anybody: what no rule, service or setting asks about is left out of questions, so that
//! clients which differ only there share the answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::names::label;

use crate::endpoint::{self, Order};
use crate::graph::Cx;

/// What somebody asks about.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sensitivity {
    /// Namespaces whose clients may see a DestinationRule otherwise than those of all other namespaces.
    namespaces: BTreeSet<Arc<str>>,
    /// A DestinationRule selects clients by their labels.
    pub(crate) rules_select_by_labels: bool,
    /// Endpoints may be chosen or ordered by this.
    pub(crate) endpoints: Order,
    /// The same of endpoints that clusters hold.
    pub(crate) inline: Order,
}

impl Sensitivity {
    /// Whether clients of that namespace are told apart from others.
    pub(crate) fn names(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }
}

pub(crate) fn of_mesh(cx: &mut Cx<'_>) -> Sensitivity {
    let rules = cx.rules();
    let mesh = cx.mesh();
    let services = cx.services();
    let by_service = services.iter().any(|s| endpoint::by_place(s));
    let mut inline = services.iter().filter(|s| endpoint::are_inline(s)).peekable();
    let any_inline = inline.peek().is_some();
    let inline_by_service = inline.any(|s| endpoint::by_place(s));
    let by_rules_or_mesh = Order {
        by_place: mesh_orders_by_place(mesh) || !rules.is_empty(),
        by_labels: mesh_orders_by_labels(mesh) || rules.order_by_labels(),
        by_node: mesh_orders_by_node(mesh) || rules.order_by_node(),
    };
    Sensitivity {
        namespaces: rules.named(),
        rules_select_by_labels: rules.select_by_labels(),
        endpoints: Order {
            by_place: by_rules_or_mesh.by_place || by_service,
            by_labels: by_rules_or_mesh.by_labels || by_service,
            by_node: by_rules_or_mesh.by_node || services.iter().any(|s| endpoint::by_node(s)),
        },
        inline: Order {
            by_place: any_inline && (by_rules_or_mesh.by_place || inline_by_service),
            by_labels: any_inline && (by_rules_or_mesh.by_labels || inline_by_service),
            by_node: any_inline && (by_rules_or_mesh.by_node || inline_by_service),
        },
    }
}

/// Whether the mesh configuration orders endpoints by where the client is.
pub(crate) fn mesh_orders_by_place(mesh: &MeshConfig) -> bool {
    let by_outliers = mesh
        .default_traffic_policy
        .as_ref()
        .is_some_and(|p| p.outlier_detection.is_some());
    by_outliers || !mesh.locality_lb_setting.distribute.is_empty()
}

/// Whether the mesh configuration prefers endpoints on the client's node.
pub(crate) fn mesh_orders_by_node(mesh: &MeshConfig) -> bool {
    names_the_node(&mesh.locality_lb_setting.failover_priority)
}

/// Whether labels that client and endpoint should agree in tell on which node they are.
pub(crate) fn names_the_node(failover_priority: &[String]) -> bool {
    failover_priority.iter().any(|entry| entry == label::HOSTNAME)
}

/// Whether the mesh configuration names labels of client and endpoint that should agree.
pub(crate) fn mesh_orders_by_labels(mesh: &MeshConfig) -> bool {
    !mesh.locality_lb_setting.failover_priority.is_empty()
}
