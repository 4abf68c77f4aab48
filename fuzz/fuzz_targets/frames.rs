//! For `cargo fuzz run frames`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rooms_fuzz::frames(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("build it with `cargo fuzz`, or use the plain runner: `cargo run -p rooms-fuzz --bin run`");
}
