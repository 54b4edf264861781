//! Load on a control plane: N simulated sidecars on delta discovery, and what it costs to serve them.
//!
//! Knows only the wire, so it drives any control plane that speaks aggregated delta discovery in plaintext.
//!
//! | command | what it does |
//! |---|---|
//! | `mesh` | writes the benchmark's mesh as YAML files, for a control plane that is fed from files |
//! | `load` | opens N sidecars against a running control plane and measures |
//! | `record` | keeps what a control plane answers to one sidecar |
//! | `replay` | sends recorded answers to every stream without computing anything: the floor |
//! | `suite` | the whole table: control plane and floor, several sizes, one report |
//! | `check` | compares a report's ratios with recorded ones |

mod change;
mod check;
mod churn;
mod fleet;
mod limits;
mod mesh;
mod mutual;
mod place;
mod plot;
mod process;
mod record;
mod replay;
mod report;
mod server;
mod sidecar;
mod statistics;
mod suite;
mod targets;
mod wire;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Simulated sidecars against a control plane")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Size of the benchmark's mesh.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Services in the mesh
    #[arg(long, default_value_t = Self::default().services)]
    services: usize,
    /// Pods of each service
    #[arg(long, default_value_t = Self::default().pods)]
    pods: usize,
    /// Namespaces that the services are spread over
    #[arg(long, default_value_t = Self::default().namespaces)]
    namespaces: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            services: 1000,
            pods: 2,
            namespaces: 50,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Writes the mesh as YAML files
    Mesh {
        /// Folder to write to
        folder: PathBuf,
        #[command(flatten)]
        shape: Shape,
    },
    /// Measures a running control plane
    Load {
        /// Where it serves discovery in plaintext
        #[arg(long, default_value = "http://127.0.0.1:15010")]
        addr: String,
        /// Number of sidecars
        #[arg(long, default_value_t = 500)]
        sidecars: usize,
        #[command(flatten)]
        shape: Shape,
        /// Process of the control plane, for its CPU and memory
        #[arg(long)]
        pid: Option<u32>,
        /// Folder of the mesh, to change an endpoint in it
        #[arg(long)]
        mesh: Option<PathBuf>,
        /// Endpoint changes to make
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Longest time to wait for all sidecars, in seconds
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
    /// Keeps what a control plane answers to one sidecar
    Record {
        #[arg(long, default_value = "http://127.0.0.1:15010")]
        addr: String,
        /// Folder to write to
        folder: PathBuf,
        #[command(flatten)]
        shape: Shape,
    },
    /// Sends recorded answers to every stream
    Replay {
        /// Folder of the recording
        folder: PathBuf,
        /// Address to serve on
        #[arg(long, default_value = "127.0.0.1:15010")]
        listen: std::net::SocketAddr,
    },
    /// Measures control plane and floor at several sizes and writes a report
    Suite {
        /// The control plane's program
        #[arg(long, default_value = "bin/istiod")]
        istiod: PathBuf,
        /// Numbers of sidecars
        #[arg(long, value_delimiter = ',', default_value = "500,2000,10000")]
        sidecars: Vec<usize>,
        #[command(flatten)]
        shape: Shape,
        /// Folder for the report
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
        /// Feed the control plane from this cluster, which has the mesh's CRDs and is for nothing else, and not from files
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        /// Less of everything, in two minutes: 500 sidecars, no start of a large mesh
        #[arg(long)]
        quick: bool,
    },
    /// Compares a report's ratios with recorded ones; fails if one is worse beyond noise
    Check {
        /// The report
        #[arg(long, default_value = "target/bench/report.json")]
        report: PathBuf,
        /// What was recorded
        #[arg(long, default_value = "bench/recorded.json")]
        recorded: PathBuf,
        /// Record the report's ratios instead
        #[arg(long)]
        update: bool,
    },
}

fn main() -> Result<()> {
    listen::open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match Arguments::parse().command {
            Command::Mesh { folder, shape } => mesh::write(&folder, shape),
            Command::Load {
                addr,
                sidecars,
                shape,
                pid,
                mesh,
                rounds,
                timeout,
            } => {
                let load = sidecar::Load {
                    address: addr,
                    sidecars,
                    shape,
                    timeout,
                    authority: None,
                };
                let mut fleet = fleet::Fleet::start(&load);
                let figures =
                    suite::measure(&mut fleet, &load, pid, mesh.map(place::Place::Folder).as_ref(), rounds).await?;
                println!("{}", serde_json::to_string_pretty(&figures)?);
                Ok(())
            }
            Command::Record { addr, folder, shape } => record::record(&addr, &folder, shape).await,
            Command::Replay { folder, listen } => replay::serve(&folder, listen).await,
            Command::Suite {
                istiod,
                sidecars,
                shape,
                out,
                kubeconfig,
                quick,
            } => {
                let plan = suite::Plan {
                    program: istiod,
                    sizes: if quick { vec![500] } else { sidecars },
                    shape,
                    out,
                    kubeconfig,
                    quick,
                };
                suite::run(&plan).await
            }
            Command::Check {
                report,
                recorded,
                update,
            } => check::run(&report, &recorded, update),
        }
    })
}
