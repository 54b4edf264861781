//! Runs the API server alone: `cargo run -p drydock-api --example serve -- DATA_DIR [ADDRESS]`.
//! Writes `DATA_DIR/kubeconfig` and runs until interrupted.

use drydock_api::{Config, Server};
use std::{error::Error, path::PathBuf};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data_dir = PathBuf::from(arguments.next().ok_or("usage: serve DATA_DIR [ADDRESS]")?);
    let mut config = Config::new(data_dir.clone());
    if let Some(address) = arguments.next() {
        config.bind = address.parse()?;
    }
    let server = Server::start(config).await?;
    let path = data_dir.join("kubeconfig");
    std::fs::write(&path, server.kubeconfig()?)?;
    println!("listening on {}, kubeconfig in {}", server.url(), path.display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
