//! Names of the mesh, answered in the pod (control-plane.md §4.6): the application's queries are captured, known names are
//! answered from istiod's table, everything else goes to the servers of resolv.conf as it came.

mod resolv_conf;
mod server;
mod table;

pub use resolv_conf::ResolvConf;
pub use server::{Server, bind};
pub use table::{Found, Table};
