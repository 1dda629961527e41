#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| killick_proof_fuzz::headers(data));
