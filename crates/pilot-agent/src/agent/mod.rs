//! `pilot-agent proxy`: everything started in order, and ended in order (control-plane.md §4.1, §4.8).

mod addresses;
mod ending;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use addresses::{dns_addresses, instance_ips, ipv6_only};
use ending::{Running, Signals};

use crate::bootstrap::{self, Options};
use crate::control_plane::ControlPlane;
use crate::dns::{self, ResolvConf, Table};
use crate::envoy::{Admin, Envoy, Launch};
use crate::node::{self, Facts, Role};
use crate::proxy_config::{self, ProxyConfig, Sources};
use crate::relay::{self, Relay};
use crate::sds::{self, files};
use crate::settings::{Environment, Settings};
use crate::status::{self, Order, Status, metrics::Metrics, probes::Probes, ready::Readiness};
use crate::workload::{Files, Issuer, Published};
use crate::{pod_info, version};
use xds::istio::networking::nds::v1::NameTable;

/// Directory of the SDS socket, shared with the pod.
const SDS_DIRECTORY: &str = "./var/run/secrets/workload-spiffe-uds";
/// Certificates that somebody else put into the pod.
const MOUNTED_CREDENTIALS: &str = "./var/run/secrets/workload-spiffe-credentials";
/// Certificates mounted with `FILE_MOUNTED_CERTS`.
const MOUNTED_CERTIFICATES: &str = "./etc/certs";

/// Arguments of `pilot-agent proxy`.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// `sidecar`, `router` or `waypoint`.
    pub role: Role,
    /// `--domain`.
    pub domain: String,
    /// `--meshConfig`.
    pub mesh_config: PathBuf,
    /// `--proxyLogLevel`.
    pub log_level: String,
    /// `--proxyComponentLogLevel`.
    pub component_log_level: String,
    /// `--concurrency`, 0 if not given.
    pub concurrency: u32,
    /// `--outlierLogPath`.
    pub outlier_log_path: String,
    /// `--log_as_json`.
    pub log_as_json: bool,
    /// `--templateFile`: a bootstrap of the user's own, used as it is.
    pub template_file: Option<PathBuf>,
}

/// Runs the proxy until Envoy ends or the agent is told to.
///
/// # Errors
/// If something needed cannot be read or started, or Envoy ended by itself with an error.
pub async fn run(arguments: Arguments, env: Environment) -> anyhow::Result<()> {
    let settings = Settings::read(&env)?;
    let prepared = Prepared::new(&arguments, &env, settings)?;
    tracing::info!(version = version(), node = %prepared.node.id, "proxy agent starts");
    let (workload, roots) = prepared.start_certificates();
    let mut tasks = tokio::task::JoinSet::new();
    let names = prepared.start_dns(&mut tasks, &arguments.domain).await?;
    let relay = Relay::new(prepared.xds(), workload.clone(), unchanged(roots), names.clone());
    let socket = Path::new(SDS_DIRECTORY).join(&prepared.settings.sds_socket);
    if is_served(&socket).await {
        tracing::info!(socket = %socket.display(), "secrets are served by another process; it is used");
    } else {
        let serving = sds::serve(&socket, workload.clone());
        tasks.spawn(serving.with_context(|| format!("cannot serve secrets on {}", socket.display()))?);
    }
    let config_path = prepared.config.config_path();
    std::fs::create_dir_all(&config_path)
        .with_context(|| format!("cannot create configPath {}", config_path.display()))?;
    let xds = config_path.join("XDS");
    let serving = relay::serve(&xds, relay.clone());
    tasks.spawn(serving.with_context(|| format!("cannot relay discovery on {}", xds.display()))?);

    let (send_orders, orders) = mpsc::channel(4);
    let ending = watch::Sender::new(false);
    prepared
        .start_status(
            &mut tasks,
            send_orders,
            &ending,
            workload,
            &relay,
            names.map(|n| n.subscribe()),
        )
        .await?;
    let signals = Signals::listen()?;
    let envoy = prepared.start_envoy(&arguments)?;
    let result = Running {
        prepared: &prepared,
        envoy,
        orders,
        ending,
        signals,
    }
    .until_end()
    .await;
    tasks.shutdown().await;
    result
}

/// What is known before anything runs.
struct Prepared {
    role: Role,
    settings: Settings,
    config: ProxyConfig,
    node: node::Node,
    options: Options,
    admin: Admin,
}

impl Prepared {
    fn new(arguments: &Arguments, env: &Environment, settings: Settings) -> anyhow::Result<Self> {
        let annotations = pod_info::read(Path::new(pod_info::ANNOTATIONS)).unwrap_or_else(|error| {
            tracing::warn!(%error, "annotations of the pod are not used");
            None
        });
        let labels = pod_info::read(Path::new(pod_info::LABELS)).unwrap_or_else(|error| {
            tracing::warn!(%error, "labels of the pod are not used");
            None
        });
        let mesh = read_if_there(&arguments.mesh_config)?;
        let config = proxy_config::effective(&Sources {
            mesh_file: mesh.as_deref(),
            environment: &settings.proxy_config,
            annotations: annotations.clone().unwrap_or_default(),
            concurrency: arguments.concurrency,
            cpu_limit: settings.cpu_limit,
        })?;
        let excluded = annotations
            .as_ref()
            .and_then(|a| a.get("traffic.sidecar.istio.io/excludeInterfaces"));
        let ips = instance_ips(settings.instance_ip, excluded.map(String::as_str).unwrap_or_default());
        let facts = facts(arguments, &settings, &config, &ips, labels, annotations);
        let node = node::node(env, &config, &facts);
        let options = Options {
            log_as_json: arguments.log_as_json,
            host_ip: env.get("HOST_IP").cloned().unwrap_or_default(),
            compliance_policy: env.get("COMPLIANCE_POLICY").cloned().unwrap_or_default(),
            dual_stack: env.get("ISTIO_DUAL_STACK").is_some_and(|v| v == "true"),
        };
        let localhost = if ipv6_only(&node.instance_ips) {
            "::1"
        } else {
            "127.0.0.1"
        };
        let admin = Admin::new(localhost, config.admin_port()?, arguments.role == Role::Sidecar);
        Ok(Self {
            role: arguments.role,
            settings,
            config,
            node,
            options,
            admin,
        })
    }

    fn control_plane(&self, address: &str, root: Option<&PathBuf>) -> ControlPlane {
        let mut plane = ControlPlane::new(address);
        plane.cluster_id.clone_from(&self.settings.cluster_id);
        if let Some(name) = &self.settings.istiod_san {
            plane.server_name.clone_from(name);
        }
        if let Some(root) = root {
            plane.root.clone_from(root);
        } else if self.settings.file_mounted_certs {
            plane.root = Files::in_directory(MOUNTED_CERTIFICATES).root;
        }
        plane
    }

    fn xds(&self) -> ControlPlane {
        let mut plane = self.control_plane(self.config.discovery_address(), self.settings.xds_root.as_ref());
        plane.headers.clone_from(&self.settings.xds_headers);
        plane
    }

    fn start_certificates(&self) -> (Published, watch::Receiver<Option<Vec<u8>>>) {
        let publish = watch::Sender::new(None);
        let workload = publish.subscribe();
        let address = self
            .settings
            .ca_address
            .as_deref()
            .unwrap_or(self.config.discovery_address());
        let ca = self.control_plane(address, self.settings.ca_root.as_ref());
        let roots = files::follow(self.xds().root);
        let mounted = Files::in_directory(MOUNTED_CREDENTIALS);
        let mounted = if self.settings.file_mounted_certs {
            Some(Files::in_directory(MOUNTED_CERTIFICATES))
        } else {
            mounted.exist().then_some(mounted)
        };
        match mounted {
            Some(files) => {
                tracing::info!(chain = %files.chain.display(), "certificates are mounted; the CA is not asked");
                tokio::spawn(files.keep(publish));
            }
            None => {
                let issuer = Issuer {
                    identity: self.settings.identity.clone(),
                    ttl: self.settings.secret_ttl,
                    key: self.settings.key_kind,
                    grace_ratio: self.settings.grace_ratio,
                    grace_jitter: self.settings.grace_jitter,
                    output: self.settings.output_certs.clone(),
                    ca,
                };
                tokio::spawn(issuer.keep(publish, unchanged(roots.clone())));
            }
        }
        (workload, roots)
    }

    /// With DNS capture, a server that answers from istiod's name table. Returns where the table goes.
    async fn start_dns(
        &self,
        tasks: &mut tokio::task::JoinSet<()>,
        domain: &str,
    ) -> anyhow::Result<Option<watch::Sender<Option<Arc<NameTable>>>>> {
        if !self.settings.dns_proxy {
            return Ok(None);
        }
        let text = std::fs::read_to_string("/etc/resolv.conf").context("cannot read /etc/resolv.conf")?;
        let conf = ResolvConf::parse(&text);
        let address = self.settings.dns_address.as_str();
        let addresses =
            dns_addresses(address, &conf).with_context(|| format!("DNS_PROXY_ADDR={address:?} is not host:port"))?;
        let publish = watch::Sender::new(None);
        let mut received: watch::Receiver<Option<Arc<NameTable>>> = publish.subscribe();
        let (ready, table) = watch::channel(None);
        let (namespace, search) = (self.settings.pod_namespace.clone(), conf.search.clone());
        let domain = domain.to_owned();
        let serving = dns::bind(&addresses, table, conf).await;
        tasks.spawn(serving.with_context(|| format!("cannot answer DNS on {address}"))?);
        tasks.spawn(async move {
            while received.changed().await.is_ok() {
                if let Some(names) = received.borrow_and_update().clone() {
                    ready.send_replace(Some(Arc::new(Table::new(&names, &namespace, &domain, &search))));
                }
            }
        });
        Ok(Some(publish))
    }

    async fn start_status(
        &self,
        tasks: &mut tokio::task::JoinSet<()>,
        orders: mpsc::Sender<Order>,
        ending: &watch::Sender<bool>,
        workload: Published,
        relay: &Relay,
        names: Option<watch::Receiver<Option<Arc<NameTable>>>>,
    ) -> anyhow::Result<()> {
        let port = self.config.status_port()?;
        if port == 0 {
            return Ok(());
        }
        let pod = self.settings.instance_ip.map(|ip| ip.to_string());
        let destination = pod
            .filter(|_| !self.settings.probe_localhost)
            .unwrap_or_else(|| "localhost".to_owned());
        // A gateway's 15020 is reachable from outside: there it shows no application.
        let prometheus = if self.role == Role::Sidecar {
            self.settings.prometheus.as_str()
        } else {
            ""
        };
        let status = Status {
            readiness: Readiness::new(self.admin.clone(), relay.health(), ending.subscribe()),
            metrics: Metrics::new(
                self.settings.envoy_prometheus_port,
                prometheus,
                port,
                workload,
                relay.health(),
            )?,
            probes: Probes::new(&self.settings.app_probers, &destination)?,
            names,
            orders,
        };
        let any: IpAddr = if self.node.instance_ips.iter().any(IpAddr::is_ipv6) {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let serving = status::serve(
            SocketAddr::new(any, port),
            Arc::new(status),
            self.settings.status_limits,
        )
        .await;
        tasks.spawn(serving.with_context(|| format!("cannot listen on status port {port}"))?);
        Ok(())
    }

    fn start_envoy(&self, arguments: &Arguments) -> anyhow::Result<Envoy> {
        let custom = arguments.template_file.clone().or_else(|| {
            let custom = self.config.text("customConfigFile");
            (!custom.is_empty()).then(|| PathBuf::from(custom))
        });
        let bootstrap = match custom {
            Some(file) => file,
            None => {
                let file = self.config.config_path().join("envoy-rev.json");
                let rendered = bootstrap::render(&self.node, &self.config, &self.options)?;
                let text = serde_json::to_vec_pretty(&rendered).context("the bootstrap cannot be encoded")?;
                std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
                file
            }
        };
        let overlay = self
            .settings
            .bootstrap_override
            .as_deref()
            .map(|path| self.bootstrap_override(path));
        let launch = Launch {
            binary: PathBuf::from(self.config.text("binaryPath")),
            bootstrap,
            drain_time: self
                .config
                .duration("drainDuration")?
                .unwrap_or(Duration::from_secs(45)),
            ipv6_only: ipv6_only(&self.node.instance_ips),
            log_level: arguments.log_level.clone(),
            component_log_level: arguments.component_log_level.clone(),
            file_flush_interval: self.config.duration("fileFlushInterval")?,
            file_flush_min_kb: self
                .config
                .get("fileFlushMinSizeKb")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0),
            concurrency: self.config.concurrency().unwrap_or(0),
            skip_deprecated_logs: self.settings.skip_deprecated_logs,
            core_dump: false,
            bootstrap_override: overlay.transpose()?,
        };
        launch
            .start()
            .with_context(|| format!("cannot start Envoy {}", launch.binary.display()))
    }

    fn bootstrap_override(&self, path: &Path) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read ISTIO_BOOTSTRAP_OVERRIDE {}", path.display()))?;
        Ok(text.replace("$(HOST_IP)", &self.options.host_ip))
    }
}

fn facts(
    arguments: &Arguments,
    settings: &Settings,
    config: &ProxyConfig,
    ips: &[IpAddr],
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
) -> Facts {
    let domain = if arguments.domain.is_empty() {
        format!("{}.svc.cluster.local", settings.pod_namespace)
    } else {
        arguments.domain.clone()
    };
    let ip = ips.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
    Facts {
        id: node::id(arguments.role, ip, &settings.pod_name, &settings.pod_namespace, &domain),
        instance_ips: ips.to_vec(),
        labels,
        annotations,
        pilot_san: vec![ControlPlane::new(config.discovery_address()).server_name],
        outlier_log_path: arguments.outlier_log_path.clone(),
        envoy_status_port: settings.envoy_status_port,
        envoy_prometheus_port: settings.envoy_prometheus_port,
        secure_metrics_port: settings.secure_metrics_port,
        secure_merged_metrics_port: settings.secure_merged_metrics_port,
        exit_on_zero_connections: settings.exit_on_zero_connections,
        skip_deprecated_logs: settings.skip_deprecated_logs,
        metadata_discovery: settings.metadata_discovery,
        sds_socket: settings.sds_socket.clone(),
        version: version(),
    }
}

/// A receiver for which the first content of a file is no change.
fn unchanged(roots: watch::Receiver<Option<Vec<u8>>>) -> watch::Receiver<Option<Vec<u8>>> {
    let (publish, changes) = watch::channel(None);
    tokio::spawn(async move {
        let mut roots = roots;
        let mut known = roots.borrow_and_update().clone();
        while roots.changed().await.is_ok() && !publish.is_closed() {
            let now = roots.borrow_and_update().clone();
            if known.is_some() && known != now {
                publish.send_replace(now.clone());
            }
            known = now;
        }
    });
    changes
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e).with_context(|| format!("cannot read the mesh configuration {}", path.display())),
    }
}

/// Whether another process serves the socket already (SPIRE, for example).
async fn is_served(socket: &Path) -> bool {
    tokio::net::UnixStream::connect(socket).await.is_ok()
}
