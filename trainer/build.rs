//! Makes every binary of this crate name `libtorch.so` and find it.
//!
//! The crate `tch` links libtorch, but its symbols all live in libtorch_cpu and libc10, so the linker drops `libtorch.so`
//! itself as unneeded. It is the one that pulls in the CUDA half: without it a CUDA libtorch in `LD_LIBRARY_PATH` would
//! be used as a CPU one.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Some(prefix) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!("cargo::error=LIBTORCH is not set: run `make setup`, then `eval \"$(deploy/setup.sh --print-env)\"`");
        return;
    };
    // Without the build's own suffix (`+cpu`): at run time another build of the same version may be in its place.
    let version = std::fs::read_to_string(prefix.join("build-version")).unwrap_or_else(|_| "unknown".into());
    let version = version.trim().split('+').next().unwrap_or_default();
    println!("cargo::rustc-env=LAMINA_LIBTORCH_VERSION={version}");
    let lib = prefix.join("lib");
    let lib = lib.display();
    println!("cargo::rustc-link-search=native={lib}");
    println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch,--pop-state");
    // Where libtorch finds it before its own; see `trainer::device`.
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=mkl_serv_intel_cpu_true");
    // A RUNPATH, which LD_LIBRARY_PATH overrides: that is how one binary serves CPU and GPU machines.
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
}
