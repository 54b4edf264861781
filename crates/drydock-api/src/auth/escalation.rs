//! Nobody grants what they do not hold: the check on writes of roles and bindings.

use super::{
    attributes::{Attributes, Target},
    rbac::{self, GROUP, Rule},
    user::{MASTERS, User},
};
use crate::{
    error::{ApiError, Subject},
    objects::{Objects, text},
};
use serde_json::Value;

/// Checks a create or update of a role or binding by `user`.
///
/// # Errors
/// 403 naming what is missing; 404 when a binding refers to a role that does not exist (only asked of users
/// who may not bind anything).
pub fn check(
    objects: &dyn Objects,
    user: &User,
    resource: &str,
    namespace: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if user.in_group(MASTERS) {
        return Ok(());
    }
    let wanted: Vec<Rule> = match resource {
        "roles" | "clusterroles" => {
            if may(
                objects,
                user,
                "escalate",
                resource,
                namespace,
                text(object, &["metadata", "name"]),
            ) || old.is_some_and(|old| old.get("rules") == object.get("rules"))
            {
                return Ok(());
            }
            rbac::rules(object)
        }
        "rolebindings" | "clusterrolebindings" => {
            let (kind, role) = (text(object, &["roleRef", "kind"]), text(object, &["roleRef", "name"]));
            let role_resource = if kind == "Role" { "roles" } else { "clusterroles" };
            if may(objects, user, "bind", role_resource, namespace, role)
                || old.is_some_and(|old| {
                    old.get("subjects") == object.get("subjects") && old.get("roleRef") == object.get("roleRef")
                })
            {
                return Ok(());
            }
            rbac::role_rules(objects, kind, role, namespace).map_err(|_| {
                ApiError::not_found(Subject {
                    group: GROUP,
                    resource,
                    name: role,
                })
            })?
        }
        _ => return Ok(()),
    };
    let (held, _) = rbac::rules_for(objects, user, namespace);
    let missing = rbac::missing(&held, &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups = user
        .groups
        .iter()
        .map(|g| format!("{g:?}"))
        .collect::<Vec<_>>()
        .join(" ");
    let list = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let cause = format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{list}",
        user.name
    );
    Err(ApiError::forbidden(
        Subject {
            group: GROUP,
            resource,
            name: text(object, &["metadata", "name"]),
        },
        &cause,
    ))
}

fn may(objects: &dyn Objects, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb: verb.into(),
        target: Target::Resource {
            group: GROUP.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: String::new(),
            namespace: namespace.into(),
            name: name.into(),
        },
    };
    rbac::authorize(objects, user, &attributes).allowed
}

/// [`check`] as an admission rule: only writes of roles and bindings are looked at.
///
/// # Errors
/// As [`check`].
pub fn admit(objects: &dyn Objects, request: &crate::hooks::AdmissionRequest<'_>) -> Result<(), ApiError> {
    let Some(object) = &request.object else { return Ok(()) };
    if request.resource.group != GROUP || request.subresource.is_some() {
        return Ok(());
    }
    check(
        objects,
        &request.attributes.user,
        &request.resource.plural,
        request.namespace,
        object,
        request.old_object,
    )
}
