//! For `cargo fuzz run room_keys`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rooms_fuzz::room_keys(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("build it with `cargo fuzz`, or use the plain runner: `cargo run -p rooms-fuzz --bin run`");
}
