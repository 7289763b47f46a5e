//! Reading one rules file.
//!
//! Every file may hold every section: `[pack]`, `[[role]]`, `[[condition]]`, `[[rule]]`, `[[baseline]]`, `[[service]]`, and,
//! where `overlay_of` names another pack, `[[supplied]]`, `[[inferred_app]]` and `[[alias]]`. What a page states and what we
//! add to it can so stand in separate files.

use super::baseline::{BaselineClass, BaselineLine, BaselinePeer, Direction};
use super::date::CalendarDate;
use super::rule::{
    Citation, Cloud, ConditionDef, ConditionId, Destination, NamesKey, PackId, PackInfo, Requirement,
    RoleDef, RoleId, Rule, RuleApp, RuleId, RuleKind, Service, ServiceNames, TagName, Zone,
};
use super::source::{
    Doc, Fields, Mistakes, Problem, Severity, Span, Text, article, parsed, text_of, texts_of, word,
};
use crate::model::{AppProtocol, DomainPattern, PortSet, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::de::DeValue;

/// A rules file as read, before it is joined with others.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) doc: Arc<Doc>,
    pub(super) info: PackInfo,
    pub(super) roles: Vec<RoleDef>,
    pub(super) conditions: Vec<ConditionDef>,
    pub(super) rules: Vec<Rule>,
    pub(super) baseline: Vec<BaselineLine>,
    pub(super) services: Vec<Service>,
    pub(super) overlay: Overlay,
    /// Where each rule, baseline line and role stands.
    pub(super) spans: BTreeMap<String, Span>,
    /// Names of rules that are there but broken: references to them are no mistakes of their own.
    pub(super) broken_rules: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

/// What a pack adds to another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    pub(super) supplied: Vec<Supplied>,
    pub(super) apps: Vec<InferredApp>,
    pub(super) aliases: Vec<Alias>,
}

/// Names for a product that the page leaves unnamed.
#[derive(Clone, Debug)]
pub(super) struct Supplied {
    pub(super) key: NamesKey,
    pub(super) span: Span,
    pub(super) names: Vec<DomainPattern>,
    pub(super) source: String,
}

/// An application protocol that the page does not name.
#[derive(Clone, Debug)]
pub(super) struct InferredApp {
    pub(super) rules: Vec<(RuleId, Span)>,
    pub(super) app: AppProtocol,
    pub(super) source: String,
}

/// Another name of a documented destination.
#[derive(Clone, Debug)]
pub(super) struct Alias {
    pub(super) id: RuleId,
    pub(super) id_span: Span,
    pub(super) of: RuleId,
    pub(super) of_span: Span,
    pub(super) names: Vec<DomainPattern>,
    pub(super) cloud: Option<Cloud>,
    pub(super) note: Option<String>,
    pub(super) source: String,
}

/// Reads a pack. `None` if the file is not TOML or has no sound `[pack]`; the problems tell.
pub(super) fn read(doc: Doc, built_in: bool) -> Result<Pack, Vec<Problem>> {
    let doc = Arc::new(doc);
    let mut m = Mistakes::new(&doc);
    let Some(root) = m.parse() else { return Err(m.problems) };
    if root.get_ref().contains_key("site") && !root.get_ref().contains_key("pack") {
        m.error(&(0..0), "this is a site file, no rules pack: give it with --site");
        return Err(m.problems);
    }
    let mut top = Fields::new(root.get_ref(), 0..0, "the rules file");
    let info = match top.need("pack", &mut m).and_then(|value| Fields::of(value, "[pack]", &mut m)) {
        Some(fields) => pack_info(fields, built_in, &mut m),
        None => None,
    };
    let mut reader = Reader { m, spans: BTreeMap::new(), broken: BTreeSet::new() };
    let m = &mut reader.m;
    let role_tables = top.tables("role", "[[role]]", m);
    let condition_tables = top.tables("condition", "[[condition]]", m);
    let rule_tables = top.tables("rule", "[[rule]]", m);
    let baseline_tables = top.tables("baseline", "[[baseline]]", m);
    let service_tables = top.tables("service", "[[service]]", m);
    let supplied_tables = top.tables("supplied", "[[supplied]]", m);
    let app_tables = top.tables("inferred_app", "[[inferred_app]]", m);
    let alias_tables = top.tables("alias", "[[alias]]", m);
    top.done(m);

    let roles: Vec<RoleDef> = role_tables.into_iter().filter_map(|t| reader.role(t)).collect();
    let conditions = reader.conditions(condition_tables);
    // A broken [pack] must not hide the mistakes of the rules below it.
    let cited = info.clone().unwrap_or_else(|| placeholder_info(&doc));
    let mut rules = Vec::new();
    for table in rule_tables {
        rules.extend(reader.rule(table, &cited, &roles, &conditions));
    }
    let baseline = baseline_tables.into_iter().filter_map(|t| reader.baseline(t)).collect();
    let services = service_tables.into_iter().filter_map(|t| reader.service(t)).collect();
    let overlay = Overlay {
        supplied: supplied_tables.into_iter().filter_map(|t| reader.supplied(t)).collect(),
        apps: app_tables.into_iter().filter_map(|t| reader.inferred_app(t)).collect(),
        aliases: alias_tables.into_iter().filter_map(|t| reader.alias(t)).collect(),
    };
    let Reader { m, spans, broken } = reader;
    let problems = m.problems;
    match info {
        Some(info) => Ok(Pack {
            info,
            roles,
            conditions,
            rules,
            baseline,
            services,
            overlay,
            spans,
            broken_rules: broken,
            problems,
            doc: doc.clone(),
        }),
        None => Err(problems),
    }
}

fn placeholder_info(doc: &Doc) -> PackInfo {
    PackInfo {
        // A literal that is an identifier.
        id: "broken".parse().unwrap_or_else(|_| unreachable!("`broken` is an identifier")),
        page: "".into(),
        url: None,
        page_date: "".into(),
        date: None,
        product: String::new(),
        product_version: "".into(),
        overlay_of: None,
        file: doc.file.clone(),
        sha256: String::new(),
        built_in: false,
    }
}

fn pack_info(mut fields: Fields<'_, '_>, built_in: bool, m: &mut Mistakes<'_>) -> Option<PackInfo> {
    let id = fields.need_parsed::<PackId>("id", m);
    let page = fields.need_text("page", m).map(|t| t.text.into());
    let product = fields.need_text("product", m).map(|t| t.text.to_owned());
    let url = fields.text("url", m);
    if let Some(url) = &url
        && !url.text.starts_with("https://")
        && !url.text.starts_with("http://")
    {
        m.error(&url.span, "the address of a page begins with https://");
    }
    let page_date = fields.text("page_date", m).map_or("", |t| t.text);
    let version = fields.text("product_version", m).map_or("", |t| t.text);
    let date = match fields.value("date") {
        Some(value) => calendar_date(value, "date", m),
        None => None,
    };
    let overlay_of = fields.parsed::<PackId>("overlay_of", m);
    fields.done(m);
    Some(PackInfo {
        id: id?,
        page: page?,
        url: url.map(|t| t.text.to_owned()),
        page_date: page_date.into(),
        date,
        product: product?,
        product_version: version.into(),
        overlay_of,
        file: super::source::shown(&m.doc.file),
        sha256: super::sha256_hex(m.doc.text.as_bytes()),
        built_in,
    })
}

/// A day, written as TOML date or as text.
pub(super) fn calendar_date(
    value: &toml::Spanned<DeValue<'_>>,
    key: &str,
    m: &mut Mistakes<'_>,
) -> Option<CalendarDate> {
    if let Some(datetime) = value.get_ref().as_datetime() {
        let day = match (datetime.date, datetime.time) {
            (Some(date), None) => CalendarDate::new(date.year, date.month, date.day),
            _ => None,
        };
        if day.is_none() {
            m.error(&value.span(), format!("`{key}` is no day: write {key} = 2026-01-06, without a time"));
        }
        return day;
    }
    parsed(&text_of(value, key, m)?, m)
}

/// A port, ports or ranges: a number or a text.
pub(super) fn port_set(
    value: &toml::Spanned<DeValue<'_>>,
    key: &str,
    m: &mut Mistakes<'_>,
) -> Option<PortSet> {
    let (text, span) = match value.get_ref() {
        DeValue::Integer(number) => (number.to_string(), value.span()),
        DeValue::String(text) => (text.to_string(), value.span()),
        other => {
            let found = article(other.type_str());
            m.error(&value.span(), format!("`{key}` is {found}: write \"443\" or \"1433, 11000-11999\""));
            return None;
        }
    };
    match text.parse() {
        Ok(ports) => Some(ports),
        Err(error) => {
            m.error(&span, super::source::shown(&error.to_string()));
            None
        }
    }
}

struct Reader<'d> {
    m: Mistakes<'d>,
    spans: BTreeMap<String, Span>,
    broken: BTreeSet<String>,
}

impl Reader<'_> {
    /// Remembers where `id` stands; the same name twice is a mistake.
    fn register(&mut self, kind: &str, id: &str, span: &Span) -> bool {
        let key = format!("{kind} {id}");
        if self.spans.contains_key(&key) {
            self.m.error(
                span,
                format!("{kind} `{id}` is defined twice in this file: name the second otherwise"),
            );
            return false;
        }
        self.spans.insert(key, span.clone());
        true
    }

    fn id<T>(&mut self, fields: &mut Fields<'_, '_>, kind: &str) -> Option<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text = fields.need_text("id", &mut self.m)?;
        let id = parsed(&text, &mut self.m)?;
        self.register(kind, text.text, &text.span).then_some(id)
    }

    fn role(&mut self, mut fields: Fields<'_, '_>) -> Option<RoleDef> {
        let id: Option<RoleId> = self.id(&mut fields, "role");
        let m = &mut self.m;
        let title = fields.need_text("title", m).map(|t| t.text.to_owned());
        let subject = fields.need("subject", m).is_some();
        let flag = fields.flag("subject", m);
        let also_covered_by = fields.text("also_covered_by", m).map(|t| t.text.to_owned());
        fields.done(m);
        Some(RoleDef { id: id?, title: title?, subject: flag.filter(|_| subject)?, also_covered_by })
    }

    fn conditions(&mut self, tables: Vec<Fields<'_, '_>>) -> Vec<ConditionDef> {
        let mut conditions: Vec<ConditionDef> = Vec::new();
        let mut needs: Vec<(ConditionId, Text<'_>)> = Vec::new();
        for mut fields in tables {
            let id: Option<ConditionId> = self.id(&mut fields, "condition");
            let m = &mut self.m;
            let title = fields.need_text("title", m).map(|t| t.text.to_owned());
            let unset = fields.need_text("unset", m).and_then(|t| {
                word(&t, "meaning of an unset condition", &[("applies", true), ("off", false)], m)
            });
            let needed = fields.text("needs", m);
            fields.done(m);
            let (Some(id), Some(title), Some(applies_unset)) = (id, title, unset) else { continue };
            let needed_id = needed.as_ref().and_then(|text| parsed(text, m));
            needs.extend(needed.map(|text| (id.clone(), text)));
            conditions.push(ConditionDef { id, title, applies_unset, needs: needed_id });
        }
        for (id, text) in needs {
            if !conditions.iter().any(|c| c.id.as_str() == text.text) {
                let known: Vec<&str> = conditions.iter().map(|c| c.id.as_str()).collect();
                self.m.unknown(&text.span, "condition", text.text, known);
            } else if needs_itself(&conditions, &id) {
                self.m.error(&text.span, format!("condition `{id}` needs itself, by way of `{}`", text.text));
                // Cut the circle: whoever follows `needs` must come to an end.
                conditions.iter_mut().filter(|c| c.id == id).for_each(|c| c.needs = None);
            }
        }
        conditions
    }

    fn rule(
        &mut self,
        mut fields: Fields<'_, '_>,
        info: &PackInfo,
        roles: &[RoleDef],
        conditions: &[ConditionDef],
    ) -> Option<Rule> {
        let id_text = fields.text("id", &mut self.m).map(|t| t.text.to_owned());
        let id: Option<RuleId> = self.id(&mut fields, "rule");
        let rule = self.rule_body(&mut fields, info, roles, conditions);
        fields.done(&mut self.m);
        match (id, rule) {
            (Some(id), Some(rule)) => Some(Rule { id, ..rule }),
            (_, _) => {
                self.broken.extend(id_text);
                None
            }
        }
    }

    fn rule_body(
        &mut self,
        fields: &mut Fields<'_, '_>,
        info: &PackInfo,
        roles: &[RoleDef],
        conditions: &[ConditionDef],
    ) -> Option<Rule> {
        let m = &mut self.m;
        let row = fields.need("row", m).and_then(|value| {
            let row = value.get_ref().as_integer().and_then(|n| n.to_string().parse::<u32>().ok());
            if row.is_none_or(|row| row == 0) {
                m.error(&value.span(), "`row` counts the rows of the page's table from 1: write a number");
            }
            row.filter(|&row| row > 0)
        });
        let from = fields.need_text("from", m).and_then(|text| role_ref(&text, roles, m));
        let from_title = fields.text("from_title", m).map(|t| t.text.to_owned());
        let to_title = fields.need_text("to_title", m).map(|t| t.text.to_owned());
        let to = fields
            .need("to", m)
            .and_then(|value| Fields::of(value, "the destination `to`", m))
            .and_then(|table| destination(table, roles, m));
        let transport: Option<Transport> = match fields.text("transport", m) {
            Some(text) => parsed(&text, m),
            None => Some(Transport::Tcp),
        };
        let ports = fields.value("ports");
        let ports = match (transport, ports) {
            (Some(transport), Some(value)) if !transport.has_ports() => {
                m.error(&value.span(), format!("{transport} has no ports: leave `ports` out"));
                None
            }
            (_, Some(value)) => port_set(value, "ports", m),
            (Some(transport), None) if !transport.has_ports() => "1-65535".parse().ok(),
            (Some(_), None) => {
                m.error(&fields.span, "[[rule]] has no `ports`: add `ports = \"443\"`");
                None
            }
            (None, None) => None,
        };
        let words = AppProtocol::ALL.map(|app| (app.as_str(), app));
        let app_text = fields.text("app", m);
        let app = app_text.as_ref().and_then(|text| word(text, "application", &words, m));
        let requirement_text = fields.need_text("requirement", m);
        let requirement =
            requirement_text.as_ref().and_then(|text| word(text, "requirement", &Requirement::WORDS, m));
        let condition_text = fields.text("condition", m);
        let condition = condition_text.as_ref().and_then(|text| {
            let known = conditions.iter().find(|c| c.id.as_str() == text.text);
            if known.is_none() {
                m.unknown(&text.span, "condition", text.text, conditions.iter().map(|c| c.id.as_str()));
            }
            known.map(|c| c.id.clone())
        });
        match (requirement, &condition_text, &requirement_text) {
            (Some(Requirement::Conditional), None, Some(at)) => {
                m.error(&at.span, "a conditional rule names its condition: add `condition = \"...\"`");
            }
            (Some(Requirement::Required), Some(at), _) => {
                m.error(&at.span, "a required rule has no condition: write requirement = \"conditional\"");
            }
            _ => {}
        }
        let purpose = fields.need_text("purpose", m).map(|t| t.text.to_owned());
        let note = fields.text("note", m).map(|t| t.text.to_owned());
        let cloud = fields.word("cloud", &Cloud::WORDS, m);
        let from = from?;
        let title_of = |id: &RoleId| roles.iter().find(|r| r.id == *id).map(|r| r.title.clone());
        Some(Rule {
            // The caller puts the true one in its place.
            id: "unnamed".parse().ok()?,
            citation: Citation {
                pack: info.id.clone(),
                page: info.page.clone(),
                row: row?,
                date: info.page_date.clone(),
                version: info.product_version.clone(),
            },
            from_title: from_title.or_else(|| title_of(&from))?,
            from,
            to: to?,
            to_title: to_title?,
            transport: transport?,
            app: app.map(|app| RuleApp { app, inferred: false }).filter(|_| app_text.is_some()),
            ports: ports?,
            requirement: requirement?,
            condition,
            purpose: purpose?,
            kind: RuleKind::Page,
            supplied_names: false,
            cloud,
            note,
            source: None,
        })
    }

    fn baseline(&mut self, mut fields: Fields<'_, '_>) -> Option<BaselineLine> {
        let id: Option<PackId> = self.id(&mut fields, "baseline line");
        let m = &mut self.m;
        let class = fields.need_text("class", m);
        let class = class.and_then(|t| word(&t, "class", &BaselineClass::WORDS, m));
        let directions = [("out", Direction::Out), ("in", Direction::In), ("both", Direction::Both)];
        let direction = fields.need_text("direction", m);
        let direction = direction.and_then(|t| word(&t, "direction", &directions, m));
        let peers = fields.texts("peers", m);
        let peers: Vec<BaselinePeer> = peers.iter().filter_map(|text| baseline_peer(text, m)).collect();
        let names = fields.all_parsed::<DomainPattern>("names", m);
        let transports = fields.all_parsed::<Transport>("transports", m);
        let ports = fields.value("ports").and_then(|value| port_set(value, "ports", m));
        let tallied = fields.flag("tallied", m).unwrap_or(false);
        let clouds = fields.texts("clouds", m);
        let clouds = clouds.iter().filter_map(|text| word(text, "cloud", &Cloud::WORDS, m)).collect();
        let what = fields.need_text("what", m).map(|t| t.text.to_owned());
        let source = fields.need_text("source", m).map(|t| t.text.to_owned());
        if !tallied && ((peers.is_empty() && names.is_empty()) || transports.is_empty()) {
            m.error(&fields.span, "[[baseline]] fits nothing: give `transports`, and `peers` or `names`");
        }
        fields.done(m);
        Some(BaselineLine {
            id: id?.as_str().to_owned(),
            class: class?,
            direction: direction?,
            peers,
            names,
            transports,
            ports,
            tallied,
            clouds,
            what: what?,
            source: source?,
        })
    }

    fn service(&mut self, mut fields: Fields<'_, '_>) -> Option<Service> {
        let m = &mut self.m;
        let tag = fields.need_parsed::<TagName>("tag", m);
        let title = fields.need_text("title", m).map(|t| t.text.to_owned());
        let ports = fields.value("ports").and_then(|value| port_set(value, "ports", m));
        let accounts = fields.flag("accounts", m).unwrap_or(false);
        let source = fields.need_text("source", m).map(|t| t.text.to_owned());
        let mut clouds = BTreeMap::new();
        for (key, cloud) in Cloud::WORDS {
            let Some(mut names) = fields.value(key).and_then(|v| Fields::of(v, "[service.CLOUD]", m)) else {
                continue;
            };
            let listed = ServiceNames {
                names: names.all_parsed::<DomainPattern>("names", m),
                private_zones: names.all_parsed::<Zone>("private_zones", m),
            };
            if listed.names.is_empty() {
                m.error(
                    &names.span,
                    "a cloud without names: write names = [\"...\"], or leave the cloud out",
                );
            }
            names.done(m);
            clouds.insert(cloud, listed);
        }
        if clouds.is_empty() {
            m.error(&fields.span, "[[service]] names nothing: add [service.public] with names = [\"...\"]");
        }
        fields.done(m);
        Some(Service { tag: tag?, title: title?, ports, accounts, clouds, source: source? })
    }

    fn supplied(&mut self, mut fields: Fields<'_, '_>) -> Option<Supplied> {
        let m = &mut self.m;
        let key = fields.need_text("key", m);
        let names = need_names(&mut fields, m);
        let source = fields.need_text("source", m).map(|t| t.text.to_owned());
        fields.done(m);
        let key = key?;
        Some(Supplied { key: parsed(&key, m)?, span: key.span, names: names?, source: source? })
    }

    fn inferred_app(&mut self, mut fields: Fields<'_, '_>) -> Option<InferredApp> {
        let m = &mut self.m;
        let words = AppProtocol::ALL.map(|app| (app.as_str(), app));
        let app = fields.need_text("app", m).and_then(|t| word(&t, "application", &words, m));
        let rules = match fields.need("rules", m) {
            Some(value) => texts_of(value, "rules", m),
            None => Vec::new(),
        };
        let rules = rules.iter().filter_map(|t| Some((parsed(t, m)?, t.span.clone()))).collect();
        let source = fields.need_text("source", m).map(|t| t.text.to_owned());
        fields.done(m);
        Some(InferredApp { rules, app: app?, source: source? })
    }

    fn alias(&mut self, mut fields: Fields<'_, '_>) -> Option<Alias> {
        let id_span = fields.text("id", &mut self.m).map(|t| t.span);
        let id: Option<RuleId> = self.id(&mut fields, "rule");
        let m = &mut self.m;
        let of = fields.need_text("of", m);
        let names = need_names(&mut fields, m);
        let cloud = fields.word("cloud", &Cloud::WORDS, m);
        let note = fields.text("note", m).map(|t| t.text.to_owned());
        let source = fields.need_text("source", m).map(|t| t.text.to_owned());
        fields.done(m);
        let of = of?;
        Some(Alias {
            id: id?,
            id_span: id_span?,
            of: parsed(&of, m)?,
            of_span: of.span,
            names: names?,
            cloud,
            note,
            source: source?,
        })
    }
}

fn needs_itself(conditions: &[ConditionDef], start: &ConditionId) -> bool {
    let step = |id: &ConditionId| conditions.iter().find(|c| c.id == *id).and_then(|c| c.needs.clone());
    let mut at = step(start);
    for _ in 0..conditions.len() {
        match at {
            Some(id) if id == *start => return true,
            Some(id) => at = step(&id),
            None => return false,
        }
    }
    // A circle further along: it is told at the condition that closes it.
    false
}

fn need_names(fields: &mut Fields<'_, '_>, m: &mut Mistakes<'_>) -> Option<Vec<DomainPattern>> {
    let value = fields.need("names", m)?;
    let texts = texts_of(value, "names", m);
    if texts.is_empty() && value.get_ref().is_array() {
        m.error(&value.span(), "`names` is empty: write at least one name");
    }
    let names: Vec<DomainPattern> = texts.iter().filter_map(|text| parsed(text, m)).collect();
    (!names.is_empty()).then_some(names)
}

fn role_ref(text: &Text<'_>, roles: &[RoleDef], m: &mut Mistakes<'_>) -> Option<RoleId> {
    let known = roles.iter().find(|role| role.id.as_str() == text.text);
    if known.is_none() {
        m.unknown(&text.span, "role", text.text, roles.iter().map(|role| role.id.as_str()));
    }
    known.map(|role| role.id.clone())
}

fn destination(mut table: Fields<'_, '_>, roles: &[RoleDef], m: &mut Mistakes<'_>) -> Option<Destination> {
    let span = table.span.clone();
    let before = m.problems.len();
    let mut found: Vec<Destination> = Vec::new();
    if let Some(text) = table.text("role", m) {
        found.extend(role_ref(&text, roles, m).map(Destination::Role));
    }
    if table.value("names").is_some() {
        found.extend(need_names(&mut table, m).map(Destination::Names));
    }
    let key = table.parsed::<NamesKey>("site_names", m);
    found.extend(key.map(|key| Destination::SiteNames { key, default: Vec::new() }));
    let tag = table.parsed::<TagName>("tag", m);
    found.extend(tag.map(|tag| Destination::Tag { tag, services: Vec::new() }));
    if let Some(text) = table.text("site_role", m) {
        let role = role_ref(&text, roles, m);
        let key = text.text.parse::<NamesKey>().ok();
        found.extend(role.zip(key).map(|(role, key)| Destination::SiteDefined { role, key }));
    }
    if table.flag("virtual_network", m) == Some(true) {
        found.push(Destination::VirtualNetwork);
    }
    table.done(m);
    if found.len() != 1 && m.problems.len() == before {
        m.error(
            &span,
            "a destination is one of { role = \"...\" }, { names = [\"...\"] }, { site_names = \"...\" }, \
             { site_role = \"...\" }, { tag = \"...\" } or { virtual_network = true }: write exactly one",
        );
        return None;
    }
    found.pop()
}

fn baseline_peer(text: &Text<'_>, m: &mut Mistakes<'_>) -> Option<BaselinePeer> {
    match text.text {
        "site-resolvers" => Some(BaselinePeer::SiteResolvers),
        "site-time-servers" => Some(BaselinePeer::SiteTimeServers),
        "internet" => Some(BaselinePeer::Internet),
        "anyone" => Some(BaselinePeer::Anyone),
        other => match super::place::parse_prefix(other) {
            Ok(net) => Some(BaselinePeer::Prefix(net)),
            Err(message) => {
                let words = "site-resolvers, site-time-servers, internet, anyone";
                m.error(&text.span, format!("{message}; or one of {words}"));
                None
            }
        },
    }
}

/// What is sound, yet probably not meant: for `rules lint`.
pub(super) fn lint(pack: &Pack) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |key: String, message: String| {
        let span = pack.spans.get(&key).cloned().unwrap_or(0..0);
        warnings.push(pack.doc.problem(Severity::Warning, &span, message));
    };
    for role in &pack.roles {
        let used = pack.rules.iter().any(|rule| {
            rule.from == role.id
                || match &rule.to {
                    Destination::Role(to) | Destination::SiteDefined { role: to, .. } => *to == role.id,
                    Destination::Names(_)
                    | Destination::SiteNames { .. }
                    | Destination::Tag { .. }
                    | Destination::VirtualNetwork => false,
                }
        });
        // A proxy has no row of its own: it stands in for the destinations of others.
        if !used && role.id.as_str() != super::HTTP_PROXY_ROLE {
            warn(format!("role {}", role.id), format!("no rule speaks of role `{}`: leave it out", role.id));
        }
    }
    for condition in &pack.conditions {
        let used = pack.rules.iter().any(|rule| rule.condition.as_ref() == Some(&condition.id))
            || pack.conditions.iter().any(|other| other.needs.as_ref() == Some(&condition.id));
        if !used {
            let message = format!("no rule depends on condition `{}`: leave it out", condition.id);
            warn(format!("condition {}", condition.id), message);
        }
    }
    for (index, rule) in pack.rules.iter().enumerate() {
        let key = format!("rule {}", rule.id);
        if let Some(twin) = pack.rules[..index].iter().find(|other| other.same_traffic(rule)) {
            let message = format!("same traffic as `{}`: the two can only be observed together", twin.id);
            warn(key.clone(), message);
        }
        let version = &pack.info.product_version;
        if (pack.info.page_date.is_empty() || pack.info.date.is_none() || version.is_empty()) && index == 0 {
            warn(key, "the pack cites a page without page_date, date or product_version: add them".into());
        }
    }
    let rows: BTreeSet<u32> = pack.rules.iter().map(|rule| rule.citation.row).collect();
    let last = rows.last().copied().unwrap_or(0);
    // A table of a page has hundreds of rows at most; beyond, a slip in `row` is likelier than that many gaps.
    let gaps: Vec<String> =
        (1..=last.min(2_000)).filter(|row| !rows.contains(row)).map(|row| row.to_string()).take(20).collect();
    if !gaps.is_empty() && pack.broken_rules.is_empty() {
        let message =
            format!("no rule cites row {} of the page, though rows up to {last} are cited", gaps.join(", "));
        warnings.push(pack.doc.problem(Severity::Warning, &(0..0), message));
    }
    warnings
}
