//! `serviceaccounts/NAME/token`: tokens on request, bound to a pod or secret if asked.

use super::{
    authenticate::{Auth, now},
    token::{Bound, ISSUER, Ref, TokenSpec},
};
use crate::{
    error::{ApiError, Subject},
    field::FieldError,
    hooks::{self, VirtualResource},
    objects::{Objects, text},
    request::Options,
};
use async_trait::async_trait;
use serde_json::{Value, json};

const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

/// Answers TokenRequests.
#[derive(Debug, Clone)]
pub struct TokenRequests(pub Auth);

#[async_trait]
impl VirtualResource for TokenRequests {
    async fn create(
        &self,
        attributes: &hooks::Attributes,
        object: Value,
        options: &Options,
    ) -> Result<Value, ApiError> {
        let info = &attributes.info;
        let objects: &dyn Objects = self.0.core.as_ref();
        let account = objects
            .get("", "serviceaccounts", &info.namespace, &info.name)
            .ok_or_else(|| {
                ApiError::not_found(Subject {
                    group: "",
                    resource: "serviceaccounts",
                    name: &info.name,
                })
            })?;
        let seconds = object["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        check_seconds(seconds)?;
        let mut audiences: Vec<String> = object["spec"]["audiences"]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        if audiences.is_empty() {
            audiences.push(ISSUER.into());
        }
        let reference = object["spec"].get("boundObjectRef").cloned().unwrap_or(Value::Null);
        let mut bound = Bound {
            namespace: info.namespace.clone(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: Ref {
                name: info.name.clone(),
                uid: text(&account, &["metadata", "uid"]).into(),
            },
            warnafter: None,
        };
        if !reference.is_null() {
            bind(objects, &mut bound, &reference)?;
        }
        let issued = now();
        let spec = TokenSpec {
            audiences: audiences.clone(),
            seconds,
            bound,
        };
        let (token, expires) = self
            .0
            .tokens
            .issue(&spec, issued)
            .map_err(|e| ApiError::internal(format!("cannot sign the token: {e}")))?;
        let time = |second: i64| jiff::Timestamp::from_second(second).unwrap_or_default().to_string();
        let token = if options.is_dry_run() { String::new() } else { token };
        Ok(json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": info.name,
                "namespace": info.namespace,
                "uid": account["metadata"]["uid"],
                "creationTimestamp": time(issued),
            },
            "spec": { "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference },
            "status": { "token": token, "expirationTimestamp": time(expires) },
        }))
    }
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    let problem = if seconds < SHORTEST {
        "may not specify a duration less than 10 minutes"
    } else if seconds > LONGEST {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let subject = Subject {
        group: "authentication.k8s.io",
        resource: "TokenRequest",
        name: "",
    };
    Err(ApiError::invalid(
        subject,
        &[FieldError::invalid("spec.expirationSeconds", &json!(seconds), problem)],
    ))
}

fn bind(objects: &dyn Objects, bound: &mut Bound, reference: &Value) -> Result<(), ApiError> {
    let (kind, name, uid) = (
        text(reference, &["kind"]),
        text(reference, &["name"]),
        text(reference, &["uid"]),
    );
    let resource = match kind {
        "Pod" => "pods",
        "Secret" => "secrets",
        _ => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {}",
                text(reference, &["apiVersion"]).to_owned() + ", Kind=" + kind
            )));
        }
    };
    let subject = Subject {
        group: "",
        resource,
        name,
    };
    let object = objects
        .get("", resource, &bound.namespace, name)
        .ok_or_else(|| ApiError::not_found(subject))?;
    let actual = text(&object, &["metadata", "uid"]);
    if !uid.is_empty() && uid != actual {
        return Err(ApiError::conflict(
            subject,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    let own = Ref {
        name: name.into(),
        uid: actual.into(),
    };
    if kind == "Secret" {
        bound.secret = Some(own);
        return Ok(());
    }
    let runs_as = text(&object, &["spec", "serviceAccountName"]);
    if runs_as != bound.serviceaccount.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            bound.serviceaccount.name
        )));
    }
    let node = text(&object, &["spec", "nodeName"]);
    if !node.is_empty() {
        let uid = objects
            .get("", "nodes", "", node)
            .map(|n| text(&n, &["metadata", "uid"]).to_owned());
        bound.node = Some(Ref {
            name: node.into(),
            uid: uid.unwrap_or_default(),
        });
    }
    bound.pod = Some(own);
    Ok(())
}
