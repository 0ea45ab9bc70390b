//! Names of sources: each one of a snapshot has a name of its own.

use std::collections::{BTreeMap, BTreeSet};

use protocol::manifest::SourceMeta;

/// Gives each source a name of its own; see [`distinct`].
pub fn make_distinct(sources: &mut [SourceMeta]) {
    let names = distinct(sources.iter().map(|source| source.name.as_str()));
    for (source, name) in sources.iter_mut().zip(names) {
        source.name = name;
    }
}

/// Gives those that have the name of an earlier one a number: `shop`, `shop-2`.
#[must_use]
pub fn distinct<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let originals: BTreeSet<&str> = names.clone().collect();
    // How far the numbers of each name are: counting anew would take long for many of one name.
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    names
        .map(|name| {
            let count = counts.entry(name).or_default();
            loop {
                *count += 1;
                let numbered = match *count {
                    1 => name.to_owned(),
                    number => format!("{name}-{number}"),
                };
                let is_free = *count == 1 || !originals.contains(numbered.as_str());
                if is_free && taken.insert(numbered.clone()) {
                    return numbered;
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        for (names, expected) in [
            (&["a", "b"][..], &["a", "b"][..]),
            (&["shop", "shop", "shop"], &["shop", "shop-2", "shop-3"]),
            (&["shop", "shop", "shop-2"], &["shop", "shop-3", "shop-2"]),
            (&["a-2", "a", "a", "a-2"], &["a-2", "a", "a-3", "a-2-2"]),
        ] {
            assert_eq!(distinct(names.iter().copied()), expected);
        }
    }
}
