//! Runs the API server alone: `serve DATA-DIR [ADDRESS]` writes `DATA-DIR/kubeconfig` and serves until killed.

use std::{env, error::Error, fs, path::PathBuf};

use drydock_api::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let data_dir = PathBuf::from(arguments.next().ok_or("usage: serve DATA-DIR [ADDRESS]")?);
    let mut config = Config::new(&data_dir);
    if let Some(address) = arguments.next() {
        config.bind = address.parse()?;
    }
    let server = Server::start(config).await?;
    fs::write(data_dir.join("kubeconfig"), server.kubeconfig()?)?;
    println!("{}", server.url());
    std::future::pending::<()>().await;
    Ok(())
}
