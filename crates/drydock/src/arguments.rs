//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// A local Kubernetes in one process.
#[derive(Debug, Parser)]
#[command(version = crate::VERSION, arg_required_else_help = true, max_term_width = 100, after_help = "\
The data directory holds everything of a cluster: objects, keys, images, logs. It is, in this order:
  1. --data-dir DIR
  2. $DRYDOCK_DATA_DIR
  3. .drydock in the root of the project that you are in (the nearest directory with .drydock or .git)
  4. ~/.local/share/drydock
Clusters with different data directories run side by side.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Directory of the cluster (see the end of `drydock --help` for the default)
    #[arg(long, global = true, value_name = "DIR", env = "DRYDOCK_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the cluster and return when it is ready
    Up {
        /// Which cluster.
        #[command(flatten)]
        which: Which,
        /// Do not load the images that were built beside this program
        #[arg(long)]
        no_images: bool,
    },
    /// Stop the cluster: all its containers, networks and mounts; its objects stay
    Down(Which),
    /// Tell how the cluster is
    Status(Which),
    /// Stop the cluster and forget everything in it
    Reset(Which),
    /// Print the path of the kubeconfig: export KUBECONFIG=$(drydock kubeconfig)
    Kubeconfig(Which),
    /// Load container images from disk
    Load {
        /// Which cluster.
        #[command(flatten)]
        which: Which,
        /// OCI layouts (directory or tar) or docker archives
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<PathBuf>,
        /// Name for an image that carries none
        #[arg(long, value_name = "REFERENCE")]
        name: Option<String>,
    },
    /// Print the cluster's own log
    Logs {
        /// Which cluster.
        #[command(flatten)]
        which: Which,
        /// Go on printing as it grows
        #[arg(short, long)]
        follow: bool,
        /// Only the last lines
        #[arg(long, value_name = "N")]
        tail: Option<usize>,
    },
    /// Run the cluster in the foreground (what `up` does in the background)
    Serve {
        /// Which cluster.
        #[command(flatten)]
        which: Which,
        /// Started by `up`: leave the terminal and report progress to it
        #[arg(long, hide = true)]
        daemon: bool,
    },
    /// Run only a node, for any API server
    ///
    /// Containers outlive it and are taken over by the next one on the same data directory; `drydock down` ends them.
    Node(NodeArguments),
    /// Run only the controllers, for any API server
    Controllers {
        /// How to reach the API server
        #[arg(long, value_name = "FILE")]
        kubeconfig: PathBuf,
    },
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Keeps one container's process (started by the node)
    #[command(hide = true)]
    Shim {
        /// Passed through.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// What a node is told.
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// Which data directory.
    #[command(flatten)]
    pub which: Which,
    /// How to reach the API server
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Name of the node
    #[arg(long, default_value = "drydock-node")]
    pub name: String,
    /// Addresses of its pods [default: a /24 of 10.244.0.0/16 that no other node has]
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<ipnet::Ipv4Net>,
    /// Addresses of services [default: what the API server hands out]
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<ipnet::Ipv4Net>,
    /// Port that the API server reaches the node at [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Do not serve cluster DNS: the cluster brings its own
    #[arg(long)]
    pub no_dns: bool,
    /// Authority (PEM) of the API server's client certificate, where the API server does not publish it
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Answer an API server that shows no client certificate; whoever reaches the node's port can then run commands in
    /// its pods
    #[arg(long)]
    pub allow_anonymous: bool,
    /// Do not load the images that were built beside this program
    #[arg(long)]
    pub no_images: bool,
}
