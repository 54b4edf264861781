//! Cluster DNS: answers for the cluster's zone, everything else goes to the machine's resolver.

mod server;
mod zone;

pub(crate) use server::{Forward, serve};
pub(crate) use zone::Zone;
