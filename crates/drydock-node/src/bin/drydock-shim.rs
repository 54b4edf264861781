//! The shim as a program of its own, for programs that embed the node without being `drydock`.

fn main() -> std::process::ExitCode {
    drydock_node::shim::main(std::env::args().skip(1))
}
