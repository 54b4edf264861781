//! A proxy's configuration (ProxyConfig): which fields there are, and what they hold. It stands in the mesh configuration
//! (`defaultConfig`) and in a pod's annotation `proxy.istio.io/config`.

use serde_json::Value;

use crate::install::Shape;

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Holds {
    /// Checked by who reads it.
    Anything,
    /// Text.
    Text,
    /// A whole number.
    Whole,
    /// The number of a port.
    Port,
    /// `true` or `false`.
    Flag,
    /// A duration with its unit.
    Duration,
    /// `host:port`.
    Address,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list.
    List,
    /// A map of texts.
    Texts,
    /// A map with these fields.
    Fields(&'static [&'static str]),
}

use Holds::{Address, Anything, Duration, Fields, Flag, List, OneOf, Port, Text, Texts, Whole};

/// A whole number as protobuf's JSON takes it: in quotes, too, and as `2.0`.
pub fn whole(value: &Value) -> Option<i32> {
    let of_float = || {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        format!("{number:.0}").parse().ok()
    };
    let of_number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    of_number.or_else(|| value.as_str()?.parse().ok()).or_else(of_float)
}

/// The fields. As annotation a value of the wrong type refuses the pod, so that what is not sure holds anything.
pub static FIELDS: &[(&str, Holds)] = &[
    ("availabilityZone", Text),
    ("binaryPath", Text),
    ("caCertificatesPem", List),
    ("clusterName", Anything),
    ("concurrency", Whole),
    ("configPath", Text),
    ("configSources", Anything),
    ("connectionSettings", Anything),
    ("controlPlaneAuthPolicy", OneOf(&["NONE", "MUTUAL_TLS"])),
    ("customConfigFile", Text),
    ("discoveryAddress", Address),
    ("discoveryRefreshDelay", Duration),
    ("drainDuration", Duration),
    ("envoyAccessLogService", Anything),
    ("envoyMetricsService", Anything),
    ("envoyMetricsServiceAddress", Address),
    ("extraStatTags", List),
    ("fileFlushInterval", Duration),
    ("fileFlushMinSizeKb", Whole),
    (
        "gatewayTopology",
        Fields(&["forwardClientCertDetails", "numTrustedProxies", "proxyProtocol"]),
    ),
    ("holdApplicationUntilProxyStarts", Flag),
    ("image", Fields(&["imageType"])),
    ("interceptionMode", OneOf(&["REDIRECT", "TPROXY", "NONE"])),
    ("meshId", Text),
    ("parentShutdownDuration", Duration),
    ("privateKeyProvider", Anything),
    ("proxyAdminPort", Port),
    ("proxyBootstrapTemplatePath", Text),
    ("proxyHeaders", Anything),
    ("proxyMetadata", Texts),
    (
        "proxyStatsMatcher",
        Fields(&["inclusionPrefixes", "inclusionRegexps", "inclusionSuffixes"]),
    ),
    ("readinessProbe", Anything),
    ("runtimeValues", Texts),
    ("sds", Anything),
    ("serviceCluster", Text),
    ("statNameLength", Whole),
    ("statsCompression", Flag),
    ("statsdUdpAddress", Address),
    ("statusPort", Port),
    ("terminationDrainDuration", Duration),
    ("tracing", Anything),
    ("tracingServiceName", Anything),
    ("zipkinAddress", Address),
];

/// How many fields there are.
const COUNT: usize = FIELDS.len();

/// The same as the shape of a part of the mesh configuration.
pub(crate) static SHAPES: [(&str, Shape); COUNT] = {
    let mut shapes = [const { ("", Shape::Any) }; COUNT];
    let mut index = 0;
    while index < COUNT {
        shapes[index] = (FIELDS[index].0, shape(FIELDS[index].1));
        index += 1;
    }
    shapes
};

const fn shape(holds: Holds) -> Shape {
    match holds {
        Text | Address => Shape::Text,
        Flag => Shape::Flag,
        List => Shape::List(&Shape::Any),
        Texts => Shape::Map(&Shape::Scalar),
        Anything | Whole | Port | Duration | OneOf(_) | Fields(_) => Shape::Any,
    }
}
