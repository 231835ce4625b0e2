//! PURE. What changes in the environment of a fleet's instances when a run ships to it.

use std::collections::{BTreeMap, BTreeSet};

/// Words that make a name look like that of a secret.
const SECRET: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// `NAME: old → new` for each variable that differs. Values that look secret are not shown.
pub fn config(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let line = |name: &String| {
        let (before, after) = (old.get(name), new.get(name));
        let hidden = is_secret(name) || [before, after].into_iter().flatten().any(|value| names_user(value));
        let shown = |value: Option<&String>| match value {
            None => "(not set)".to_owned(),
            Some(_) if hidden => "***".to_owned(),
            Some(value) => value.clone(),
        };
        format!("{name}: {} → {}", shown(before), shown(after))
    };
    differs.map(line).collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// Whether a URL in it has a user and a password, as in `postgres://user:password@host` (RFC 3986,
/// section 3.2.1).
fn names_user(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_unless_it_looks_secret() {
        let of = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let old = of(&[
            ("SAME", "1"),
            ("SIZE", "1"),
            ("GONE", "x"),
            ("api_key", "old"),
            ("DB", "postgres://shop:pw@db/shop"),
        ]);
        let new = of(&[("SAME", "1"), ("SIZE", "2"), ("api_key", "new"), ("DB", "postgres://db/shop")]);
        assert_eq!(
            config(&old, &new),
            ["DB: *** → ***", "GONE: x → (not set)", "SIZE: 1 → 2", "api_key: *** → ***"]
        );
    }
}
