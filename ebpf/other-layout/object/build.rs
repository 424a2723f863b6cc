//! Compiles the kernel programs with another layout of maps.

fn main() {
    weir_bpf_builder::build_script_with("../../xdp", &["other-layout"]);
}
