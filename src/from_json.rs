//! JSON into types, through serde_json's tree: a derived `Deserialize` is some kilobytes of code for
//! every struct (docs/decisions.md); this is a call for every field.
//!
//! [`from_json!`] implements [`FromJson`]. What serde writes of the same types is what is read here.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::sorted;

#[cfg(test)]
mod tests;

/// A type that JSON is read into.
pub trait FromJson: Sized {
    /// # Errors
    /// The place in the text and what is wrong there, for people.
    fn read(at: &At<'_>) -> Result<Self, String>;
}

/// The whole of `text`, an object.
///
/// # Errors
/// It is no JSON ("… at line 1 column 7"), or something in it is missing or no value of its type
/// ("relay.endpoint: is missing").
pub fn from_bytes<T: FromJson>(text: &[u8]) -> Result<T, String> {
    T::read(&At { value: Some(&Value::Object(object(text)?)), step: Step::Top })
}

/// The same as a tree. serde_json takes the last of two fields of one name; here they are refused,
/// at least in the outermost object.
///
/// # Errors
/// It is no JSON, or no object. serde_json stops at a depth of 128: no stack to overflow.
#[inline(never)]
fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let found = reader.deserialize_map(Outermost).and_then(|found| reader.end().map(|()| found));
    found.map_err(|error| error.to_string())
}

struct Outermost;

impl<'de> Visitor<'de> for Outermost {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if found.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name}: is there twice")));
            }
            found.insert(name, fields.next_value()?);
        }
        Ok(found)
    }
}

/// A place in a tree, which knows the way to it.
pub struct At<'a> {
    /// None: there is nothing.
    value: Option<&'a Value>,
    step: Step<'a>,
}

/// The last step of the way.
enum Step<'a> {
    Top,
    Field(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// What [`FromJson::read`] answers when this makes no sense; without a value, that it is missing.
    #[inline(never)]
    pub fn wrong(&self, words: &dyn Display) -> String {
        match (self.value, &self.step) {
            (Some(_), Step::Top) => words.to_string(),
            (Some(_), _) => format!("{self}: {words}"),
            (None, _) => format!("{self}: is missing"),
        }
    }

    #[inline(never)]
    fn text(&self) -> Result<&'a str, String> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.wrong(&"is no text"))
    }

    #[inline(never)]
    fn number(&self, most: u64) -> Result<u64, String> {
        let number = self.value.and_then(Value::as_u64).filter(|number| *number <= most);
        number.ok_or_else(|| self.wrong(&format_args!("is no whole number from 0 to {most}")))
    }

    #[inline(never)]
    fn list(&self) -> Result<&'a [Value], String> {
        self.value.and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| self.wrong(&"is no list"))
    }

    #[inline(never)]
    fn fields(&self) -> Result<&'a Map<String, Value>, String> {
        self.value.and_then(Value::as_object).ok_or_else(|| self.wrong(&"is no object"))
    }

    /// Refuses what is no object; and, where `known` says which fields there are, any other.
    ///
    /// # Errors
    /// Like [`FromJson::read`].
    #[inline(never)]
    pub fn check(&self, known: Option<&[&str]>) -> Result<(), String> {
        let fields = self.fields()?;
        let Some(known) = known else { return Ok(()) };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let words = format!("is not known here; what is: [{}]", known.join(", "));
                Err(self.field(name).wrong(&words))
            }
        }
    }

    #[inline(never)]
    pub fn field<'b>(&'b self, name: &'b str) -> At<'b> {
        let value = self.value.and_then(Value::as_object).and_then(|fields| fields.get(name));
        At { value, step: Step::Field(self, name) }
    }

    /// A field that may be missing.
    ///
    /// # Errors
    /// Like [`FromJson::read`].
    pub fn or_default<T: FromJson + Default>(&self) -> Result<T, String> {
        if self.value.is_none() { Ok(T::default()) } else { T::read(self) }
    }

    /// A value that is written as text.
    ///
    /// # Errors
    /// Like [`FromJson::read`], in the words of the type.
    pub fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, String> {
        self.text()?.parse().map_err(|error| self.wrong(&error))
    }

    /// One of a few words, by its place among them.
    ///
    /// # Errors
    /// Like [`FromJson::read`].
    #[inline(never)]
    pub fn word(&self, known: &[&str]) -> Result<usize, String> {
        let text = self.text()?;
        let place = known.iter().position(|word| *word == text);
        place.ok_or_else(|| self.wrong(&format_args!("is none of: {}", known.join(", "))))
    }
}

impl Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Top => Ok(()),
            Step::Field(At { step: Step::Top, .. }, name) => f.write_str(name),
            Step::Field(of, name) => write!(f, "{of}.{name}"),
            Step::Item(of, number) => write!(f, "{of}[{number}]"),
        }
    }
}

/// [`FromJson`] for a struct of named fields, which all have to be named here:
///
/// - `struct Name { field, other or default }`: a field `or default` may be missing, and so may an
///   `Option`, which may be null as well. Fields that are not named are ignored.
/// - `strict struct Name { … }`: they are refused.
/// - `enum Name { Variant = "word", … }`.
/// - `text Name, …`: what `FromStr` takes.
macro_rules! from_json {
    (struct $($rest:tt)*) => { $crate::from_json::from_json!(@struct [open] $($rest)*); };
    (strict struct $($rest:tt)*) => { $crate::from_json::from_json!(@struct [strict] $($rest)*); };
    (@struct [$kind:ident] $name:ident { $($field:ident $(or $default:ident)?),* $(,)? }) => {
        impl $crate::from_json::FromJson for $name {
            fn read(at: &$crate::from_json::At<'_>) -> Result<Self, String> {
                at.check($crate::from_json::from_json!(@known $kind [$($field)*]))?;
                Ok(Self { $($field: $crate::from_json::from_json!(@field at $field $($default)?),)* })
            }
        }
    };
    (@known open [$($field:ident)*]) => { None };
    (@known strict [$($field:ident)*]) => { Some(&[$(stringify!($field)),*]) };
    (@field $at:ident $field:ident) => {
        $crate::from_json::FromJson::read(&$at.field(stringify!($field)))?
    };
    (@field $at:ident $field:ident default) => { $at.field(stringify!($field)).or_default()? };
    (enum $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $crate::from_json::FromJson for $name {
            fn read(at: &$crate::from_json::At<'_>) -> Result<Self, String> {
                let place = at.word(&[$($word),*])?;
                [$(Self::$variant),*].get(place).copied().ok_or_else(String::new)
            }
        }
    };
    (text $($name:ident),*) => {
        $(impl $crate::from_json::FromJson for $name {
            fn read(at: &$crate::from_json::At<'_>) -> Result<Self, String> {
                at.parse()
            }
        })*
    };
}
pub(crate) use from_json;

from_json!(text IpAddr, IpNet, Ipv4Addr, SocketAddr);

impl FromJson for String {
    fn read(at: &At<'_>) -> Result<Self, String> {
        at.text().map(str::to_owned)
    }
}

impl FromJson for bool {
    fn read(at: &At<'_>) -> Result<Self, String> {
        at.value.and_then(Value::as_bool).ok_or_else(|| at.wrong(&"is neither true nor false"))
    }
}

macro_rules! numbers {
    ($($number:ident)*) => {
        $(impl FromJson for $number {
            fn read(at: &At<'_>) -> Result<Self, String> {
                at.number(Self::MAX.into()).map(|number| number as Self)
            }
        })*
    };
}
numbers!(u8 u16 u32 u64);

impl<T: FromJson> FromJson for Option<T> {
    fn read(at: &At<'_>) -> Result<Self, String> {
        if matches!(at.value, None | Some(Value::Null)) { Ok(None) } else { T::read(at).map(Some) }
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn read(at: &At<'_>) -> Result<Self, String> {
        let items = at.list()?.iter().enumerate();
        items.map(|(number, item)| T::read(&At { value: Some(item), step: Step::Item(at, number) })).collect()
    }
}

/// By names that are of their own type, too.
impl<K: FromStr<Err: Display> + Ord, V: FromJson> FromJson for sorted::Map<K, V> {
    fn read(at: &At<'_>) -> Result<Self, String> {
        let mut found = Self::new();
        for name in at.fields()?.keys() {
            let at = at.field(name);
            found.insert(name.parse().map_err(|error: K::Err| at.wrong(&error))?, V::read(&at)?);
        }
        Ok(found)
    }
}
