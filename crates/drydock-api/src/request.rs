//! What a request asks for: its path and its query, parsed with bounds.

use crate::{error::ApiError, select::fields};

/// Longest path we look at, bytes.
const MAX_PATH: usize = 4096;
/// Longest query we look at, bytes.
const MAX_QUERY: usize = 16 * 1024;

/// What the path and the method say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether this names an API resource (else a plain path as `/healthz`).
    pub is_resource: bool,
    /// The decoded path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`;
    /// for plain paths the method in lower case.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty if none.
    pub namespace: String,
    /// Resource (plural).
    pub resource: String,
    /// Subresource, empty if none.
    pub subresource: String,
    /// Name, empty for collections.
    pub name: String,
    /// Path segments after the subresource (proxy paths).
    pub rest: Vec<String>,
    /// The one name a list or watch is narrowed to by `fieldSelector=metadata.name=…`; counts for permissions.
    pub selected_name: String,
}

impl RequestInfo {
    /// Parses method, path and query.
    ///
    /// # Errors
    /// 400 when the path is longer than 4 KiB or not percent-encoded UTF-8.
    pub fn parse(method: &str, raw_path: &str, query: Option<&str>) -> Result<Self, ApiError> {
        if raw_path.len() > MAX_PATH {
            return Err(ApiError::bad_request("the path is too long"));
        }
        let path = percent_decode(raw_path, false).ok_or_else(|| ApiError::bad_request("the path is not UTF-8"))?;
        let mut info = Self {
            path: path.clone(),
            verb: method.to_ascii_lowercase(),
            ..Self::default()
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut rest: &[&str] = match parts.as_slice() {
            ["api", version, rest @ ..] => {
                info.version = (*version).into();
                rest
            }
            ["apis", group, version, rest @ ..] => {
                info.group = (*group).into();
                info.version = (*version).into();
                rest
            }
            _ => return Ok(info),
        };
        if rest.is_empty() {
            return Ok(info);
        }
        info.is_resource = true;
        let mut watch = false;
        if let ["watch", tail @ ..] = rest
            && !tail.is_empty()
        {
            watch = true;
            rest = tail;
        }
        match rest {
            ["namespaces", namespace, resource, tail @ ..] if !matches!(*resource, "status" | "finalize") => {
                info.namespace = (*namespace).into();
                info.resource = (*resource).into();
                rest = tail;
            }
            ["namespaces", namespace, tail @ ..] => {
                info.namespace = (*namespace).into();
                info.resource = "namespaces".into();
                info.name = (*namespace).into();
                rest = tail;
                if let [subresource, tail @ ..] = rest {
                    info.subresource = (*subresource).into();
                    rest = tail;
                }
                info.rest = rest.iter().map(|&part| part.to_owned()).collect();
                rest = &[];
            }
            [resource, tail @ ..] => {
                info.resource = (*resource).into();
                rest = tail;
            }
            [] => {}
        }
        if let [name, tail @ ..] = rest {
            info.name = (*name).into();
            if let [subresource, tail @ ..] = tail {
                info.subresource = (*subresource).into();
                info.rest = tail.iter().map(|&part| part.to_owned()).collect();
            }
        }
        let options_watch = query.is_some_and(|query| {
            pairs(query)
                .into_iter()
                .any(|(key, value)| key == "watch" && parse_bool(&value).unwrap_or(true))
        });
        info.verb = match (method, info.name.is_empty()) {
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            ("GET" | "HEAD", _) if watch || (options_watch && info.subresource.is_empty()) => "watch",
            ("GET" | "HEAD", true) => "list",
            ("GET" | "HEAD", false) => "get",
            _ => return Ok(info),
        }
        .to_owned();
        if matches!(info.verb.as_str(), "list" | "watch") {
            info.selected_name = query.and_then(selected_name).unwrap_or_default();
        }
        Ok(info)
    }
}

/// The name that the field selector of a list or watch asks for.
fn selected_name(query: &str) -> Option<String> {
    let (_, selector) = pairs(query).into_iter().find(|(key, _)| key == "fieldSelector")?;
    fields::exact_name(&selector)
}

/// How unknown and duplicate fields are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop silently.
    Ignore,
    /// Drop and warn (the default).
    #[default]
    Warn,
    /// Fail.
    Strict,
}

/// Query parameters of API requests; unknown ones are ignored as by the real server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// All parameters in order, decoded.
    pub raw: Vec<(String, String)>,
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `resourceVersion`.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub resource_version_match: String,
    /// `limit`, 0 if absent.
    pub limit: i64,
    /// `continue`.
    pub continue_token: String,
    /// `watch`.
    pub watch: bool,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<u64>,
    /// `dryRun` values.
    pub dry_run: Vec<String>,
    /// `fieldManager`.
    pub field_manager: String,
    /// `fieldValidation`.
    pub field_validation: String,
    /// `force`.
    pub force: Option<bool>,
    /// `gracePeriodSeconds`.
    pub grace_period: Option<i64>,
    /// `propagationPolicy`.
    pub propagation: String,
    /// `orphanDependents`.
    pub orphan_dependents: Option<bool>,
    /// `pretty`.
    pub pretty: bool,
}

impl Options {
    /// Parses a query string.
    ///
    /// # Errors
    /// 400 for a number or boolean that is none, or a query over 16 KiB.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        if query.len() > MAX_QUERY {
            return Err(ApiError::bad_request("the query is too long"));
        }
        let mut options = Self::default();
        for (key, value) in pairs(query) {
            // Of a parameter given twice the first counts, here and where permissions look at it.
            let again = key != "dryRun" && options.get(&key).is_some();
            match key.as_str() {
                _ if again => {}
                "labelSelector" => options.label_selector.clone_from(&value),
                "fieldSelector" => options.field_selector.clone_from(&value),
                "resourceVersion" => options.resource_version.clone_from(&value),
                "resourceVersionMatch" => options.resource_version_match.clone_from(&value),
                "limit" => options.limit = number(&value)?,
                "continue" => options.continue_token.clone_from(&value),
                "watch" => options.watch = parse_bool(&value).unwrap_or(true),
                "allowWatchBookmarks" => options.bookmarks = parse_bool(&value).unwrap_or(true),
                "sendInitialEvents" => options.send_initial_events = Some(parse_bool(&value).unwrap_or(true)),
                "timeoutSeconds" => options.timeout_seconds = Some(u64::try_from(number(&value)?).unwrap_or(0)),
                "dryRun" => options.dry_run.push(value.clone()),
                "fieldManager" => options.field_manager.clone_from(&value),
                "fieldValidation" => options.field_validation.clone_from(&value),
                "force" => options.force = Some(parse_bool(&value).unwrap_or(true)),
                "gracePeriodSeconds" => options.grace_period = Some(number(&value)?),
                "propagationPolicy" => options.propagation.clone_from(&value),
                "orphanDependents" => options.orphan_dependents = Some(parse_bool(&value).unwrap_or(true)),
                "pretty" => options.pretty = parse_bool(&value).unwrap_or(true),
                _ => {}
            }
            options.raw.push((key, value));
        }
        Ok(options)
    }

    /// The first value of a parameter that has no field of its own.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.raw
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether this is a dry run.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run.iter().any(|value| value == "All")
    }

    /// The `fieldValidation` mode.
    pub fn validation(&self) -> FieldValidation {
        match self.field_validation.as_str() {
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            _ => FieldValidation::Warn,
        }
    }
}

fn number(text: &str) -> Result<i64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key, true)?, percent_decode(value, true)?))
        })
        .collect()
}

fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(method: &str, path: &str, query: &str, expected: &str) {
        let info = RequestInfo::parse(method, path, Some(query)).unwrap();
        let got = format!(
            "{} g={} v={} ns={} r={} s={} n={}",
            info.verb, info.group, info.version, info.namespace, info.resource, info.subresource, info.name
        );
        assert_eq!(got, expected, "{method} {path}");
    }

    #[test]
    fn paths_name_resources() {
        check("GET", "/api/v1/pods", "", "list g= v=v1 ns= r=pods s= n=");
        check(
            "GET",
            "/api/v1/namespaces/a",
            "",
            "get g= v=v1 ns=a r=namespaces s= n=a",
        );
        check(
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "",
            "update g= v=v1 ns=a r=namespaces s=finalize n=a",
        );
        check(
            "GET",
            "/api/v1/namespaces/a/pods",
            "watch=1",
            "watch g= v=v1 ns=a r=pods s= n=",
        );
        check(
            "GET",
            "/apis/apps/v1/watch/namespaces/a/deployments/b",
            "",
            "watch g=apps v=v1 ns=a r=deployments s= n=b",
        );
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            "",
            "patch g=apps v=v1 ns=a r=deployments s=scale n=b",
        );
        check(
            "DELETE",
            "/api/v1/namespaces/a/pods",
            "",
            "deletecollection g= v=v1 ns=a r=pods s= n=",
        );
        check("GET", "/healthz", "", "get g= v= ns= r= s= n=");
    }

    #[test]
    fn queries_are_decoded() {
        let options = Options::parse(Some("labelSelector=a%3Db%2Cc&limit=5&watch=true&dryRun=All")).unwrap();
        assert_eq!(options.label_selector, "a=b,c");
        assert_eq!(options.limit, 5);
        assert!(options.watch && options.is_dry_run());
        assert!(Options::parse(Some("limit=x")).is_err());
    }

    #[test]
    fn of_a_parameter_given_twice_the_first_counts_everywhere() {
        let query = "fieldSelector=metadata.name%3Da&fieldSelector=&limit=1&limit=2";
        let options = Options::parse(Some(query)).unwrap();
        assert_eq!((options.field_selector.as_str(), options.limit), ("metadata.name=a", 1));
        let info = RequestInfo::parse("GET", "/api/v1/namespaces/x/configmaps", Some(query)).unwrap();
        assert_eq!(info.selected_name, "a");
    }
}
