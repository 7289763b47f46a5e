//! Names as a resolver can watch for them: dnsmasq, which puts the addresses that it answers with into sets of nftables.

use crate::model::DomainPattern;
use std::collections::BTreeSet;

/// A domain to watch for. dnsmasq takes a domain with all that lies below it, and knows no other patterns (its manual,
/// `--nftset`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) domain: String,
    /// What is meant, accounts filled in.
    pub(super) pattern: DomainPattern,
    /// Whether names below the domain are meant, not itself.
    pub(super) below: bool,
    /// Whether the pattern means fewer names than all those below the domain, labels in between aside.
    pub(super) is_wider: bool,
}

/// What stands in a pattern for the name of a storage account.
pub(super) const ACCOUNT: &str = "<account>";

/// What to watch for so that no name of the pattern is missed, with the site's storage accounts in the place of `<account>`;
/// nothing where the pattern ends in a wildcard.
pub(super) fn watched(pattern: &DomainPattern, accounts: &BTreeSet<String>) -> Option<Vec<Watched>> {
    let text = pattern.to_string();
    if !text.contains(ACCOUNT) || accounts.is_empty() {
        return Some(vec![watched_as_is(pattern)?]);
    }
    // The readable copy in the paired region is the account's, too.
    let names = accounts.iter().flat_map(|account| [account.clone(), format!("{account}-secondary")]);
    names.map(|name| watched_as_is(&text.replace(ACCOUNT, &name).parse().ok()?)).collect()
}

fn watched_as_is(pattern: &DomainPattern) -> Option<Watched> {
    let (text, domain) = (pattern.to_string(), pattern.plain_ending());
    let one_label = text.strip_suffix(&domain).is_some_and(|front| matches!(front, "*." | "<account>."));
    let below = !pattern.is_exact();
    (!domain.is_empty()).then_some(Watched {
        domain,
        pattern: pattern.clone(),
        below,
        is_wider: below && !one_label,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_pattern_is_watched_for_by_the_domain_that_its_names_lie_in() {
        let own = BTreeSet::from(["mine".to_owned()]);
        for (pattern, accounts, expected) in [
            ("archive.ubuntu.com",              &own,            "archive.ubuntu.com"),
            ("*.vault.azure.net",               &own,            "+vault.azure.net"),
            ("c-*.*.postgres.azure.com",        &own,            "!postgres.azure.com"),
            ("umsa*.blob.core.windows.net",     &own,            "!blob.core.windows.net"),
            ("<account>.blob.core.windows.net", &own,            "mine.blob.core.windows.net mine-secondary.blob.core.windows.net"),
            ("<account>.blob.core.windows.net", &BTreeSet::new(), "+blob.core.windows.net"),
            ("<account>.z##.blob.azure.net",    &own,            "!blob.azure.net !blob.azure.net"),
            ("login.*",                         &own,            "none"),
        ] {
            let watched = watched(&pattern.parse().unwrap(), accounts);
            let shown = |one: &Watched| {
                let mark = match (one.below, one.is_wider) { (_, true) => "!", (true, _) => "+", _ => "" };
                format!("{mark}{}", one.domain)
            };
            let shown = watched.map_or("none".to_owned(), |all| all.iter().map(shown).collect::<Vec<_>>().join(" "));
            assert_eq!(shown, expected, "{pattern}");
        }
    }
}
