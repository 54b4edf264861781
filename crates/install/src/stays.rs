//! What stays when a control plane goes: what revisions share, and what istiod made.

use std::fmt;

use api::names::label;

use crate::api_server::{ApiServer, RequestError, kind};
use crate::component::Kind;
use crate::object::{Id, Object};
use crate::uninstall::Scope;

/// Label of the ConfigMaps with the root certificate.
const ROOT: &str = "istio.io/config=true";
/// The certificate authority's own key.
const AUTHORITY: &str = "istio-ca-secret";

/// What stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stays {
    /// Names of custom resource definitions of Istio.
    pub definitions: Vec<String>,
    /// Namespaces with a ConfigMap that holds the root certificate.
    pub roots: usize,
    /// The rest, one by one.
    pub objects: Vec<Id>,
}

/// Reads what is still there.
pub async fn read(server: &ApiServer, namespace: &str) -> Result<Stays, RequestError> {
    let definitions = kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let (roots, accounts) = (kind("", "v1", "ConfigMap"), kind("", "v1", "ServiceAccount"));
    let mut authority = kind("", "v1", "Secret");
    namespace.clone_into(&mut authority.namespace);
    AUTHORITY.clone_into(&mut authority.name);
    let base = format!("{}={}", label::OPERATOR_COMPONENT, Kind::Base.label());
    let (definitions, roots, accounts, authority) = futures::try_join!(
        server.list(&definitions, ""),
        server.list(&roots, ROOT),
        server.list(&accounts, &base),
        server.get(&authority),
    )?;
    let is_ours = |definition: &&Object| {
        definition.text("/spec/group").ends_with(".istio.io")
            && definition.0.pointer("/metadata/deletionTimestamp").is_none()
    };
    let definitions = definitions.iter().filter(is_ours);
    Ok(Stays {
        definitions: definitions.map(|definition| definition.name().to_owned()).collect(),
        roots: roots.len(),
        objects: accounts.iter().chain(&authority).map(Object::id).collect(),
    })
}

impl Stays {
    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What to say after an uninstallation, with what takes away the rest; `others` are the revisions that remain.
    pub fn told(&self, scope: &Scope, others: &[String], namespace: &str) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut text = match (scope, others) {
            (Scope::Revision(_), []) => format!("No control plane is left. These stay: {self}."),
            (Scope::Revision(_), others) => return format!("These stay, for {}: {self}.", others.join(", ")),
            (Scope::Purge, _) => format!("These stay: {self}."),
        };
        if !self.definitions.is_empty() {
            let command = match scope {
                Scope::Revision(_) => "istioctl uninstall --purge".to_owned(),
                // What no installer marked as its own, the purge left alone.
                Scope::Purge => format!("kubectl delete customresourcedefinition {}", self.definitions.join(" ")),
            };
            text.push_str(&format!(
                " {command} removes the definitions, and with them all of Istio's own objects."
            ));
        }
        if !self.objects.is_empty() {
            text.push_str(&format!(" kubectl delete namespace {namespace} removes what is in it."));
        }
        text
    }
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.definitions.len() {
            0 => {}
            1 => parts.push("one custom resource definition".to_owned()),
            several => parts.push(format!("{several} custom resource definitions")),
        }
        parts.extend(self.objects.iter().map(Id::path));
        match self.roots {
            0 => {}
            1 => parts.push("ConfigMap istio-ca-root-cert in one namespace".to_owned()),
            roots => parts.push(format!("ConfigMap istio-ca-root-cert in {roots} namespaces")),
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_told_with_what_removes_it() {
        let mut secret = kind("", "v1", "Secret");
        (secret.namespace, secret.name) = ("istio-system".to_owned(), AUTHORITY.to_owned());
        let stays = Stays {
            definitions: (0..15).map(|number| format!("{number}.istio.io")).collect(),
            roots: 4,
            objects: vec![secret],
        };
        let check = |scope: Scope, others: &[&str], expected: &str| {
            let others: Vec<String> = others.iter().map(|other| (*other).to_owned()).collect();
            assert_eq!(stays.told(&scope, &others, "istio-system"), expected);
        };
        check(
            Scope::Revision("a".to_owned()),
            &["b", "c"],
            "These stay, for b, c: 15 custom resource definitions, Secret/istio-system/istio-ca-secret, ConfigMap \
             istio-ca-root-cert in 4 namespaces.",
        );
        check(
            Scope::Revision("a".to_owned()),
            &[],
            "No control plane is left. These stay: 15 custom resource definitions, Secret/istio-system/istio-ca-secret, \
             ConfigMap istio-ca-root-cert in 4 namespaces. istioctl uninstall --purge removes the definitions, and with \
             them all of Istio's own objects. kubectl delete namespace istio-system removes what is in it.",
        );
        let roots = Stays {
            roots: 1,
            ..Stays::default()
        };
        assert_eq!(
            roots.told(&Scope::Purge, &[], "istio-system"),
            "These stay: ConfigMap istio-ca-root-cert in one namespace."
        );
        let foreign = Stays {
            definitions: vec!["gateways.networking.istio.io".to_owned()],
            ..Stays::default()
        };
        assert_eq!(
            foreign.told(&Scope::Purge, &[], "istio-system"),
            "These stay: one custom resource definition. kubectl delete customresourcedefinition \
             gateways.networking.istio.io removes the definitions, and with them all of Istio's own objects."
        );
        assert_eq!(Stays::default().told(&Scope::Purge, &[], "istio-system"), "");
    }
}
