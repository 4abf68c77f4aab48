//! What is looked at of a JSON text before it is passed on or parsed.

use serde::de::IgnoredAny;

/// The deepest nesting that is passed on. 64: past any message that somebody meant, and far from where a client's parser
/// gives up. serde_json skips values without any such bound.
pub(crate) const MAX_DEPTH: usize = 64;

/// Why a text is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonFault {
    #[error("not JSON")]
    NotJson,
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("more than {limit} arrays and objects")]
    TooManyContainers { limit: usize },
}

/// Checks that bytes are UTF-8 and one JSON value that is not too deep.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, JsonFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonFault::NotJson)?;
    check_depth(bytes)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| JsonFault::NotJson)?;
    Ok(text)
}

/// Checks the depth of a JSON text.
pub(crate) fn check_depth(bytes: &[u8]) -> Result<(), JsonFault> {
    check_received(bytes, usize::MAX)
}

/// Checks the depth of a JSON text from a client, and the number of its arrays and objects: parsed into a tree, an object
/// of eight bytes such as `{"":0},` takes some 660, as its map has places for eleven entries.
///
/// Counts brackets outside strings. On a text that is not JSON it may count wrong; then parsing refuses it.
pub(crate) fn check_received(bytes: &[u8], containers: usize) -> Result<(), JsonFault> {
    let (mut depth, mut opened) = (0_usize, 0_usize);
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(JsonFault::TooDeep);
                }
                opened += 1;
                if opened > containers {
                    return Err(JsonFault::TooManyContainers { limit: containers });
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_up_to_the_depth_passes() {
        let deep = |n| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check(deep(MAX_DEPTH).as_bytes()), Ok(&*deep(MAX_DEPTH)));
        assert_eq!(check(deep(MAX_DEPTH + 1).as_bytes()), Err(JsonFault::TooDeep));
        assert_eq!(check(deep(50_000).as_bytes()), Err(JsonFault::TooDeep));
        let quoted = format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100));
        assert!(check(quoted.as_bytes()).is_ok());
    }

    #[test]
    fn arrays_and_objects_are_counted_wherever_they_stand() {
        let few = JsonFault::TooManyContainers { limit: 3 };
        for (text, outcome) in [
            ("[[],[]]", Ok(())),
            ("[[],[],[]]", Err(few)),
            (r#"{"a":{"b":{"c":{}}}}"#, Err(few)),
            (r#"[{"[{":"[[[[\"{{{{"},{"]":"}"}]"#, Ok(())),
        ] {
            assert_eq!(check_received(text.as_bytes(), 3), outcome, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_json_value_does_not_pass() {
        for bad in [&b""[..], b"{", b"nope", b"1 2", b"{}{}", b"\xff", b"\"\xc3\"", b"\x01{}"] {
            assert_eq!(check(bad), Err(JsonFault::NotJson), "{bad:?}");
        }
    }
}
