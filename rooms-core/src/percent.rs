//! Percent-decoding of text from a URL (RFC 3986 section 2.1).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Decodes once; `+` stays `+`, because only HTML forms make a space of it. `None` where a `%` is not followed by two hex
/// digits, or where the bytes are not UTF-8: a lenient reader would make a text of it that nobody meant.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let hex = |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(hex) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_once_and_a_plus_stays() {
        for (text, decoded) in [
            ("", ""),
            ("abc", "abc"),
            ("a+b%2Bc", "a+b+c"),
            ("hxqp%2F3%2bYt0%3D%3D", "hxqp/3+Yt0=="),
            ("%2541", "%41"),
            ("%C3%A9\u{e9}", "\u{e9}\u{e9}"),
            ("%00", "\0"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(decoded), "{text}");
        }
    }

    #[test]
    fn a_malformed_escape_is_no_text() {
        for text in ["%", "a%", "%2", "%zz", "%2z", "%+1", "%%41", "%\u{e9}", "%41%", "%FF", "%C3", "%ED%A0%80"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
