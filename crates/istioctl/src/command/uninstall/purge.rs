//! What is said before everything goes: who uses it, and who will not know of it.

use install::uninstall::Plan;

use super::users::{Answered, NAMED, Use, Users, still};

/// What goes with a purge, and whether somebody still uses it; `revisions` are those that are there.
pub fn describe(users: &Users, plan: &Plan, revisions: &[&str]) -> (String, Use) {
    let mut lines = vec!["All Istio resources will be pruned from the cluster".to_owned()];
    if !revisions.is_empty() {
        lines.push(format!("Control planes that go: {}", revisions.join(", ")));
    }
    if !plan.releases.is_empty() {
        let commands: Vec<String> = plan.releases.iter().map(|it| format!("helm uninstall {it}")).collect();
        lines.push(format!(
            "What Helm installed goes with it, and Helm will not know. To let Helm do it, do that first: {}",
            commands.join("; ")
        ));
    }
    if !plan.namespaces.is_empty() {
        lines.push(format!(
            "Namespaces whose new pods start without a proxy from then on: {}",
            plan.namespaces.join(", ")
        ));
    }
    let proxies = users.all();
    if !proxies.is_empty() {
        let become_detached = if proxies.len() == 1 { "becomes" } else { "become" };
        lines.push(format!(
            "{}, which {become_detached} detached from any control plane and will not function correctly",
            still(proxies.len())
        ));
        if proxies.len() <= NAMED {
            lines.extend(proxies.iter().map(|id| (*id).clone()));
        }
    }
    if let Err(error) = &users.pods {
        lines.push(format!("Whether there are more proxies is not known: {error}"));
    }
    // Proxies may be outside of this cluster, and only an istiod knows those (revisions.md §8.3).
    let unknown = match users.answered {
        Answered::None if !revisions.is_empty() => Some((
            Use::Silent,
            "No istiod answers, so that proxies outside of this cluster are not known",
        )),
        Answered::Some => Some((
            Use::Partly,
            "Not every istiod answers, so that proxies of the silent ones outside of this cluster are not known",
        )),
        _ => None,
    };
    if let (Some((_, why)), Ok(_)) = (unknown, &users.pods) {
        lines.push(why.to_owned());
    }
    let used = match &users.pods {
        _ if !proxies.is_empty() || !plan.namespaces.is_empty() => Use::Yes,
        Err(_) => Use::Unlisted,
        Ok(_) => unknown.map_or(Use::No, |(used, _)| used),
    };
    (lines.join("\n") + "\n", used)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(pods: &[&str], plan: &Plan, revisions: &[&str], used: Use) -> String {
        check_where(Answered::All, pods, plan, revisions, used)
    }

    fn check_where(answered: Answered, pods: &[&str], plan: &Plan, revisions: &[&str], used: Use) -> String {
        let users = Users {
            answered,
            connected: vec!["gateway.istio-system".to_owned()].split_off(usize::from(pods.is_empty())),
            pods: Ok(pods.iter().map(|pod| (*pod).to_owned()).collect()),
        };
        let (text, is_used) = describe(&users, plan, revisions);
        assert_eq!(is_used, used);
        text
    }

    #[test]
    fn whoever_uses_what_goes_is_named() {
        let plan = Plan {
            releases: ["istio-base", "istiod"]
                .map(|release| format!("{release} -n istio-system"))
                .to_vec(),
            namespaces: vec!["app".to_owned()],
            ..Plan::default()
        };
        insta::assert_snapshot!(check(&["web.app"], &plan, &["canary", "default"], Use::Yes), @r#"
        All Istio resources will be pruned from the cluster
        Control planes that go: canary, default
        What Helm installed goes with it, and Helm will not know. To let Helm do it, do that first: helm uninstall istio-base -n istio-system; helm uninstall istiod -n istio-system
        Namespaces whose new pods start without a proxy from then on: app
        There are still 2 proxies, which become detached from any control plane and will not function correctly
        gateway.istio-system
        web.app
        "#);
        insta::assert_snapshot!(check(&[], &Plan::default(), &[], Use::No), @"All Istio resources will be pruned from the cluster");
        check(&[], &Plan::default(), &["canary"], Use::No);
        insta::assert_snapshot!(check_where(Answered::None, &[], &Plan::default(), &["canary"], Use::Silent), @"
        All Istio resources will be pruned from the cluster
        Control planes that go: canary
        No istiod answers, so that proxies outside of this cluster are not known
        ");
        check_where(Answered::None, &[], &Plan::default(), &[], Use::No);
        insta::assert_snapshot!(check_where(Answered::Some, &[], &Plan::default(), &["canary"], Use::Partly), @"
        All Istio resources will be pruned from the cluster
        Control planes that go: canary
        Not every istiod answers, so that proxies of the silent ones outside of this cluster are not known
        ");
    }
}
