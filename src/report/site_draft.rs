//! A draft of a site file, as TOML: what was seen, and beside it why it is proposed. What would widen what counts as
//! documented, and rests on little, stands there as a comment for somebody to take or leave.

use super::text::printable;
use crate::audit::{CaptureSummary, End};
use crate::matrix::Matrix;
use crate::verdict::{KeyDraft, Placed, RoleDraft, Server, SiteDraft, Unplaced};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Entries of a list that are told; what is beyond is counted.
const MOST_TOLD: usize = 40;

/// Rules that are named beside a machine.
const RULES_TOLD: usize = 4;

/// The draft as text that `site check` takes: every value is an address, a word of the packs, or made of letters and
/// digits; whatever else was seen stands in comments, made printable.
pub fn site_draft(draft: &SiteDraft, matrix: &Matrix, captures: &[CaptureSummary]) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write(&mut text, draft, matrix, captures);
    text
}

fn write(out: &mut String, draft: &SiteDraft, matrix: &Matrix, captures: &[CaptureSummary]) -> fmt::Result {
    head(out, draft, captures)?;
    site(out, draft)?;
    writeln!(
        out,
        "\n[names]\n# Names for destinations that the page leaves to the site, or gives no name for."
    )?;
    draft.keys.iter().try_for_each(|key| names(out, key))?;
    if !matrix.conditions().is_empty() {
        writeln!(
            out,
            "\n[conditions]\n# What some rules depend on. Take away the `#` of what holds here, or write false where it does not. Left as\n\
         # they are, rules apply and are counted apart; where it says off, they do not."
        )?;
    }
    for condition in matrix.conditions() {
        let off = if condition.applies_unset { "" } else { " (off)" };
        writeln!(out, "# {} = true  # {}{off}", condition.id, printable(&condition.title))?;
    }
    writeln!(
        out,
        "\n[roles]\n# Beside each machine: how many things that the role does it does, of how many, and by which rules.\n\
         # Several addresses of one machine belong into a list of their own: [\"10.0.0.4\", \"fd10::4\"]"
    )?;
    draft.roles.iter().try_for_each(|role| machines(out, role))?;
    proxies(out, &draft.proxies)?;
    unplaced(out, draft)
}

fn head(out: &mut String, draft: &SiteDraft, captures: &[CaptureSummary]) -> fmt::Result {
    writeln!(
        out,
        "# A draft, made from what these captures show. Check every line: whoever is given a role that it"
    )?;
    writeln!(out, "# does not play has traffic documented that is not.")?;
    for capture in captures.iter().take(MOST_TOLD) {
        let range = match (capture.first_ts, capture.last_ts) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => "no frames".to_owned(),
        };
        let path = printable(&capture.path);
        if let Some(problem) = &capture.unreadable {
            writeln!(out, "#   {path}: NOT READ: {}", printable(problem))?;
            continue;
        }
        let incomplete = if capture.end == End::Complete { "" } else { "; NOT READ TO ITS END" };
        let part = if capture.chosen.is_some() { "; only a part of it, as was asked for" } else { "" };
        writeln!(out, "#   {path}: {range}{incomplete}{part}")?;
    }
    more(out, captures.len(), "captures", "#   ")?;
    let SiteDraft { flows, machines, from_outside, not_kept, .. } = draft;
    writeln!(
        out,
        "# {flows} flows; beside names, time and the platform's own, {} of private space began some.",
        times(*machines as u64, "machine")
    )?;
    if draft.machines_not_kept > 0 {
        writeln!(
            out,
            "# NOT LOOKED AT: {} of machines beyond the first that a draft keeps.",
            times(draft.machines_not_kept, "flow")
        )?;
    }
    if *from_outside > 0 {
        writeln!(
            out,
            "# From public addresses begun: {}; no role is proposed there.",
            times(*from_outside, "flow")
        )?;
    }
    if *not_kept > 0 {
        writeln!(out, "# Names and contacts beyond what a draft keeps, not looked at: {not_kept}.")?;
    }
    Ok(())
}

fn site(out: &mut String, draft: &SiteDraft) -> fmt::Result {
    writeln!(out, "\n[site]\nname = \"my-site\"  # yours to choose")?;
    let clouds: Vec<String> = draft.clouds.iter().map(|(cloud, count)| format!("{cloud} {count}")).collect();
    let clouds = if clouds.is_empty() { "none: a guess".to_owned() } else { clouds.join(", ") };
    writeln!(out, "cloud = \"{}\"  # names of clouds that were asked for: {clouds}", draft.cloud)?;
    match draft.regions.split_first() {
        Some(((region, flows), others)) => {
            let others: Vec<String> =
                others.iter().take(3).map(|(of, count)| format!("{of} {count}")).collect();
            let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
            writeln!(
                out,
                "region = \"{region}\"  # flows to its addresses that rules may be about: {flows}{others}"
            )?;
        }
        None => writeln!(out, "# region = \"westeurope\"  # no address of a region was seen")?,
    }
    writeln!(out, "storage_accounts = [  # empty: any account counts as yours, and the report says so")?;
    if !draft.accounts.is_empty() {
        writeln!(out, "    # Asked for; take away the `#` of yours alone: others are then told as foreign.")?;
    }
    for (account, count, by) in draft.accounts.iter().take(MOST_TOLD) {
        writeln!(out, "    # \"{account}\",  # {}, most by {by}", times(*count, "time"))?;
    }
    more(out, draft.accounts.len(), "accounts", "    # ")?;
    writeln!(out, "]")?;
    servers(out, "resolvers", &draft.resolvers, "answer", "no machine of private space got an answer")?;
    servers(
        out,
        "time_servers",
        &draft.time_servers,
        "flow",
        "no machine of private space got an answer over NTP",
    )?;
    let in_azure: Vec<IpAddr> = draft.platform.iter().map(|(ip, _)| *ip).collect();
    writeln!(
        out,
        "# virtual_network = [\"10.0.0.0/16\"]  # your virtual network's prefixes: captures do not tell them"
    )?;
    if !in_azure.is_empty() {
        let told: Vec<String> = in_azure.iter().take(RULES_TOLD).map(ToString::to_string).collect();
        writeln!(
            out,
            "#   {} of it spoke to Azure's own address: {}{}",
            times(in_azure.len() as u64, "machine"),
            told.join(", "),
            and_more(in_azure.len(), RULES_TOLD)
        )?;
    }
    Ok(())
}

/// Servers of a list: the site's own and the platform's stand there, others wait for somebody to agree.
fn servers(out: &mut String, key: &str, servers: &[Server], unit: &str, none: &str) -> fmt::Result {
    if servers.is_empty() {
        return writeln!(out, "{key} = []  # {none}");
    }
    writeln!(out, "{key} = [")?;
    for server in servers.iter().take(MOST_TOLD) {
        let (mark, whose) = match (&server.operator, server.own, server.few) {
            (Some(operator), ..) => {
                ("# ", format!(", public resolver of {}: expected here?", printable(operator)))
            }
            (None, false, _) => ("# ", ", a public address: expected here?".to_owned()),
            (None, true, true) => ("# ", ", few beside others: expected here?".to_owned()),
            (None, true, false) => ("", String::new()),
        };
        writeln!(out, "    {mark}\"{}\",  # {}{whose}", server.ip, times(server.count, unit))?;
    }
    more(out, servers.len(), key, "    # ")?;
    writeln!(out, "]")
}

fn names(out: &mut String, key: &KeyDraft) -> fmt::Result {
    let default =
        if key.default.is_empty() { String::new() } else { format!(" (else {})", key.default.join(", ")) };
    writeln!(out, "# {} = []  # {}{}", key.key, key.rules.join(", "), printable(&default))?;
    for (name, flows) in key.seen.iter().take(RULES_TOLD) {
        writeln!(out, "#   seen on its ports: {} ({})", printable(&name.to_string()), times(*flows, "flow"))?;
    }
    more_of(out, key.seen.len(), RULES_TOLD, "names", "#   ")
}

fn machines(out: &mut String, role: &RoleDraft) -> fmt::Result {
    let audited = if role.subject { ", audited" } else { "" };
    writeln!(out, "# {}{audited}", printable(&role.title))?;
    if role.machines.is_empty() {
        return writeln!(out, "{} = []", role.id);
    }
    writeln!(out, "{} = [", role.id)?;
    let (firm, perhaps): (Vec<&Placed>, Vec<&Placed>) =
        role.machines.iter().partition(|machine| machine.firm);
    for machine in firm.into_iter().chain(perhaps.iter().take(MOST_TOLD).copied()) {
        let mark = if machine.firm { "" } else { "# " };
        writeln!(out, "    {mark}\"{}\",  # {}", machine.ip, because(machine, role.kinds))?;
    }
    more(out, perhaps.len(), "that perhaps play it", "    # ")?;
    writeln!(out, "]")
}

/// Why a machine is proposed: how many of the role's things it does, and which.
fn because(machine: &Placed, of: usize) -> String {
    let rules: Vec<&str> = machine.rules.iter().take(RULES_TOLD).map(String::as_str).collect();
    let perhaps = if machine.firm { "" } else { "perhaps: " };
    let or = if machine.or.is_empty() { String::new() } else { format!("; or {}", machine.or.join(", ")) };
    let more = and_more(machine.rules.len(), RULES_TOLD);
    format!("{perhaps}{} of {of}: {}{more}{or}", machine.kinds, rules.join(", "))
}

fn proxies(out: &mut String, proxies: &[Server]) -> fmt::Result {
    writeln!(out, "# Proxy, through which machines reach others")?;
    if proxies.is_empty() {
        return writeln!(out, "http-proxy = []");
    }
    writeln!(out, "http-proxy = [")?;
    for proxy in proxies.iter().take(MOST_TOLD) {
        let (mark, whose) = match (proxy.own, proxy.few) {
            (false, _) => ("# ", ", a public address: expected here?"),
            (true, true) => ("# ", ", for one destination alone: a probe?"),
            (true, false) => ("", ""),
        };
        writeln!(out, "    {mark}\"{}\",  # {}{whose}", proxy.ip, times(proxy.count, "flow"))?;
    }
    more(out, proxies.len(), "proxies", "    # ")?;
    writeln!(out, "]")
}

fn unplaced(out: &mut String, draft: &SiteDraft) -> fmt::Result {
    if draft.unplaced.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n# Machines of private space that fit no role, and where most of their flows go:")?;
    for Unplaced { ip, begun, most } in draft.unplaced.iter().take(MOST_TOLD) {
        let most = most.as_ref().map_or_else(String::new, |(place, transport, port, count)| {
            let transport = transport.to_string().to_uppercase();
            format!(", {count} to {} {transport} {port}", printable(place))
        });
        writeln!(out, "#   {ip}: {}{most}", times(*begun, "flow"))?;
    }
    more(out, draft.unplaced.len(), "machines", "#   ")
}

fn times(count: u64, unit: &str) -> String {
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

fn and_more(count: usize, told: usize) -> String {
    if count > told { format!(" and {} more", count - told) } else { String::new() }
}

fn more(out: &mut String, count: usize, what: &str, before: &str) -> fmt::Result {
    more_of(out, count, MOST_TOLD, what, before)
}

fn more_of(out: &mut String, count: usize, told: usize, what: &str, before: &str) -> fmt::Result {
    if count > told { writeln!(out, "{before}and {} more {what}", count - told) } else { Ok(()) }
}
