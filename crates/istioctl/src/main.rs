//! `istioctl`; all of it is in the library, which the conformance sets use too.

fn main() -> std::process::ExitCode {
    istioctl::main()
}
