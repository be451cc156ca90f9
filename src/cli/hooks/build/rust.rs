//! Rust: cargo for wasm32-unknown-unknown, with the standard library that is installed for it or else built along.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::super::CliError;
use super::{Job, told, tool};

const TARGET: &str = "wasm32-unknown-unknown";
const MISSING: &str = "install Rust with rustup, then: rustup target add wasm32-unknown-unknown";
/// Where Debian's rustc-web and rust-web-src put what builds the standard library for WebAssembly.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust";

pub(super) fn build(job: &Job) -> Result<(), CliError> {
    let sysroot = told(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(&job.folder),
    );
    let sysroot = PathBuf::from(sysroot.ok_or_else(|| CliError::failed("cannot run rustc", MISSING))?);
    let target_dir = job.tools.join("target");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&job.folder)
        .args(["build", "--release", "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target_dir)
        // Incremental builds come out otherwise.
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", remapped(job).join("\u{1f}"));
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        if !Path::new(DEBIAN_RUSTC).is_file() || !Path::new(DEBIAN_SOURCE).is_dir() {
            return Err(CliError::failed(
                format!("Rust is here, but not its target {TARGET}"),
                format!(
                    "run: rustup target add {TARGET}; without rustup, on Debian: apt-get install --no-install-recommends rustc-web rust-web-src"
                ),
            ));
        }
        cargo
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1");
    }
    with_linker(&mut cargo, &sysroot);
    tool(&mut cargo, MISSING)?;
    let name = package_name(&job.folder)?;
    let built = target_dir
        .join(TARGET)
        .join("release")
        .join(format!("{}.wasm", name.replace('-', "_")));
    std::fs::copy(&built, &job.out)
        .map(|_| ())
        .map_err(|error| CliError::failed(format!("cannot copy {}", built.display()), error))
}

/// Uses the linker that writes a component at once, where rustc comes with it. Without it the result is a core module, which
/// the server makes a component.
fn with_linker(cargo: &mut Command, sysroot: &Path) {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib"));
    let tools = hosts
        .into_iter()
        .flatten()
        .flatten()
        .map(|host| host.path().join("bin"));
    for bin in tools {
        let linker = bin.join("wasm-component-ld");
        if linker.is_file() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let paths = std::iter::once(bin).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(paths) {
                cargo
                    .env("PATH", path)
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
            return;
        }
    }
}

/// Flags that keep the paths of this machine out of the component, so that every machine builds the same bytes.
fn remapped(job: &Job) -> Vec<String> {
    // The same for all hooks of a workspace, so that they share what is built for them.
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&job.folder)
        .args(["locate-project", "--workspace", "--message-format", "plain"]);
    let workspace = told(&mut cargo).and_then(|manifest| Path::new(&manifest).parent().map(Path::to_owned));
    let workspace = workspace.unwrap_or_else(|| job.folder.clone());
    let mut places = vec![(workspace, "/hooks".to_owned())];
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let registries = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    for registry in registries.into_iter().flatten().flatten() {
        places.push((registry.path(), "/crates".to_owned()));
    }
    places.push((DEBIAN_SOURCE.into(), "/rust".to_owned()));
    places
        .into_iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect()
}

fn package_name(folder: &Path) -> Result<String, CliError> {
    let mut cargo = Command::new("cargo");
    let manifest = folder.join("Cargo.toml");
    cargo
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(&manifest);
    let metadata = told(&mut cargo).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let packages = metadata
        .as_ref()
        .and_then(|metadata| metadata["packages"].as_array());
    let own = packages
        .into_iter()
        .flatten()
        .find(|package| package["manifest_path"].as_str().map(Path::new) == Some(&manifest));
    match own.and_then(|package| package["name"].as_str()) {
        Some(name) => Ok(name.to_owned()),
        None => Err(CliError::failed(
            manifest.display().to_string(),
            "it defines no package",
        )),
    }
}
