//! An admission review in, an admission review out, by size of the pod. The figure to hold is five milliseconds with
//! everything around it (`crates/istiod/benches/injection.rs`); what grows with the pod must grow no faster than it.

mod reviews;

use divan::Bencher;
use divan::counter::BytesCount;
use inject::review::{Verdict, answer};

fn main() {
    divan::main();
    println!("to hold: no fewer bytes per second for a pod of 1 MiB than for one of 64 KiB");
}

#[divan::bench(args = [4 << 10, 64 << 10, 256 << 10, 1 << 20])]
fn review(bencher: Bencher, bytes: usize) {
    let (injector, body) = (reviews::injector(), reviews::review(bytes));
    let environment = Default::default();
    assert_eq!(answer(&injector, &body, &environment, |_| None).1, Verdict::Injected);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| answer(&injector, &body, &environment, |_| None).0.to_string());
}
