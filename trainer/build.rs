//! Builds the fused kernels (`kernels/`), and makes every binary of this crate name `libtorch.so` and find it.
//!
//! The crate `tch` links libtorch, but its symbols all live in libtorch_cpu and libc10, so the linker drops `libtorch.so`
//! itself as unneeded. It is the one that pulls in the CUDA half: without it a CUDA libtorch in `LD_LIBRARY_PATH` would
//! be used as a CPU one.

use std::path::{Path, PathBuf};

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
    kernels(&prefix);
    let lib = prefix.join("lib");
    let lib = lib.display();
    println!("cargo::rustc-link-search=native={lib}");
    println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch,--pop-state");
    // Where libtorch finds it before its own; see `trainer::device`.
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=mkl_serv_intel_cpu_true");
    // A RUNPATH, which LD_LIBRARY_PATH overrides: that is how one binary serves CPU and GPU machines.
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
}

/// Builds one table of passes per instruction set, between which the program chooses at run time, and the operators.
fn kernels(libtorch: &Path) {
    println!("cargo::rerun-if-changed=kernels");
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let avx512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mavx2", "-mfma"];
    let sets: [(&str, &[&str]); 3] = [("portable", &[]), ("avx2", &["-mavx2", "-mfma"]), ("avx512", &avx512)];
    for (set, flags) in sets.into_iter().take(if x86 { 3 } else { 1 }) {
        let mut build = cc::Build::new();
        for flag in flags {
            build.flag(flag);
        }
        build
            .cpp(true)
            .std("c++17")
            .opt_level(3)
            .debug(false)
            .flag("-fno-math-errno")
            .flag("-fno-trapping-math")
            .flag_if_supported("-Wno-psabi")
            .define("LAMINA_SET", set)
            .file("kernels/passes/passes.cpp")
            .compile(&format!("lamina_{set}"));
    }
    // The operators must come before the tables in the linker's order.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        // libtorch's loops over threads are OpenMP's, written out in its headers.
        .flag("-fopenmp")
        .flag("-isystem")
        .flag(libtorch.join("include"))
        .flag("-isystem")
        .flag(libtorch.join("include/torch/csrc/api/include"))
        .files(
            ["operators/operators.cpp", "choice.cpp", "memory.cpp", "shim.cpp"].map(|file| format!("kernels/{file}")),
        )
        .compile("lamina_operators");
    println!("cargo::rustc-link-lib=dylib=gomp");
}
