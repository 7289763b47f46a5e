//! What a site's rules document, as rules of a firewall that permit it and refuse the rest.
//!
//! [`Permitted`] says what is to be let by, in terms of no firewall: `nftables` and `nsg` put it into their language. Whatever a
//! language has no words for is left out, counted and said ([`Unexpressed`]): what is left out is refused, never let by.

mod dns;
mod nftables;
mod nsg;
mod permitted;

use super::load::Matrix;
use super::site::{RoleSet, Site};
use ipnet::IpNet;
use permitted::Permitted;
use serde::Serialize;
use std::collections::BTreeSet;

/// A kind of firewall that rules can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// A Linux gateway between the machines and the world: a table for `nft -f`.
    Nftables,
    /// Network security groups of Azure, one for each role: a template for its resource manager.
    Nsg,
}

/// Rules of a firewall that permit what is documented at a site, and what is to be said of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRules {
    /// What the firewall reads. It says itself what stands in the other fields.
    pub text: String,
    /// What is documented and not permitted by the text, in the order of the rules.
    pub unexpressed: Vec<Unexpressed>,
    /// What who uses the text should know, a sentence each.
    pub remarks: Vec<String>,
}

/// Something documented that a firewall has no words for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unexpressed {
    /// The rule, the line of the platform or the role that it is about.
    pub rule: String,
    /// The names or addresses that it is about.
    pub names: Vec<String>,
    /// Why it cannot be expressed.
    pub why: String,
}

impl FirewallRules {
    /// What is not expressed, a sentence for each reason.
    pub fn gaps(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for gap in &self.unexpressed {
            match reasons.iter_mut().find(|(why, _)| *why == gap.why) {
                Some((_, rules)) => rules.push(&gap.rule),
                None => reasons.push((&gap.why, vec![&gap.rule])),
            }
        }
        reasons
            .iter()
            .map(|(why, rules)| format!("not expressed: {} ({}): {why}", rules.join(", "), rules.len()))
            .collect()
    }
}

/// Writes rules that permit what is documented for machines of `roles` at the site, and refuse what else they begin or are
/// asked for.
///
/// # Errors
/// None of the roles has an address; or the firewall takes no such rules (too many of them, or of names for its resolver). Says
/// what to do.
pub fn firewall_rules(
    firewall: Firewall,
    matrix: &Matrix,
    site: &Site,
    roles: RoleSet,
) -> Result<FirewallRules, String> {
    let permitted = Permitted::new(matrix, site, roles)?;
    match firewall {
        Firewall::Nftables => nftables::write(permitted),
        Firewall::Nsg => nsg::write(permitted),
    }
}

/// Why a permit with two ends has no rule.
const NO_FAMILY: &str = "its two ends have no version of IP in common";

/// A version of IP: no firewall has both in one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The version of a prefix.
    fn of_prefix(net: &IpNet) -> Family {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// The prefixes of this version among them.
    fn of(self, nets: &[IpNet]) -> Vec<IpNet> {
        nets.iter().filter(|net| Family::of_prefix(net) == self).copied().collect()
    }

    fn word(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// The addresses in both lists, as few prefixes as there can be.
fn common(these: &[IpNet], those: &[IpNet]) -> Vec<IpNet> {
    let both = these.iter().flat_map(|this| {
        those.iter().filter_map(move |that| match (this.contains(that), that.contains(this)) {
            (true, _) => Some(*that),
            (_, true) => Some(*this),
            _ => None,
        })
    });
    IpNet::aggregate(&both.collect())
}

/// At most `most` bytes of a text; what is cut off is marked.
fn cut(text: &str, most: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= most {
        return text.to_owned();
    }
    let fits = most.saturating_sub(MARK.len());
    let end = (0..=fits).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}{MARK}", text.get(..end).unwrap_or_default().trim_end())
}

/// Names that are given once.
#[derive(Debug, Default)]
struct Distinct(BTreeSet<String>);

impl Distinct {
    /// The text (of ASCII) as a name of at most `most` bytes; cut, or with a number behind it, where it has to be.
    fn name(&mut self, text: &str, most: usize) -> String {
        let with = |end: &str| {
            let stem = text.get(..most.saturating_sub(end.len())).unwrap_or(text);
            let stem = if stem.len() < text.len() { stem.trim_end_matches(['_', '-', '.']) } else { stem };
            format!("{stem}{end}")
        };
        let (mut name, mut number) = (with(""), 1);
        while !self.0.insert(name.clone()) {
            number += 1;
            name = with(&format!("_{number}"));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_two_lists_of_prefixes_have_in_common_is_the_narrower_ones() {
        for (these, those, both) in [
            (&["10.0.0.0/8"][..], &["10.1.0.0/16", "11.0.0.0/8"][..], &["10.1.0.0/16"][..]),
            (&["10.1.0.0/16"], &["10.0.0.0/8", "10.1.2.0/24"], &["10.1.0.0/16"]),
            (&["10.1.0.0/17", "10.1.128.0/17"], &["0.0.0.0/0"], &["10.1.0.0/16"]),
            (&["10.0.0.0/8"], &["::/0"], &[]),
            (&[], &["10.0.0.0/8"], &[]),
        ] {
            assert_eq!(common(&nets(these), &nets(those)), nets(both), "{these:?} and {those:?}");
        }
    }

    #[test]
    fn names_are_told_apart_within_their_length() {
        let mut names = Distinct::default();
        assert_eq!(names.name("role_worker", 12), "role_worker");
        assert_eq!(names.name("role_worker_of_another_kind", 12), "role_worke_2");
    }

    #[test]
    fn what_is_cut_is_marked_and_ends_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("a longer text", 9), "a long...");
        assert_eq!(cut("aaaaé", 5), "aa...");
        assert!(cut("ééééé", 6).len() <= 6);
    }

    /// A page whose texts try to be read as something else.
    const HOSTILE: &str = r##"
[pack]
id = "hostile"
page = "[resourceGroup().id]"
product = "P\"\u001b[2J\n}\nflush ruleset"
url = "https://example.org/"
page_date = "1/6/2026"
date = 2026-01-06
[[role]]
id = "printer"
title = "[reference('x')]"
subject = true
also_covered_by = "\n}\nflush ruleset #"
[[role]]
id = "office.of-a_very_long_name_that_no_set_of_a_kernel_takes"
title = "Office"
subject = false
[[rule]]
id = "print"
row = 1
from = "office.of-a_very_long_name_that_no_set_of_a_kernel_takes"
to = { role = "printer" }
to_title = "Printer\" accept\n}\nflush ruleset\n#"
transport = "tcp"
ports = "9100, 9100-9102"
requirement = "required"
purpose = "[reference('x').secret]"
[[rule]]
id = "fetch"
row = 2
from = "printer"
to = { names = ["driver.example.net", "*.example.net", "login.*"] }
to_title = "\u202eDrivers \\"
transport = "tcp"
ports = "443"
requirement = "required"
purpose = "x"
"##;

    fn hostile(firewall: Firewall, site: &str) -> FirewallRules {
        let matrix =
            Matrix::parse(&[("hostile.toml", HOSTILE)], crate::matrix::ServiceTags::bundled()).unwrap();
        let site = Site::parse(site, "site.toml", &matrix).unwrap();
        firewall_rules(firewall, &matrix, &site, site.subjects()).unwrap()
    }

    const PRINTERS: &str = "[site]\nname = \"[x]\"\n[roles]\nprinter = [\"10.1.0.0/24\", \"10.1.1.0/24\"]\n\
        \"office.of-a_very_long_name_that_no_set_of_a_kernel_takes\" = [\"10.2.0.0/16\", \"10.2.3.0/24\"]";

    #[test]
    fn texts_of_a_pack_stay_texts_in_a_table_of_nftables() {
        let text = hostile(Firewall::Nftables, PRINTERS).text;
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        for line in text.lines() {
            let code = line.trim_start();
            assert!(
                !code.starts_with("flush")
                    && (code.starts_with('#') || !code.contains("flush") || code.contains("comment"))
            );
            let quotes = line.matches('"').count();
            assert!(code.starts_with('#') || [0, 2, 4].contains(&quotes), "{line}");
        }
        assert!(text.contains("tcp dport 9100-9102"), "{text}");
        for set in text.lines().filter_map(|line| line.trim_start().strip_prefix("set ")) {
            assert!(set.split(' ').next().unwrap().len() <= 31, "{set}");
        }
        // Neighbours are one prefix, and one inside another is none.
        assert!(
            text.contains("elements = { 10.1.0.0/23 }") && text.contains("elements = { 10.2.0.0/16 }"),
            "{text}"
        );
    }

    #[test]
    fn texts_of_a_pack_stay_texts_in_a_template() {
        let rules = hostile(Firewall::Nsg, PRINTERS);
        let template: serde_json::Value = serde_json::from_str(&rules.text).unwrap();
        let mut expressions = Vec::new();
        fn walk(value: &serde_json::Value, expressions: &mut Vec<String>) {
            match value {
                serde_json::Value::String(text) => {
                    assert!(!text.contains(char::is_control), "{text:?}");
                    if text.starts_with('[') && text.ends_with(']') && !text.starts_with("[[") {
                        expressions.push(text.clone());
                    }
                }
                serde_json::Value::Array(all) => all.iter().for_each(|one| walk(one, expressions)),
                serde_json::Value::Object(all) => all.values().for_each(|one| walk(one, expressions)),
                _ => {}
            }
        }
        walk(&template, &mut expressions);
        assert_eq!(expressions, ["[resourceGroup().location]", "[parameters('location')]"]);
    }

    #[test]
    fn what_a_firewall_has_no_words_for_is_said() {
        let told = |firewall, site: &str| hostile(firewall, site).gaps().join("\n");
        let told_of_table = told(Firewall::Nftables, PRINTERS);
        assert!(told_of_table.contains("fetch (1): dnsmasq knows no such pattern"), "{told_of_table}");
        assert!(
            told(Firewall::Nsg, PRINTERS).contains("fetch, plat-agent-ext (2): a network security group")
        );
        let proxy = format!("{PRINTERS}\nhttp-proxy = [\"10.9.0.1\"]");
        assert!(told(Firewall::Nftables, &proxy).contains("http-proxy (1): what a proxy is asked for"));
        let other_version = "[roles]\nprinter = [\"10.1.0.0/24\"]\n\
            \"office.of-a_very_long_name_that_no_set_of_a_kernel_takes\" = [\"fd00::/8\"]";
        for firewall in [Firewall::Nftables, Firewall::Nsg] {
            let rules = hostile(firewall, other_version);
            assert!(rules.text.contains("its two ends have no version of IP in common"), "{}", rules.text);
            assert!(!rules.gaps().join(" ").contains("print"), "nothing is missing: {:?}", rules.gaps());
        }
    }

    #[test]
    fn the_line_of_a_name_fills_all_sets_that_mean_it_and_no_other() {
        let rule = |id: &str, name: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\nrow = 1\nfrom = \"printer\"\nto = {{ names = [\"{name}\"] }}\nto_title = \"x\"\n\
                 transport = \"tcp\"\nports = \"443\"\nrequirement = \"required\"\npurpose = \"x\"\n"
            )
        };
        let rules = [rule("any", "*.x.example"), rule("one", "a.x.example"), rule("below", "b.a.x.example")];
        let pack = format!("{HOSTILE}{}", rules.concat());
        let matrix = Matrix::parse(&[("pack.toml", &pack)], crate::matrix::ServiceTags::bundled()).unwrap();
        let site = Site::parse(PRINTERS, "site.toml", &matrix).unwrap();
        let text = firewall_rules(Firewall::Nftables, &matrix, &site, site.subjects()).unwrap().text;
        let sets = |domain: &str| -> Vec<String> {
            let begin = format!("#dnsmasq nftset=/{domain}/");
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&begin))
                .unwrap_or_else(|| panic!("{domain}: {text}"));
            line.split(',').map(|set| set.rsplit('#').next().unwrap().to_owned()).collect()
        };
        assert_eq!(sets("x.example"), ["names_x_example_4"]);
        assert_eq!(sets("a.x.example"), ["names_x_example_4", "names_a_x_example_4"]);
        assert_eq!(sets("b.a.x.example"), ["names_b_a_x_example_4"]);
    }

    #[test]
    fn nothing_is_written_for_machines_without_an_address() {
        let matrix = Matrix::builtin();
        let site = Site::parse("[roles]\nworker = [\"w.example.net\"]", "s.toml", &matrix).unwrap();
        let told = firewall_rules(Firewall::Nsg, &matrix, &site, site.subjects()).unwrap_err();
        assert!(
            told.starts_with("s.toml: no machine to guard has an address") && told.contains("worker"),
            "{told}"
        );
        let site = Site::parse(
            "[roles]\nworker = [\"w.example.net\"]\nbackup-appliance = [\"10.1.0.4\"]",
            "s",
            &matrix,
        );
        let site = site.unwrap();
        let rules = firewall_rules(Firewall::Nsg, &matrix, &site, site.subjects()).unwrap();
        assert!(rules.gaps().join(" ").contains("worker (1): the site gives its machines by name alone"));
        assert!(
            rules
                .remarks
                .iter()
                .any(|told| told == "the site lists no backup-server: nothing is refused to it")
        );
    }

    #[test]
    fn addresses_that_stand_in_for_a_name_are_permitted_as_addresses() {
        let matrix = Matrix::builtin();
        let site = "[roles]\nbackup-appliance = [\"10.1.0.4\"]\n[mirrors]\n\"archive.ubuntu.com\" = [\"10.9.0.0/24\"]";
        let site = Site::parse(site, "s", &matrix).unwrap();
        let text = |firewall| firewall_rules(firewall, &matrix, &site, site.subjects()).unwrap().text;
        assert!(text(Firewall::Nftables).contains("ip daddr 10.9.0.0/24 tcp dport 80 counter accept"));
        let template = text(Firewall::Nsg);
        assert!(template.contains("\"10.9.0.0/24\"") && template.contains("\"vbaz-05b-out\""));
    }

    #[test]
    fn addresses_that_stand_in_for_a_name_behind_a_tag_are_permitted_within_the_virtual_network() {
        let site = "[site]\nregion = \"westeurope\"\nvirtual_network = [\"10.1.0.0/16\"]\n[roles]\nbackup-appliance = [\"10.1.0.4\"]\n\
            [mirrors]\n\"management.azure.com\" = [\"10.1.9.0/24\", \"10.2.9.0/24\"]";
        for firewall in [Firewall::Nftables, Firewall::Nsg] {
            let text = of_builtin(firewall, site).text;
            assert!(text.contains("10.1.9.0/24") && !text.contains("10.2.9.0/24"), "{text}");
        }
    }

    fn of_builtin(firewall: Firewall, site: &str) -> FirewallRules {
        let matrix = Matrix::builtin();
        let site = Site::parse(site, "s", &matrix).unwrap();
        firewall_rules(firewall, &matrix, &site, site.subjects()).unwrap()
    }

    /// A pack of a role `printer` that fetches; each rule has an id and its names.
    fn fetching(page: &str, title: &str, rules: &[(String, Vec<String>)]) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut pack = format!(
            "[pack]\nid = \"p\"\npage = {}\nproduct = {}\nurl = \"https://example.org/\"\npage_date = \"1/6/2026\"\n\
             date = 2026-01-06\n[[role]]\nid = \"printer\"\ntitle = {}\nsubject = true\nalso_covered_by = {}\n",
            quoted(page),
            quoted(title),
            quoted(title),
            quoted(page)
        );
        for (id, names) in rules {
            pack += &format!(
                "[[rule]]\nid = \"{id}\"\nrow = 1\nfrom = \"printer\"\nto = {{ names = {names:?} }}\nto_title = {}\n\
                 transport = \"tcp\"\nports = \"443\"\nrequirement = \"required\"\npurpose = {}\nnote = {}\n",
                quoted(title),
                quoted(page),
                quoted(page)
            );
        }
        pack
    }

    fn of_fetching(pack: &str, name: &str) -> Result<FirewallRules, String> {
        let matrix = Matrix::parse(&[("pack.toml", pack)], crate::matrix::ServiceTags::default()).unwrap();
        let name = toml::Value::from(name).to_string();
        let site = format!("[site]\nname = {name}\n[roles]\nprinter = [\"10.1.0.0/24\"]");
        let site = Site::parse(&site, "site.toml", &matrix).unwrap();
        firewall_rules(Firewall::Nftables, &matrix, &site, site.subjects())
    }

    /// What the `sed` that the table tells takes from it.
    fn for_dnsmasq(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("#dnsmasq nftset=")).collect()
    }

    fn text_of_a_pack() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("#dnsmasq nftset=/evil.example/4#inet#portproof#names_driver_example_net_4".to_owned()),
            Just("nftset=/evil.example/4#inet#portproof#names_driver_example_net_4".to_owned()),
            Just("# ".to_owned()),
            Just("\n".to_owned()),
            "[ a#\r\n\u{2028}\u{85}]{0,30}",
            "a{1,110}",
            any::<String>(),
        ];
        prop::collection::vec(piece, 1..6).prop_map(|pieces| format!("x {}", pieces.join(" ")))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_of_a_pack_or_site_becomes_a_line_for_dnsmasq(
            page in text_of_a_pack(),
            title in text_of_a_pack(),
            site in text_of_a_pack(),
        ) {
            let rules = [("fetch".to_owned(), vec!["driver.example.net".to_owned()])];
            let expected = of_fetching(&fetching("Page", "Title", &rules), "site").unwrap().text;
            let text = of_fetching(&fetching(&page, &title, &rules), &site).unwrap().text;
            prop_assert_eq!(for_dnsmasq(&text), for_dnsmasq(&expected));
            prop_assert!(for_dnsmasq(&text).len() >= 3);
            for line in text.split('\n').filter(|line| line.starts_with('#')) {
                let told = line == "#" || line.starts_with("# ") || line.starts_with("#dnsmasq nftset=");
                prop_assert!(told, "{line:?}");
            }
        }
    }

    #[test]
    fn a_line_for_dnsmasq_is_no_longer_than_it_reads() {
        let of_lists = |name: &dyn Fn(usize) -> Vec<String>| -> Vec<(String, Vec<String>)> {
            (0..40).map(|number| (format!("r{number}"), name(number))).collect()
        };
        // One name in many lists has a set of its own.
        let shared = of_lists(&|number| {
            vec!["*.updates.example.net".to_owned(), format!("host-{number}.example.org")]
        });
        let text = of_fetching(&fetching("Page", "Title", &shared), "site").unwrap().text;
        let lines = for_dnsmasq(&text);
        let shared =
            lines.iter().filter(|line| line.starts_with("/updates.example.net/")).collect::<Vec<_>>();
        assert_eq!(shared, [&"/updates.example.net/4#inet#portproof#names_updates_example_net_4"]);
        assert_eq!(text.matches("ip daddr @names_updates_example_net_4 tcp").count(), 1 + 39, "{text}");
        assert!(text.lines().filter(|line| line.starts_with("#dnsmasq")).all(|line| line.len() <= 1000));
        // Where a name lies in many others no set can be spared.
        let nested = of_lists(&|number| vec![format!("*.{}example.net", "a.".repeat(number))]);
        let told = of_fetching(&fetching("Page", "Title", &nested), "site").unwrap_err();
        assert!(told.contains("a.example.net: its line for dnsmasq would name 40 sets"), "{told}");
    }

    #[test]
    fn what_is_logged_has_a_limit_and_what_is_refused_has_none() {
        let text = hostile(Firewall::Nftables, PRINTERS).text;
        let refusals = text.lines().filter(|line| line.contains(" reject ")).count();
        let logs: Vec<&str> = text.lines().filter(|line| line.contains(" log ")).collect();
        assert!(refusals == logs.len() && refusals > 0, "{text}");
        assert!(logs.iter().all(|log| log.contains(" limit rate 10/second burst 20 packets log prefix ")));
        assert!(!text.lines().any(|line| line.contains(" reject ") && line.contains("limit")));
    }

    #[test]
    fn machines_that_are_not_guarded_in_full_are_told() {
        let site = "[site]\nresolvers = [\"10.9.9.9\"]\n[roles]\nbackup-appliance = [[\"10.1.0.4\", \"fd00::4\"]]\n\
            worker = [\"10.2.0.0/24\", [\"10.3.0.4\", \"fd00::5\"], \"w9.example.net\"]\nbackup-server = [\"fd00::9\"]";
        let rules = of_builtin(Firewall::Nftables, site);
        let told = |what: &str| rules.remarks.iter().any(|remark| remark.starts_with(what));
        assert!(told("the site lists no IPv6 address for machines of worker: "), "{:?}", rules.remarks);
        assert!(
            told("the site lists no IPv4 address for machines of backup-server: "),
            "{:?}",
            rules.remarks
        );
        for firewall in [Firewall::Nftables, Firewall::Nsg] {
            let gaps = of_builtin(firewall, site).unexpressed;
            let gap = gaps.iter().find(|gap| gap.rule == "worker").expect("it is told");
            assert_eq!(gap.names, ["w9.example.net"]);
        }
        let both = of_builtin(Firewall::Nftables, "[roles]\nworker = [\"10.2.0.0/24\", \"fd00::/64\"]");
        assert!(!both.remarks.iter().any(|remark| remark.contains("no IPv")), "{:?}", both.remarks);
    }

    #[test]
    fn names_at_addresses_of_ones_own_are_told() {
        let site = "[site]\nvirtual_network = [\"10.1.0.0/16\"]\n[roles]\nbackup-appliance = [\"10.1.0.4\"]";
        let remarks = of_builtin(Firewall::Nftables, site).remarks.join("\n");
        assert!(remarks.contains("any address of the virtual network passes"), "{remarks}");
        assert!(remarks.contains("list them under [mirrors]"), "{remarks}");
        let site = "[roles]\nbackup-appliance = [\"10.1.0.4\"]";
        let remarks = of_builtin(Firewall::Nftables, site).remarks.join("\n");
        assert!(!remarks.contains("any address of the virtual network passes"), "{remarks}");
    }

    #[test]
    fn rules_by_the_tag_of_a_service_of_many_customers_are_told() {
        let site = "[site]\nregion = \"westeurope\"\n[roles]\nbackup-appliance = [\"10.1.0.4\"]\nworker = [\"10.2.0.4\"]";
        for firewall in [Firewall::Nftables, Firewall::Nsg] {
            let remarks = of_builtin(firewall, site).remarks;
            let told = remarks.iter().find(|told| told.starts_with("a service tag is")).expect("it is told");
            let ids: Vec<&str> = told.split([' ', ',']).collect();
            // Storage, AzureKeyVault, Sql; not AzureResourceManager.
            assert!(["vbaz-12", "vbaz-13", "vbaz-25"].iter().all(|id| ids.contains(id)), "{told}");
            assert!(!ids.contains(&"vbaz-11"), "{told}");
        }
    }

    #[test]
    fn a_part_is_called_permitted_only_where_it_is() {
        let site = "[roles]\nbackup-appliance = [\"10.1.0.4\"]\nsmtp-server = [\"fd00::25\", \"mail.example.net\"]\n\
            worker = [\"10.2.0.4\"]\n[site]\nvirtual_network = [\"10.0.0.0/8\"]";
        let why = |site: &str| {
            let gaps = of_builtin(Firewall::Nsg, site).unexpressed;
            gaps.into_iter().find(|gap| gap.rule == "vbaz-09a").expect("it is told").why
        };
        assert!(why(site).starts_with("nothing of it is permitted"), "{}", why(site));
        let rules = of_builtin(Firewall::Nsg, site);
        assert!(!rules.gaps().join(" ").contains("vbaz-29, vbaz-29"), "{:?}", rules.gaps());
        let site = site.replace("fd00::25", "10.1.0.25");
        assert!(why(&site).starts_with("in part: by address it is"), "{}", why(&site));
    }

    #[test]
    fn what_is_without_effect_is_told_once() {
        let site = "[roles]\nbackup-appliance = [\"fd00::4\"]";
        let text = of_builtin(Firewall::Nftables, site).text;
        let told = text.split("# Without effect here").nth(1).unwrap().split("\n\n").next().unwrap();
        let words: Vec<&str> = told.split([' ', ',', ':', '\n']).collect();
        let times = words.iter().filter(|word| **word == "plat-dhcp").count();
        assert_eq!(times, 1, "{told}");
    }
}
