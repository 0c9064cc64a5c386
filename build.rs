//! Has the files of the page embedded again when one is added or removed: the compiler notices changed ones alone.

fn main() {
    println!("cargo:rerun-if-changed=assets");
}
