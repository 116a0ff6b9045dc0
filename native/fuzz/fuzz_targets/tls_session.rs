#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sallyport_fuzz_targets::tls_session(bytes));
