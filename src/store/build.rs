//! A new migration is a new build: `sqlx::migrate!` compiles the folder's content into the program.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
