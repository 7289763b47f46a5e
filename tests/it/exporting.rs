//! `portproof rules export`: firewall rules that permit what is documented, held against the audit's own verdicts and against
//! a real firewall.

use crate::golden::{hold, project};
use crate::live::{can_make_namespaces, ip, wait_for};
use crate::scene::*;
use portproof::matrix::{Cloud, ServiceTags};
use proptest::prelude::*;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn export(directory: &Path, firewall: &str, site: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portproof"))
        .current_dir(directory)
        .args(["rules", "export", "--for", firewall, "--site", site])
        .args(more)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const SITE: &str = "captures/site.toml";

#[test]
fn firewall_rules_read_as_they_did() {
    for (firewall, file) in [("nftables", "export.nft"), ("nsg", "export-nsg.json")] {
        let output = export(project(), firewall, SITE, &[]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        hold(file, &text(&output.stdout));
    }
}

/// What is missing is told twice: in what is handed on, and to whoever asked.
#[test]
fn whatever_is_not_expressed_is_said_and_makes_the_exit_code_3() {
    let nsg = export(project(), "nsg", SITE, &[]);
    let template: Value = serde_json::from_slice(&nsg.stdout).expect("JSON");
    let missing = template["metadata"]["unexpressed"].as_array().expect("a list");
    assert!(missing.len() > 20, "{missing:?}");
    let told = text(&nsg.stderr);
    for gap in missing {
        let rule = gap["rule"].as_str().expect("a rule");
        assert!(
            told.contains(rule) && told.contains(gap["why"].as_str().expect("a reason")),
            "{gap}\n{told}"
        );
    }
    let nft = export(project(), "nftables", SITE, &[]);
    // The comments are wrapped, the messages are not.
    let table = text(&nft.stdout).replace("\n#  ", "");
    let told = text(&nft.stderr);
    assert!(told.contains("not expressed: http-proxy (1)"), "{told}");
    for line in told.lines() {
        let said = line.strip_prefix("portproof: ").expect("a message");
        assert!(table.contains(said), "{said}");
    }
    // A pack of addresses alone leaves nothing over.
    let dir = workshop("export_of_addresses");
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("a file can be written");
    write("platform.toml", "[pack]\nid = \"azure-platform\"\npage = \"None\"\nproduct = \"None\"\n");
    write("pack.toml", ADDRESSES);
    write("site.toml", "[roles]\nprinter = [\"10.1.0.4\"]\noffice = [\"10.2.0.0/16\"]\n");
    for firewall in ["nftables", "nsg"] {
        let packs = ["--rules", "pack.toml", "--rules", "platform.toml"];
        let output = export(&dir, firewall, "site.toml", &packs);
        assert_eq!(output.status.code(), Some(0), "{firewall}: {}", text(&output.stderr));
    }
    // Nor do the platform's own lines: another cloud's have no effect, and what lies in a permitted service tag is not missing.
    let to_storage =
        ADDRESSES.replace("id = \"print\"", "id = \"scan\"").split("[[rule]]").nth(1).map(|rule| {
            rule.replace("from = \"office\"", "from = \"printer\"")
                .replace("{ role = \"printer\" }", "{ tag = \"Storage\" }")
                .replace("9100", "443")
        });
    write("storage.toml", &format!("{ADDRESSES}[[rule]]{}", to_storage.expect("a rule")));
    write(
        "china.toml",
        "[site]\ncloud = \"china\"\n[roles]\nprinter = [\"10.1.0.4\"]\noffice = [\"10.2.0.0/16\"]\n",
    );
    for firewall in ["nftables", "nsg"] {
        for (pack, site, code) in
            [("pack.toml", "china.toml", 0), ("storage.toml", "site.toml", 0), ("pack.toml", "site.toml", 3)]
        {
            let output = export(&dir, firewall, site, &["--rules", pack]);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{firewall} {pack} {site}: {told}");
            assert_eq!(told.contains("plat-agent-ext (1)"), code == 3, "{told}");
        }
    }
}

const ADDRESSES: &str = r#"
[pack]
id = "printers"
page = "Printers"
product = "Printer"
[[role]]
id = "printer"
title = "Printer"
subject = true
[[role]]
id = "office"
title = "Office"
subject = false
[[rule]]
id = "print"
row = 1
from = "office"
to = { role = "printer" }
to_title = "Printer"
transport = "tcp"
ports = "9100"
requirement = "required"
purpose = "Print."
"#;

#[test]
fn only_audited_roles_are_guarded_and_one_of_them_can_be_chosen() {
    let groups = |more: &[&str]| -> Vec<String> {
        let output = export(project(), "nsg", SITE, more);
        let template: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let resources = template["resources"].as_array().expect("a list");
        resources.iter().map(|group| group["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(groups(&[]), ["portproof-backup-appliance", "portproof-worker", "portproof-backup-server"]);
    assert_eq!(groups(&["--role", "worker"]), ["portproof-worker"]);
    for (role, told) in
        [("azure-vm", "azure-vm is not audited here"), ("wroker", "there is no role `wroker`")]
    {
        let output = export(project(), "nsg", SITE, &["--role", role]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty() && text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }
    let table = text(&export(project(), "nftables", SITE, &["--role", "worker"]).stdout);
    assert!(table.contains("begun by worker") && !table.contains("begun by backup-server"), "{table}");
    assert!(!table.contains("vbaz-34a row"), "what others begin to others is not in it");
}

/// One attempt: who, to whom, over what, to which port.
#[derive(Clone, Copy, Debug)]
struct Contact {
    from: &'static str,
    to: &'static str,
    proto: &'static str,
    port: u16,
}

const HOSTS: [&str; 13] = [
    APPLIANCE,
    APPLIANCE6,
    WORKER,
    BACKUP,
    VM,
    BROWSER,
    CONSOLE,
    VEEAM_ONE,
    MAIL,
    "10.10.8.5",
    "10.10.99.9",
    WEB,
    "10.20.0.11",
];
const SERVICES: [&str; 10] =
    [ENTRA, ARM, STORAGE, VAULT, SQL_HERE, SQL_EASTUS, COSMOS, RESOLVER, IMDS, "2603:1000:5::7"];
const OTHERS: [&str; 4] = ["203.0.113.123", "20.118.99.224", "203.0.113.53", "2001:db8::9"];
const PORTS: [u16; 18] = [
    443, 443, 443, 80, 25, 587, 1433, 11_000, 11_999, 12_000, 3342, 5432, 10_255, 445, 20_443, 53, 123, 1688,
];

fn contact() -> impl Strategy<Value = Contact> {
    let from = prop::sample::select(&HOSTS[..]);
    let to = prop_oneof![
        prop::sample::select(&HOSTS[..]),
        prop::sample::select(&SERVICES[..]),
        prop::sample::select(&OTHERS[..])
    ];
    let proto = prop_oneof![6 => Just("tcp"), 2 => Just("udp"), 1 => Just("icmp")];
    let all = (from, to, proto, prop::sample::select(&PORTS[..]));
    all.prop_filter_map("not two hosts of one version of IP", |(from, to, proto, port)| {
        let speak = from != to && from.contains(':') == to.contains(':');
        // Scenes have no ICMPv6.
        let proto = if from.contains(':') && proto == "icmp" { "udp" } else { proto };
        speak.then_some(Contact { from, to, proto, port })
    })
}

/// What sites may say differently, each with the key.
fn keys() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let one = |key: &'static str, values: &'static [&'static str]| {
        prop::sample::select(values).prop_map(move |value| (key, value))
    };
    (
        one("site.virtual_network", &["[]", r#"["10.10.0.0/16"]"#, r#"["10.10.0.0/16", "10.20.0.0/24"]"#]),
        one("site.resolvers", &["[]", r#"["168.63.129.16"]"#, r#"["203.0.113.53", "10.20.0.10"]"#]),
        one("site.time_servers", &["[]", r#"["203.0.113.123", "10.20.0.30"]"#]),
        one("site.region", &[r#""westeurope""#, r#""northeurope""#]),
        one("conditions.private-environment", &["true", "false"]),
        one("conditions.sql-protection", &["true", "false"]),
        one(
            "roles.worker",
            &["[]", r#"["10.10.2.0/24"]"#, r#"["10.10.2.0/25", "10.10.2.128/25", "10.20.0.11"]"#],
        ),
        one("roles.console", &[r#"["10.20.0.30"]"#, r#"["10.20.0.0/24"]"#, r#"["10.40.0.7"]"#]),
        one("roles.sql-managed-instance", &["[]", r#"["10.10.8.0/24"]"#, r#"["10.10.0.0/16"]"#]),
    )
        .prop_map(|keys| {
            let (a, b, c, d, e, f, g, h, i) = keys;
            vec![a, b, c, d, e, f, g, h, i]
        })
}

/// Network security groups as Azure reads them: in the order of priorities, the first that fits decides.
struct Groups {
    template: Value,
    tags: ServiceTags,
}

impl Groups {
    /// Whether the groups of both ends let the attempt by; none where no group is asked.
    fn permit(
        &self,
        roles: [&[String]; 2],
        from: IpAddr,
        to: IpAddr,
        proto: &str,
        port: u16,
    ) -> Option<bool> {
        let mut asked = None;
        for (direction, roles) in ["Outbound", "Inbound"].iter().zip(roles) {
            for group in self.template["resources"].as_array().expect("groups") {
                let name = group["name"].as_str().expect("a name");
                if !roles.iter().any(|role| name == format!("portproof-{role}")) {
                    continue;
                }
                // Of a machine of several roles each group speaks for its own.
                let here = self.decides(group, direction, from, to, proto, port);
                asked = Some(asked.unwrap_or(true) && here);
            }
        }
        asked
    }

    fn decides(
        &self,
        group: &Value,
        direction: &str,
        from: IpAddr,
        to: IpAddr,
        proto: &str,
        port: u16,
    ) -> bool {
        let mut rules: Vec<&Value> = group["properties"]["securityRules"]
            .as_array()
            .expect("rules")
            .iter()
            .map(|rule| &rule["properties"])
            .filter(|rule| rule["direction"] == direction)
            .collect();
        rules.sort_by_key(|rule| rule["priority"].as_u64().expect("a number"));
        let fits = |rule: &&&Value| {
            let word = rule["protocol"].as_str().expect("a protocol");
            (word == "*" || word.eq_ignore_ascii_case(proto))
                && (proto == "icmp" || self.port(rule, port))
                && self.end(rule, "source", from)
                && self.end(rule, "destination", to)
        };
        rules.iter().find(fits).expect("the last rule fits all")["access"] == "Allow"
    }

    fn port(&self, rule: &Value, port: u16) -> bool {
        if rule["destinationPortRange"] == "*" {
            return true;
        }
        rule["destinationPortRanges"].as_array().expect("ports").iter().any(|range| {
            let range = range.as_str().expect("a range");
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            (low.parse().expect("a port")..=high.parse().expect("a port")).contains(&port)
        })
    }

    fn end(&self, rule: &Value, end: &str, ip: IpAddr) -> bool {
        if let Some(nets) = rule[format!("{end}AddressPrefixes")].as_array() {
            return nets.iter().any(|net| {
                let net = net.as_str().expect("a prefix");
                let net =
                    net.parse::<IpAddr>().map_or_else(|_| net.parse().expect("a prefix"), ipnet::IpNet::from);
                net.contains(&ip)
            });
        }
        match rule[format!("{end}AddressPrefix")].as_str().expect("one or several prefixes") {
            "*" => true,
            "AzureLoadBalancer" => ip == RESOLVER.parse::<IpAddr>().expect("an address"),
            tag => self.tags.contains(self.tags.find(Cloud::Public, tag).expect("a tag"), ip),
        }
    }
}

fn words(row: &Value, field: &str) -> Vec<String> {
    row[field]
        .as_array()
        .expect("a list")
        .iter()
        .map(|word| word.as_str().expect("a word").to_owned())
        .collect()
}

/// Plays the contacts, audits them, and holds every verdict against the groups. Gives how many were permitted and denied.
fn groups_agree(
    name: &str,
    keys: &[(&str, &str)],
    contacts: &[Contact],
) -> Result<[usize; 2], TestCaseError> {
    let mut scene = Scene::new();
    keys.iter().for_each(|(key, value)| {
        scene.site(key, value);
    });
    for (place, contact) in contacts.iter().enumerate() {
        let Contact { from, to, proto, port } = *contact;
        let scene = scene.at(place as f64 * 0.2);
        match proto {
            "tcp" => drop(scene.tcp(from, to, port).handshake().fin()),
            "udp" => drop(scene.udp(from, to, port).request(b"\x01\x02").reply(b"\x03")),
            _ => drop(scene.ping(from, to).request().reply()),
        }
    }
    let dir = workshop(name);
    let came = run(&scene, &dir, &[]);
    let output = export(&dir, "nsg", "site.toml", &[]);
    let template: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| TestCaseError::fail(format!("{error}: {}", text(&output.stderr))))?;
    let groups = Groups { template, tags: ServiceTags::bundled() };
    let host: [IpAddr; 2] = [RESOLVER, IMDS].map(|ip| ip.parse().expect("an address"));
    let mut counts = [0, 0];
    for row in came.lines.iter().filter(|line| line["type"] == "flow") {
        let ip =
            |field: &str| row[field].as_str().expect("an address").parse::<IpAddr>().expect("an address");
        let (from, to) = (ip("initiator_ip"), ip("responder_ip"));
        let (proto, port) = (row["proto"].as_str().expect("a protocol"), row["responder_port"].as_u64());
        let port = u16::try_from(port.expect("a port")).expect("a port");
        let roles = [words(row, "initiator_roles"), words(row, "responder_roles")];
        // No group stops what the host answers. With no resolvers listed every machine is one to the audit: that opens no door.
        if host.contains(&to) || (port == 53 && keys.contains(&("site.resolvers", "[]"))) {
            continue;
        }
        let Some(permitted) = groups.permit([&roles[0], &roles[1]], from, to, proto, port) else { continue };
        let verdict = row["verdict"].as_str().expect("a verdict");
        let documented = matches!(verdict, "documented" | "platform");
        prop_assert_eq!(
            permitted,
            documented,
            "{} {} -> {} {}: {} by {}",
            proto,
            from,
            to,
            port,
            verdict,
            &row["rules"]
        );
        counts[usize::from(!permitted)] += 1;
    }
    Ok(counts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn network_security_groups_let_by_what_the_audit_calls_documented(
        keys in keys(),
        contacts in prop::collection::vec(contact(), 1..60),
    ) {
        groups_agree("export_agrees", &keys, &contacts)?;
    }
}

#[test]
fn both_what_is_permitted_and_what_is_denied_is_held_against_the_audit() {
    let all: Vec<Contact> = HOSTS
        .iter()
        .flat_map(|&from| {
            let to = HOSTS.iter().chain(&SERVICES).chain(&OTHERS);
            let to = to.filter(move |to| **to != from && to.contains(':') == from.contains(':'));
            to.flat_map(move |&to| {
                [443, 1433, 20_443, 25].map(|port| Contact { from, to, proto: "tcp", port })
            })
        })
        .collect();
    let keys = [("site.virtual_network", r#"["10.10.0.0/16"]"#), ("conditions.private-environment", "true")];
    let [permitted, denied] = groups_agree("export_counts", &keys, &all).expect("they agree");
    assert!(permitted >= 15 && denied >= 100, "{permitted} permitted, {denied} denied");
}

/// Clients, a gateway and servers, each in a namespace of its own; gone when it is dropped.
struct Rig {
    clients: String,
    gateway: String,
    servers: String,
    running: Vec<Child>,
}

/// Addresses of the clients: the appliance, and a machine that holds no role.
const CLIENTS: [&str; 3] = [APPLIANCE, "10.60.0.5", APPLIANCE6];
/// Those of the servers.
const SERVERS: [&str; 10] =
    [MAIL, WORKER, STORAGE, WEB, BROWSER, VM, "198.51.100.7", "198.51.100.8", "198.51.100.53", "2001:db8::9"];
const GATEWAY: &str = "10.99.0.1";

impl Rig {
    fn new() -> Rig {
        let own = std::process::id();
        let [clients, gateway, servers] = ["c", "g", "s"].map(|end| format!("pp-export-{end}-{own}"));
        for space in [&clients, &gateway, &servers] {
            ip(&["netns", "add", space]);
            ip(&["-n", space, "link", "set", "lo", "up"]);
        }
        let rig = Rig { clients, gateway, servers, running: Vec::new() };
        for (space, end, addresses) in [(&rig.clients, "c", &CLIENTS[..]), (&rig.servers, "s", &SERVERS[..])]
        {
            ip(&[
                "-n",
                space,
                "link",
                "add",
                "cable",
                "type",
                "veth",
                "peer",
                "name",
                end,
                "netns",
                &rig.gateway,
            ]);
            ip(&["-n", &rig.gateway, "addr", "add", &format!("{GATEWAY}/32"), "dev", end]);
            ip(&["-n", &rig.gateway, "addr", "add", "fd99::1/128", "dev", end, "nodad"]);
            ip(&["-n", &rig.gateway, "link", "set", end, "up"]);
            ip(&["-n", space, "link", "set", "cable", "up"]);
            for address in addresses {
                let (version, length) = if address.contains(':') { ("-6", 128) } else { ("-4", 32) };
                let mut add = vec!["-n", space, "addr", "add"];
                let prefix = format!("{address}/{length}");
                add.extend([prefix.as_str(), "dev", "cable"]);
                add.extend(if version == "-6" { &["nodad"][..] } else { &[] });
                ip(&add);
                ip(&["-n", &rig.gateway, version, "route", "add", address, "dev", end]);
            }
            for (version, gateway) in [("-4", GATEWAY), ("-6", "fd99::1")] {
                ip(&["-n", space, version, "route", "add", gateway, "dev", "cable"]);
                ip(&["-n", space, version, "route", "add", "default", "via", gateway, "dev", "cable"]);
            }
        }
        for key in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            rig.inside(&rig.gateway, &["sysctl", "-qw", key]);
        }
        rig
    }

    fn command(space: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", space]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a program in a namespace, to its end.
    fn inside(&self, space: &str, arguments: &[&str]) -> String {
        let output = Rig::command(space, arguments).output().expect("ip runs");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a program in a namespace, as long as the rig is there.
    fn leave(&mut self, space: &str, arguments: &[&str]) {
        let mut command = Rig::command(space, arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push(command.spawn().expect("ip runs"));
    }

    /// What comes of a connection: `open`, or the name of what the system says.
    fn connect(&self, space: &str, from: &str, to: &str, port: u16) -> String {
        const SCRIPT: &str = "import errno, socket, sys\n\
            s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n\
            s.settimeout(5)\n\
            s.bind((sys.argv[1], 0))\n\
            try: s.connect((sys.argv[2], int(sys.argv[3]))); print('open')\n\
            except OSError as e: print(errno.errorcode.get(e.errno, 'silent'))\n";
        self.inside(space, &["python3", "-c", SCRIPT, from, to, &port.to_string()]).trim().to_owned()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        for space in [&self.clients, &self.gateway, &self.servers] {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

/// Listens at every address of a namespace, at the ports given.
const LISTEN: &str = "import socket, sys, time\n\
    open = []\n\
    for port in sys.argv[1:]:\n\
    \x20   s = socket.create_server(('::', int(port)), family=socket.AF_INET6, dualstack_ipv6=True)\n\
    \x20   open.append(s)\n\
    time.sleep(600)\n";

/// Asks a resolver for the address of a name.
const ASK: &str = "import socket, struct, sys\n\
    q = b''.join(bytes([len(l)]) + l.encode() for l in sys.argv[2].split('.')) + b'\\0'\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
    s.settimeout(5)\n\
    s.sendto(struct.pack('>6H', 7, 256, 1, 0, 0, 0) + q + struct.pack('>2H', 1, 1), (sys.argv[1], 53))\n\
    print('.'.join(str(b) for b in s.recv(512)[-4:]))\n";

fn programs_missing(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into)).collect();
    let there = |program: &&&str| folders.iter().any(|folder| folder.join(program).is_file());
    let missing: Vec<&&str> = programs.iter().filter(|program| !there(program)).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_none(), "{test}: without {missing:?}");
        eprintln!("{test}: skipped: without {missing:?}");
    }
    !missing.is_empty()
}

#[test]
fn a_real_gateway_lets_by_what_is_documented_and_refuses_the_rest() {
    let test = "a real gateway";
    if programs_missing(test, &["nft", "sysctl", "python3", "tcpdump", "dnsmasq", "sed"])
        || !can_make_namespaces(test)
    {
        return;
    }
    let dir = workshop("export_gateway");
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let table = export(project(), "nftables", SITE, &[]).stdout;
    std::fs::write(dir.join("table.nft"), &table).expect("a file can be written");
    let mut rig = Rig::new();
    let (clients, gateway, servers) = (rig.clients.clone(), rig.gateway.clone(), rig.servers.clone());
    for (space, ports) in [(&servers, &["25", "22", "80", "443"][..]), (&clients, &["443", "8443"])] {
        rig.leave(space, &[&["python3", "-c", LISTEN], ports].concat());
    }
    wait_for("a listener", || rig.connect(&servers, VM, WEB, 443) == "open");
    wait_for("a listener", || rig.connect(&clients, APPLIANCE, APPLIANCE, 8443) == "open");

    // Without the table all is open; with it, loaded twice, what is documented is.
    wait_for("the way", || rig.connect(&clients, APPLIANCE, WEB, 443) == "open");
    wait_for("the other way", || rig.connect(&clients, APPLIANCE6, "2001:db8::9", 443) == "open");
    for _ in 0..2 {
        rig.inside(&gateway, &["nft", "-f", &file("table.nft")]);
    }
    rig.leave(&clients, &["tcpdump", "-i", "cable", "-U", "-s", "0", "-w", &file("client.pcap")]);
    wait_for("tcpdump", || dir.join("client.pcap").metadata().is_ok_and(|file| file.len() >= 24));
    let update = "198.51.100.7";
    #[rustfmt::skip]
    let attempts = [
        (&clients, APPLIANCE,   MAIL,          25,   "open"),         // vbaz-09a, by role
        (&clients, APPLIANCE,   STORAGE,       443,  "open"),         // vbaz-12, by service tag
        (&clients, APPLIANCE,   WORKER,        443,  "open"),         // vbaz-14, in the virtual network
        (&clients, APPLIANCE,   WORKER,        22,   "EHOSTUNREACH"), // another port
        (&clients, APPLIANCE,   WEB,           443,  "EHOSTUNREACH"), // nobody's
        (&clients, APPLIANCE,   update,        80,   "EHOSTUNREACH"), // by name, and no name is known yet
        (&clients, APPLIANCE6,  "2001:db8::9", 443,  "EACCES"),
        (&clients, "10.60.0.5", WEB,           443,  "open"),         // none of the guarded machines
        (&servers, BROWSER,     APPLIANCE,     443,  "open"),         // vbaz-01
        (&servers, BROWSER,     APPLIANCE,     8443, "EHOSTUNREACH"),
        (&servers, VM,          APPLIANCE,     443,  "EHOSTUNREACH"),
    ];
    for (space, from, to, port, expected) in attempts {
        assert_eq!(rig.connect(space, from, to, port), expected, "{from} -> {to} {port}");
    }
    // A name's set lets by what is put in, but no address of one's own: nor does a name that leads there.
    for address in [update, VM] {
        let element = format!("{{ {address} }}");
        let set = "names_archive_ubuntu_com_4";
        rig.inside(&gateway, &["nft", "add", "element", "inet", "portproof", set, &element]);
    }
    assert_eq!(rig.connect(&clients, APPLIANCE, update, 80), "open");
    assert_eq!(rig.connect(&clients, APPLIANCE, VM, 80), "EHOSTUNREACH");

    // dnsmasq, told as the file says, fills the sets.
    let told = Command::new("sed")
        .args(["-n", "s/^#dnsmasq nftset=/nftset=/p", &file("table.nft")])
        .output()
        .expect("sed");
    assert!(text(&table).contains("sed -n 's/^#dnsmasq nftset=/nftset=/p' FILE"), "{}", text(&table));
    std::fs::write(dir.join("dnsmasq.conf"), &told.stdout).expect("a file can be written");
    let common = [
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--user=root",
        "--pid-file=",
    ];
    let upstream = [
        "--conf-file=/dev/null",
        "--listen-address=198.51.100.53",
        "--address=/security.ubuntu.com/198.51.100.8",
    ];
    rig.leave(&servers, &[&common[..], &upstream].concat());
    let conf = format!("--conf-file={}", file("dnsmasq.conf"));
    let listen = format!("--listen-address={GATEWAY}");
    rig.leave(&gateway, &[&common[..], &["--server=198.51.100.53", &conf, &listen]].concat());
    assert_eq!(rig.connect(&clients, APPLIANCE, "198.51.100.8", 80), "EHOSTUNREACH");
    let ask = ["python3", "-c", ASK, GATEWAY, "security.ubuntu.com"];
    wait_for("an answer", || {
        let answer = Rig::command(&clients, &ask).output().expect("ip runs");
        answer.status.success() && text(&answer.stdout).trim() == "198.51.100.8"
    });
    assert_eq!(rig.connect(&clients, APPLIANCE, "198.51.100.8", 80), "open");

    // What the firewall refused the audit sees as prohibited, and the counters know both.
    let ruleset = rig.inside(&gateway, &["nft", "list", "table", "inet", "portproof"]);
    let counted = |comment: &str| -> u64 {
        let lines = ruleset.lines().filter(|line| line.contains(comment));
        let packets =
            lines.filter_map(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
        packets.sum()
    };
    assert!(counted("vbaz-09a row 9") == 1 && counted("vbaz-12 row 12") == 1, "{ruleset}");
    assert!(counted("undocumented, begun by backup-appliance") >= 6, "{ruleset}");
    assert!(
        ruleset.contains("limit rate 10/second burst 20 packets log prefix \"portproof: \"\n"),
        "{ruleset}"
    );
    assert!(counted("undocumented, asked of backup-appliance") >= 2, "{ruleset}");
    wait_for("the last frames", || {
        let audit = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .current_dir(project())
            .args(["audit", &file("client.pcap"), "--site", SITE, "--format", "jsonl"])
            .output()
            .expect("the program starts");
        let rows = text(&audit.stdout);
        let outcome = |to: &str, port: u16| {
            let rows = rows.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut rows = rows.filter(|row| row["responder_ip"] == to && row["responder_port"] == port);
            rows.next().map(|row| row["outcome"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
        };
        outcome(WEB, 443) == "prohibited"
            && outcome("2001:db8::9", 443) == "prohibited"
            && outcome(STORAGE, 443) == "established"
    });
}

#[test]
fn a_table_of_hostile_texts_loads_and_does_nothing_else() {
    let test = "a table of hostile texts";
    if programs_missing(test, &["nft"]) || !can_make_namespaces(test) {
        return;
    }
    let dir = workshop("export_hostile");
    let pack = ADDRESSES
        .replace("\"Print.\"", r##""a\" accept\n}\nflush ruleset\n#""##)
        .replace("to_title = \"Printer\"", r##"to_title = "x\" \\\nflush ruleset \\""##);
    std::fs::write(dir.join("pack.toml"), pack).expect("a file can be written");
    std::fs::write(dir.join("site.toml"), "[site]\nname=\"x\\nflush ruleset\"\n[roles]\nprinter = [\"0.0.0.0/0\", \"::/0\"]\noffice = [\"10.0.0.0/8\", \"10.2.0.0/16\"]\n")
        .expect("a file can be written");
    let output = export(&dir, "nftables", "site.toml", &["--rules", "pack.toml"]);
    std::fs::write(dir.join("table.nft"), &output.stdout).expect("a file can be written");
    let space = format!("pp-hostile-{}", std::process::id());
    ip(&["netns", "add", &space]);
    let inside = |arguments: &[&str]| Rig::command(&space, arguments).output().expect("ip runs");
    let other = inside(&["nft", "add", "table", "inet", "another"]);
    let loaded = inside(&["nft", "-f", &dir.join("table.nft").to_string_lossy()]);
    let tables = inside(&["nft", "list", "tables"]);
    ip(&["netns", "del", &space]);
    assert!(other.status.success() && loaded.status.success(), "{}", text(&loaded.stderr));
    assert_eq!(text(&tables.stdout), "table inet another\ntable inet portproof\n");
}
