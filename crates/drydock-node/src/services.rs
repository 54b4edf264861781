//! Services on the node: what `kube-proxy` does, as one nftables table per cluster.

mod nft;
mod table;

pub(crate) use nft::{apply, remove};
pub(crate) use table::{Here, Table};
