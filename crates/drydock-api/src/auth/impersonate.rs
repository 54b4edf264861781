//! Acting as somebody else by the `Impersonate-*` headers.

use super::{
    attributes::{Attributes, Target},
    user::{AUTHENTICATED, UNAUTHENTICATED, User},
};
use crate::error::ApiError;
use http::HeaderMap;
use std::collections::BTreeMap;

/// Most values of one impersonation header that are looked at.
const MAX_VALUES: usize = 256;

/// The user that the headers ask for, before any permission is checked; `None` without such headers.
///
/// # Errors
/// 400 when groups, uid or extra are given without a user.
pub fn requested(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let all = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .take(MAX_VALUES)
            .filter_map(|v| v.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys() {
        if let Some(name) = key.as_str().strip_prefix("impersonate-extra-") {
            let name = percent(name);
            extra.insert(name.to_lowercase(), all(key.as_str()));
        }
    }
    let user = User {
        name: all("impersonate-user").into_iter().next().unwrap_or_default(),
        uid: all("impersonate-uid").into_iter().next().unwrap_or_default(),
        groups: all("impersonate-group"),
        extra,
    };
    if user == User::default() {
        return Ok(None);
    }
    if user.name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "requested {} without impersonating a user name",
            user.debug_text()
        )));
    }
    Ok(Some(user))
}

fn percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok()))
            .flatten();
        out.push(hex.unwrap_or(bytes[i]));
        i += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The permissions that acting as `user` needs: verb `impersonate` on each part of the identity.
#[must_use]
pub fn needed(user: &User) -> Vec<Attributes> {
    let on = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
        verb: "impersonate".into(),
        target: Target::Resource {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
        },
    };
    let mut out = vec![match user.service_account() {
        Some((namespace, name)) => on("", "serviceaccounts", "", namespace, name),
        None => on("", "users", "", "", &user.name),
    }];
    out.extend(user.groups.iter().map(|g| on("", "groups", "", "", g)));
    if !user.uid.is_empty() {
        out.push(on("authentication.k8s.io", "uids", "", "", &user.uid));
    }
    for (key, values) in &user.extra {
        out.extend(
            values
                .iter()
                .map(|v| on("authentication.k8s.io", "userextras", key, "", v)),
        );
    }
    out
}

/// The identity the request goes on with: groups every such user is in are added.
#[must_use]
pub fn completed(mut user: User) -> User {
    if user.name == "system:anonymous" {
        user.join(UNAUTHENTICATED);
        return user;
    }
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account()
    {
        user.groups = vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    if !user.in_group(UNAUTHENTICATED) {
        user.join(AUTHENTICATED);
    }
    user
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (k, v) in pairs {
            map.append(*k, v.parse().unwrap());
        }
        map
    }

    #[test]
    fn headers_become_a_user() {
        assert!(requested(&headers(&[])).unwrap().is_none());
        let jane = requested(&headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-extra-a%2fb", "x"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!(jane.extra["a/b"], ["x"]);
        assert_eq!(needed(&jane).len(), 3);
        assert_eq!(completed(jane).groups, ["dev", "system:authenticated"]);
        let error = requested(&headers(&[("impersonate-group", "only-group")])).unwrap_err();
        assert_eq!(
            error.message,
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"only-group"}, Extra:map[string][]string(nil)} without impersonating a user name"#
        );
    }
}
