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
    let all = signer::ALL.into_iter().map(|one| (one.0, signer::key(one.0), signer::good(one, None)));
    // Whose token `signer` can't make.
    let es512 = (JwtAlgorithm::ES512, JwtKey::pem(JwtAlgorithm::ES512, signer::P521), signer::ES512.to_owned());
    for (algorithm, key, token) in all.chain([es512]) {
        let Ok(key) = key else { continue };
        let tokens = JwtAuthenticator::new([key]);
        assert!(tokens.verify(&token).now_or_never().is_some_and(|answer| answer.is_ok()));
        group.bench_function(algorithm.name(), |bencher| bencher.iter(|| tokens.verify(&token).now_or_never()));
    }
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
