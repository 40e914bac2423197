//! Maps of few entries, in the order of their keys.
//!
//! std's trees and tables are some kilobytes of code for each pair of types, on a router's flash. What
//! vpnd keeps by name are devices, sections, relays: searching a sorted list is as quick, and moving
//! its end to insert is nothing against reading the file that the name came from.

use std::borrow::Borrow;
use std::cmp::Ordering;

use serde::ser::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map<K, V>(Vec<(K, V)>);

pub type Set<T> = Map<T, ()>;

impl<K, V> Map<K, V> {
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> Map<K, V> {
    /// Where it is, or where it would have to be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        search(self.0.len(), &mut |at| self.0[at].0.borrow().cmp(key))
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(self.find(key).ok()?).map(|(_, value)| value)
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// The value of a key; where there is none, `make` says what it shall be.
    pub fn get_or(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Puts a value in the place of the key's former one. True: there was none.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => {
                self.0.insert(at, (key, value));
                return true;
            }
        }
        false
    }

    /// True: it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let found = self.find(key);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Of equal keys the last one's value counts.
impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<T: Ord> Set<T> {
    /// True: it was not there.
    pub fn add(&mut self, item: T) -> bool {
        self.insert(item, ())
    }
}

/// Sorts a short list; equal ones stay in their order. std's sorting is half a kilobyte of code for
/// each type, to be quick with long lists.
pub fn sort_by<T>(list: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    sort(list.len(), &mut |at| {
        let wrong = compare(&list[at - 1], &list[at]) == Ordering::Greater;
        if wrong {
            list.swap(at - 1, at);
        }
        wrong
    });
}

/// Moves each towards the start while `swap` says that it stood behind a greater one, and no more.
fn sort(len: usize, swap: &mut dyn FnMut(usize) -> bool) {
    for end in 1..len {
        let mut at = end;
        while at > 0 && swap(at) {
            at -= 1;
        }
    }
}

/// Where in the order it is, or would have to be; `compare` compares what stands there to it. As
/// [`sort`], compiled once for all types.
fn search(len: usize, compare: &mut dyn FnMut(usize) -> Ordering) -> Result<usize, usize> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok(middle),
            Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// Each once, the least first. For short lists, as [`sort_by`].
pub fn each_once<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut sorted: Vec<T> = Vec::new();
    for item in items {
        if let Err(at) = search(sorted.len(), &mut |at| sorted[at].cmp(&item)) {
            sorted.insert(at, item);
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once_and_keys_are_in_order() {
        let mut map = Map::from([("b", 1), ("c", 2), ("b", 3)]);
        assert!(map.insert("a", 4));
        assert!(!map.insert("c", 5));
        *map.get_or("d", || 6) += 1;
        *map.get_or("a", || 9) += 1;
        assert_eq!(map.iter().collect::<Vec<_>>(), [(&"a", &5), (&"b", &3), (&"c", &5), (&"d", &7)]);
        assert!(map.remove("b"));
        assert!(!map.remove("b"));
        assert_eq!((map.get("b"), map.get("c"), map.contains_key("d")), (None, Some(&5), true));
        assert_eq!(map.keys().zip(map.values()).last(), Some((&"d", &7)));
    }

    #[test]
    fn it_is_a_map_in_a_file_even_an_empty_one() {
        let written = r#"{"eth1":2,"wan":1}"#;
        let map: Map<String, u8> = crate::from_json::from_bytes(br#"{"wan":1,"eth1":2}"#).unwrap();
        assert_eq!(serde_json::to_string(&map).unwrap(), written);
        assert_eq!(serde_json::to_string(&Map::<String, u8>::new()).unwrap(), "{}");
    }

    #[test]
    fn equal_ones_stay_in_their_order() {
        let mut list = [(2, 'a'), (1, 'b'), (2, 'c'), (0, 'd'), (1, 'e')];
        sort_by(&mut list, |one, other| one.0.cmp(&other.0));
        assert_eq!(list, [(0, 'd'), (1, 'b'), (1, 'e'), (2, 'a'), (2, 'c')]);
    }

    #[test]
    fn of_equal_ones_one_is_left() {
        assert_eq!(each_once(["b", "a", "b"]), ["a", "b"]);
    }
}
