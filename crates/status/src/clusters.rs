//! Clusters that an istiod reads: `/debug/clusterz`.

use serde::{Deserialize, Serialize};

/// Most clusters read from one answer.
const MOST_CLUSTERS: usize = 10_000;

/// A cluster, as an istiod sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Member {
    /// Its identity.
    pub id: String,
    /// Secret with the access to it, `<namespace>/<name>`; empty for the istiod's own.
    pub secret_name: String,
    /// How far reading it got: `synced`, `syncing`, `timeout` or `closed`.
    pub sync_status: String,
}

/// Reads an answer.
///
/// # Errors
/// If it is no list of clusters.
pub fn parse(answer: &[u8]) -> Result<Vec<Member>, serde_json::Error> {
    let mut members: Vec<Member> = serde_json::from_slice::<Option<_>>(answer)?.unwrap_or_default();
    members.truncate(MOST_CLUSTERS);
    Ok(members)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_own_cluster_has_no_secret() {
        let members =
            parse(br#"[{"id":"Kubernetes","syncStatus":"synced"},{"id":"west","secretName":"a/b"}]"#).unwrap();
        assert_eq!(
            (members[0].secret_name.as_str(), members[0].sync_status.as_str()),
            ("", "synced")
        );
        assert_eq!(members[1].secret_name, "a/b");
        assert!(parse(b"there is no page").is_err());
    }
}
