//! Reading nft's JSON one object at a time: serde_json's tree of a whole listing takes some
//! megabytes, which the daemon would keep for good.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Calls `take` with each object of `{"nftables": [OBJECT, …]}`, in order.
///
/// # Errors
/// When it is not that. Some objects may have been taken by then.
pub fn for_each_object(listing: &[u8], take: impl FnMut(Value)) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_slice(listing);
    let found = reader.deserialize_map(Outer(take)).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    if found { Ok(()) } else { Err("no list named \"nftables\" in it".to_owned()) }
}

/// Whether the list was there.
struct Outer<F>(F);

impl<'de, F: FnMut(Value)> Visitor<'de> for Outer<F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "nftables" {
                map.next_value_seed(List(&mut self.0))?;
                found = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct List<'a, F>(&'a mut F);

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(object) = list.next_element()? {
            (self.0)(object);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        for_each_object(text.as_bytes(), |object| all.push(object)).map(|()| all)
    }

    #[test]
    fn objects_come_in_order() {
        let read = read(r#"{"a": [1], "nftables": [{"x": 1}, {"y": []}], "b": null}"#).unwrap();
        assert_eq!(read, [serde_json::json!({"x": 1}), serde_json::json!({"y": []})]);
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in
            ["", "{}", "[]", "null", r#"{"nftables": 1}"#, r#"{"nftables": [{]}"#, r#"{"nftables": []} x"#]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
