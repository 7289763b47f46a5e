//! Public resolvers that answer over HTTPS. No rule speaks of them: who uses one hides names from the capture.

use crate::model::{DomainName, DomainPattern};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::OnceLock;

/// Who answers DNS over HTTPS for everybody, by name and by address.
#[derive(Clone, Debug, Default)]
pub struct PublicResolvers {
    /// Every flow of an audited host is held against them.
    exact: HashSet<String>,
    /// Each with the plain labels at its end.
    wildcards: Vec<(String, DomainPattern)>,
    operators: BTreeMap<IpAddr, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    resolver: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    operator: String,
    names: Vec<DomainPattern>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    /// For the reader of the file.
    #[serde(rename = "source")]
    _source: String,
}

impl PublicResolvers {
    /// Those that are part of the program.
    pub fn bundled() -> &'static PublicResolvers {
        static READ: OnceLock<PublicResolvers> = OnceLock::new();
        READ.get_or_init(|| {
            let read = toml::from_str(include_str!("../../rules/public-resolvers.toml"));
            // A test proves that the file is sound.
            debug_assert!(read.is_ok(), "{read:?}");
            PublicResolvers::of(read.unwrap_or_default())
        })
    }

    fn of(file: File) -> Self {
        let mut resolvers = PublicResolvers::default();
        for entry in file.resolver {
            for pattern in entry.names {
                if pattern.is_exact() {
                    resolvers.exact.insert(pattern.to_string());
                } else {
                    resolvers.wildcards.push((pattern.plain_ending(), pattern));
                }
            }
            let operator = entry.operator;
            resolvers.operators.extend(entry.addresses.into_iter().map(|ip| (ip, operator.clone())));
        }
        resolvers
    }

    /// Whether a name is one of theirs.
    pub fn named(&self, name: &DomainName) -> bool {
        let name_ends = |ending: &str| name.as_str().ends_with(ending);
        self.exact.contains(name.as_str())
            || self.wildcards.iter().any(|(ending, pattern)| name_ends(ending) && pattern.matches(name))
    }

    /// Whose an address is.
    pub fn at(&self, ip: IpAddr) -> Option<&str> {
        self.operators.get(&ip).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    #[rustfmt::skip]
    fn a_resolver_is_known_by_name_or_by_an_address_of_its_own() {
        let resolvers = PublicResolvers::bundled();
        for (name, expected) in [
            ("dns.google",                 true),
            ("Mozilla.Cloudflare-DNS.com", true),
            ("one.one.one.one",            true),
            ("www.cloudflare.com",         false),
            ("a.b.cloudflare-dns.com",     false),
            ("google",                     false),
            ("doh.pub",                    true),
            ("dot.doh.pub",                false),
        ] {
            assert_eq!(resolvers.named(&name.parse().unwrap()), expected, "{name}");
        }
        assert_eq!(resolvers.at("2620:fe::fe".parse().unwrap()), Some("Quad9"));
        assert_eq!(resolvers.at("203.0.113.9".parse().unwrap()), None);
    }

    #[test]
    fn a_wildcard_before_a_short_ending_stands_for_every_name_that_ends_so() {
        for (pattern, name) in
            [("*.a.io", "b.a.io"), ("*.a.io", "longer.a.io"), ("dns*.io", "dns9.io"), ("a.io", "a.io")]
        {
            let text = format!("[[resolver]]\noperator = \"o\"\nnames = [\"{pattern}\"]\nsource = \"s\"\n");
            let resolvers = PublicResolvers::of(toml::from_str(&text).unwrap());
            assert!(resolvers.named(&name.parse().unwrap()), "{pattern} {name}");
            assert!(!resolvers.named(&"b.io".parse().unwrap()), "{pattern}");
        }
    }

    #[test]
    fn every_entry_says_where_it_comes_from_and_no_address_is_two_operators() {
        let file: File = toml::from_str(include_str!("../../rules/public-resolvers.toml")).unwrap();
        assert!(file.resolver.len() > 10);
        let mut addresses = BTreeSet::new();
        for resolver in &file.resolver {
            assert!(
                resolver._source.starts_with("https://") && !resolver.names.is_empty(),
                "{}",
                resolver.operator
            );
            for address in &resolver.addresses {
                assert!(addresses.insert(*address), "{address} twice");
            }
        }
    }
}
