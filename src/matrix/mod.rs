//! What is documented, and what it means at one site.
//!
//! * A [`Matrix`] joins *packs* (rules files, one per vendor page): [`Rule`]s with their [`Citation`]s, the [`RoleDef`]s and
//!   [`ConditionDef`]s they speak of, the platform's own traffic ([`BaselineLine`]) and Microsoft's [`ServiceTags`].
//! * A [`Site`] says who plays which role at one installation, and [`Site::rules`] what every rule means there.
//!
//! Both are checked when they are read; whatever is wrong with a file is told at once, each [`Problem`] with its place.
//! Nothing here looks at traffic.

mod baseline;
mod capture_filter;
mod date;
mod export;
mod import;
mod load;
mod pack;
mod place;
mod resolvers;
mod rule;
mod site;
mod source;
mod tags;

pub use baseline::{
    BaselineClass, BaselineLine, BaselinePeer, Contact, Direction, PLATFORM_ADDRESS, shown_prefix,
};
pub use capture_filter::{Tagging, capture_filter};
pub use date::{CalendarDate, CalendarDateError};
pub use export::{Firewall, FirewallRules, Unexpressed, firewall_rules};
pub use import::{ImportError, MAX_PAGE_BYTES, PackDraft, import};
pub use load::{MAX_ROLES, Matrix, RoleIdx, lint, lint_text};
pub use resolvers::PublicResolvers;
pub use rule::{
    Citation, Cloud, ConditionDef, ConditionId, Destination, IdError, NamesKey, PackId, PackInfo,
    Requirement, RoleDef, RoleId, Rule, RuleApp, RuleId, RuleKind, Service, ServiceNames, TagName,
    TagNameError, Zone,
};
pub use site::{
    Accept, AcceptPeer, ConditionState, DestinationHere, RoleSet, RuleHere, RuleState, Site, SwitchedBy,
    TagHere,
};
pub use source::{Position, Problem, Severity};
pub use tags::{ServiceTags, TagId, TagSource};

/// The role whose machines relay the traffic of others (SEMANTICS section 4, "Proxy"). No page's row needs to name it.
pub const HTTP_PROXY_ROLE: &str = "http-proxy";

/// SHA-256 in lower-case hexadecimal, as `sha256sum` prints it.
fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    crate::model::hex(&sha2::Sha256::digest(bytes))
}
