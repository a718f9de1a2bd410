//! Finds the BLAS library that a feature asks for before the linker fails on it, and records the commit for `wordmill info`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for path in [".git/HEAD", ".git/refs/heads"] {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }

    if feature("OPENBLAS") && !feature("OPENBLAS_STATIC") {
        require(
            "openblas",
            "apt install libopenblas-dev pkg-config   (or your system's OpenBLAS with its pkg-config file)",
        );
    } else if feature("BLIS") {
        require("blis", "apt install libblis-dev pkg-config");
    }

    let hash = output("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=WORDMILL_GIT_HASH={hash}");
}

fn feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

/// Stops the build with the one line that helps, if pkg-config does not know `library`.
fn require(library: &str, install: &str) {
    if output("pkg-config", &["--modversion", library]).is_some() {
        return;
    }
    println!("cargo::error={library} was not found; install it with: {install}");
    std::process::exit(1);
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
