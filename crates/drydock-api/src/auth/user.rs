//! Who makes a request: name, uid, groups and extra attributes.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Group of every request that presented valid credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of every request without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group that may do everything, whatever RBAC says.
pub const MASTERS: &str = "system:masters";

/// The identity a request acts as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User name, for example `system:serviceaccount:ns:name`.
    pub name: String,
    /// Opaque id; empty when the authenticator has none.
    pub uid: String,
    /// Groups in the order the authenticator gave them.
    pub groups: Vec<String>,
    /// Further attributes, keys in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A request without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        User {
            name: "system:anonymous".into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..User::default()
        }
    }

    /// An authenticated user: `system:authenticated` is appended unless already there.
    #[must_use]
    pub fn authenticated(name: impl Into<String>, groups: Vec<String>) -> Self {
        let mut user = User {
            name: name.into(),
            groups,
            ..User::default()
        };
        user.join(AUTHENTICATED);
        user
    }

    /// Adds `group` unless the user is in it.
    pub fn join(&mut self, group: &str) {
        if !self.in_group(group) {
            self.groups.push(group.into());
        }
    }

    /// Whether the user is a member of `group`.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name when this is a service account.
    #[must_use]
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The `userInfo` object of reviews: empty parts are left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        if !self.name.is_empty() {
            out.insert("username".into(), json!(self.name));
        }
        if !self.uid.is_empty() {
            out.insert("uid".into(), json!(self.uid));
        }
        if !self.groups.is_empty() {
            out.insert("groups".into(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            out.insert("extra".into(), json!(self.extra));
        }
        Value::Object(out)
    }

    /// How a Go server prints the user in messages (`%#v` of `user.DefaultInfo`).
    #[must_use]
    pub fn debug_text(&self) -> String {
        let groups = self
            .groups
            .iter()
            .map(|g| format!("{g:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let extra = if self.extra.is_empty() {
            "map[string][]string(nil)".to_owned()
        } else {
            let entries: Vec<String> = self
                .extra
                .iter()
                .map(|(k, v)| {
                    format!(
                        "{k:?}:[]string{{{}}}",
                        v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(", ")
                    )
                })
                .collect();
            format!("map[string][]string{{{}}}", entries.join(", "))
        };
        let groups = if self.groups.is_empty() {
            "[]string(nil)".to_owned()
        } else {
            format!("[]string{{{groups}}}")
        };
        format!(
            "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
            self.name, self.uid
        )
    }
}
