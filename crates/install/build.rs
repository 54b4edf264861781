//! Charts and profiles are embedded; a file that is added there must rebuild this crate.

fn main() {
    println!("cargo::rerun-if-changed=../../manifests");
}
