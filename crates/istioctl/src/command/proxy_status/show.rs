//! How the status of proxies is shown.

use serde::Serialize as _;
use serde_json::{Value, json};
use status::gather::Answer;
use status::proxy::{Proxy, Sync, TYPES};
use status::version::Build;

use crate::failure::Failure;
use crate::table::{columns, row};

/// Spaces between columns: two at least, as the page's awk command wants; Istio's are five.
pub const PADDING: usize = 5;

/// Type of the documents that say how far a proxy got.
const CLIENT_CONFIG: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";

/// The table of the upgrade page; rows sorted by name.
pub fn table(answers: &[Answer<Vec<Proxy>>]) -> String {
    let mut header = row(["NAME", "CLUSTER"]);
    header.extend(TYPES.iter().map(|(short, ..)| (*short).to_owned()));
    header.extend(row(["ISTIOD", "VERSION"]));
    let mut rows = Vec::new();
    for answer in answers {
        for proxy in answer.result.iter().flatten() {
            let mut cells = vec![proxy.id.clone(), proxy.cluster.clone()];
            cells.extend(TYPES.iter().map(|(short, ..)| proxy.state(short).word().to_owned()));
            cells.extend([answer.instance.pod.clone(), proxy.version.clone()]);
            rows.push(cells);
        }
    }
    rows.sort();
    rows.insert(0, header);
    columns(&rows, PADDING)
}

/// One document for each istiod that answered: the discovery response that Istio prints.
pub fn documents(answers: &[Answer<Vec<Proxy>>], versions: &[Answer<Build>]) -> Vec<Value> {
    let document = |answer: &Answer<Vec<Proxy>>| {
        let proxies = answer.result.as_ref().ok()?;
        let pod = &answer.instance.pod;
        let build = versions
            .iter()
            .find(|version| version.instance.pod == *pod)
            .and_then(|version| version.result.as_ref().ok());
        let identifier = json!({"Component": "istiod", "ID": pod, "Info": build});
        Some(json!({
            "versionInfo": build.map(|build| build.version.as_str()).unwrap_or_default(),
            "resources": proxies.iter().map(client_config).collect::<Vec<_>>(),
            "typeUrl": CLIENT_CONFIG,
            "controlPlane": {"identifier": identifier.to_string()},
        }))
    };
    answers.iter().filter_map(document).collect()
}

fn client_config(proxy: &Proxy) -> Value {
    let url_of = |name: &str| TYPES.iter().find(|(short, ..)| *short == name).map(|(.., url)| *url);
    // The usual types first, in the order of Istio.
    let mut types: Vec<(&str, &Sync)> = Vec::new();
    for short in ["CDS", "LDS", "RDS", "EDS", "ECDS"] {
        types.extend(url_of(short).zip(proxy.types.get(short)));
    }
    let further = proxy.types.iter().filter(|(name, _)| url_of(name).is_none());
    types.extend(further.map(|(url, state)| (url.as_str(), state)));
    let config = |(url, state): (&str, &Sync)| {
        let mut config = json!({"typeUrl": url, "configStatus": state.word().replace(' ', "_")});
        if let Sync::Error(details) = state
            && !details.is_empty()
        {
            config["errorState"] = json!({"details": details});
        }
        config
    };
    let mut metadata = json!({"CLUSTER_ID": proxy.cluster, "ISTIO_VERSION": proxy.version});
    if !proxy.namespace.is_empty() {
        metadata["NAMESPACE"] = proxy.namespace.as_str().into();
    }
    json!({
        "@type": CLIENT_CONFIG,
        "node": {"id": proxy.id, "metadata": metadata},
        "genericXdsConfigs": types.into_iter().map(config).collect::<Vec<_>>(),
    })
}

/// JSON with Istio's indentation.
pub fn json(value: &Value) -> Result<String, Failure> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Why a proxy refused its configuration, which the table has no room for.
pub fn rejections(answers: &[Answer<Vec<Proxy>>]) -> Vec<String> {
    let mut notes = Vec::new();
    for proxy in answers
        .iter()
        .filter_map(|answer| answer.result.as_ref().ok())
        .flatten()
    {
        for (name, state) in &proxy.types {
            if let Sync::Error(error) = state {
                notes.push(format!(
                    "{} refuses its {name} and runs on with the last good one: {error}",
                    proxy.id
                ));
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use status::gather::Instance;
    use std::collections::BTreeMap;

    fn answer(pod: &str, proxies: &[(&str, &str)]) -> Answer<Vec<Proxy>> {
        let proxies = proxies.iter().map(|(id, version)| {
            let mut types: BTreeMap<String, Sync> = ["CDS", "LDS", "EDS", "RDS"]
                .map(|t| (t.to_owned(), Sync::Synced))
                .into();
            types.insert("ECDS".to_owned(), Sync::NotSent);
            Proxy {
                id: (*id).to_owned(),
                namespace: String::new(),
                cluster: "Kubernetes".to_owned(),
                version: (*version).to_owned(),
                types,
            }
        });
        Answer {
            instance: Instance {
                pod: pod.to_owned(),
                revision: String::new(),
                component: String::new(),
            },
            result: Ok(proxies.collect()),
        }
    }

    #[test]
    fn the_table_of_the_upgrade_page() {
        let answers = [
            answer(
                "istiod-1-22-1-bdf5948d5-n72r2",
                &[("sleep-78ff5975c6-8kxpl.app-ns-1", "1.22.1")],
            ),
            answer(
                "istiod-1-23-1-7f6fc6cfd6-s8zfg",
                &[("sleep-78ff5975c6-62pzf.app-ns-3", "1.23.1")],
            ),
        ];
        let text = table(&answers);
        assert_eq!(
            text,
            "NAME                                CLUSTER        CDS        LDS        EDS        RDS        ECDS         ISTIOD                             VERSION\n\
             sleep-78ff5975c6-62pzf.app-ns-3     Kubernetes     SYNCED     SYNCED     SYNCED     SYNCED     NOT SENT     istiod-1-23-1-7f6fc6cfd6-s8zfg     1.23.1\n\
             sleep-78ff5975c6-8kxpl.app-ns-1     Kubernetes     SYNCED     SYNCED     SYNCED     SYNCED     NOT SENT     istiod-1-22-1-bdf5948d5-n72r2      1.22.1\n"
        );
        // What the page's awk -F '[[:space:]][[:space:]]+' '{print $8}' prints.
        let eighth: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split("  ").filter(|c| !c.is_empty()).nth(7))
            .map(str::trim)
            .collect();
        assert_eq!(
            eighth,
            [
                "ISTIOD",
                "istiod-1-23-1-7f6fc6cfd6-s8zfg",
                "istiod-1-22-1-bdf5948d5-n72r2"
            ]
        );
    }
}
