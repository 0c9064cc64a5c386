//! The program of `scripts/modules`: prints every module of `src` with its imports, the circles, and the largest files.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// The number of files that are printed as the largest.
const LARGEST: usize = 10;

fn main() {
    let imports = imports::read(Path::new("src"));
    for (module, imported) in &imports {
        println!("{module}");
        for module in imported {
            println!("    {module}");
        }
    }
    println!("\ncircles:");
    let circles = imports::circles(&imports);
    for circle in &circles {
        println!("    {}", circle.iter().copied().collect::<Vec<_>>().join(", "));
    }
    if circles.is_empty() {
        println!("    none");
    }
    let mut files = Vec::new();
    count_lines(Path::new("src"), &mut files);
    files.sort_by(|one, other| other.cmp(one));
    let all: usize = files.iter().map(|(lines, _)| lines).sum();
    println!("\nlargest of {} files, {all} lines in all:", files.len());
    for (lines, path) in files.iter().take(LARGEST) {
        println!("{lines:8}  {}", path.display());
    }
}

fn count_lines(directory: &Path, files: &mut Vec<(usize, PathBuf)>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            count_lines(&path, files);
        } else {
            let text = fs::read_to_string(&path).expect("UTF-8");
            files.push((text.lines().count(), path));
        }
    }
}
