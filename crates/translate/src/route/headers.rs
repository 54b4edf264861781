//! Changes to headers. `Host` and pseudo headers cannot be changed so: they become a rewrite of the host.

use std::collections::BTreeMap;

use api::networking::virtual_service::Headers;
use xds::envoy::config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction};

/// Changes, sorted by direction.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    pub(super) authority: String,
}

impl Changes {
    pub(super) fn of(headers: Option<&Headers>) -> Self {
        let Some(headers) = headers else { return Self::default() };
        let request = headers.request.clone().unwrap_or_default();
        let response = headers.response.clone().unwrap_or_default();
        let authority = |map: &BTreeMap<String, String>| {
            map.iter()
                .find(|(name, _)| is_authority(name))
                .map(|(_, value)| value.clone())
        };
        Self {
            request_add: [options(&request.set, false), options(&request.add, true)].concat(),
            request_remove: request.remove.into_iter().filter(|n| !is_internal(n)).collect(),
            response_add: [options(&response.set, false), options(&response.add, true)].concat(),
            response_remove: response.remove.into_iter().filter(|n| !is_internal(n)).collect(),
            authority: authority(&request.set)
                .or_else(|| authority(&request.add))
                .unwrap_or_default(),
        }
    }
}

fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn options(map: &BTreeMap<String, String>, append: bool) -> Vec<HeaderValueOption> {
    let action = if append {
        HeaderAppendAction::AppendIfExistsOrAdd
    } else {
        HeaderAppendAction::OverwriteIfExistsOrAdd
    };
    map.iter()
        .filter(|(name, _)| !is_internal(name))
        .map(|(name, value)| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.clone(),
                value: value.clone(),
                ..Default::default()
            }),
            append_action: action as i32,
            ..Default::default()
        })
        .collect()
}
