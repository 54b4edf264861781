//! Services of type LoadBalancer get the node's address: on one machine that is where their ports can be reached.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service};

use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta, scheduler};

/// What the status of a Service is to say, or `None` if it says so already.
#[must_use]
pub fn decide(service: &Service, nodes: &[Arc<Node>]) -> Option<LoadBalancerStatus> {
    if meta::is_terminating(&service.metadata) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let wants_one =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.as_deref().is_none_or(str::is_empty);
    let current = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.clone())
        .unwrap_or_default();
    let has_some = current.ingress.as_ref().is_some_and(|ingress| !ingress.is_empty());
    let wanted = match wants_one {
        // Somebody else's class: not ours to clear.
        false if spec.type_.as_deref() == Some("LoadBalancer") => return None,
        false => LoadBalancerStatus::default(),
        true => {
            let addresses: Vec<_> = nodes
                .iter()
                .filter(|node| scheduler::fit::is_ready(node))
                .filter_map(|n| address(n))
                .collect();
            if addresses.is_empty() {
                return None; // no node yet; what was told stays
            }
            let ingress = |ip| LoadBalancerIngress {
                ip: Some(ip),
                ip_mode: Some("VIP".into()),
                ..Default::default()
            };
            LoadBalancerStatus {
                ingress: Some(addresses.into_iter().map(ingress).collect()),
            }
        }
    };
    let wants_some = wanted.ingress.is_some();
    (wanted != current && (wants_some || has_some)).then_some(wanted)
}

fn address(node: &Node) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|address| address.type_ == kind)
            .map(|address| address.address.clone())
    };
    of("ExternalIP").or_else(|| of("InternalIP"))
}

/// See the module's text.
#[derive(Debug)]
pub struct LoadBalancers {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.services.cache, &queue);
    let (services, again) = (world.services.cache.clone(), queue.clone());
    world.nodes.cache.subscribe(move |_| {
        services
            .all()
            .iter()
            .for_each(|service| again.add(Key::of(&service.metadata)));
    });
    let (services, nodes) = (world.services.cache.clone(), world.nodes.cache.clone());
    let ready = async move {
        services.synced().await;
        nodes.synced().await;
    };
    runner.controller(LoadBalancers { world: world.clone() }, queue, 1, ready);
}

impl Reconciler for LoadBalancers {
    const NAME: &'static str = "service-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(service) = self.world.services.cache.get(key) else {
            return Ok(None);
        };
        if let Some(balancer) = decide(&service, &self.world.nodes.cache.all()) {
            let mut written = (*service).clone();
            written.status.get_or_insert_default().load_balancer = Some(balancer);
            self.world.services.replace_status(&written).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(kind: &str, told: Option<&str>, expected: Option<Option<&str>>) {
        let node = json!({
            "metadata": {"name": "n"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        let node = Arc::new(serde_json::from_value(node).unwrap());
        let ingress = told.map(|ip| json!([{"ip": ip, "ipMode": "VIP"}]));
        let service = json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": ingress}}});
        let service: Service = serde_json::from_value(service).unwrap();
        let decided = decide(&service, &[node]).map(|status| {
            status
                .ingress
                .and_then(|ingress| ingress.into_iter().next())
                .and_then(|ingress| ingress.ip)
        });
        assert_eq!(decided, expected.map(|ip| ip.map(str::to_owned)), "{kind} {told:?}");
    }

    #[test]
    fn only_load_balancers_have_the_address() {
        check("LoadBalancer", None, Some(Some("10.0.0.1")));
        check("LoadBalancer", Some("10.0.0.1"), None);
        check("LoadBalancer", Some("10.9.9.9"), Some(Some("10.0.0.1")));
        check("ClusterIP", None, None);
        check("ClusterIP", Some("10.0.0.1"), Some(None));
    }
}
