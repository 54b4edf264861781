//! `drydock`: a local Kubernetes in one process. Arguments and wiring; the parts are crates of their own.

mod arguments;
mod cluster_file;
mod data_dir;
mod down;
mod images;
mod join;
mod lock;
mod logs;
mod machine;
mod network;
mod out;
mod parts;
mod process;
mod ready;
mod report;
mod serve;
mod status;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use data_dir::DataDir;

/// Version of this program: baked in by the build, or the crate's.
const VERSION: &str = match option_env!("TRYSAIL_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        // Whoever read our output (`drydock logs | head`) has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drydock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(command: Command) -> Result<ExitCode> {
    // Containers see files that are made here; whoever calls does not decide who may read them. What others on the
    // machine must not see lies in directories that are closed to them.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match command {
        Command::Up { which, no_images } => up::run(&DataDir::choose(which.data_dir)?, !no_images)?,
        Command::Down(which) => down::run(&DataDir::choose(which.data_dir)?)?,
        Command::Reset(which) => down::reset(&DataDir::choose(which.data_dir)?)?,
        Command::Status(which) => return status::run(&DataDir::choose(which.data_dir)?),
        Command::Kubeconfig(which) => {
            let path = DataDir::choose(which.data_dir)?.kubeconfig();
            if !path.exists() {
                bail!(
                    "there is no cluster yet ({} does not exist): run drydock up",
                    path.display()
                );
            }
            out::line(path.display())?;
        }
        Command::Load { which, images, name } => {
            let dir = DataDir::choose(which.data_dir)?;
            machine::become_root(&dir)?;
            for image in images {
                let image = image
                    .canonicalize()
                    .with_context(|| format!("cannot read {}", image.display()))?;
                dir.own()?;
                for loaded in images::load(&dir, &image, name.as_deref())? {
                    out::line(loaded)?;
                }
            }
        }
        Command::Logs { which, follow, tail } => logs::run(&DataDir::choose(which.data_dir)?, follow, tail)?,
        Command::Serve { which, daemon } => serve::run(&DataDir::choose(which.data_dir)?, daemon)?,
        Command::Node(arguments) => parts::node(arguments)?,
        Command::Controllers { kubeconfig } => parts::controllers(&kubeconfig)?,
        Command::Version => out::line(format_args!("drydock {VERSION}"))?,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "drydock", &mut script);
            out::text(&script)?;
        }
        Command::Shim { arguments } => return parts::shim(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}
