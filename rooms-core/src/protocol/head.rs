//! The head of what a client says: a few fields of a JSON object, found without building anything of the others.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Finds the fields of these names in the text of a JSON object, or says what is wrong with it. The rest of the text is
/// checked to be JSON and skipped, which allocates nothing.
pub(super) fn fields<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], &'static str> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err("a message is a JSON object");
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let fields = Fields(names).deserialize(&mut json).and_then(|fields| json.end().map(|()| fields));
    fields.map_err(|error| if error.is_data() { "a field is given twice" } else { "not JSON" })
}

/// Whether the text of a JSON object has a field of this name whose value is one of these strings. Where the name is given
/// more than once each is looked at, because some parsers take the first and some the last.
pub(super) fn any_is(text: &str, name: &str, values: &[&str]) -> bool {
    text.trim_ascii_start().starts_with('{')
        && AnyIs { name, values }.deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap_or_default()
}

/// A JSON string, decoded; `None` for every other value, and for what is no Unicode.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

struct Fields<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Fields<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Fields<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        // Keys as they are written, because one that is no Unicode is no fault of the others.
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let Some(key) = string(key) else { continue };
            for (name, place) in self.0.iter().zip(&mut found) {
                if key == *name && place.replace(value).is_some() {
                    return Err(A::Error::duplicate_field(name));
                }
            }
        }
        Ok(found)
    }
}

struct AnyIs<'a> {
    name: &'a str,
    values: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for AnyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AnyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut any = false;
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            any |= string(key).is_some_and(|key| key == self.name)
                && string(value).is_some_and(|value| self.values.contains(&&*value));
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_whatever_there_is() {
        let found = |text| fields(text, ["type", "data"]).map(|found| found.map(|field| field.map(RawValue::get)));
        assert_eq!(found(r#" {"x":[{}],"type":"a","x":1} "#), Ok([Some("\"a\""), None]));
        assert_eq!(found(r#"{"t\u0079pe":1,"\ud800":2,"data": 1E400 }"#), Ok([Some("1"), Some("1E400")]));
        assert_eq!(found(r#"{"data":null}"#), Ok([None, Some("null")]));
        assert_eq!(found(r#"{"type":1,"t\u0079pe":1}"#), Err("a field is given twice"));
        for bad in
            [r#"{"type":1"#, r#"{"type":1} x"#, r#"{"type":tru}"#, r#"{"type":"\ud8"}"#, "{1:2}", "{\"a\":\"\n\"}"]
        {
            assert_eq!(found(bad), Err("not JSON"), "{bad}");
        }
        for bad in ["", "[]", "\"{}\"", "1"] {
            assert_eq!(found(bad), Err("a message is a JSON object"), "{bad}");
        }
    }

    #[test]
    fn a_string_is_decoded() {
        let decoded = |text: &str| string(serde_json::from_str(text).unwrap()).map(Cow::into_owned);
        assert_eq!(decoded(r#""a""#).as_deref(), Some("a"));
        assert_eq!(decoded(r#""\u0061\"\\""#).as_deref(), Some("a\"\\"));
        for none in [r#""\ud800""#, "1", "null", "[\"a\"]"] {
            assert_eq!(decoded(none), None, "{none}");
        }
    }
}
