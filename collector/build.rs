//! Finds the built page to embed. A release build insists on it; a debug build without it embeds a page that says how
//! to make it. Compiles Hubble's messages with `protox`, so that no `protoc` is needed.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Orrery</title>\
<h1>The page is not built</h1><p>Run <code>cargo xtask setup</code>, then build the collector again. The API is at \
<a href=\"/api/v1/graph\">/api/v1/graph</a>.</p></html>\n";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../ui/dist");
    let dist = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../ui/dist");
    let folder = if dist.join("index.html").is_file() {
        dist.canonicalize()?
    } else if env::var("PROFILE")? == "release" {
        return Err("ui/dist/index.html is missing: a release embeds the built page; hint: cargo xtask setup".into());
    } else {
        let folder = PathBuf::from(env::var("OUT_DIR")?).join("page");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("index.html"), PLACEHOLDER)?;
        folder
    };
    println!("cargo:rustc-env=ORRERY_PAGE={}", folder.display());
    hubble()
}

fn hubble() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["observer/observer.proto", "peer/peer.proto"], ["proto/hubble"])?;
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("hubble.bin");
    fs::write(&descriptors, files.encode_to_vec())?;
    // A flow is twenty times as large as what else a stream brings.
    tonic_prost_build::configure().boxed(".observer.GetFlowsResponse.response_types.flow").compile_fds(files)?;
    Ok(())
}
