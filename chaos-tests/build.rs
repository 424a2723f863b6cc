//! Builds the receiver's kernel program.

fn main() {
    weir_bpf_builder::build_script("ebpf");
}
