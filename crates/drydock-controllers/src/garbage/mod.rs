//! Garbage collector: objects go when their owners have gone, in the background, foreground or not at all (orphans).

mod controller;
mod graph;
#[cfg(test)]
mod tests;

pub use controller::start;
