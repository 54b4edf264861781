//! A StatefulSet's pods: names with numbers, stable host names.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use crate::{history, meta, pods};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The number of a pod, taken from its name.
pub(crate) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let number = meta::name(&pod.metadata)
        .strip_prefix(meta::name(&set.metadata))?
        .strip_prefix('-')?;
    number.parse().ok().filter(|number| *number >= 0)
}

/// The revision that a pod was made from.
pub(crate) fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata
        .labels
        .as_ref()?
        .get(history::HASH_LABEL)
        .map(String::as_str)
}

/// The pod of a number.
pub(crate) fn make(set: &StatefulSet, template: &PodTemplateSpec, ordinal: i32, revision: &str) -> Pod {
    let name = format!("{}-{ordinal}", meta::name(&set.metadata));
    let mut pod = pods::from_template(
        template,
        &name,
        meta::namespace(&set.metadata),
        meta::controller_ref(set),
    );
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name.clone());
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    labels.insert(history::HASH_LABEL.into(), revision.to_owned());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(name);
        spec.subdomain = set
            .spec
            .as_ref()
            .and_then(|spec| spec.service_name.clone())
            .filter(|name| !name.is_empty());
    }
    pod
}
