//! The environment variables that istiod reads: one table for `--help`, the documentation and the tests.

/// A variable: its name, its default, what it decides.
pub struct Variable(pub &'static str, pub &'static str, pub &'static str);

/// All of them but those that are flags as well.
pub const ALL: &[Variable] = &[
    Variable("REVISION", "default", "own revision"),
    Variable("POD_NAME", "istiod-PID", "identity in elections and answers"),
    Variable(
        "ENABLE_LEADER_ELECTION",
        "true",
        "without it every replica writes what only one should",
    ),
    Variable("INJECT_ENABLED", "true", "serve /inject"),
    Variable(
        "INJECTION_WEBHOOK_CONFIG_NAME",
        "istio-sidecar-injector",
        "empty: leave injector webhooks alone",
    ),
    Variable(
        "VALIDATION_WEBHOOK_CONFIG_NAME",
        "istio-istio-system",
        "empty: leave validator webhooks alone",
    ),
    Variable(
        "ENABLE_NATIVE_SIDECARS",
        "auto",
        "proxies as init containers: true, false, or if the kubelet of the pod's node (of every node, while it has none) is 1.33 or later",
    ),
    Variable(
        "ISTIOD_CUSTOM_HOST",
        "",
        "further names of istiod's certificate, comma-separated",
    ),
    Variable("ENABLE_CA_SERVER", "true", "sign certificates"),
    Variable(
        "ROOT_CA_DIR",
        "/etc/cacerts",
        "directory of a plugged-in certificate authority; without a registry, 15012 is served only if there is one",
    ),
    Variable(
        "TOKEN_AUDIENCES",
        "istio-ca",
        "audiences that tokens may be made for, comma-separated",
    ),
    Variable("XDS_AUTH", "true", "streams need an identity on port 15012"),
    Variable(
        "PILOT_ENABLE_XDS_IDENTITY_CHECK",
        "true",
        "a node must be who its connection proved",
    ),
    Variable("ENABLE_DEBUG_ON_HTTP", "true", "serve debug pages"),
    Variable(
        "ENABLE_DEBUG_ENDPOINT_AUTH",
        "true",
        "debug pages need an identity, except on loopback",
    ),
    Variable(
        "DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES",
        "",
        "further namespaces that may ask about every proxy",
    ),
    Variable(
        "SHARED_MESH_CONFIG",
        "",
        "ConfigMap whose mesh configuration lies under the revision's own",
    ),
    Variable("COMPLIANCE_POLICY", "", "rules that proxies must comply with"),
    Variable(
        "PILOT_DEBOUNCE_AFTER",
        "0s",
        "how long changes are gathered before they are worked on; what follows a batch within 80 ms is gathered in any case",
    ),
    Variable(
        "XDS_MAX_STREAMS",
        "100000",
        "streams open at one time, also those that asked for nothing yet",
    ),
    Variable("XDS_MAX_REQUEST_BYTES", "4194304", "size of one request"),
    Variable(
        "XDS_MAX_NODE_BYTES",
        "524288",
        "size of what a proxy says about itself: its metadata and Envoy's list of extensions",
    ),
    Variable(
        "XDS_MAX_RECEIVING_BYTES",
        "67108864",
        "memory for requests over 16 KiB while they arrive, of all streams; more wait their turn",
    ),
    Variable(
        "XDS_MAX_SENDING_BYTES",
        "16777216",
        "large responses on their way to proxies, of all streams; more wait their turn. One that is not answered within 25 ms counts no more, and one that takes less than a 512th (32 KiB) never waits",
    ),
    Variable("XDS_MAX_NAMES", "100000", "names that one subscription may have"),
    Variable("XDS_MAX_NAME_BYTES", "1024", "length of one name"),
    Variable("XDS_MAX_TYPES", "32", "types of resources on one stream"),
    Variable(
        "XDS_MAX_SUBSCRIPTION_BYTES",
        "33554432",
        "memory for the names of one stream, of all types; each counts 64 bytes besides its text",
    ),
    Variable(
        "XDS_MAX_UNACKNOWLEDGED",
        "8",
        "responses of a type without an answer, of one proxy; more wait for XDS_ACK_PATIENCE, then the oldest is forgotten",
    ),
    Variable(
        "XDS_ACK_PATIENCE",
        "5s",
        "how long a missing answer holds back what depends on it",
    ),
    Variable(
        "XDS_MAX_KEPT_RESOURCES",
        "1000",
        "resources of a type that stay at a proxy although they are gone, because it rejected what replaces their users",
    ),
    Variable("XDS_MAX_ERROR_BYTES", "4096", "text kept of a proxy's rejection"),
    Variable(
        "XDS_MAX_BURST",
        "16",
        "requests of one stream that are handled before others get their turn",
    ),
    Variable(
        "XDS_SHARED_BYTES",
        "67108864",
        "memory for encoded responses that streams share, with all that they keep alive",
    ),
    Variable(
        "XDS_MAX_CONNECTIONS",
        "100000",
        "connections open at one time, on 15010 and on 15012",
    ),
    Variable(
        "HTTP_MAX_CONNECTIONS",
        "1024",
        "connections open at one time, on 8080, 15014 and 15017",
    ),
    Variable(
        "TLS_HANDSHAKE_TIMEOUT",
        "10s",
        "a TLS handshake that takes longer is dropped",
    ),
    Variable(
        "REQUEST_HEADER_TIMEOUT",
        "30s",
        "a connection without a whole request (15010, 15012: an admitted one) is closed; so is a stream that asks for nothing, or does not finish a request",
    ),
];

/// The table as `--help` shows it.
pub fn help() -> String {
    let width = ALL
        .iter()
        .map(|Variable(name, ..)| name.len())
        .max()
        .unwrap_or_default();
    let line = |Variable(name, default, help): &Variable| match *default {
        "" => format!("  {name:width$}  {help}\n"),
        default => format!("  {name:width$}  {help} [default: {default}]\n"),
    };
    format!("Environment:\n{}", ALL.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_documented() {
        let page = include_str!("../../../docs/istiod.md");
        for Variable(name, default, help) in ALL {
            let row = format!("| `{name}` | {default} | {help} |");
            assert!(page.contains(&row), "docs/istiod.md lacks the row\n{row}");
        }
    }
}
