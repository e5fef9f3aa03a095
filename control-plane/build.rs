//! The migrations are part of the program: it has to be built anew when they change.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
