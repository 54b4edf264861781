//! The annotations that mean something to the mesh, and where.

/// One annotation.
pub(super) struct Known {
    pub(super) name: &'static str,
    /// Still taking shape.
    pub(super) alpha: bool,
    pub(super) deprecated: bool,
    /// Kinds it may be on; `Any` for all.
    pub(super) kinds: &'static [&'static str],
}

const fn known(name: &'static str, kinds: &'static [&'static str]) -> Known {
    Known {
        name,
        alpha: false,
        deprecated: false,
        kinds,
    }
}

const fn alpha(name: &'static str, kinds: &'static [&'static str]) -> Known {
    Known {
        alpha: true,
        ..known(name, kinds)
    }
}

const fn deprecated(known: Known) -> Known {
    Known {
        deprecated: true,
        ..known
    }
}

/// The annotation of that name.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.name == name)
}

const ALL: &[Known] = &[
    deprecated(alpha("alpha.istio.io/canonical-serviceaccounts", &["Service"])),
    deprecated(alpha("alpha.istio.io/kubernetes-serviceaccounts", &["Service"])),
    alpha("ambient.istio.io/bypass-inbound-capture", &["Pod"]),
    alpha("ambient.istio.io/dns-capture", &["Pod"]),
    known("ambient.istio.io/redirection", &["Pod"]),
    alpha(
        "ambient.istio.io/waypoint-inbound-binding",
        &["GatewayClass", "Gateway"],
    ),
    alpha("galley.istio.io/analyze-suppress", &["Any"]),
    alpha("gateway.istio.io/controller-version", &["Any"]),
    alpha("gateway.istio.io/name-override", &["Gateway"]),
    alpha("gateway.istio.io/service-account", &["Gateway"]),
    alpha("inject.istio.io/templates", &["Pod"]),
    alpha("istio.io/autoRegistrationGroup", &["WorkloadEntry"]),
    alpha("istio.io/connectedAt", &["WorkloadEntry"]),
    alpha("istio.io/disconnectedAt", &["WorkloadEntry"]),
    alpha("istio.io/dry-run", &["AuthorizationPolicy"]),
    alpha("istio.io/reroute-virtual-interfaces", &["Pod"]),
    alpha("istio.io/rev", &["Pod"]),
    alpha(
        "istio.io/use-waypoint-canary-weight",
        &["Service", "ServiceEntry", "Namespace"],
    ),
    alpha("istio.io/workloadController", &["WorkloadEntry"]),
    known("kubernetes.io/ingress.class", &["Ingress"]),
    alpha("networking.istio.io/exportTo", &["Service"]),
    alpha("networking.istio.io/service-type", &["Gateway"]),
    alpha(
        "networking.istio.io/traffic-distribution",
        &["Namespace", "Service", "ServiceEntry"],
    ),
    alpha("prometheus.istio.io/merge-metrics", &["Pod"]),
    known("proxy.istio.io/config", &["Pod"]),
    alpha("proxy.istio.io/overrides", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/applicationPorts", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/failureThreshold", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/initialDelaySeconds", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/periodSeconds", &["Pod"]),
    alpha("sidecar.istio.io/agentLogLevel", &["Pod"]),
    alpha("sidecar.istio.io/bootstrapOverride", &["Pod"]),
    alpha("sidecar.istio.io/componentLogLevel", &["Pod"]),
    deprecated(alpha("sidecar.istio.io/discoveryAddress", &["Pod"])),
    deprecated(alpha("sidecar.istio.io/extraStatTags", &["Pod"])),
    deprecated(known("sidecar.istio.io/inject", &["Pod"])),
    alpha("sidecar.istio.io/interceptionMode", &["Pod"]),
    alpha("sidecar.istio.io/logLevel", &["Pod"]),
    alpha("sidecar.istio.io/nativeSidecar", &["Pod"]),
    alpha("sidecar.istio.io/proxyCPU", &["Pod"]),
    alpha("sidecar.istio.io/proxyCPULimit", &["Pod"]),
    alpha("sidecar.istio.io/proxyImage", &["Pod"]),
    alpha("sidecar.istio.io/proxyImageType", &["Pod"]),
    alpha("sidecar.istio.io/proxyMemory", &["Pod"]),
    alpha("sidecar.istio.io/proxyMemoryLimit", &["Pod"]),
    alpha("sidecar.istio.io/rewriteAppHTTPProbers", &["Pod"]),
    deprecated(alpha("sidecar.istio.io/statsCompression", &["Pod"])),
    alpha("sidecar.istio.io/statsEvictionInterval", &["Pod"]),
    alpha("sidecar.istio.io/statsFlushInterval", &["Pod"]),
    alpha("sidecar.istio.io/statsHistogramBins", &["Pod"]),
    alpha("sidecar.istio.io/statsHistogramBuckets", &["Pod"]),
    deprecated(alpha("sidecar.istio.io/statsInclusionPrefixes", &["Pod"])),
    deprecated(alpha("sidecar.istio.io/statsInclusionRegexps", &["Pod"])),
    deprecated(alpha("sidecar.istio.io/statsInclusionSuffixes", &["Pod"])),
    alpha("sidecar.istio.io/status", &["Pod"]),
    alpha("sidecar.istio.io/userVolume", &["Pod"]),
    alpha("sidecar.istio.io/userVolumeMount", &["Pod"]),
    alpha("status.sidecar.istio.io/port", &["Pod"]),
    alpha("topology.istio.io/controlPlaneClusters", &["Namespace"]),
    known("traffic.istio.io/nodeSelector", &["Service"]),
    alpha("traffic.sidecar.istio.io/excludeInboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/excludeInterfaces", &["Pod"]),
    alpha("traffic.sidecar.istio.io/excludeOutboundIPRanges", &["Pod"]),
    alpha("traffic.sidecar.istio.io/excludeOutboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/includeInboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/includeOutboundIPRanges", &["Pod"]),
    alpha("traffic.sidecar.istio.io/includeOutboundPorts", &["Pod"]),
    deprecated(alpha("traffic.sidecar.istio.io/kubevirtInterfaces", &["Pod"])),
];
