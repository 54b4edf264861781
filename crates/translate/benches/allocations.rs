//! What generation allocates on the shapes of the other benchmark; counting takes time, so that times are those of the
//! other. `cargo bench -p translate --bench allocations` prints the table.

mod shapes;

use divan::AllocProfiler;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    shapes::main();
}
