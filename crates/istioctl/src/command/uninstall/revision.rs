//! What is said before one revision goes.

use api::names::DEFAULT_REVISION;
use install::api_server::RequestError;
use install::object::Object;
use install::record::Gateway;
use install::uninstall::{self, Plan, Stays};

use super::users::{Use, Users};

/// What is said before anything happens, and whether somebody still uses the control plane. `other` is the revision that
/// the default may go to.
pub fn describe(
    users: &Users,
    gateways: Result<Vec<Object>, RequestError>,
    revision: &str,
    plan: &Plan,
    other: &str,
    verbose: bool,
) -> (String, Use) {
    let mut text = String::new();
    let mut used = Use::No;
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if plan.remove.is_empty() {
        say("No resources will be pruned from the cluster. Please double check the input configs");
        return (text, Use::No);
    }
    if !plan.applied_by.is_empty() {
        say(&applied(revision, &plan.applied_by));
    }
    // What nobody marked as his own is shown, so that a person can judge it.
    if verbose || !plan.applied_by.is_empty() {
        say("The following resources will be pruned from the cluster:");
        for id in plan.ids() {
            say(&format!("  {}", id.path()));
        }
    }
    used = used.max(users.known());
    users.told(revision).iter().for_each(|line| say(line));
    let by_gateways = if gateways.is_ok() { Use::Yes } else { Use::Unlisted };
    if let Some(line) = deployed(revision, &plan.tags, gateways) {
        used = used.max(by_gateways);
        say(&line);
    }
    let is_gateway = |object: &&Object| {
        object.kind() == "Deployment" && (object.name().contains("gateway") || Gateway::of(object).is_some())
    };
    let going: Vec<&str> = plan.remove.iter().filter(is_gateway).map(Object::name).collect();
    if !going.is_empty() {
        used = Use::Yes;
        say(&format!(
            "You are about to remove the following gateways: {}. To avoid downtime, please quit this command and reinstall \
             the gateway(s) with a revision that is not being removed from the cluster.",
            going.join(", ")
        ));
    }
    for gateway in &plan.gateways {
        used = Use::Yes;
        say(&stays(gateway, revision));
    }
    if !plan.tags.is_empty() {
        used = Use::Yes;
        say(&format!(
            "Tags that point at {revision} and go with it: {}",
            plan.tags.join(", ")
        ));
    }
    if plan.tags.iter().any(|tag| tag == DEFAULT_REVISION) && !plan.others.is_empty() {
        let (goes, them) = match plan.validator {
            Some(_) => ("", "it"),
            None => (", and validation", "them"),
        };
        say(&format!(
            "With the tag \"default\" goes the injection of istio-injection=enabled{goes}. To keep {them}, move it first: \
             istioctl tag set default --revision {other}"
        ));
    }
    match &plan.validator {
        Some(Stays::With(other)) => say(&format!(
            "The validator of configuration without a revision stays, and asks {other} from now on."
        )),
        Some(Stays::Open) => say(
            "The validator of configuration without a revision stays, and lets pass everything: nobody is left to ask.",
        ),
        None => {}
    }
    if let Some(target) = &plan.default_moves_to {
        used = Use::Yes;
        say(&format!(
            "The default revision moves to {target}, the only one that remains and is ready."
        ));
    }
    plan.bereft.iter().for_each(|line| say(line));
    if !plan.namespaces.is_empty() {
        used = Use::Yes;
        say(&format!(
            "Namespaces whose new pods {revision} injects: {}",
            plan.namespaces.join(", ")
        ));
    }
    (text, used)
}

/// What is said of a gateway that does not go with the revision.
fn stays(gateway: &uninstall::Gateway, revision: &str) -> String {
    let uninstall::Gateway { id, to, had } = gateway;
    let advice = if *had {
        format!(": revision {to} has it too. Give it back with")
    } else {
        ". Put it on another one with".to_owned()
    };
    format!(
        "The gateway {}.{} runs on revision {revision} and stays{advice}: istioctl gateway revert --revision {to} -y",
        id.name, id.namespace
    )
}

/// What is said of a revision that no installer marked as its own. Helm itself applies only releases, and of this one it
/// has no record: what is left would otherwise be left to it.
fn applied(revision: &str, by: &[String]) -> String {
    if by.iter().any(|manager| manager == "helm") {
        return format!(
            "Revision {revision} was installed by Helm, which has no record of it any more, so that this is left of it."
        );
    }
    format!(
        "Revision {revision} was not installed by istioctl: {} applied its manifests. Whoever applies them again brings it \
         back.",
        by.join(", ")
    )
}

/// What is said of gateways that the revision deploys; where they cannot be listed nobody knows that it is unused.
fn deployed(revision: &str, tags: &[String], gateways: Result<Vec<Object>, RequestError>) -> Option<String> {
    let gateways = match gateways {
        Ok(gateways) => gateways,
        Err(error) => {
            return Some(format!(
                "Whether {revision} deploys gateways or waypoints is not known: {error}"
            ));
        }
    };
    let names: Vec<String> = uninstall::deployed(revision, tags, &gateways)
        .iter()
        .map(|id| format!("{}.{}", id.name, id.namespace))
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "Gateways and waypoints that {revision} deploys; what it made for them stays as it is: {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(gateways: Result<Vec<Object>, RequestError>, expected: Option<&str>) {
        let tags = ["prod".to_owned()];
        assert_eq!(deployed("old", &tags, gateways).as_deref(), expected);
    }

    #[test]
    fn a_gateway_that_stays_is_sent_to_who_had_it() {
        let mut id = install::api_server::kind("apps", "v1", "Deployment");
        (id.namespace, id.name) = ("istio-system".to_owned(), "edge".to_owned());
        let told = |had| {
            let (id, to) = (id.clone(), "old".to_owned());
            stays(&uninstall::Gateway { id, to, had }, "canary")
        };
        insta::assert_snapshot!(told(true), @"The gateway edge.istio-system runs on revision canary and stays: revision old has it too. Give it back with: istioctl gateway revert --revision old -y");
        insta::assert_snapshot!(told(false), @"The gateway edge.istio-system runs on revision canary and stays. Put it on another one with: istioctl gateway revert --revision old -y");
    }

    #[test]
    fn who_brought_a_revision_that_nobody_marked_is_said() {
        let check = |by: &str, expected: &str| assert!(applied("old", &[by.to_owned()]).contains(expected), "{by}");
        check("kubectl", "kubectl applied its manifests");
        check("helm", "Helm, which has no record of it any more");
    }

    #[test]
    fn a_revision_is_unused_only_if_its_gateways_may_be_listed() {
        let gateway = |name: &str, revision: &str| {
            Object(json!({"metadata": {"name": name, "namespace": "app", "labels": {"istio.io/rev": revision}}}))
        };
        check(Ok(vec![gateway("other", "new")]), None);
        check(
            Ok(vec![gateway("own", "old"), gateway("tagged", "prod")]),
            Some("Gateways and waypoints that old deploys; what it made for them stays as it is: own.app, tagged.app"),
        );
        let refused = RequestError::Refused {
            verb: "list",
            object: "Gateway".to_owned(),
            message: "forbidden".to_owned(),
            code: 403,
        };
        check(
            Err(refused),
            Some("Whether old deploys gateways or waypoints is not known: cannot list Gateway: forbidden"),
        );
    }
}
