//! What has changed between two JSON texts, as a JSON merge patch (RFC 7396).
//!
//! The crates that implement the RFC apply patches; this makes them. It works on text: a value is copied as it was
//! written, so that no number is rounded on the way, and what is the same on both sides is not parsed into a tree.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The members of an object. Where a name is given twice the last value counts, as for `JSON.parse`.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The merge patch that makes `new` of `old`.
///
/// `None` where there is none: one of them is no object, or a member is set to `null`, which in a merge patch means that
/// the member goes.
pub(crate) fn diff(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut patch = Vec::new();
    let [old, new] = [members(old)?, members(new)?];
    write(&old, &new, &mut patch)?;
    Some(patch)
}

fn write(old: &Members<'_>, new: &Members<'_>, patch: &mut Vec<u8>) -> Option<()> {
    patch.push(b'{');
    for (name, value) in new {
        let before = old.get(name);
        if before.is_some_and(|before| before.get() == value.get()) {
            continue;
        }
        begin_member(name, patch)?;
        match before.and_then(|before| members_of(before)).zip(members_of(value)) {
            Some((before, after)) => write(&before, &after, patch)?,
            None if sets_null(value) => return None,
            None => patch.extend_from_slice(value.get().as_bytes()),
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        begin_member(name, patch)?;
        patch.extend_from_slice(b"null");
    }
    patch.push(b'}');
    Some(())
}

fn begin_member(name: &str, patch: &mut Vec<u8>) -> Option<()> {
    if !patch.ends_with(b"{") {
        patch.push(b',');
    }
    serde_json::to_writer(&mut *patch, name).ok()?;
    patch.push(b':');
    Some(())
}

/// Whether a value is `null`, or has a member that is, at any depth. In an array it does no harm: arrays are replaced.
fn sets_null(value: &RawValue) -> bool {
    value.get() == "null" || members_of(value).is_some_and(|members| members.values().any(|value| sets_null(value)))
}

fn members_of(value: &RawValue) -> Option<Members<'_>> {
    value.get().starts_with('{').then(|| members(value.get().as_bytes())).flatten()
}

fn members(json: &[u8]) -> Option<Members<'_>> {
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn patch(old: &str, new: &str) -> Option<String> {
        diff(old.as_bytes(), new.as_bytes()).map(|patch| String::from_utf8(patch).unwrap())
    }

    #[test]
    fn a_patch_has_what_changed_and_null_for_what_went() {
        for (old, new, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c","a":"b"}"#, r#"{"b":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"b":"c"}"#, r#"{"a":null}"#),
            (r#"{"a":{"b":"c","d":1}}"#, r#"{"a":{"b":"d","d":1}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[null,{"b":null}]}"#, r#"{"a":[null,{"b":null}]}"#),
            (r#"{"a":null}"#, r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
            (r#"{"a":null,"b":1}"#, r#"{"a":null,"b":2}"#, r#"{"b":2}"#),
            (r#"{"a":{}}"#, r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"n":0.1}"#, r#"{"n":0.30000000000000004}"#, r#"{"n":0.30000000000000004}"#),
            (r#"{"n":1}"#, r#"{"n":123456789012345678901234567890}"#, r#"{"n":123456789012345678901234567890}"#),
            (r#"{"a\"":1}"#, r#"{"a\"":2}"#, r#"{"a\"":2}"#),
            ("{}", "{}", "{}"),
        ] {
            assert_eq!(patch(old, new).as_deref(), Some(expected), "{old} to {new}");
        }
    }

    #[test]
    fn what_no_patch_can_say_has_none() {
        for (old, new) in [
            (r#"{"a":1}"#, r#"{"a":null}"#),
            (r#"{}"#, r#"{"a":{"b":{"c":null}}}"#),
            (r#"{"a":[]}"#, r#"{"a":{"b":null}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":{"b":null}}"#),
            ("[1]", "[2]"),
            ("{}", "[]"),
            ("1", "{}"),
            ("null", "null"),
            (r#"{"\ud800":1}"#, "{}"),
        ] {
            assert_eq!(patch(old, new), None, "{old} to {new}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc\"]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Against the crate that applies them.
        #[test]
        fn a_patch_that_is_applied_gives_what_it_was_made_of(old in values(), new in values()) {
            if let Some(patch) = patch(&old.to_string(), &new.to_string()) {
                let mut patched = old;
                json_patch::merge(&mut patched, &serde_json::from_str(&patch).unwrap());
                prop_assert_eq!(patched, new);
            } else if old.is_object() && new.is_object() {
                prop_assert!(new.to_string().contains("null"));
            }
        }
    }

    #[test]
    fn a_patch_of_a_deep_value_is_made_in_bounds() {
        let nested = |inner: &str| format!("{}{inner}{}", "{\"a\":".repeat(64), "}".repeat(64));
        assert_eq!(patch(&nested("1"), &nested("2")), Some(nested("2")));
    }
}
