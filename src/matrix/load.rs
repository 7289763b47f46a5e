//! The matrix: all packs of an audit joined, every reference between them checked.

use super::baseline::BaselineLine;
use super::pack::{self, Pack};
use super::rule::{
    Cloud, ConditionDef, ConditionId, Destination, NamesKey, PackId, PackInfo, RoleDef, RoleId, Rule,
    RuleApp, RuleId, RuleKind, Service, Zone,
};
use super::source::{Doc, Mistakes, Problem, Severity, Span};
use super::tags::ServiceTags;
use crate::model::{DomainPattern, Transport};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The packs that are part of the program: file and text.
const BUILT_IN: [(&str, &str); 3] = [
    ("rules/veeam/vbazure-ports.toml", include_str!("../../rules/veeam/vbazure-ports.toml")),
    ("rules/veeam/vbazure-overlay.toml", include_str!("../../rules/veeam/vbazure-overlay.toml")),
    ("rules/platform/azure.toml", include_str!("../../rules/platform/azure.toml")),
];

/// A role's place in [`Matrix::roles`]; below [`MAX_ROLES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleIdx(pub(super) u8);

/// As many roles as a [`super::RoleSet`] has bits.
pub const MAX_ROLES: usize = 128;

/// What is documented: rules, roles, conditions, the platform's own traffic, and the service tags that rules speak of.
///
/// Every reference in it is sound: a rule's roles and condition are in the lists, an alias' rule exists.
#[derive(Clone, Debug)]
pub struct Matrix {
    packs: Vec<PackInfo>,
    roles: Vec<RoleDef>,
    conditions: Vec<ConditionDef>,
    rules: Vec<Rule>,
    baseline: Vec<BaselineLine>,
    services: Vec<Service>,
    tags: Arc<ServiceTags>,
    warnings: Vec<Problem>,
}

fn built_in_packs() -> Result<Vec<Pack>, Vec<Problem>> {
    static READ: OnceLock<Result<Vec<Pack>, Vec<Problem>>> = OnceLock::new();
    let read = || {
        BUILT_IN
            .iter()
            .map(|(file, text)| pack::read(Doc::new(&format!("built in: {file}"), text), true))
            .collect()
    };
    READ.get_or_init(read).clone()
}

impl Matrix {
    /// The Veeam Plug-in for Microsoft Azure page, what we add to it, the Azure platform baseline and the bundled service
    /// tags.
    pub fn builtin() -> Matrix {
        static BUILT: OnceLock<Matrix> = OnceLock::new();
        let build = || match built_in_packs() {
            Ok(packs) => assemble(packs, ServiceTags::bundled_once()).unwrap_or_else(broken_build),
            Err(problems) => broken_build(problems),
        };
        BUILT.get_or_init(build).clone()
    }

    /// Reads rules packs and service tags.
    ///
    /// Given packs take the place of the built-in vendor page; a built-in pack can be named by its id. The platform baseline
    /// stays unless a given pack has its id; what we add to the vendor page stays if a given pack has that page's id; a given
    /// overlay brings the built-in page that it adds to.
    /// Service tags: see [`ServiceTags::load`].
    ///
    /// # Errors
    /// Every mistake of every file.
    pub fn load(rules: &[PathBuf], service_tags: &[String]) -> Result<Matrix, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut packs = Vec::new();
        let built_in = built_in_packs()?;
        for path in rules {
            let named = built_in.iter().find(|p| path.to_str() == Some(p.info.id.as_str()) && !path.exists());
            match named {
                Some(pack) => packs.push(pack.clone()),
                None => match Doc::read(path).map_err(|p| vec![p]).and_then(|doc| pack::read(doc, false)) {
                    Ok(pack) => packs.push(pack),
                    Err(found) => problems.extend(found),
                },
            }
        }
        add_built_in(&mut packs, built_in, rules.is_empty());
        let tags = ServiceTags::load(service_tags).unwrap_or_else(|found| {
            problems.extend(found);
            ServiceTags::bundled()
        });
        match assemble(packs, Arc::new(tags)) {
            Ok(matrix) if problems.is_empty() => Ok(matrix),
            Ok(_) => Err(problems),
            Err(found) => {
                problems.extend(found);
                Err(problems)
            }
        }
    }

    /// Reads packs from texts (file name, text) instead of files; `tags` as given. The built-in packs take part as in
    /// [`Matrix::load`].
    ///
    /// # Errors
    /// Every mistake of every text.
    pub fn parse(texts: &[(&str, &str)], tags: ServiceTags) -> Result<Matrix, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut packs = Vec::new();
        for (file, text) in texts {
            match pack::read(Doc::new(file, text), false) {
                Ok(pack) => packs.push(pack),
                Err(found) => problems.extend(found),
            }
        }
        add_built_in(&mut packs, built_in_packs()?, texts.is_empty());
        match assemble(packs, Arc::new(tags)) {
            Ok(matrix) if problems.is_empty() => Ok(matrix),
            Ok(_) => Err(problems),
            Err(found) => {
                problems.extend(found);
                Err(problems)
            }
        }
    }

    /// The packs, in the order given; built-in ones last.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// All rules, in the order of the packs; aliases after the rules that their pack adds to.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule by name.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id.as_str() == id)
    }

    /// All roles.
    pub fn roles(&self) -> &[RoleDef] {
        &self.roles
    }

    /// A role by name.
    pub fn role(&self, id: &str) -> Option<RoleIdx> {
        let at = self.roles.iter().position(|role| role.id.as_str() == id)?;
        u8::try_from(at).ok().map(RoleIdx)
    }

    /// The role of hosts that relay the traffic of others, if any pack has it (the platform baseline does).
    pub fn proxy_role(&self) -> Option<RoleIdx> {
        self.role(super::HTTP_PROXY_ROLE)
    }

    /// What is known of a role.
    pub fn role_def(&self, role: RoleIdx) -> &RoleDef {
        // A RoleIdx comes from this list only, and the list never shrinks.
        &self.roles[usize::from(role.0)]
    }

    /// All conditions.
    pub fn conditions(&self) -> &[ConditionDef] {
        &self.conditions
    }

    /// A condition by name.
    pub fn condition(&self, id: &str) -> Option<&ConditionDef> {
        self.conditions.iter().find(|condition| condition.id.as_str() == id)
    }

    /// The platform's own traffic.
    pub fn baseline(&self) -> &[BaselineLine] {
        &self.baseline
    }

    /// Whether a rule or a baseline line is called so.
    pub fn knows(&self, id: &str) -> bool {
        self.rule(id).is_some() || self.baseline().iter().any(|line| line.id == id)
    }

    /// The services behind tags.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service tags.
    pub fn tags(&self) -> &ServiceTags {
        &self.tags
    }

    /// What is sound, yet probably not meant.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The keys that a site may use under `[names]`, each with the rules that it names.
    pub fn names_keys(&self) -> BTreeMap<NamesKey, Vec<RuleId>> {
        let mut keys: BTreeMap<NamesKey, Vec<RuleId>> = BTreeMap::new();
        for rule in &self.rules {
            match &rule.to {
                Destination::SiteNames { key, .. } | Destination::SiteDefined { key, .. } => {
                    keys.entry(key.clone()).or_default().push(rule.id.clone());
                }
                Destination::Role(_)
                | Destination::Names(_)
                | Destination::Tag { .. }
                | Destination::VirtualNetwork => {}
            }
        }
        keys
    }

    /// Whether a rule or a baseline line names this port: what tells the responder of a flow whose beginning was not seen.
    pub fn names_port(&self, transport: Transport, port: u16) -> bool {
        let ruled = |rule: &Rule| transport.has_ports() && rule.carries(transport, port);
        let base = |line: &BaselineLine| {
            line.transports.contains(&transport) && line.ports.as_ref().is_some_and(|p| p.contains(port))
        };
        self.rules.iter().any(ruled) || self.baseline.iter().any(base)
    }

    /// The zones through which private endpoints of the services behind `names` lead.
    pub(super) fn private_zones(&self, cloud: Cloud, names: &[DomainPattern]) -> Vec<Zone> {
        let mut zones: Vec<Zone> = Vec::new();
        for service in &self.services {
            let Some(known) = service.clouds.get(&cloud) else { continue };
            let same = |name: &DomainPattern, pattern: &DomainPattern| {
                name == pattern || name.to_string().parse().is_ok_and(|name| pattern.matches(&name))
            };
            if names.iter().any(|name| known.names.iter().any(|pattern| same(name, pattern))) {
                zones.extend(
                    known
                        .private_zones
                        .iter()
                        .filter(|zone| !zones.contains(zone))
                        .cloned()
                        .collect::<Vec<_>>(),
                );
            }
        }
        zones
    }
}

/// A mistake in our own rules: a build that its tests would not have passed.
fn broken_build(problems: Vec<Problem>) -> Matrix {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    unreachable!("the built-in rules have mistakes: {}", told.join("; "))
}

/// Adds the built-in packs that belong to those given.
fn add_built_in(packs: &mut Vec<Pack>, built_in: Vec<Pack>, vendor_page: bool) {
    for pack in built_in {
        let id = &pack.info.id;
        let wanted = if packs.iter().any(|p| p.info.id == *id) {
            false
        } else if (pack.rules.is_empty() && pack.info.overlay_of.is_none())
            || packs.iter().any(|p| p.info.overlay_of.as_ref() == Some(id))
        {
            true
        } else {
            let base = pack.info.overlay_of.as_ref();
            vendor_page || base.is_some_and(|base| packs.iter().any(|p| p.info.id == *base))
        };
        if wanted {
            packs.push(pack);
        }
    }
}

/// Checks rules files as `rules lint` does: mistakes, and what is sound but probably not meant.
///
/// An overlay is checked together with the built-in packs, so that the rules it speaks of are known.
pub fn lint(paths: &[PathBuf]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut packs = Vec::new();
    for path in paths {
        match Doc::read(path).map_err(|p| vec![p]).and_then(|doc| pack::read(doc, false)) {
            Ok(pack) => packs.push(pack),
            Err(found) => problems.extend(found),
        }
    }
    problems.extend(lint_packs(packs));
    problems
}

/// As [`lint`], for a text.
pub fn lint_text(file: &str, text: &str) -> Vec<Problem> {
    match pack::read(Doc::new(file, text), false) {
        Ok(pack) => lint_packs(vec![pack]),
        Err(problems) => problems,
    }
}

/// Whether a text can be used as a pack: its mistakes, and nothing of what [`lint_text`] says beside them.
pub(super) fn check_text(file: &str, text: &str) -> Result<(), Vec<Problem>> {
    let mut packs = vec![pack::read(Doc::new(file, text), false)?];
    add_built_in(&mut packs, built_in_packs()?, false);
    assemble(packs, ServiceTags::bundled_once()).map(|_| ())
}

fn lint_packs(mut packs: Vec<Pack>) -> Vec<Problem> {
    let mut warnings: Vec<Problem> = packs.iter().flat_map(pack::lint).collect();
    let given: Vec<Arc<Doc>> = packs.iter().map(|pack| pack.doc.clone()).collect();
    let Ok(built_in) = built_in_packs() else { return warnings };
    add_built_in(&mut packs, built_in, false);
    let mut problems = match assemble(packs, ServiceTags::bundled_once()) {
        Ok(matrix) => matrix.warnings,
        Err(problems) => problems,
    };
    problems.append(&mut warnings);
    let ours = |p: &Problem| given.iter().any(|doc| super::source::shown(&doc.file) == p.file);
    problems.retain(ours);
    problems.sort_by_key(|p| (p.file.clone(), p.position));
    problems.dedup();
    problems
}

/// Joins packs. All mistakes at once, in the order of the files.
fn assemble(packs: Vec<Pack>, tags: Arc<ServiceTags>) -> Result<Matrix, Vec<Problem>> {
    let mut problems: Vec<Problem> = packs.iter().flat_map(|pack| pack.problems.clone()).collect();
    problems.extend(same_ids(&packs));
    let roles = joined_roles(&packs, &mut problems);
    let conditions = joined_conditions(&packs, &mut problems);
    let services: Vec<Service> = packs.iter().flat_map(|pack| pack.services.clone()).collect();
    let mut rules: Vec<Rule> = packs.iter().flat_map(|pack| pack.rules.clone()).collect();
    for rule in &mut rules {
        if let Destination::Tag { tag, services: behind } = &mut rule.to {
            let serves = |service: &&Service| {
                service.tag.as_str().eq_ignore_ascii_case(tag.base())
                    && service.ports.as_ref().is_none_or(|ports| {
                        let meets = |a: &std::ops::RangeInclusive<u16>, b: &std::ops::RangeInclusive<u16>| {
                            a.start() <= b.end() && b.start() <= a.end()
                        };
                        rule.ports.ranges().iter().any(|a| ports.ranges().iter().any(|b| meets(a, b)))
                    })
            };
            *behind = services.iter().filter(serves).cloned().collect();
        }
    }
    for pack in &packs {
        let Some(base) = &pack.info.overlay_of else {
            problems.extend(stray_overlay(pack));
            continue;
        };
        if !packs.iter().any(|p| p.info.id == *base) {
            if !pack.info.built_in {
                let known: Vec<&str> = packs.iter().map(|p| p.info.id.as_str()).collect();
                let message = super::source::unknown_message("pack in overlay_of", base.as_str(), &known);
                problems.push(pack.doc.problem(Severity::Error, &(0..0), message));
            }
            continue;
        }
        apply_overlay(pack, base, &packs, &mut rules, &mut problems);
    }
    problems.extend(tag_warnings(&packs, &rules, &tags));
    if problems.iter().any(Problem::is_error) {
        problems.retain(Problem::is_error);
        return Err(problems);
    }
    let baseline = packs.iter().flat_map(|pack| pack.baseline.clone()).collect();
    let packs = packs.into_iter().map(|pack| pack.info).collect();
    Ok(Matrix { packs, roles, conditions, rules, baseline, services, tags, warnings: problems })
}

/// The same pack, rule or baseline line in two files.
fn same_ids(packs: &[Pack]) -> Vec<Problem> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut packs_seen: BTreeMap<&PackId, &str> = BTreeMap::new();
    for pack in packs {
        if let Some(first) = packs_seen.insert(&pack.info.id, &pack.info.file) {
            let message =
                format!("pack `{}` is {first} already: give each file an id of its own", pack.info.id);
            problems.push(pack.doc.problem(Severity::Error, &(0..0), message));
            continue;
        }
        for (key, span) in
            pack.spans.iter().filter(|(key, _)| !key.starts_with("role ") && !key.starts_with("condition "))
        {
            if let Some(first) = seen.insert(key, &pack.info.file) {
                let message = format!("{key} stands in {first} already: name it otherwise");
                problems.push(pack.doc.problem(Severity::Error, span, message));
            }
        }
    }
    problems
}

fn joined_roles(packs: &[Pack], problems: &mut Vec<Problem>) -> Vec<RoleDef> {
    let mut roles: Vec<RoleDef> = Vec::new();
    for pack in packs {
        for role in &pack.roles {
            match roles.iter_mut().find(|known| known.id == role.id) {
                // A role that any page calls its own is audited; a page that is loaded no longer "also covers" it.
                Some(known) => {
                    known.subject |= role.subject;
                    known.also_covered_by = known.also_covered_by.take().and(role.also_covered_by.clone());
                }
                None => roles.push(role.clone()),
            }
        }
    }
    if roles.len() > MAX_ROLES {
        problems.push(Problem::of_file(
            "the rules files",
            format!("more than {MAX_ROLES} roles: load fewer packs"),
        ));
    }
    roles
}

fn joined_conditions(packs: &[Pack], problems: &mut Vec<Problem>) -> Vec<ConditionDef> {
    let mut conditions: Vec<ConditionDef> = Vec::new();
    for pack in packs {
        for condition in &pack.conditions {
            match conditions.iter().find(|known| known.id == condition.id) {
                Some(known)
                    if (known.applies_unset, &known.needs) != (condition.applies_unset, &condition.needs) =>
                {
                    let span =
                        pack.spans.get(&format!("condition {}", condition.id)).cloned().unwrap_or(0..0);
                    let message = format!(
                        "condition `{}` means something else in another pack: rename it",
                        condition.id
                    );
                    problems.push(pack.doc.problem(Severity::Error, &span, message));
                }
                Some(_) => {}
                None => conditions.push(condition.clone()),
            }
        }
    }
    conditions
}

/// Overlay sections in a pack that overlays nothing.
fn stray_overlay(pack: &Pack) -> Vec<Problem> {
    let overlay = &pack.overlay;
    let spans = overlay.supplied.iter().map(|s| &s.span).chain(overlay.aliases.iter().map(|a| &a.id_span));
    let spans = spans.chain(overlay.apps.iter().flat_map(|a| a.rules.iter().map(|(_, span)| span)));
    let message = "this adds to another pack: say which with `overlay_of = \"...\"` in [pack]";
    spans.map(|span| pack.doc.problem(Severity::Error, span, message)).collect()
}

fn apply_overlay(
    pack: &Pack,
    base: &PackId,
    packs: &[Pack],
    rules: &mut Vec<Rule>,
    problems: &mut Vec<Problem>,
) {
    let broken = |id: &str| packs.iter().any(|p| p.broken_rules.contains(id));
    let mut m = Mistakes::new(&pack.doc);
    // Our own overlay over an edited copy of the page: what the copy leaves out, it leaves out on purpose.
    let strict = !pack.info.built_in;
    let unknown_rule = |m: &mut Mistakes<'_>, id: &RuleId, span: &Span, rules: &[Rule]| {
        if strict && !broken(id.as_str()) {
            let known: Vec<&str> =
                rules.iter().filter(|r| r.citation.pack == *base).map(|r| r.id.as_str()).collect();
            m.unknown(span, "rule", id.as_str(), known);
        }
    };
    for supplied in &pack.overlay.supplied {
        let mut used = false;
        for rule in rules.iter_mut().filter(|rule| rule.citation.pack == *base) {
            if let Destination::SiteNames { key, default } = &mut rule.to
                && *key == supplied.key
            {
                default.extend(supplied.names.iter().cloned());
                rule.supplied_names = true;
                rule.source = Some(supplied.source.clone());
                used = true;
            }
        }
        if !used && strict {
            let known: Vec<&str> = rules
                .iter()
                .filter_map(|rule| match &rule.to {
                    Destination::SiteNames { key, .. } => Some(key.as_str()),
                    _ => None,
                })
                .collect();
            m.unknown(&supplied.span, "site_names key", supplied.key.as_str(), known);
        }
    }
    for inferred in &pack.overlay.apps {
        for (id, span) in &inferred.rules {
            match rules.iter_mut().find(|rule| rule.id == *id && rule.citation.pack == *base) {
                Some(rule) if rule.app.is_some() => {
                    let message =
                        format!("the page itself names the application of `{id}`: leave it out here");
                    m.error(span, message);
                }
                Some(rule) => {
                    rule.app = Some(RuleApp { app: inferred.app, inferred: true });
                    rule.source = Some(inferred.source.clone());
                }
                None => unknown_rule(&mut m, id, span, rules),
            }
        }
    }
    for alias in &pack.overlay.aliases {
        let Some(of) = rules.iter().find(|rule| rule.id == alias.of && rule.citation.pack == *base) else {
            unknown_rule(&mut m, &alias.of, &alias.of_span, rules);
            continue;
        };
        if !matches!(of.to, Destination::Names(_) | Destination::SiteNames { .. }) {
            m.error(
                &alias.of_span,
                format!("`{}` has no names of its own that could have an alias", alias.of),
            );
            continue;
        }
        let mut rule = of.clone();
        rule.id = alias.id.clone();
        rule.to = Destination::Names(alias.names.clone());
        rule.kind = RuleKind::Alias { of: alias.of.clone() };
        rule.supplied_names = false;
        rule.cloud = alias.cloud.or(rule.cloud);
        rule.note = alias.note.clone();
        rule.source = Some(alias.source.clone());
        rules.push(rule);
    }
    problems.append(&mut m.problems);
}

/// Tags that no service is known for, and that the bundled file does not hold either.
fn tag_warnings(packs: &[Pack], rules: &[Rule], tags: &ServiceTags) -> Vec<Problem> {
    let mut problems = Vec::new();
    for rule in rules {
        let Destination::Tag { tag, services } = &rule.to else { continue };
        let known = [Cloud::Public, Cloud::UsGov, Cloud::China]
            .iter()
            .any(|&cloud| tags.find(cloud, tag.base()).is_some());
        if known || !services.is_empty() {
            continue;
        }
        let Some(pack) = packs.iter().find(|p| p.info.id == rule.citation.pack) else { continue };
        let span = pack.spans.get(&format!("rule {}", rule.id)).cloned().unwrap_or(0..0);
        let guess = tags.nearest_name(Cloud::Public, tag.base());
        let guess = guess.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
        let message =
            format!("the service tags loaded hold no `{}`: nothing can fit `{}`{guess}", tag.base(), rule.id);
        problems.push(pack.doc.problem(Severity::Warning, &span, message));
    }
    problems
}

/// A site-independent view for programs: used by `rules show` and by tests.
impl Matrix {
    /// The condition that a rule depends on, and those that it in turn needs, nearest first.
    pub fn condition_chain(&self, id: &ConditionId) -> Vec<&ConditionDef> {
        let mut chain = Vec::new();
        let mut next = Some(id);
        while let Some(condition) = next.and_then(|id| self.condition(id.as_str())) {
            chain.push(condition);
            next = condition.needs.as_ref();
        }
        chain
    }

    /// A role's place, from a name that this matrix holds.
    pub(super) fn role_of(&self, id: &RoleId) -> Option<RoleIdx> {
        self.role(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTERS: &str = r#"
[pack]
id = "printers"
page = "Ports of printers"
product = "Printers"
product_version = "1"
page_date = "6 January 2026"
date = 2026-01-06
[[role]]
id = "printer"
title = "Printer"
subject = true
[[condition]]
id = "colour"
title = "Colour is printed"
unset = "off"
[[rule]]
id = "print-1"
row = 1
from = "printer"
to = { names = ["ink.example.net"] }
to_title = "Ink shop"
ports = "443"
app = "tls"
requirement = "conditional"
condition = "colour"
purpose = "Order ink."
[[rule]]
id = "print-2"
row = 2
from = "printer"
to = { role = "printer" }
to_title = "Printer"
transport = "icmp"
requirement = "required"
purpose = "See whether the other is there."
"#;

    #[test]
    fn a_second_vendor_is_a_file() {
        let matrix = Matrix::parse(&[("printers.toml", PRINTERS)], ServiceTags::bundled()).unwrap();
        let ids: Vec<&str> = matrix.packs().iter().map(|p| p.id.as_str()).collect();
        assert_eq!(ids, ["printers", "azure-platform"], "the given pack takes the vendor page's place");
        assert_eq!(matrix.rules().len(), 2);
        assert!(matrix.proxy_role().is_some(), "the platform baseline knows proxies, whatever the vendor");
        assert!(matrix.rule("print-2").unwrap().carries(Transport::Icmp, 0));
        assert!(
            lint_text("printers.toml", PRINTERS).is_empty(),
            "{:#?}",
            lint_text("printers.toml", PRINTERS)
        );
    }

    #[test]
    fn the_built_in_packs_lint_clean_but_for_the_twin_rules() {
        for (file, text) in BUILT_IN {
            let told: Vec<String> = lint_text(file, text).iter().map(ToString::to_string).collect();
            let twins = "`vbaz-01`: the two can only be observed together";
            assert!(told.iter().all(|t| t.contains(twins)), "{told:#?}");
        }
        assert!(Matrix::builtin().warnings().is_empty());
    }

    #[test]
    fn an_edited_copy_of_the_page_keeps_what_we_add_to_it() {
        let (page, overlay) = (BUILT_IN[0].1, BUILT_IN[1].1);
        let edited = page.replace("vbr.butler.veeam.com", "butler.example.net");
        let matrix = Matrix::parse(&[("mine.toml", &edited)], ServiceTags::bundled()).unwrap();
        assert!(matrix.rule("vbaz-07-www").is_some() && matrix.rule("vbaz-25").unwrap().app.is_some());
        // Without the rule that an alias of ours speaks of, the alias goes quietly ...
        let shorter = page.replace("id = \"vbaz-07\"", "id = \"vbaz-07x\"");
        let matrix = Matrix::parse(&[("mine.toml", &shorter)], ServiceTags::bundled()).unwrap();
        assert!(matrix.rule("vbaz-07-www").is_none() && matrix.rule("vbaz-21-www").is_some());
        // ... while an overlay that the user gives must be right.
        let problems =
            Matrix::parse(&[("mine.toml", &shorter), ("over.toml", overlay)], ServiceTags::bundled());
        let problems = problems.unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].to_string().starts_with("over.toml:"), "{}", problems[0]);
        assert!(problems[0].to_string().contains("unknown rule `vbaz-07`"), "{}", problems[0]);
    }

    #[test]
    fn an_overlay_alone_brings_the_page_that_it_adds_to() {
        let text = "[pack]\nid = \"ours\"\noverlay_of = \"veeam-vbazure-ports\"\npage = \"p\"\nproduct = \"q\"\n\
                    [[alias]]\nid = \"more\"\nof = \"vbaz-15\"\nnames = [\"www.nginx.org\"]\nsource = \"seen\"\n";
        let matrix = Matrix::parse(&[("ours.toml", text)], ServiceTags::bundled()).unwrap();
        let alias = matrix.rule("more").unwrap();
        assert!(alias.is_alias() && alias.citation.row == 15 && matrix.rule("vbaz-07-www").is_some());
    }

    #[test]
    fn ports_that_rules_or_the_platform_name_are_known() {
        let matrix = Matrix::builtin();
        for (transport, port, expected) in [
            (Transport::Tcp, 443, true),
            (Transport::Tcp, 11_500, true),
            (Transport::Tcp, 20_443, true),
            (Transport::Udp, 443, false),
            (Transport::Tcp, 32_526, true),
            (Transport::Udp, 123, true),
            (Transport::Tcp, 50_000, false),
            (Transport::Icmp, 8, false),
        ] {
            assert_eq!(matrix.names_port(transport, port), expected, "{transport} {port}");
        }
    }

    #[test]
    fn all_mistakes_of_a_rules_file_are_told_at_once_with_their_places() {
        let text = r#"[pack]
id = "Printers"
page = ""
product = "Printers"
url = "printers.example"
date = "2026-02-30"
verson = 3
[[role]]
id = "printer"
title = "Printer"
subject = "yes"
[[role]]
id = "server"
title = "Server"
subject = false
[[condition]]
id = "colour"
title = "Colour"
unset = "of"
[[rule]]
id = "a"
row = 0
from = "sever"
to = { names = [] }
to_title = "Ink"
ports = "443,"
app = "https"
requirement = "conditional"
purpose = "x"
[[rule]]
id = "a"
row = 1
from = "server"
to = { tag = "Sql.<regoin>", role = "server" }
to_title = "Sql"
transport = "icmp"
ports = 443
requirement = "required"
condition = "color"
purpose = "x"
[[rule]]
id = "b"
row = 1
from = "server"
to = { }
to_title = "Nothing"
ports = 443
requirement = "must"
purpose = "x"
[[alias]]
id = "c"
of = "zz"
names = ["*"]
source = "x"
[[rul]]
"#;
        let problems = Matrix::parse(&[("p.toml", text)], ServiceTags::bundled()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let expected = [
            ("p.toml:2:6:", "`Printers` is no identifier"),
            ("p.toml:3:8:", "`page` is empty"),
            ("p.toml:5:7:", "begins with https://"),
            ("p.toml:6:8:", "`2026-02-30` is no day"),
            ("p.toml:7:1:", "unknown key in [pack] `verson`"),
            ("p.toml:11:11:", "`subject` is a string"),
            (
                "p.toml:19:9:",
                "unknown meaning of an unset condition `of`: write one of applies, off (did you mean `off`?)",
            ),
            ("p.toml:22:7:", "`row` counts the rows"),
            ("p.toml:23:8:", "unknown role `sever`: write one of server (did you mean `server`?)"),
            ("p.toml:24:16:", "`names` is empty"),
            ("p.toml:26:9:", "is not a port"),
            ("p.toml:27:7:", "unknown application `https`"),
            ("p.toml:28:15:", "names its condition"),
            ("p.toml:31:6:", "rule `a` is defined twice"),
            ("p.toml:34:14:", "is no service tag"),
            ("p.toml:37:9:", "icmp has no ports"),
            ("p.toml:39:13:", "unknown condition `color`"),
            ("p.toml:39:13:", "a required rule has no condition"),
            ("p.toml:45:6:", "write exactly one"),
            ("p.toml:48:15:", "unknown requirement `must`: write one of required, optional, conditional"),
            ("p.toml:53:10:", "no literal label"),
            ("p.toml:55:3:", "unknown key in the rules file `rul`"),
        ];
        for (place, what) in expected {
            assert!(
                told.iter().any(|t| t.starts_with(place) && t.contains(what)),
                "{place} {what} is not in\n{}",
                told.join("\n")
            );
        }
        assert_eq!(told.len(), expected.len(), "\n{}", told.join("\n"));
    }

    #[test]
    fn packs_that_contradict_each_other_are_refused() {
        let other =
            PRINTERS.replace("id = \"printers\"", "id = \"others\"").replace("\"off\"", "\"applies\"");
        let problems =
            Matrix::parse(&[("a.toml", PRINTERS), ("b.toml", &other)], ServiceTags::bundled()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            told.iter().any(|t| t.starts_with("b.toml:18:6: rule print-1 stands in a.toml already")),
            "{told:#?}"
        );
        assert!(told.iter().any(|t| t.contains("condition `colour` means something else")), "{told:#?}");
        let problems = Matrix::parse(&[("a.toml", PRINTERS), ("b.toml", PRINTERS)], ServiceTags::bundled());
        assert!(problems.unwrap_err()[0].to_string().contains("pack `printers` is a.toml already"));
    }

    #[test]
    fn a_condition_that_needs_itself_is_refused() {
        let circle = PRINTERS.replace("unset = \"off\"", "unset = \"off\"\nneeds = \"colour\"");
        let problems = Matrix::parse(&[("a.toml", &circle)], ServiceTags::bundled()).unwrap_err();
        assert!(problems[0].to_string().contains("condition `colour` needs itself"), "{problems:?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_and_a_broken_one_are_both_told() {
        let missing = PathBuf::from("/nonexistent/x.toml");
        let problems = Matrix::load(&[missing], &["/nonexistent/tags.json".into()]).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told.iter().all(|t| t.contains("cannot be read")), "{told:#?}");
        let built_in = Matrix::load(&[PathBuf::from("veeam-vbazure-ports")], &[]).unwrap();
        assert_eq!(built_in.rules().len(), Matrix::builtin().rules().len());
    }
}
