//! What a vendor's page documents: rules, the roles they speak of, the conditions they depend on.

use super::date::CalendarDate;
use super::source::shown;
use crate::model::{AppProtocol, DomainName, DomainPattern, PortSet, Transport};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no identifier: write lower-case letters, digits, `-`, `.` and `_`, such as `backup-appliance`"
)]
pub struct IdError(String);

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// Lower-case letters, digits, `-`, `.` and `_`, at most 64; the first is a letter or digit.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let sound = text.bytes().next().is_some_and(plain)
                    && text.len() <= 64
                    && text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'.' | b'_'));
                if sound { Ok($name(text.into())) } else { Err(IdError(shown(text))) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

identifiers! {
    /// Names a pack: one rules file.
    PackId;
    /// Names a rule: `vbaz-05a`.
    RuleId;
    /// Names a role that machines play: `backup-appliance`.
    RoleId;
    /// Names a condition on which rules depend: `private-environment`.
    ConditionId;
    /// Names a destination whose names the site may give under `[names]`: `veeam-update-repository`.
    NamesKey;
}

/// One of Microsoft's clouds, which have names and addresses of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// The global one. The vendor's page speaks of it alone.
    #[default]
    Public,
    /// Azure Government.
    UsGov,
    /// Azure operated by 21Vianet.
    China,
}

impl Cloud {
    /// The words of site and rules files.
    pub const WORDS: [(&'static str, Cloud); 3] =
        [("public", Cloud::Public), ("usgov", Cloud::UsGov), ("china", Cloud::China)];

    /// The word of site and rules files.
    pub fn as_str(self) -> &'static str {
        match self {
            Cloud::Public => "public",
            Cloud::UsGov => "usgov",
            Cloud::China => "china",
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A role that the page speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleDef {
    /// Its name in rules and site files.
    pub id: RoleId,
    /// What people call it.
    pub title: String,
    /// Whether its machines are the ones audited (the page's own), not mere peers of theirs.
    pub subject: bool,
    /// Another page that documents traffic of this role too and is not among the packs: "the Veeam Backup &
    /// Replication page".
    pub also_covered_by: Option<String>,
}

/// A condition on which rules depend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionDef {
    /// Its name in rules and site files.
    pub id: ConditionId,
    /// When it holds.
    pub title: String,
    /// What it means when the site is silent: `true`, its rules apply (marked, counted apart); `false`, they do not.
    pub applies_unset: bool,
    /// A condition without which this one cannot hold.
    pub needs: Option<ConditionId>,
}

/// How the page words a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Always needed.
    Required,
    /// A convenience: nothing fails without it.
    Optional,
    /// Needed where a condition holds; [`Rule::condition`] says which.
    Conditional,
}

impl Requirement {
    pub(super) const WORDS: [(&'static str, Requirement); 3] = [
        ("required", Requirement::Required),
        ("optional", Requirement::Optional),
        ("conditional", Requirement::Conditional),
    ];
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Requirement::Required => "required",
            Requirement::Optional => "optional",
            Requirement::Conditional => "conditional",
        })
    }
}

/// The application protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RuleApp {
    /// Which.
    pub app: AppProtocol,
    /// Whether the page's protocol cell does not name it and the pack's overlay does.
    pub inferred: bool,
}

/// Whether the page states the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// The page states it.
    Page,
    /// Another name of a documented destination, which we know of and the page does not state. Off unless the site says
    /// `aliases = true`.
    Alias {
        /// The rule of the page that it widens.
        of: RuleId,
    },
}

/// Which row of which edition of which page states a rule: enough to look it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Citation {
    /// The pack.
    pub pack: PackId,
    /// The page's title.
    pub page: String,
    /// The row of the page's table, counted from 1 below the heading.
    pub row: u32,
    /// The page's date, as the page prints it.
    pub date: String,
    /// The product version that the page names.
    pub version: String,
}

/// The name of a service tag as a rule gives it; its last part may be `<region>`, which the site fills in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(Arc<str>);

/// The text is no name of a service tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no service tag: write its name as Microsoft does, such as `Storage`, `Sql.WestEurope` or `Sql.<region>`"
)]
pub struct TagNameError(String);

impl TagName {
    /// The text, `<region>` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The service: what stands before the first dot.
    pub fn base(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// Whether the site's region must fill it.
    pub fn is_regional(&self) -> bool {
        self.0.ends_with(".<region>")
    }
}

impl FromStr for TagName {
    type Err = TagNameError;

    fn from_str(text: &str) -> Result<Self, TagNameError> {
        let body = text.strip_suffix(".<region>").unwrap_or(text);
        let sound = body.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        });
        if sound { Ok(TagName(text.into())) } else { Err(TagNameError(shown(text))) }
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for TagName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A DNS zone, such as `privatelink.blob.core.windows.net`; a label may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zone {
    top: DomainPattern,
    labels: usize,
}

impl Zone {
    /// Whether `name` lies in the zone, its top excluded.
    pub fn contains(&self, name: &DomainName) -> bool {
        let text = name.as_str();
        // A dot inside a label is escaped (RFC 1035, section 5.1) and parts nothing.
        let parts = |at: usize| text[..at].bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 0;
        let mut dots = text.match_indices('.').map(|(at, _)| at).filter(|&at| parts(at)).rev();
        let Some(cut) = dots.nth(self.labels - 1) else { return false };
        // A zone has host name characters only, so a tail that cannot be read is outside.
        text[cut + 1..].parse().is_ok_and(|tail| self.top.matches(&tail))
    }
}

impl FromStr for Zone {
    type Err = crate::model::DomainPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let top: DomainPattern = text.parse()?;
        Ok(Zone { labels: top.to_string().split('.').count(), top })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.top.fmt(f)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The names of one service in one cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceNames {
    /// Names that clients ask for.
    pub names: Vec<DomainPattern>,
    /// Zones through which a private endpoint's name leads.
    pub private_zones: Vec<Zone>,
}

/// Names that stand behind a service tag. The page gives only the tag; these are inferred from other documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The tag whose addresses the service has, without region.
    pub tag: TagName,
    /// What people call it: "Blob Storage".
    pub title: String,
    /// The ports it serves, where the tag covers services that differ in it; `None`: any.
    pub ports: Option<PortSet>,
    /// Whether its names tell whose storage account is meant.
    pub accounts: bool,
    /// Its names, by cloud; a cloud for which none are documented is absent.
    pub clouds: BTreeMap<Cloud, ServiceNames>,
    /// Where the names are documented.
    pub source: String,
}

/// Where a rule permits traffic to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// A machine of the page's own.
    Role(RoleId),
    /// Names that the page gives.
    Names(Vec<DomainPattern>),
    /// A product that the page leaves unnamed: the site's `[names]` entry, else `default`.
    SiteNames {
        /// The key under `[names]`.
        key: NamesKey,
        /// Names that the pack's overlay supplies.
        default: Vec<DomainPattern>,
    },
    /// Addresses that Microsoft publishes under a service tag.
    Tag {
        /// The tag.
        tag: TagName,
        /// The services behind it, as far as they serve the rule's ports.
        services: Vec<Service>,
    },
    /// The site's own address space: Azure's `VirtualNetwork` tag, which Microsoft does not publish.
    VirtualNetwork,
    /// A machine that only the site can tell, by address or name ("DNS name or IP address of the SMTP server"): the
    /// addresses and names of a role, and the `[names]` entry of the same key.
    SiteDefined {
        /// The role.
        role: RoleId,
        /// The key under `[names]`: the role's name.
        key: NamesKey,
    },
}

/// One line of the matrix: from one role, to one destination, over one transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// Where it is written.
    pub citation: Citation,
    /// Who initiates.
    pub from: RoleId,
    /// The page's name for the initiator.
    pub from_title: String,
    /// Where to.
    pub to: Destination,
    /// The page's name for the destination.
    pub to_title: String,
    /// Over what.
    pub transport: Transport,
    /// Which application, if the page or the overlay tells.
    pub app: Option<RuleApp>,
    /// The responder's ports. Every port for a transport that has none; ask [`Rule::carries`].
    pub ports: PortSet,
    /// How firmly.
    pub requirement: Requirement,
    /// On what it depends.
    pub condition: Option<ConditionId>,
    /// What for, in our words.
    pub purpose: String,
    /// Whether the page states it.
    pub kind: RuleKind,
    /// Whether the overlay supplies the names because the page gives none.
    pub supplied_names: bool,
    /// The one cloud in which it is meant; `None`: all.
    pub cloud: Option<Cloud>,
    /// What a careful reader of the row should know.
    pub note: Option<String>,
    /// Where what we added (names, application, alias) is documented.
    pub source: Option<String>,
}

impl Rule {
    /// Whether a flow over `transport` to the responder's `port` may be the rule's.
    pub fn carries(&self, transport: Transport, port: u16) -> bool {
        self.transport == transport && (!transport.has_ports() || self.ports.contains(port))
    }

    /// Whether it is an alias.
    pub fn is_alias(&self) -> bool {
        matches!(self.kind, RuleKind::Alias { .. })
    }

    /// Whether it and `other` would fit the same flows: they can only be observed together.
    pub fn same_traffic(&self, other: &Rule) -> bool {
        self.from == other.from
            && self.to == other.to
            && self.transport == other.transport
            && self.ports == other.ports
            && self.cloud == other.cloud
    }

    /// All names that the rule knows, documented or inferred, in any cloud.
    pub fn all_names(&self) -> Vec<&DomainPattern> {
        match &self.to {
            Destination::Names(names) | Destination::SiteNames { default: names, .. } => {
                names.iter().collect()
            }
            Destination::Tag { services, .. } => {
                services.iter().flat_map(|s| s.clouds.values()).flat_map(|c| &c.names).collect()
            }
            Destination::Role(_) | Destination::VirtualNetwork | Destination::SiteDefined { .. } => {
                Vec::new()
            }
        }
    }
}

/// What a pack says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackInfo {
    /// Its name.
    pub id: PackId,
    /// The page's title.
    pub page: String,
    /// Where the page stands.
    pub url: Option<String>,
    /// The page's date, as the page prints it: `1/6/2026`. Empty if the pack follows no dated page.
    pub page_date: String,
    /// The same day, unmistakably.
    pub date: Option<CalendarDate>,
    /// The product.
    pub product: String,
    /// The product version that the page names. Empty if it names none.
    pub product_version: String,
    /// The pack that this one adds to, if it is an overlay.
    pub overlay_of: Option<PackId>,
    /// The file it came from.
    pub file: String,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
    /// Whether it is part of the program.
    pub built_in: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_zone_holds_whole_labels_below_its_top() {
        for (zone, name, expected) in [
            ("privatelink.blob.core.windows.net", "acct.privatelink.blob.core.windows.net", true),
            ("privatelink.blob.core.windows.net", "a.b.privatelink.blob.core.windows.net", true),
            ("privatelink.blob.core.windows.net", "privatelink.blob.core.windows.net", false),
            ("privatelink.blob.core.windows.net", "acct.blob.core.windows.net", false),
            ("privatelink.blob.core.windows.net", "acct.privatelink.blob.core.windows.net.example", false),
            ("privatelink.blob.core.windows.net", "acct.xprivatelink.blob.core.windows.net", false),
            ("privatelink.*.database.windows.net", "mi.privatelink.abc.database.windows.net", true),
            ("privatelink.*.database.windows.net", "mi.privatelink.database.windows.net", false),
        ] {
            let zone: Zone = zone.parse().unwrap();
            assert_eq!(zone.contains(&name.parse().unwrap()), expected, "{zone} holds {name}");
        }
        let zone: Zone = "privatelink.blob.core.windows.net".parse().unwrap();
        let labels: [&[u8]; 5] = [b"evil.privatelink", b"blob", b"core", b"windows", b"net"];
        assert!(!zone.contains(&DomainName::from_labels(labels)), "the dot inside a label parts nothing");
        assert!(!zone.contains(&DomainName::root()));
    }

    #[test]
    fn identifiers_and_tags_are_checked_when_read() {
        assert!("vbaz-05a".parse::<RuleId>().is_ok());
        for bad in ["", "-x", "Vbaz", "a b", "\u{1b}[2J", &"x".repeat(65)] {
            assert!(bad.parse::<RuleId>().is_err(), "{bad:?}");
        }
        let tag: TagName = "Sql.<region>".parse().unwrap();
        assert!(tag.is_regional() && tag.base() == "Sql");
        for bad in ["", "Sql.", "<region>", "Sql.<regoin>", "Sql.<region>.x", "a b"] {
            assert!(bad.parse::<TagName>().is_err(), "{bad:?}");
        }
    }
}
