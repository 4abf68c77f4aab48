//! For `cargo fuzz run binary_commands`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rooms_fuzz::binary_commands(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("build it with `cargo fuzz`, or use the plain runner: `cargo run -p rooms-fuzz --bin run`");
}
