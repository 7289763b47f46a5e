//! The site's `[[accept]]` entries, held against undocumented flows. SEMANTICS section 4.

use super::circumstances::Evidence;
use super::findings::Accepted;
use super::row::NameEvidenceSource;
use crate::flow::{ConnectTarget, Flow};
use crate::matrix::{Accept, Site};
use crate::model::DomainName;

/// The site's exception for an undocumented flow, expired or not; `target` is what a client asked its proxy for, which replaces
/// the destination.
pub(super) fn exception(
    site: &Site,
    flow: &Flow<'_>,
    target: Option<&ConnectTarget>,
    evidence: &Evidence<'_>,
) -> Option<Accepted> {
    if site.accepts().is_empty() {
        return None;
    }
    let accepted = [NameEvidenceSource::Dns, NameEvidenceSource::Proxy];
    // Names of further destinations are none of this one's.
    let mut names = evidence.names(None);
    names.truncate(names.len() - evidence.further_names().len());
    let names = names.iter().filter(|name| accepted.contains(&name.source));
    // As a rule does, an exception fits if every reading does: an address may be another's, too.
    let mut chains: Vec<Vec<&DomainName>> = names.map(|name| name.chain.iter().collect()).collect();
    if chains.is_empty() || evidence.has_nameless() {
        chains.push(Vec::new());
    }
    let (to, port) = match target {
        Some(target) => (target.ip, target.port),
        None => (Some(flow.to.ip), flow.to.port),
    };
    let fits = |entry: &Accept| {
        chains.iter().all(|names| entry.fits(site, flow.from.ip, to, names, flow.proto, port))
    };
    let expired = |entry: &Accept| entry.until.is_some_and(|until| flow.first_ts >= until.end());
    let all = || site.accepts().iter().enumerate().filter(|(_, entry)| fits(entry));
    let (entry, accept) = all().find(|(_, entry)| !expired(entry)).or_else(|| all().next())?;
    Some(Accepted {
        entry,
        reason: accept.reason.clone(),
        until: accept.until.map(|date| date.to_string()),
        expired: expired(accept),
    })
}
