//! To be filled.
#[cfg(test)]
mod install;
fn main() {}
