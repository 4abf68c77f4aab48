use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;

fn revoked() -> impl Strategy<Value = Revoked> {
    let name = || "[ab]".prop_map(Box::<str>::from);
    prop_oneof![
        name().prop_map(Revoked::User),
        name().prop_map(Revoked::Jti),
        (proptest::option::of(name()), 0..4_u64).prop_map(|(user, time)| Revoked::Before(user, time)),
    ]
}

/// What a node was told, some of it over by now.
fn told() -> impl Strategy<Value = Vec<Ending>> {
    vec((revoked(), 0..12_u64), 0..8)
}

const NOW: u64 = 3;
const MOST: usize = 5;

fn set(told: &[Ending]) -> Revocations {
    let mut set = Revocations::default();
    set.merge(told.iter().cloned(), NOW, MOST);
    set
}

fn merged(one: &Revocations, other: &Revocations) -> Revocations {
    let mut merged = one.clone();
    merged.merge(other.all(), NOW, MOST);
    merged
}

fn content(set: &Revocations) -> (Vec<Ending>, u64) {
    (set.all().collect(), set.digest())
}

proptest! {
    #[test]
    fn sets_merge_in_any_order_and_however_often_also_where_they_are_full(a in told(), b in told(), c in told()) {
        let [a, b, c] = [a, b, c].map(|told| set(&told));
        prop_assert_eq!(content(&merged(&a, &b)), content(&merged(&b, &a)), "commutative");
        prop_assert_eq!(content(&merged(&merged(&a, &b), &c)), content(&merged(&a, &merged(&b, &c))), "associative");
        prop_assert_eq!(content(&merged(&a, &a)), content(&a), "idempotent");
        prop_assert!(merged(&a, &b).len() <= MOST);
    }

    #[test]
    fn the_order_in_which_revocations_come_does_not_matter(told in told(), seed in any::<u64>()) {
        let mut shuffled = told.clone();
        shuffled.sort_by_key(|(revoked, end)| digest(revoked, *end ^ seed));
        prop_assert_eq!(content(&set(&told)), content(&set(&shuffled)));
    }

    #[test]
    fn the_digest_is_that_of_what_is_in_it_and_no_more(told in told(), now in 0..12_u64) {
        let mut set = set(&told);
        set.expire(now);
        let digest = set.all().fold(0, |all, (revoked, end)| all ^ digest(&revoked, end));
        prop_assert_eq!(set.digest(), digest);
        prop_assert!(set.all().all(|(_, end)| end > now));
    }

    #[test]
    fn what_is_new_is_what_was_not_there(a in told(), b in told()) {
        let (mut one, before) = (set(&a), set(&a));
        let merge = one.merge(set(&b).all(), NOW, MOST);
        for revoked in &merge.new {
            prop_assert!(one.ends.contains_key(revoked) && !before.ends.contains_key(revoked));
        }
        let added = one.ends.keys().filter(|revoked| !before.ends.contains_key(revoked)).count();
        prop_assert_eq!(merge.new.len(), added);
    }
}

fn of(revoked: impl IntoIterator<Item = Revoked>) -> Revocations {
    let mut set = Revocations::default();
    set.merge(revoked.into_iter().map(|revoked| (revoked, 10)), NOW, 100);
    set
}

fn identity(user: &str, claims: &Value) -> Identity {
    Identity::new(user).unwrap().with_claims(claims.to_string())
}

#[test]
fn a_user_is_revoked_whatever_the_token_says() {
    let set = of([Revoked::User("5".into())]);
    assert!(set.cover(&identity("5", &json!({"iat": 1_900_000_000_u64}))));
    assert!(set.cover(&Identity::new("5").unwrap()));
    assert!(!set.cover(&Identity::new("55").unwrap()));
}

#[test]
fn a_token_is_revoked_by_its_id_alone() {
    let set = of([Revoked::Jti("a".into()), Revoked::Jti("7".into())]);
    for (claims, covered) in [
        (json!({"jti": "a"}), true),
        (json!({"jti": 7}), true),
        (json!({"jti": "b"}), false),
        (json!({"jti": null}), false),
        (json!({"jti": ["a"]}), false),
        (json!({}), false),
    ] {
        assert_eq!(set.cover(&identity("5", &claims)), covered, "{claims}");
    }
}

#[test]
fn what_was_issued_before_is_revoked_for_one_user_or_for_all() {
    let one = of([1_000, 2_000].map(|time| Revoked::Before(Some("5".into()), time)));
    let all = of([Revoked::Before(None, 2_000)]);
    for (claims, covered) in [
        (json!({"iat": 1}), true),
        (json!({"iat": 1.999}), true),
        (json!({"iat": 2}), false),
        (json!({"iat": 2.5}), false),
        (json!({"iat": u64::MAX}), false),
        // Nobody can tell when it was issued.
        (json!({}), true),
        (json!({"iat": null}), true),
        (json!({"iat": "2"}), true),
        (json!({"iat": -5}), true),
    ] {
        assert_eq!(one.cover(&identity("5", &claims)), covered, "{claims}");
        assert_eq!(all.cover(&identity("6", &claims)), covered, "{claims}");
        assert!(!one.cover(&identity("6", &claims)), "another user's");
        assert!(!one.cover(&identity("4", &claims)), "another user's");
    }
}

#[test]
fn one_too_many_is_not_added_and_one_that_is_there_may_last_longer() {
    let mut set = Revocations::default();
    assert!(set.add(Revoked::User("a".into()), 10, 2) && set.add(Revoked::User("b".into()), 10, 2));
    assert!(!set.add(Revoked::User("c".into()), 99, 2));
    assert!(set.add(Revoked::User("a".into()), 20, 2));
    set.expire(10);
    assert_eq!(set.all().collect::<Vec<_>>(), [(Revoked::User("a".into()), 20)]);
    set.expire(20);
    assert_eq!((set.len(), set.digest()), (0, 0));
}

#[test]
fn the_digest_is_the_same_in_every_release() {
    // The first eight bytes of SHA-256 over `[{"user":"5"},1800000000000]`, reckoned apart from this code.
    assert_eq!(digest(&Revoked::User("5".into()), 1_800_000_000_000), 17_814_625_262_085_261_211);
}
