//! Nobody becomes a master of the cluster by a signing request, and approving one needs the permission for its signer.

use super::creates;
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
        let groups = csr::organizations(text(object, &["spec", "request"]));
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
    if approves && !may_approve(objects, request, signer) {
        return forbidden(format!(
            "user not permitted to approve requests with signerName {signer:?}"
        ));
    }
    Ok(())
}

/// `approve` on the signer, or on all signers of its domain.
fn may_approve(objects: &dyn Objects, request: &AdmissionRequest<'_>, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let attributes = Attributes {
            verb: "approve".into(),
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
