//! Prints every module of `src` with the modules that it imports: the program of `scripts/modules`.

mod imports;

fn main() {
    for (module, imported) in imports::read(std::path::Path::new("src")) {
        println!("{module}");
        for module in imported {
            println!("    {module}");
        }
    }
}
