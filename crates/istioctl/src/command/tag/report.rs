//! What a command did to a tag, or would do, for programs (`-o json|yaml`). The fields stay as they are
//! (docs/tags.md names them).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::followers::{Followers, Restart, kinds};
use crate::restart;

/// One command's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The tag.
    pub tag: String,
    /// The revision that it points at now; none once it is removed.
    pub revision: Option<String>,
    /// The revision that it pointed at before; none if it was not there.
    pub previous: Option<String>,
    /// Whether nothing was changed, and all this is what would be.
    pub dry_run: bool,
    /// What a person has to know.
    pub warnings: Vec<String>,
    /// Who follows the tag: after a removal, who followed it.
    pub namespaces: Vec<Follower>,
}

/// A namespace that follows, as a whole or with some of its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Follower {
    /// Its name.
    pub namespace: String,
    /// The command that moves its pods; none if none has to move, none should, or none moves any.
    pub restart: Option<String>,
    /// What a person has to do about pods that the command does not move.
    pub note: Option<String>,
    /// Number of pods that move, by workload (`deployment/web`); of a tag that is removed, of all that follow it.
    pub workloads: BTreeMap<String, usize>,
}

/// Those who follow.
pub fn namespaces(followers: &Followers, restart: Restart) -> Vec<Follower> {
    let all = followers.iter();
    all.map(|(namespace, workloads)| {
        let kinds = match restart {
            Restart::Moves => kinds(workloads),
            Restart::Harms => BTreeSet::new(),
        };
        Follower {
            namespace: namespace.clone(),
            restart: restart::command(namespace, &kinds),
            note: restart::note(&kinds).map(|note| format!("kubectl {note}")),
            workloads: workloads.clone(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn programs_get_the_same_fields_whatever_happened() {
        let workloads = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 2)).collect();
        let followers = Followers::from([
            ("app".to_owned(), workloads(&["deployment/web", "pod/alone"])),
            ("bare".to_owned(), workloads(&["pod/alone"])),
            ("idle".to_owned(), BTreeMap::new()),
        ]);
        let report = Report {
            tag: "prod".to_owned(),
            revision: Some("new".to_owned()),
            previous: None,
            dry_run: false,
            warnings: Vec::new(),
            namespaces: namespaces(&followers, Restart::Moves),
        };
        insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
        {
          "tag": "prod",
          "revision": "new",
          "previous": null,
          "dryRun": false,
          "warnings": [],
          "namespaces": [
            {
              "namespace": "app",
              "restart": "kubectl rollout restart deployment -n app",
              "note": "kubectl restarts no pod: create them anew",
              "workloads": {
                "deployment/web": 2,
                "pod/alone": 2
              }
            },
            {
              "namespace": "bare",
              "restart": null,
              "note": "kubectl restarts no pod: create them anew",
              "workloads": {
                "pod/alone": 2
              }
            },
            {
              "namespace": "idle",
              "restart": null,
              "note": null,
              "workloads": {}
            }
          ]
        }
        "#);
        assert!(
            namespaces(&followers, Restart::Harms)
                .iter()
                .all(|follower| follower.restart.is_none() && follower.note.is_none())
        );
    }
}
