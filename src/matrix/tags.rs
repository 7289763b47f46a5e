//! Microsoft's service tags: which published prefixes belong to which service and region.

use super::date::CalendarDate;
use super::rule::{Cloud, TagName};
use super::source::{Doc, Problem, nearest, shown};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Where service tags came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TagSource {
    /// The file.
    pub file: String,
    /// Microsoft's number of the edition.
    pub change_number: u64,
    /// The cloud it is about.
    pub cloud: Cloud,
    /// The day of the edition, from the file's name or as the user says; `None`: its age is unknown.
    pub date: Option<CalendarDate>,
    /// How many tags it holds.
    pub tags: usize,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Whether it is part of the program: whole entries of an edition, but few of them.
    pub bundled: bool,
}

/// A tag of one cloud, valid for the [`ServiceTags`] that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId {
    cloud: Cloud,
    index: u32,
}

/// All tags known, by cloud. Files of the same cloud are united: an address is in a tag if any of them says so.
#[derive(Clone, Debug, Default)]
pub struct ServiceTags {
    clouds: BTreeMap<Cloud, CloudTags>,
    sources: Vec<TagSource>,
}

#[derive(Clone, Debug, Default)]
struct CloudTags {
    tags: Vec<Tag>,
    /// By name in lower case.
    by_name: BTreeMap<String, u32>,
    v4: PrefixMap<Ipv4Net, Owners>,
    v6: PrefixMap<Ipv6Net, Owners>,
}

/// The tags of a prefix: nearly always one.
#[derive(Clone, Debug)]
struct Owners {
    first: u32,
    more: Vec<u32>,
}

impl Owners {
    fn of(first: u32) -> Self {
        Owners { first, more: Vec::new() }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }

    /// Adds a tag, if it is not there.
    fn add(&mut self, tag: u32) {
        if self.iter().all(|known| known != tag) {
            self.more.push(tag);
        }
    }
}

#[derive(Clone, Debug)]
struct Tag {
    name: String,
    region: String,
    region_id: i64,
}

/// The file as Microsoft publishes it. Keys that we do not need are let by: the format may grow.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagsFile {
    change_number: u64,
    cloud: String,
    values: Vec<TagEntry>,
}

#[derive(Deserialize)]
struct TagEntry {
    name: String,
    properties: TagProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagProperties {
    #[serde(default)]
    region: String,
    #[serde(default)]
    region_id: i64,
    address_prefixes: Vec<Prefix>,
}

/// A prefix, read while the file is: of six thousand no text is kept, but of one that is none.
enum Prefix {
    Net(IpNet),
    Broken(String),
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText;
        impl Visitor<'_> for OfText {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Prefix, E> {
                Ok(text.parse().map_or_else(|_| Prefix::Broken(text.to_owned()), Prefix::Net))
            }
        }
        deserializer.deserialize_str(OfText)
    }
}

impl ServiceTags {
    /// The tags that are part of the program: 16 whole entries of Microsoft's public edition 363.
    pub fn bundled() -> Self {
        let mut tags = ServiceTags::default();
        let doc = Doc::new(
            "built in: ServiceTags_Public_cn363_seed_subset.json",
            include_str!("../../rules/service-tags/ServiceTags_Public_cn363_seed_subset.json"),
        );
        // The edition was current on that day; Microsoft's own date is not in the file.
        let date = CalendarDate::new(2025, 7, 22);
        // A test proves that the bundled file is sound.
        let problems = tags.add(&doc, date, true);
        debug_assert!(problems.is_empty(), "{problems:?}");
        tags
    }

    /// [`ServiceTags::bundled`], read once and shared: linting many files reads them for each otherwise.
    pub(super) fn bundled_once() -> Arc<Self> {
        static BUNDLED: OnceLock<Arc<ServiceTags>> = OnceLock::new();
        BUNDLED.get_or_init(|| Arc::new(Self::bundled())).clone()
    }

    /// Reads files, each `FILE` or `FILE@DATE` (2026-01-06 or 20260106); without a date, one is taken from a name such as
    /// `ServiceTags_Public_20260105.json`. Clouds that no file covers keep the bundled tags.
    ///
    /// # Errors
    /// Every file that cannot be read or is not what Microsoft publishes, with the place.
    pub fn load(files: &[String]) -> Result<Self, Vec<Problem>> {
        let mut tags = ServiceTags::default();
        let mut problems = Vec::new();
        for given in files {
            let (path, date) = split_date(given);
            match Doc::read(Path::new(path)) {
                Ok(doc) => problems.extend(tags.add(&doc, date, false)),
                Err(problem) => problems.push(undated(given).unwrap_or(problem)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Nothing is copied: of six thousand prefixes that takes as long as reading them.
        let ServiceTags { clouds, sources } = ServiceTags::bundled();
        for (cloud, bundled) in clouds {
            if let std::collections::btree_map::Entry::Vacant(e) = tags.clouds.entry(cloud) {
                e.insert(bundled);
                tags.sources.extend(sources.iter().filter(|source| source.cloud == cloud).cloned());
            }
        }
        Ok(tags)
    }

    /// Reads one file's text, for tests and for callers that hold it.
    ///
    /// # Errors
    /// As [`ServiceTags::load`].
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut tags = ServiceTags::default();
        let (path, date) = split_date(file);
        let problems = tags.add(&Doc::new(path, text), date, false);
        if problems.is_empty() { Ok(tags) } else { Err(problems) }
    }

    fn add(&mut self, doc: &Doc, date: Option<CalendarDate>, bundled: bool) -> Vec<Problem> {
        let parsed: TagsFile = match serde_json::from_str(doc.text.trim_start_matches('\u{feff}')) {
            Ok(parsed) => parsed,
            Err(error) => {
                let message = format!(
                    "line {}, column {}: not the JSON that Microsoft publishes as service tags: {}",
                    error.line(),
                    error.column(),
                    shown(&error.to_string())
                );
                return vec![Problem::of_file(&doc.file, message)];
            }
        };
        let cloud = match parsed.cloud.to_ascii_lowercase().as_str() {
            "public" => Cloud::Public,
            "azuregovernment" => Cloud::UsGov,
            "azurechina" | "azurechinacloud" => Cloud::China,
            _ => {
                let message = format!(
                    "unknown cloud `{}`: Microsoft writes Public, AzureGovernment or AzureChina",
                    shown(&parsed.cloud)
                );
                return vec![Problem::of_file(&doc.file, message)];
            }
        };
        let mut problems = Vec::new();
        let into = self.clouds.entry(cloud).or_default();
        let count = parsed.values.len();
        for entry in parsed.values {
            let key = entry.name.to_ascii_lowercase();
            let fresh = u32::try_from(into.tags.len()).unwrap_or(u32::MAX);
            let index = *into.by_name.entry(key).or_insert(fresh);
            if index == fresh {
                into.tags.push(Tag {
                    name: entry.name.clone(),
                    region: entry.properties.region.to_ascii_lowercase(),
                    region_id: entry.properties.region_id,
                });
            }
            for prefix in &entry.properties.address_prefixes {
                let owners = match prefix {
                    Prefix::Net(IpNet::V4(net)) => into.v4.entry(net.trunc()).or_insert(Owners::of(index)),
                    Prefix::Net(IpNet::V6(net)) => into.v6.entry(net.trunc()).or_insert(Owners::of(index)),
                    Prefix::Broken(_) if problems.len() >= super::source::MOST_TOLD => continue,
                    Prefix::Broken(text) => {
                        let at = doc.text.find(text.as_str()).unwrap_or_default();
                        let message = format!(
                            "`{}` in tag {} is no prefix such as 20.36.107.192/27",
                            shown(text),
                            shown(&entry.name)
                        );
                        let span = at..at + text.len();
                        problems.push(doc.problem(super::source::Severity::Error, &span, message));
                        continue;
                    }
                };
                owners.add(index);
            }
        }
        self.sources.push(TagSource {
            file: shown(&doc.file),
            change_number: parsed.change_number,
            cloud,
            date,
            tags: count,
            sha256: super::sha256_hex(doc.text.as_bytes()),
            bundled,
        });
        problems
    }

    /// The file that `FILE` or `FILE@DATE` means.
    pub fn path_of(given: &str) -> &str {
        split_date(given).0
    }

    /// Where the tags came from.
    pub fn sources(&self) -> &[TagSource] {
        &self.sources
    }

    /// Whether any tag of that cloud is known.
    pub fn has_cloud(&self, cloud: Cloud) -> bool {
        self.clouds.contains_key(&cloud)
    }

    /// A tag by its whole name, letter case aside.
    pub fn find(&self, cloud: Cloud, name: &str) -> Option<TagId> {
        let index = *self.clouds.get(&cloud)?.by_name.get(&name.to_ascii_lowercase())?;
        Some(TagId { cloud, index })
    }

    /// The tag of one region of a service: by the region's code as Azure's resource manager spells it ("westeurope",
    /// "francecentral") or as the file's `region` field does ("centralfrance").
    pub fn regional(&self, cloud: Cloud, base: &str, region: &str) -> Option<TagId> {
        let tags = self.clouds.get(&cloud)?;
        if let Some(id) = self.find(cloud, &format!("{base}.{region}")) {
            return Some(id);
        }
        let region = region.to_ascii_lowercase();
        let part = |tag: &Tag| tag.name.split_once('.').map(|(_, part)| part.to_ascii_lowercase());
        // Names are irregular (AzureCloud.centralfrance, Storage.FranceCentral); the numeric id joins them.
        let of_region =
            |tag: &&Tag| tag.region_id != 0 && (tag.region == region || part(tag).as_ref() == Some(&region));
        let region_id = tags.tags.iter().find(of_region)?.region_id;
        let base = base.to_ascii_lowercase();
        let candidates = tags.tags.iter().enumerate().filter(|(_, tag)| {
            tag.region_id == region_id
                && tag.name.split_once('.').is_some_and(|(service, _)| service.eq_ignore_ascii_case(&base))
        });
        // Staging rings share their region's id and have the longer name (Sql.EastUS2Stage).
        let (index, _) = candidates.min_by_key(|(_, tag)| (tag.name.len(), tag.name.clone()))?;
        Some(TagId { cloud, index: u32::try_from(index).ok()? })
    }

    /// The tag that a rule means at a site.
    ///
    /// # Errors
    /// Why it cannot be told: no tags of the cloud, no region, or no such tag in the files.
    pub fn resolve(&self, cloud: Cloud, tag: &TagName, region: Option<&str>) -> Result<TagId, String> {
        if !self.has_cloud(cloud) {
            return Err(format!(
                "no service tags of the {cloud} cloud are loaded: give them with --service-tags"
            ));
        }
        let found = match (tag.is_regional(), region) {
            (false, _) => self.find(cloud, tag.as_str()),
            (true, Some(region)) => self.regional(cloud, tag.base(), region),
            (true, None) => return Err(format!("the site names no region to fill in {tag}")),
        };
        found.ok_or_else(|| {
            let here =
                region.filter(|_| tag.is_regional()).map(|r| format!(" for region {r}")).unwrap_or_default();
            format!(
                "the service tags loaded hold no {tag}{here}: give Microsoft's whole file with --service-tags"
            )
        })
    }

    /// The tag's name, as Microsoft writes it.
    pub fn name(&self, tag: TagId) -> &str {
        let tags = self.clouds.get(&tag.cloud);
        tags.and_then(|tags| tags.tags.get(tag.index as usize)).map_or("", |tag| &tag.name)
    }

    /// All prefixes of the tag, ascending, those of IPv4 first.
    pub fn prefixes(&self, tag: TagId) -> Vec<IpNet> {
        let Some(tags) = self.clouds.get(&tag.cloud) else { return Vec::new() };
        let owned = |owners: &Owners| owners.iter().any(|index| index == tag.index);
        let v4 = tags.v4.iter().filter(|(_, owners)| owned(owners)).map(|(net, _)| IpNet::V4(net));
        let v6 = tags.v6.iter().filter(|(_, owners)| owned(owners)).map(|(net, _)| IpNet::V6(net));
        let mut prefixes: Vec<IpNet> = v4.chain(v6).collect();
        prefixes.sort();
        prefixes
    }

    /// Whether `ip` lies in any prefix of the tag, however wide; prefixes of other tags in between do not hide it.
    pub fn contains(&self, tag: TagId, ip: IpAddr) -> bool {
        self.clouds.get(&tag.cloud).is_some_and(|tags| tags.owners(ip).any(|index| index == tag.index))
    }

    /// All tags whose prefixes hold `ip`, by name.
    pub fn tags_of(&self, cloud: Cloud, ip: IpAddr) -> Vec<TagId> {
        let Some(tags) = self.clouds.get(&cloud) else { return Vec::new() };
        let mut found: Vec<TagId> = tags.owners(ip).map(|index| TagId { cloud, index }).collect();
        found.sort_by(|a, b| self.name(*a).cmp(self.name(*b)));
        found.dedup();
        found
    }

    /// The region codes of a cloud, as the files' `region` fields and the tags' names spell them, in lower case.
    pub fn regions(&self, cloud: Cloud) -> Vec<String> {
        let tags = self.clouds.get(&cloud).into_iter().flat_map(|tags| &tags.tags);
        let regional = tags.filter(|tag| tag.region_id != 0);
        let mut regions: Vec<String> = regional
            .flat_map(|tag| {
                let part = tag.name.rsplit_once('.').map(|(_, part)| part.to_ascii_lowercase());
                [Some(tag.region.clone()), part]
            })
            .flatten()
            .filter(|region| !region.is_empty())
            .collect();
        regions.sort();
        regions.dedup();
        regions
    }

    /// A tag whose name is close to an unknown one.
    pub(super) fn nearest_name(&self, cloud: Cloud, name: &str) -> Option<&str> {
        let tags = self.clouds.get(&cloud)?;
        nearest(name, &tags.tags.iter().map(|tag| tag.name.as_str()).collect::<Vec<_>>())
    }
}

impl CloudTags {
    /// The tags of every prefix that covers `ip`.
    fn owners(&self, ip: IpAddr) -> Box<dyn Iterator<Item = u32> + '_> {
        match ip {
            IpAddr::V4(ip) => {
                Box::new(self.v4.cover(&Ipv4Net::from(ip)).flat_map(|(_, owners)| owners.iter()))
            }
            IpAddr::V6(ip) => {
                Box::new(self.v6.cover(&Ipv6Net::from(ip)).flat_map(|(_, owners)| owners.iter()))
            }
        }
    }
}

/// The mistake in `FILE@DATE` where there is the file, and what stands behind the `@` is no date.
fn undated(given: &str) -> Option<Problem> {
    let (path, date) = given.rsplit_once('@')?;
    let error = date.parse::<CalendarDate>().err()?;
    Path::new(path).exists().then(|| Problem::of_file(path, format!("the date behind the `@`: {error}")))
}

/// `FILE@DATE` or `FILE`: the path, and the date that the user or the file's name gives.
fn split_date(given: &str) -> (&str, Option<CalendarDate>) {
    if let Some((path, date)) = given.rsplit_once('@')
        && let Ok(date) = date.parse()
    {
        return (path, Some(date));
    }
    let name = Path::new(given).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let date = name.rsplit_once('_').filter(|(front, _)| front.starts_with("ServiceTags_"));
    (given, date.and_then(|(_, date)| date.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &str = r#"{"changeNumber": 7, "cloud": "Public", "values": [
        {"name": "Storage", "id": "Storage", "properties": {"region": "", "regionId": 0, "addressPrefixes": ["20.0.0.0/8", "2603::/16"]}},
        {"name": "Storage.FranceCentral", "id": "", "properties": {"region": "centralfrance", "regionId": 31, "addressPrefixes": ["20.1.0.0/16"]}},
        {"name": "Sql.FranceCentral", "id": "", "properties": {"region": "centralfrance", "regionId": 31, "addressPrefixes": ["20.1.2.0/24"]}},
        {"name": "Sql.EastUS2", "id": "", "properties": {"region": "eastus2", "regionId": 33, "addressPrefixes": ["20.9.0.0/24"]}},
        {"name": "Sql.EastUS2Stage", "id": "", "properties": {"region": "eastus2", "regionId": 33, "addressPrefixes": ["20.9.1.0/24"]}},
        {"name": "AzureCloud.centralfrance", "id": "", "properties": {"region": "centralfrance", "regionId": 31, "addressPrefixes": ["20.1.0.0/16"]}}
    ]}"#;

    #[test]
    fn a_tag_holds_an_address_that_narrower_prefixes_of_other_tags_hold_too() {
        let tags = ServiceTags::parse("t.json", NESTED).unwrap();
        let names = |ip: &str| -> Vec<&str> {
            tags.tags_of(Cloud::Public, ip.parse().unwrap()).iter().map(|&id| tags.name(id)).collect()
        };
        assert_eq!(
            names("20.1.2.3"),
            ["AzureCloud.centralfrance", "Sql.FranceCentral", "Storage", "Storage.FranceCentral"]
        );
        assert_eq!(names("20.2.0.1"), ["Storage"]);
        assert_eq!(names("2603::1"), ["Storage"]);
        assert!(names("21.0.0.1").is_empty());
        let storage = tags.find(Cloud::Public, "sTORAGE").unwrap();
        assert!(tags.contains(storage, "20.1.2.3".parse().unwrap()));
        assert!(!tags.contains(storage, "168.63.129.16".parse().unwrap()));
        assert!(tags.find(Cloud::UsGov, "Storage").is_none());
    }

    #[test]
    #[rustfmt::skip]
    fn a_region_is_found_under_each_of_its_spellings() {
        let tags = ServiceTags::parse("t.json", NESTED).unwrap();
        for (tag, region, expected) in [
            ("Sql.<region>",        Some("francecentral"), Ok("Sql.FranceCentral")),
            ("Sql.<region>",        Some("FranceCentral"), Ok("Sql.FranceCentral")),
            ("Sql.<region>",        Some("centralfrance"), Ok("Sql.FranceCentral")),
            ("AzureCloud.<region>", Some("francecentral"), Ok("AzureCloud.centralfrance")),
            ("Sql.<region>",        Some("eastus2"),       Ok("Sql.EastUS2")),
            ("Sql.<region>",        Some("eastus2stage"),  Ok("Sql.EastUS2Stage")),
            ("Storage",             None,                  Ok("Storage")),
            ("Sql.<region>",        Some("westeurope"),    Err("hold no Sql.<region> for region westeurope")),
            ("Sql.<region>",        None,                  Err("the site names no region")),
            ("VirtualNetwork",      None,                  Err("hold no VirtualNetwork")),
        ] {
            let found = tags.resolve(Cloud::Public, &tag.parse().unwrap(), region).map(|id| tags.name(id));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{tag} {region:?}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{tag} {region:?}: {found}"),
                (found, expected) => panic!("{tag} {region:?}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_date_of_a_file_comes_from_the_user_or_its_name_or_is_unknown() {
        for (given, path, date) in [
            ("ServiceTags_Public_20260105.json",            "ServiceTags_Public_20260105.json", Some("2026-01-05")),
            ("/x/ServiceTags_AzureGovernment_20250101.json", "/x/ServiceTags_AzureGovernment_20250101.json", Some("2025-01-01")),
            ("tags.json@2026-02-03",                        "tags.json", Some("2026-02-03")),
            ("ServiceTags_Public_20260105.json@20260203",   "ServiceTags_Public_20260105.json", Some("2026-02-03")),
            ("a@b/tags.json",                               "a@b/tags.json", None),
            ("ServiceTags_Public_cn363.json",               "ServiceTags_Public_cn363.json", None),
            ("ServiceTags_Public_20261399.json",            "ServiceTags_Public_20261399.json", None),
        ] {
            assert_eq!(split_date(given), (path, date.map(|d| d.parse().unwrap())), "{given}");
        }
    }

    #[test]
    fn a_file_that_is_not_microsofts_is_refused_with_the_place() {
        for (text, part) in [
            ("{", "line 1"),
            (r#"{"changeNumber": 1, "cloud": "Mars", "values": []}"#, "unknown cloud `Mars`"),
            (&NESTED.replace("20.9.1.0/24", "20.9.1.0/33"), "t.json:6:"),
        ] {
            let problems = ServiceTags::parse("t.json", text).unwrap_err();
            assert!(problems[0].to_string().contains(part), "{problems:?}");
        }
    }

    #[test]
    fn a_wrong_date_behind_a_file_that_is_there_is_told_as_one() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let told = |given: String| ServiceTags::load(&[given]).unwrap_err()[0].to_string();
        assert!(told(format!("{here}@2026-13-01")).contains("the date behind the `@`"));
        assert!(!told(format!("{here}.json@2026-13-01")).contains("the date behind the `@`"));
        assert!(!told(format!("{here}@2026-01-01")).contains("the date behind the `@`"));
    }

    #[test]
    fn the_bundled_tags_are_sixteen_whole_entries() {
        let tags = ServiceTags::bundled();
        assert_eq!((tags.sources()[0].tags, tags.sources()[0].change_number), (16, 363));
    }
}
