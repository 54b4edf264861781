//! TokenReview, the SubjectAccessReviews and the reviews about oneself.

use super::{
    attributes::{Attributes, Target},
    authenticate::{Auth, now},
    rbac,
    user::User,
};
use crate::{
    error::{ApiError, Subject},
    field::FieldError,
    hooks::{self, VirtualResource},
    objects::text,
    request::Options,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Answers every review kind.
#[derive(Debug, Clone)]
pub struct Reviews(pub Auth);

#[async_trait]
impl VirtualResource for Reviews {
    async fn create(&self, attributes: &hooks::Attributes, object: Value, _: &Options) -> Result<Value, ApiError> {
        let spec = object.get("spec").cloned().unwrap_or_else(|| json!({}));
        let user = &attributes.user;
        match attributes.info.resource.as_str() {
            "tokenreviews" => self.token(&spec),
            "selfsubjectreviews" => {
                let mut out = envelope(AUTHENTICATION, "SelfSubjectReview");
                let now = jiff::Timestamp::from_second(now()).unwrap_or_default().to_string();
                out["metadata"] = json!({ "creationTimestamp": now });
                out["status"] = json!({ "userInfo": user.to_json() });
                Ok(out)
            }
            "selfsubjectrulesreviews" => self.rules(user, &spec),
            "selfsubjectaccessreviews" => {
                let wanted = target(&spec)?;
                Ok(self.access("SelfSubjectAccessReview", user, &wanted, &spec, json!({})))
            }
            "localsubjectaccessreviews" => {
                let subject = subject(&spec)?;
                let wanted = target(&spec)?;
                let namespace = &attributes.info.namespace;
                if text(&spec, &["resourceAttributes", "namespace"]) != namespace {
                    let given = json!(text(&spec, &["resourceAttributes", "namespace"]));
                    let problem = FieldError::invalid(
                        "spec.resourceAttributes.namespace",
                        &given,
                        "must match metadata.namespace",
                    );
                    return Err(invalid(&[problem]));
                }
                let metadata = json!({ "namespace": namespace });
                Ok(self.access("LocalSubjectAccessReview", &subject, &wanted, &spec, metadata))
            }
            _ => {
                let subject = subject(&spec)?;
                let wanted = target(&spec)?;
                Ok(self.access("SubjectAccessReview", &subject, &wanted, &spec, json!({})))
            }
        }
    }
}

impl Reviews {
    fn access(&self, kind: &str, user: &User, wanted: &Attributes, spec: &Value, metadata: Value) -> Value {
        let decision = rbac::authorize(self.0.core.as_ref(), user, wanted);
        let mut out = envelope(AUTHORIZATION, kind);
        out["metadata"] = metadata;
        out["spec"] = spec.clone();
        out["status"] = json!({ "allowed": decision.allowed });
        if !decision.reason.is_empty() {
            out["status"]["reason"] = json!(decision.reason);
        }
        out
    }

    fn token(&self, spec: &Value) -> Result<Value, ApiError> {
        let token = text(spec, &["token"]);
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let wanted: Vec<String> = strings(&spec["audiences"]);
        let mut out = envelope(AUTHENTICATION, "TokenReview");
        out["spec"] = spec.clone();
        out["status"] = match self.0.tokens.verify(token, &wanted, now(), self.0.core.as_ref()) {
            Ok(verified) => {
                json!({ "authenticated": true, "user": verified.user.to_json(), "audiences": verified.audiences })
            }
            Err(problem) => json!({ "user": {}, "error": problem.to_string() }),
        };
        Ok(out)
    }

    fn rules(&self, user: &User, spec: &Value) -> Result<Value, ApiError> {
        let namespace = text(spec, &["namespace"]);
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (held, problems) = rbac::rules_for(self.0.core.as_ref(), user, namespace);
        let pick = |paths: bool| -> Vec<Value> {
            held.iter()
                .filter(|r| r.paths.is_empty() != paths)
                .map(rbac::Rule::to_json)
                .collect()
        };
        let mut out = envelope(AUTHORIZATION, "SelfSubjectRulesReview");
        out["spec"] = json!({});
        out["status"] =
            json!({ "resourceRules": pick(false), "nonResourceRules": pick(true), "incomplete": !problems.is_empty() });
        if !problems.is_empty() {
            out["status"]["evaluationError"] = json!(problems.join(", "));
        }
        Ok(out)
    }
}

fn envelope(group: &str, kind: &str) -> Value {
    json!({ "kind": kind, "apiVersion": format!("{group}/v1"), "metadata": {} })
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

/// The real server names no kind in these errors.
fn invalid(problems: &[FieldError]) -> ApiError {
    let mut error = ApiError::invalid(
        Subject {
            group: AUTHORIZATION,
            resource: "",
            name: "",
        },
        problems,
    );
    if let Some(details) = &mut error.details {
        details.remove("kind");
    }
    error
}

fn subject(spec: &Value) -> Result<User, ApiError> {
    let user = User {
        name: text(spec, &["user"]).to_owned(),
        uid: text(spec, &["uid"]).to_owned(),
        groups: strings(&spec["groups"]),
        extra: spec["extra"]
            .as_object()
            .map(|m| m.iter().map(|(k, v)| (k.to_lowercase(), strings(v))).collect())
            .unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(invalid(&[FieldError::invalid(
            "spec.user",
            &json!(""),
            "at least one of user or group must be specified",
        )]));
    }
    Ok(user)
}

fn target(spec: &Value) -> Result<Attributes, ApiError> {
    let empty = Map::new();
    let part = |key: &str| {
        spec.get(key)
            .filter(|v| !v.is_null())
            .map(|v| v.as_object().unwrap_or(&empty))
    };
    let field =
        |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(r), None) => Ok(Attributes {
            verb: field(r, "verb"),
            target: Target::Resource {
                group: field(r, "group"),
                version: field(r, "version"),
                resource: field(r, "resource"),
                subresource: field(r, "subresource"),
                namespace: field(r, "namespace"),
                name: field(r, "name"),
            },
        }),
        (None, Some(n)) => Ok(Attributes {
            verb: field(n, "verb"),
            target: Target::Path(field(n, "path")),
        }),
        (resource, _) => {
            let name = if resource.is_none() {
                "spec.resourceAttributes"
            } else {
                "spec.nonResourceAttributes"
            };
            let value = if resource.is_none() {
                Value::Null
            } else {
                spec["nonResourceAttributes"].clone()
            };
            let detail = if resource.is_none() {
                "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            } else {
                "cannot be specified in combination with resourceAttributes"
            };
            Err(invalid(&[FieldError::invalid(name, &value, detail)]))
        }
    }
}
