//! Lets the linker leave Node-API's symbols to the node process.
fn main() {
    napi_build::setup();
}
