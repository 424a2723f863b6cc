//! Compiles the kernel programs.

fn main() {
    weir_bpf_builder::build_script("../xdp");
}
