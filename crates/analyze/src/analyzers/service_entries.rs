//! ServiceEntries that contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::{full_name, list, text, texts};
use super::hosts::{self, ALL};
use crate::message::{CONFLICTING_SERVICE_ENTRY_PROTOCOL, Message};
use crate::objects::{Objects, namespace};

pub(super) fn protocols(objects: &Objects, messages: &mut Vec<Message>) {
    type Place<'a> = (&'a str, &'a str, u64);
    let mut claims: BTreeMap<Place<'_>, Vec<(String, &Value)>> = BTreeMap::new();
    for entry in objects.of_kind("ServiceEntry") {
        for scope in hosts::scopes(&texts(entry, "/spec/exportTo"), namespace(entry)) {
            for host in texts(entry, "/spec/hosts") {
                for port in list(entry, "/spec/ports") {
                    let number = port["number"].as_u64().unwrap_or_default();
                    let protocol = text(port, "/protocol").to_ascii_uppercase();
                    claims.entry((scope, host, number)).or_default().push((protocol, entry));
                }
            }
        }
    }
    let mut reported: BTreeSet<String> = BTreeSet::new();
    for ((scope, host, port), own) in &claims {
        let everywhere = claims.get(&(ALL, *host, *port)).filter(|_| *scope != ALL);
        let all: Vec<&(String, &Value)> = own.iter().chain(everywhere.into_iter().flatten()).collect();
        let protocols: BTreeSet<&str> = all.iter().map(|(protocol, _)| protocol.as_str()).collect();
        if protocols.len() < 2 {
            continue;
        }
        let names: BTreeSet<String> = all.iter().map(|(_, entry)| full_name(entry)).collect();
        let join = |items: Vec<&str>| items.join(", ");
        let text = format!(
            "Multiple ServiceEntries ({}) define the same host {host:?} and port {port} with conflicting protocols ({}).",
            join(names.iter().map(String::as_str).collect()),
            join(protocols.into_iter().collect()),
        );
        for (_, entry) in all {
            if reported.insert(full_name(entry)) {
                messages.push(Message::about(CONFLICTING_SERVICE_ENTRY_PROTOCOL, entry, text.clone()));
            }
        }
    }
}
