//! For `cargo fuzz run bus_payloads`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rooms_fuzz::bus_payloads(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("build it with `cargo fuzz`, or use the plain runner: `cargo run -p rooms-fuzz --bin run`");
}
