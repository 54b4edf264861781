//! The tables of today's Istio, by configuration type: what each proxy subscribes to, and with `-v` each type's state.

use std::collections::BTreeSet;

use status::gather::Answer;
use status::proxy::{Proxy, TYPES};

use super::show::PADDING;
use crate::table::{columns, row};

/// Types beyond the usual ones that have a short name.
const SHORT: [(&str, &str); 6] = [
    (
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "SDS",
    ),
    ("type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig", "PCDS"),
    ("type.googleapis.com/istio.networking.nds.v1.NameTable", "NDS"),
    ("type.googleapis.com/istio.security.Authorization", "WADS"),
    ("type.googleapis.com/istio.workload.Address", "WDS"),
    ("type.googleapis.com/istio.workload.Workload", "WDS"),
];
/// Types that are named first, in this order.
const FIRST: [&str; 4] = ["CDS", "LDS", "EDS", "RDS"];
/// State of a type that a proxy never asked for.
const IGNORED: &str = "IGNORED";

/// The type's URL: the usual ones are known by their short names.
fn url(key: &str) -> &str {
    TYPES
        .iter()
        .find(|(short, ..)| *short == key)
        .map_or(key, |(.., url)| url)
}

fn short(key: &str) -> &str {
    SHORT
        .iter()
        .find(|(url, _)| *url == key)
        .map_or(key, |(_, short)| short)
}

fn proxies(answers: &[Answer<Vec<Proxy>>]) -> Vec<(&str, &Proxy)> {
    let mut all: Vec<(&str, &Proxy)> = answers
        .iter()
        .flat_map(|answer| {
            let proxies = answer.result.iter().flatten();
            proxies.map(|proxy| (answer.instance.pod.as_str(), proxy))
        })
        .collect();
    all.sort_by(|a, b| (&a.1.id, a.0).cmp(&(&b.1.id, b.0)));
    all
}

/// Types that any proxy asked for, by their URLs.
fn seen<'a>(proxies: &[(&str, &'a Proxy)]) -> Vec<&'a str> {
    let mut seen: Vec<&str> = proxies
        .iter()
        .flat_map(|(_, proxy)| proxy.types.keys().map(String::as_str))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    seen.sort_by_key(|key| url(key));
    seen
}

/// What each proxy subscribes to.
pub fn subscribed(answers: &[Answer<Vec<Proxy>>]) -> String {
    let proxies = proxies(answers);
    let seen = seen(&proxies);
    let first = FIRST.iter().filter(|key| seen.contains(key));
    let others = seen.iter().filter(|key| !FIRST.contains(key));
    let order: Vec<&str> = first.chain(others).copied().collect();
    let mut rows = vec![row(["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"])];
    for (istiod, proxy) in proxies {
        let own: Vec<&str> = order
            .iter()
            .filter(|key| proxy.types.contains_key(**key))
            .map(|key| short(key))
            .collect();
        let types = match own.len() {
            0 => "0".to_owned(),
            count => format!("{count} ({})", own.join(",")),
        };
        rows.push(row([&proxy.id, &proxy.cluster, istiod, &proxy.version, &types]));
    }
    columns(&rows, PADDING)
}

/// The state of each type, the usual ones and those that any proxy asked for.
pub fn states(answers: &[Answer<Vec<Proxy>>]) -> String {
    let proxies = proxies(answers);
    let mut types: Vec<&str> = seen(&proxies)
        .into_iter()
        .chain(TYPES.iter().map(|(short, ..)| *short))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    types.sort_by_key(|key| url(key));
    let mut header = row(["NAME", "CLUSTER"]);
    header.extend(types.iter().map(|key| short(key).to_owned()));
    header.extend(row(["ISTIOD", "VERSION"]));
    let mut rows = vec![header];
    for (istiod, proxy) in proxies {
        let mut cells = row([&proxy.id, &proxy.cluster]);
        let state = |key: &&str| proxy.types.get(*key).map_or(IGNORED, |state| state.word()).to_owned();
        cells.extend(types.iter().map(state));
        cells.extend(row([istiod, &proxy.version]));
        rows.push(cells);
    }
    columns(&rows, PADDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use status::gather::Instance;
    use status::proxy::Sync;

    fn answers() -> Vec<Answer<Vec<Proxy>>> {
        let proxy = |id: &str, types: &[(&str, Sync)]| Proxy {
            id: id.to_owned(),
            namespace: String::new(),
            cluster: "Kubernetes".to_owned(),
            version: "0.2.0".to_owned(),
            types: types
                .iter()
                .map(|(key, state)| ((*key).to_owned(), state.clone()))
                .collect(),
        };
        let answer = |pod: &str, proxies: Vec<Proxy>| Answer {
            instance: Instance {
                pod: pod.to_owned(),
                revision: String::new(),
                component: String::new(),
            },
            result: Ok(proxies),
        };
        let sidecar = [
            ("CDS", Sync::Synced),
            ("ECDS", Sync::NotSent),
            ("LDS", Sync::Error("bad".to_owned())),
            (SHORT[2].0, Sync::Stale),
        ];
        vec![
            answer("istiod-b", vec![proxy("a.app", &sidecar)]),
            answer("istiod-a", vec![proxy("b.app", &[])]),
        ]
    }

    #[test]
    fn types_that_a_proxy_asked_for_are_counted_and_named() {
        assert_eq!(
            subscribed(&answers()),
            "NAME      CLUSTER        ISTIOD       VERSION     SUBSCRIBED TYPES\n\
             a.app     Kubernetes     istiod-b     0.2.0       4 (CDS,LDS,ECDS,NDS)\n\
             b.app     Kubernetes     istiod-a     0.2.0       0\n"
        );
    }

    #[test]
    fn a_type_that_nobody_asked_for_is_ignored() {
        assert_eq!(
            states(&answers()),
            "NAME      CLUSTER        CDS         ECDS         EDS         LDS         RDS         NDS         ISTIOD       VERSION\n\
             a.app     Kubernetes     SYNCED      NOT SENT     IGNORED     ERROR       IGNORED     STALE       istiod-b     0.2.0\n\
             b.app     Kubernetes     IGNORED     IGNORED      IGNORED     IGNORED     IGNORED     IGNORED     istiod-a     0.2.0\n"
        );
    }
}
