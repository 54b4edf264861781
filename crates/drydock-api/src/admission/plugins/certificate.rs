//! Nobody becomes a master of the cluster by a signing request, and approving one needs the permission for its signer.

use super::creates;
use serde_json::Value;

use crate::{
    auth::{
        attributes::{Attributes, Target},
        csr, rbac,
        user::MASTERS,
    },
    error::{ApiError, Subject},
    hooks::{AdmissionRequest, Operation},
    objects::{Objects, text},
};

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Refuses requests for the group of masters, and approvals by users who may not use the signer.
pub(super) fn admit(objects: &dyn Objects, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let Some(object) = &request.object else { return Ok(()) };
    let signer = text(object, &["spec", "signerName"]);
    let forbidden = |cause: String| {
        let subject = Subject {
            group: GROUP,
            resource: PLURAL,
            name: text(object, &["metadata", "name"]),
        };
        Err(ApiError::forbidden(subject, &cause))
    };
    if creates(request, GROUP, PLURAL) && signer == CLIENT_SIGNER {
        let groups = csr::subject(text(object, &["spec", "request"])).organizations;
        if groups.iter().any(|group| group == MASTERS) {
            return forbidden(format!(
                "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
            ));
        }
    }
    let approves = request.operation == Operation::Update
        && request.subresource == Some("approval")
        && request.resource.group == GROUP
        && request.resource.plural == PLURAL;
    if approves && !may_use(objects, request, signer, "approve") {
        return forbidden(format!(
            "user not permitted to approve requests with signerName {signer:?}"
        ));
    }
    let certificate = |object: &Value| object["status"]["certificate"].clone();
    let signs = request.operation == Operation::Update
        && request.subresource == Some("status")
        && request.resource.group == GROUP
        && request.resource.plural == PLURAL
        && request.old_object.map(certificate) != Some(certificate(object));
    if signs && !may_use(objects, request, signer, "sign") {
        return forbidden(format!(
            "user not permitted to sign requests with signerName {signer:?}"
        ));
    }
    Ok(())
}

/// `verb` on the signer, or on all signers of its domain.
fn may_use(objects: &dyn Objects, request: &AdmissionRequest<'_>, signer: &str, verb: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let attributes = Attributes {
            verb: verb.into(),
            target: Target::Resource {
                group: GROUP.into(),
                version: "*".into(),
                resource: "signers".into(),
                subresource: String::new(),
                namespace: String::new(),
                name,
            },
        };
        rbac::authorize(objects, &request.attributes.user, &attributes).allowed
    })
}
