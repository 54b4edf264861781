//! Chores of the project: `cargo run -p xtask -- COMMAND`.

mod gen_xds;
mod images;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Chores of the project")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the container images, without a container engine
    Images {
        /// Profile (folder below target/) whose binaries go into the images
        #[arg(long, default_value = "dev")]
        profile: String,
        /// Where the OCI layouts go
        #[arg(long, default_value = "target/images")]
        out: PathBuf,
        /// The Envoy binary
        #[arg(long, env = "ENVOY", default_value = "bin/envoy")]
        envoy: PathBuf,
        /// Only these images (istiod, proxyv2, samples); default all
        #[arg(long)]
        only: Vec<String>,
    },
    /// Generate crates/xds from the descriptors that an Envoy binary carries
    GenXds {
        /// The Envoy binary
        #[arg(long, env = "ENVOY", default_value = "bin/envoy")]
        envoy: PathBuf,
        /// The crate to write
        #[arg(long, default_value = "crates/xds")]
        out: PathBuf,
        /// Compare with what is there and write nothing
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Images {
            profile,
            out,
            envoy,
            only,
        } => images::build(&images::Request {
            profile,
            out,
            envoy,
            only,
        }),
        Command::GenXds { envoy, out, check } => gen_xds::run(&envoy, &out, check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
