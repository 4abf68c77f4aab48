//! What it costs to check a token, by algorithm; in the same run, one thread, as it happens at connect.
//!
//! `cargo bench --bench tokens`, and with `--no-default-features --features jwt-aws-lc` for the other cryptography.

#[path = "../rooms-core/tests/support/signer.rs"]
mod signer;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use rooms::{JwtAlgorithm, JwtAuthenticator, JwtKey};

fn check(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("check");
    for algorithm in signer::ALL {
        let Ok(key) = signer::key(algorithm.0) else { continue };
        let (tokens, token) = (JwtAuthenticator::new([key]), signer::good(algorithm, None));
        assert!(tokens.verify(&token).now_or_never().is_some_and(|answer| answer.is_ok()));
        group.bench_function(algorithm.0.name(), |bencher| bencher.iter(|| tokens.verify(&token).now_or_never()));
    }
    let tokens = JwtAuthenticator::new([JwtKey::pem(JwtAlgorithm::ES512, signer::P521).expect("a key")]);
    assert!(tokens.verify(signer::ES512).now_or_never().is_some_and(|answer| answer.is_ok()));
    group.bench_function("ES512", |bencher| bencher.iter(|| tokens.verify(signer::ES512).now_or_never()));
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
