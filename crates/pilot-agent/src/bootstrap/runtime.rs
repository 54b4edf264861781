//! Runtime guards and the global connection limit.

use serde_json::{Map, Value, json};

use super::Context;

pub(super) fn flags(cx: &Context<'_>) -> Value {
    let mut flags = Map::from_iter([
        (
            "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst"
                .to_owned(),
            json!(true),
        ),
        // Off until https://github.com/envoyproxy/envoy/issues/45212 is fixed.
        (
            "envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update".to_owned(),
            json!(false),
        ),
        (
            "envoy.reloadable_features.fixed_heap_use_allocated".to_owned(),
            json!(true),
        ),
        (
            "envoy.reloadable_features.http_reject_path_with_fragment".to_owned(),
            json!(false),
        ),
        ("re2.max_program_size.error_level".to_owned(), json!("32768")),
    ]);
    if cx.options.compliance_policy == "fips-140-2" {
        flags.insert(
            "envoy.reloadable_features.google_grpc_disable_tls_13".to_owned(),
            json!(true),
        );
    }
    for (key, value) in cx
        .config
        .get("runtimeValues")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        match value.as_str() {
            // Envoy has no meaning for empty: it takes a default away.
            Some("") => drop(flags.remove(key)),
            Some("true") => drop(flags.insert(key.clone(), json!(true))),
            Some("false") => drop(flags.insert(key.clone(), json!(false))),
            _ => drop(flags.insert(key.clone(), value.clone())),
        }
    }
    flags.sort_keys();
    flags.into()
}

/// ProxyConfig's connection settings, else proxy metadata, else the runtime value, else no limit.
pub(super) fn max_connections(cx: &Context<'_>) -> i64 {
    let number = |v: &Value| v.as_i64().or_else(|| v.as_str()?.parse().ok());
    let settings = cx.config.get("connectionSettings");
    let from_settings = settings
        .and_then(|s| s.get("globalDownstreamConnectionLimit"))
        .and_then(number)
        .filter(|n| *n > 0);
    let from_metadata = || {
        cx.config
            .metadata()
            .get("ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS")
            .and_then(|v| v.parse().ok())
    };
    let from_runtime = || {
        cx.config
            .get("runtimeValues")?
            .get("overload.global_downstream_max_connections")
            .and_then(number)
    };
    from_settings
        .or_else(from_metadata)
        .or_else(from_runtime)
        .unwrap_or(i64::from(i32::MAX))
}
