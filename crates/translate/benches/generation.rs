//! How long generation takes on the shapes that Istio measures itself by. `cargo bench -p translate --bench generation`
//! prints the table; `-- cold` or `-- update` and the name of a shape choose.

mod shapes;

fn main() {
    shapes::main();
}
