//! Keys that are fetched: when, how often, and what holds while they can't be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/log.rs"]
#[allow(dead_code, reason = "this file uses a part of it")]
mod log;
#[path = "support/signer.rs"]
mod signer;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use jsonwebtoken::Algorithm;
use rooms_core::{AuthError, JwkSet, JwtAlgorithm, JwtAuthenticator};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep};

use self::{
    log::Log,
    signer::{good, jwk},
};

const ES256: (JwtAlgorithm, Algorithm) = (JwtAlgorithm::ES256, Algorithm::ES256);
const SECOND: Duration = Duration::from_secs(1);

/// A provider whose answer can be changed.
#[derive(Clone)]
struct Provider {
    answer: Arc<Mutex<Answer>>,
    fetches: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Answer {
    Keys(Vec<&'static str>),
    Text(String),
    Slow(Duration),
    Down,
    Panic,
}

impl Provider {
    fn with(answer: Answer) -> (Self, JwtAuthenticator) {
        let provider = Self { answer: Arc::new(Mutex::new(answer)), fetches: Arc::default() };
        let asked = provider.clone();
        let tokens = JwtAuthenticator::fetched(move || {
            asked.fetches.fetch_add(1, Ordering::Relaxed);
            let answer = asked.answer.lock().unwrap().clone();
            async move {
                sleep(SECOND / 10).await;
                let keys = |ids: &[&str]| ids.iter().map(|id| jwk(ES256.0, id)).collect::<Vec<Value>>();
                let text = match answer {
                    Answer::Keys(ids) => json!({"keys": keys(&ids)}).to_string(),
                    Answer::Text(text) => text,
                    Answer::Slow(time) => {
                        sleep(time).await;
                        json!({"keys": keys(&["late"])}).to_string()
                    }
                    Answer::Down => return Err(io::Error::other("connection refused").into()),
                    Answer::Panic => panic!("a bug of the application's"),
                };
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(JwkSet::parse(text)?)
            }
        });
        (provider, tokens)
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

async fn refusal(tokens: &JwtAuthenticator, kid: &str) -> Option<AuthError> {
    tokens.verify(&good(ES256, Some(kid))).await.err()
}

#[tokio::test(start_paused = true)]
async fn many_tokens_at_once_are_one_fetch() {
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    assert_eq!(provider.fetches(), 0, "not before there is a token");
    assert!(join_all((0..100).map(|_| refusal(&tokens, "a"))).await.iter().all(Option::is_none));
    assert_eq!(provider.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_while_the_old_one_is_still_used() {
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    assert_eq!(refusal(&tokens, "a").await, None);
    provider.answers(Answer::Keys(vec!["a", "b"]));
    advance(30 * SECOND).await;
    // In the middle of the fetch for the new one.
    let (new, old) = tokio::join!(refusal(&tokens, "b"), refusal(&tokens, "a"));
    assert_eq!((new, old, provider.fetches()), (None, None, 2));
    provider.answers(Answer::Keys(vec!["b"]));
    advance(600 * SECOND).await;
    assert_eq!(refusal(&tokens, "a").await, None, "it is fetched beside this one");
    sleep(SECOND).await;
    assert_eq!((refusal(&tokens, "a").await, provider.fetches()), (Some(AuthError::UnknownKey), 3), "withdrawn");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_where_keys_or_tokens_have_no_id() {
    let set = |keys: &[(JwtAlgorithm, Option<&str>)]| {
        let key = |(algorithm, id): &(JwtAlgorithm, Option<&str>)| {
            let mut key = jwk(*algorithm, id.unwrap_or_default());
            if id.is_none() {
                key.as_object_mut().unwrap().remove("kid");
            }
            key
        };
        Answer::Text(json!({"keys": keys.iter().map(key).collect::<Vec<_>>()}).to_string())
    };
    const ES384: (JwtAlgorithm, Algorithm) = (JwtAlgorithm::ES384, Algorithm::ES384);
    for (old, new, token) in [
        // One without an id fits every `kid`.
        (set(&[(ES256.0, None)]), set(&[(ES256.0, None), (ES384.0, Some("b"))]), good(ES384, Some("b"))),
        (set(&[(ES256.0, None)]), set(&[(ES384.0, None)]), good(ES384, Some("b"))),
    ] {
        let (provider, tokens) = Provider::with(old);
        assert!(tokens.verify(&good(ES256, Some("a"))).await.is_ok());
        provider.answers(new);
        assert_eq!(tokens.verify(&token).await.err(), Some(AuthError::Algorithm), "too early");
        advance(30 * SECOND).await;
        assert!(tokens.verify(&token).await.is_ok());
        assert_eq!(provider.fetches(), 2);
        // Who sends bad ones makes no more requests than that.
        let (signed, _) = token.rsplit_once('.').unwrap();
        let bad = format!("{signed}.{}", "A".repeat(128));
        for _ in 0..100 {
            assert_eq!(tokens.verify(&bad).await.err(), Some(AuthError::Signature));
            advance(SECOND / 2).await;
        }
        assert!(provider.fetches() <= 4, "{} in 50 s", provider.fetches());
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_of_the_same_algorithm_is_found_where_tokens_have_no_id() {
    let set = |key: &Value| Answer::Text(json!({"keys": [key]}).to_string());
    // RFC 7517 appendix A.1; what it signs is not needed.
    let old = json!({"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
    let mut new = jwk(ES256.0, "");
    new.as_object_mut().unwrap().remove("kid");
    let (provider, tokens) = Provider::with(set(&old));
    let token = good(ES256, None);
    assert_eq!(tokens.verify(&token).await.err(), Some(AuthError::Signature));
    provider.answers(set(&new));
    assert_eq!(tokens.verify(&token).await.err(), Some(AuthError::Signature), "too early");
    advance(30 * SECOND).await;
    assert!(tokens.verify(&token).await.is_ok());
    assert_eq!(provider.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn made_up_ids_are_a_fetch_each_thirty_seconds() {
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    assert_eq!(refusal(&tokens, "a").await, None);
    for made_up in 0..200 {
        assert_eq!(refusal(&tokens, &made_up.to_string()).await, Some(AuthError::UnknownKey));
        advance(SECOND / 2).await;
    }
    assert!((4..=5).contains(&provider.fetches()), "{} in 100 s", provider.fetches());
    assert_eq!(refusal(&tokens, "a").await, None);
    // Secrets are never fetched.
    advance(60 * SECOND).await;
    let before = provider.fetches();
    let hmac = good((JwtAlgorithm::HS256, Algorithm::HS256), Some("x"));
    assert_eq!(tokens.verify(&hmac).await.err(), Some(AuthError::Algorithm));
    assert_eq!(provider.fetches(), before);
}

#[tokio::test(start_paused = true)]
async fn an_old_token_that_is_tried_for_ever_is_a_fetch_a_minute() {
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    let start = Instant::now();
    while start.elapsed() < 300 * SECOND {
        assert_eq!(refusal(&tokens, "old").await, Some(AuthError::UnknownKey));
        advance(SECOND).await;
    }
    assert!((5..=6).contains(&provider.fetches()), "{} in five minutes", provider.fetches());
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_are_kept() {
    let log = Log::start();
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    assert_eq!(refusal(&tokens, "a").await, None);
    let secret = "mentioned nowhere";
    for bad in [
        Answer::Down,
        Answer::Panic,
        Answer::Slow(3600 * SECOND),
        Answer::Text(String::new()),
        Answer::Text(format!(r#"{{"keys":["{secret}"]}}"#)),
        Answer::Text(r#"{"keys":[]}"#.into()),
        Answer::Text("<html>too many requests</html>".into()),
        Answer::Text(" ".repeat(JwkSet::MAX_BYTES + 1)),
    ] {
        provider.answers(bad);
        advance(601 * SECOND).await;
        assert_eq!(refusal(&tokens, "a").await, None);
        sleep(11 * SECOND).await;
        assert_eq!(refusal(&tokens, "a").await, None);
        assert_eq!(refusal(&tokens, "b").await, Some(AuthError::Unavailable), "nobody can tell");
    }
    provider.answers(Answer::Keys(vec!["b"]));
    advance(31 * SECOND).await;
    assert_eq!(refusal(&tokens, "b").await, None);
    let lines = log.lines().join("\n");
    assert!(lines.contains("connection refused") && lines.contains("262144") && !lines.contains(secret), "{lines}");
}

#[tokio::test(start_paused = true)]
async fn without_keys_nobody_gets_in_and_the_provider_is_asked_each_five_seconds() {
    let (provider, tokens) = Provider::with(Answer::Down);
    let start = Instant::now();
    while start.elapsed() < 60 * SECOND {
        assert_eq!(refusal(&tokens, "a").await, Some(AuthError::Unavailable));
        advance(SECOND).await;
    }
    assert!((10..=12).contains(&provider.fetches()), "{} in a minute", provider.fetches());
    provider.answers(Answer::Keys(vec!["a"]));
    advance(5 * SECOND).await;
    assert_eq!(refusal(&tokens, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_outlives_the_handshake_that_began_it() {
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    assert!(tokio::time::timeout(SECOND / 20, refusal(&tokens, "a")).await.is_err(), "the client went away");
    sleep(SECOND).await;
    assert_eq!((refusal(&tokens, "a").await, provider.fetches()), (None, 1));
}

#[test]
fn a_fetch_whose_runtime_ended_is_begun_anew() {
    let (provider, tokens) = Provider::with(Answer::Keys(vec!["a"]));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime().block_on(async { tokio::time::timeout(SECOND / 20, refusal(&tokens, "a")).await.unwrap_err() });
    // A new runtime's paused clock begins where the real one is.
    std::thread::sleep(Duration::from_millis(1));
    runtime().block_on(async {
        sleep(6 * SECOND).await;
        assert_eq!((refusal(&tokens, "a").await, provider.fetches()), (None, 2));
    });
}
