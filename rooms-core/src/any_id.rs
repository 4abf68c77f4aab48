//! Ids of any text, written within the rule for ids.

use std::borrow::Cow;

/// What stands in front of two hexadecimal digits: as in quoted-printable (RFC 2045 section 6.7), since `%` is in no id.
const ESCAPE: char = '=';

pub(crate) const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'@' | b'|' | b'+' | b'=' | b'/' | b':')
}

/// Writes what is not allowed in an id, and the escape itself, as `=` and the hexadecimal digits of each byte of UTF-8.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    let stays = |byte: u8| is_allowed(byte) && !ESCAPE.eq(&char::from(byte));
    if text.bytes().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("{ESCAPE}{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

/// The text that [`encode`] made an id of; `None` where it made none: two ids never mean the same text.
pub(crate) fn decode(id: &str) -> Option<Cow<'_, str>> {
    let mut parts = id.split(ESCAPE);
    let first = parts.next()?;
    if first.len() == id.len() {
        return Some(Cow::Borrowed(id));
    }
    let mut bytes = first.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    let text = String::from_utf8(bytes).ok()?;
    (encode(&text) == id).then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_ids_and_back() {
        for (text, id) in [
            ("42", "42"),
            ("auth0|5f7c", "auth0|5f7c"),
            ("o'brien@example.com", "o=27brien@example.com"),
            ("m\u{fc}ller", "m=C3=BCller"),
            ("a b/c\\d", "a=20b/c=5Cd"),
            ("a=b", "a=3Db"),
            ("\u{65e5}\u{672c}", "=E6=97=A5=E6=9C=AC"),
            ("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"),
            ("*{}\0\n\u{202e}", "=2A=7B=7D=00=0A=E2=80=AE"),
        ] {
            assert_eq!(encode(text), id);
            assert_eq!(decode(id).as_deref(), Some(text), "{id}");
        }
    }

    #[test]
    fn what_encode_never_writes_is_no_text() {
        for id in ["=", "a=", "=4", "=zz", "=41", "=2a", "=+1", "=FF", "=C3", "==3D", "a=3", "=3D=", "=\u{e9}1", "'"] {
            let decoded = decode(id);
            assert!(decoded.is_none() || id == "'", "{id}: {decoded:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back_and_is_within_the_rule(text in "\\PC{0,80}|[\\x00-\\x7f]{0,80}") {
            let id = encode(&text);
            prop_assert!(id.bytes().all(is_allowed));
            let decoded = decode(&id);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn no_two_ids_are_one_text(id in "[a-c=0-9A-F]{0,12}") {
            if let Some(text) = decode(&id) {
                prop_assert_eq!(&*encode(&text), &*id);
            }
        }
    }
}
