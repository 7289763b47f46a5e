//! The captures in `captures/`: what is in them, that they are those bytes, and what an audit says of each.
//!
//! `PORTPROOF_BLESS=1 cargo test --test it captures::` writes them anew, with their digests in `captures/README.md`.

use crate::scene::*;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const SITE: &str = include_str!("../../captures/site.toml");

/// Public addresses of the captures' servers, one for each name.
fn server(number: u8) -> String {
    format!("203.0.113.{number}")
}

/// A documented visit by name, on whatever port its rule has.
fn visit(s: &mut Scene, at: f64, client: &str, name: &str, number: u8, port: u16, rule: &str) {
    let server = server(number);
    s.at(at).resolve(client, name, &server).at(at + 0.1);
    let talk = s.tcp(client, &server, port).handshake();
    let talk = if port == 80 { talk.exchange(&http_get(name, "/"), &http_ok()) } else { talk.tls(name) };
    talk.fin();
    s.expect(flow(client, &server, port).documented(&[rule]).grade("corroborated").outcome("established"));
}

/// A documented visit to a service known by its tag: the name is looked up too.
fn visit_tagged(s: &mut Scene, at: f64, client: &str, name: &str, server: &str, rule: &str) {
    s.at(at).resolve(client, name, server).at(at + 0.1).web(client, server, name);
    s.expect(flow(client, server, 443).documented(&[rule]).grade("corroborated").outcome("established"));
}

/// A documented connection to a holder of a role.
fn call(s: &mut Scene, at: f64, client: &str, server: &str, port: u16, rules: &[&str]) {
    s.at(at).tcp(client, server, port).handshake().tls("host.contoso.example").fin();
    s.expect(flow(client, server, port).documented(rules).grade("site").outcome("established"));
}

fn mail(s: &mut Scene, at: f64, port: u16, rule: &str) {
    s.at(at).tcp(APPLIANCE, MAIL, port).handshake().server(SMTP_BANNER).exchange(SMTP_EHLO, SMTP_OFFER).fin();
    s.expect(flow(APPLIANCE, MAIL, port).documented(&[rule]).grade("site").outcome("established"));
}

fn database(s: &mut Scene, at: f64, server: &str, port: u16, rule: &str) {
    s.at(at).tcp(WORKER, server, port).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
    s.expect(flow(WORKER, server, port).documented(&[rule]).outcome("established"));
}

/// Every rule of the page, in its order.
const RULES: [&str; 41] = [
    "vbaz-01", "vbaz-02", "vbaz-03", "vbaz-04", "vbaz-05a", "vbaz-05b", "vbaz-06", "vbaz-07", "vbaz-08",
    "vbaz-09a", "vbaz-09b", "vbaz-10", "vbaz-11", "vbaz-12", "vbaz-13", "vbaz-14", "vbaz-15", "vbaz-16",
    "vbaz-17", "vbaz-18", "vbaz-19a", "vbaz-19b", "vbaz-20", "vbaz-21", "vbaz-22a", "vbaz-22b", "vbaz-23",
    "vbaz-24a", "vbaz-24b", "vbaz-25", "vbaz-26", "vbaz-27a", "vbaz-27b", "vbaz-28", "vbaz-29", "vbaz-30",
    "vbaz-31", "vbaz-32", "vbaz-33", "vbaz-34a", "vbaz-34b",
];

scenes! {
    fn matrix(s) {
        s.site_text(SITE);
        call(s, 0.0, BROWSER, APPLIANCE, 443, &["vbaz-01", "vbaz-02"]);
        call(s, 1.0, BROWSER, WORKER, 443, &["vbaz-03"]);
        let ask = s.at(2.0).dns(APPLIANCE, RESOLVER).query("repository.veeam.com", A);
        ask.answer(&[cname("repository.veeam.com", "d1abc.cloudfront.net"), a("d1abc.cloudfront.net", &server(4))]);
        s.at(2.1).web(APPLIANCE, &server(4), "repository.veeam.com");
        s.expect(flow(APPLIANCE, &server(4), 443).documented(&["vbaz-04"]).grade("corroborated"));
        visit(s, 3.0, APPLIANCE, "security.ubuntu.com", 51, 80, "vbaz-05a");
        visit(s, 4.0, APPLIANCE, "archive.ubuntu.com", 52, 80, "vbaz-05b");
        visit(s, 5.0, APPLIANCE, "apt.postgresql.org", 6, 443, "vbaz-06");
        visit(s, 6.0, APPLIANCE, "postgresql.org", 7, 443, "vbaz-07");
        visit(s, 7.0, APPLIANCE, "packages.microsoft.com", 8, 443, "vbaz-08");
        mail(s, 8.0, 25, "vbaz-09a");
        mail(s, 9.0, 587, "vbaz-09b");
        visit_tagged(s, 10.0, APPLIANCE, "login.microsoftonline.com", ENTRA, "vbaz-10");
        visit_tagged(s, 11.0, APPLIANCE, "management.azure.com", ARM, "vbaz-11");
        visit_tagged(s, 12.0, APPLIANCE, "contosobackup01.blob.core.windows.net", STORAGE, "vbaz-12");
        visit_tagged(s, 13.0, APPLIANCE, "contosokeys.vault.azure.net", VAULT, "vbaz-13");
        s.at(14.0).tcp(APPLIANCE, "10.10.7.7", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "10.10.7.7", 443).documented(&["vbaz-14"]));
        visit(s, 15.0, APPLIANCE, "nginx.org", 15, 443, "vbaz-15");
        visit(s, 16.0, APPLIANCE, "apim-ratecard-v1.azure-api.net", 16, 443, "vbaz-16");
        visit(s, 17.0, APPLIANCE, "vbr.butler.veeam.com", 17, 443, "vbaz-17");
        visit_tagged(s, 18.0, VM, "contosobackup01.blob.core.windows.net", STORAGE, "vbaz-18");
        visit(s, 19.0, WORKER, "security.ubuntu.com", 51, 80, "vbaz-19a");
        visit(s, 19.5, WORKER, "archive.ubuntu.com", 52, 80, "vbaz-19b");
        visit(s, 20.0, WORKER, "apt.postgresql.org", 6, 80, "vbaz-20");
        visit(s, 21.0, WORKER, "postgresql.org", 7, 443, "vbaz-21");
        s.at(22.0).resolve(WORKER, "contososql.database.windows.net", SQL_HERE);
        database(s, 22.1, SQL_HERE, 1433, "vbaz-22a");
        database(s, 22.5, SQL_HERE, 11_001, "vbaz-22b");
        s.at(23.0).resolve(WORKER, "mi1.public.abc123.database.windows.net", &server(23));
        database(s, 23.1, &server(23), 3342, "vbaz-23");
        database(s, 24.0, "10.10.8.5", 1433, "vbaz-24a");
        database(s, 24.5, "10.10.8.5", 11_002, "vbaz-24b");
        s.at(25.0).resolve(WORKER, "c-group.abc.postgres.cosmos.azure.com", COSMOS).at(25.1);
        let talk = s.tcp(WORKER, COSMOS, 5432).handshake().exchange(PG_SSL_REQUEST, b"S");
        talk.tls("c-group.abc.postgres.cosmos.azure.com").fin();
        s.expect(flow(WORKER, COSMOS, 5432).documented(&["vbaz-25"]));
        s.at(26.0).resolve(WORKER, "contoso.mongo.cosmos.azure.com", "4.149.114.129").at(26.1);
        s.tcp(WORKER, "4.149.114.129", 10255).handshake().tls("contoso.mongo.cosmos.azure.com").fin();
        s.expect(flow(WORKER, "4.149.114.129", 10255).documented(&["vbaz-26"]));
        visit_tagged(s, 27.0, WORKER, "contosobackup01.blob.core.windows.net", STORAGE, "vbaz-27a");
        s.at(27.5).resolve(WORKER, "contosobackup01.file.core.windows.net", "13.95.96.177").at(27.6);
        s.tcp(WORKER, "13.95.96.177", 445).handshake().exchange(&smb_negotiate(), &smb_negotiated()).fin();
        s.expect(flow(WORKER, "13.95.96.177", 445).documented(&["vbaz-27b"]));
        call(s, 28.0, BACKUP, APPLIANCE, 443, &["vbaz-28"]);
        visit_tagged(s, 29.0, BACKUP, "management.azure.com", ARM, "vbaz-29");
        visit_tagged(s, 30.0, BACKUP, "login.microsoftonline.com", ENTRA, "vbaz-30");
        visit(s, 31.0, BACKUP, "graph.microsoft.com", 31, 443, "vbaz-31");
        visit(s, 32.0, BACKUP, "checkip.amazonaws.com", 32, 443, "vbaz-32");
        visit_tagged(s, 33.0, BACKUP, "contosobackup01.blob.core.windows.net", STORAGE, "vbaz-33");
        call(s, 34.0, CONSOLE, BACKUP, 20443, &["vbaz-34a"]);
        call(s, 34.5, VEEAM_ONE, BACKUP, 20443, &["vbaz-34b"]);
        RULES.iter().for_each(|rule| { s.coverage(rule, "observed"); });
        s.findings(&[]).exit(0);
    }

    fn violations(s) {
        s.site_text(SITE).keeps_talking(APPLIANCE, 0.05, 30.0);
        // Undocumented by name, port, direction and role; a stranger; an echo; an alias; the system's own noise.
        s.at(1.0).resolve(APPLIANCE, "exfil.example", &server(70)).at(1.1).web(APPLIANCE, &server(70), "exfil.example");
        s.at(2.0).resolve(APPLIANCE, "nginx.org", &server(15)).at(2.1);
        s.tcp(APPLIANCE, &server(15), 8443).handshake().tls("nginx.org").fin();
        s.at(3.0).tcp(BACKUP, CONSOLE, 20443).handshake().tls("console.contoso.example").fin();
        s.at(4.0).resolve(WORKER, "nginx.org", &server(15)).at(4.1).web(WORKER, &server(15), "nginx.org");
        s.at(5.0).tcp("198.51.100.5", APPLIANCE, 22).handshake().server(SSH_BANNER).client(SSH_BANNER).fin();
        s.at(6.0).ping(APPLIANCE, &server(71)).request().reply();
        s.at(7.0).resolve(APPLIANCE, "azure.archive.ubuntu.com", &server(72)).at(7.1);
        let talk = s.tcp(APPLIANCE, &server(72), 80).handshake();
        talk.exchange(&http_get("azure.archive.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        s.at(8.0).udp(APPLIANCE, &server(73), 123).request(&ntp(3)).reply(&ntp(4));
        for (port, server) in [(443, server(70)), (8443, server(15)), (80, server(72))] {
            s.expect(flow(APPLIANCE, &server, port).undocumented().outcome("established").carries("unexpected-traffic"));
        }
        s.expect(flow(BACKUP, CONSOLE, 20443).undocumented().differs("direction"));
        s.expect(flow(WORKER, &server(15), 443).undocumented());
        s.expect(flow("198.51.100.5", APPLIANCE, 22).undocumented());
        s.expect(flow(APPLIANCE, &server(71), 0).icmp().undocumented().outcome("answered"));
        s.expect(flow(APPLIANCE, &server(73), 123).udp().undocumented().outcome("answered"));
        // Attempts.
        s.at(9.0).tcp(APPLIANCE, &server(74), 4444).syn().server_rst();
        s.at(10.0).tcp(APPLIANCE, &server(75), 4444).syn().later(1.0).syn().later(2.0).syn();
        s.expect(flow(APPLIANCE, &server(74), 4444).undocumented().outcome("refused"));
        s.expect(flow(APPLIANCE, &server(75), 4444).undocumented().outcome("filtered"));
        // Documented, yet odd.
        s.at(11.0).resolve(APPLIANCE, "packages.microsoft.com", &server(8)).at(11.1).tcp(APPLIANCE, &server(8), 443)
            .handshake().exchange(&http_get("packages.microsoft.com", "/"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, &server(8), 443).documented(&["vbaz-08"]).carries("protocol-mismatch"));
        s.at(12.0).resolve(APPLIANCE, "apt.postgresql.org", "10.66.6.6").at(12.1)
            .web(APPLIANCE, "10.66.6.6", "apt.postgresql.org");
        s.expect(flow(APPLIANCE, "10.66.6.6", 443).never("verdict", "documented").carries("name-conflict"));
        let forged = Reply { id: Some(1), answers: vec![a("vbr.butler.veeam.com", &server(76))], ..Reply::default() };
        s.at(13.0).dns(APPLIANCE, RESOLVER).query("vbr.butler.veeam.com", A).reply(forged)
            .answer(&[a("vbr.butler.veeam.com", &server(17))]);
        s.at(13.1).web(APPLIANCE, &server(17), "vbr.butler.veeam.com");
        s.expect(flow(APPLIANCE, &server(17), 443).documented(&["vbaz-17"]));
        s.at(14.0).dns(WORKER, "203.0.113.53").query("security.ubuntu.com", A)
            .answer(&[a("security.ubuntu.com", &server(77))]);
        s.at(14.1).tcp(WORKER, &server(77), 80).handshake()
            .exchange(&http_get("security.ubuntu.com", "/"), &http_ok()).fin();
        s.expect(flow(WORKER, &server(77), 80).undetermined("conflict").carries("name-conflict"));
        s.at(15.0).resolve(APPLIANCE, "someoneelse.blob.core.windows.net", STORAGE).at(15.1)
            .web(APPLIANCE, STORAGE, "someoneelse.blob.core.windows.net");
        s.expect(flow(APPLIANCE, STORAGE, 443).undetermined("account").carries("foreign-account"));
        // Undetermined: a name from before the capture, and two names on one address.
        s.at(16.0).web(APPLIANCE, &server(78), "nginx.org.example");
        s.expect(flow(APPLIANCE, &server(78), 443).undetermined("name"));
        s.at(17.0).resolve(WORKER, "postgresql.org", &server(79)).resolve(WORKER, "tracker.example", &server(79)).at(17.1)
            .tcp(WORKER, &server(79), 443).handshake().tls_without_name().fin();
        s.expect(flow(WORKER, &server(79), 443).undetermined("ambiguous"));
        // Accepted by the site, and none of the audit's business.
        s.at(18.0).tcp(APPLIANCE, &server(84), 8443).handshake().tls("staging.contoso.example").fin();
        s.expect(flow(APPLIANCE, &server(84), 8443).undocumented().carries("accepted"));
        s.at(19.0).resolve(VM, "shop.example", &server(80)).at(19.1).web(VM, &server(80), "shop.example");
        s.expect(flow(VM, &server(80), 443).out_of_scope());
        s.findings(&[
            "unexpected-traffic", "unexpected-attempt", "protocol-mismatch", "name-conflict", "unsolicited-answer",
            "unexpected-resolver", "foreign-account", "undetermined",
        ]);
    }

    fn blocked(s) {
        s.site_text(SITE);
        for host in [APPLIANCE, WORKER] {
            s.keeps_talking(host, if host == WORKER { 0.05 } else { 0.04 }, 30.0);
        }
        let hello = |name: &str| client_hello(Some(name));
        let names = [
            "security.ubuntu.com", "archive.ubuntu.com", "apt.postgresql.org", "postgresql.org", "packages.microsoft.com",
            "nginx.org", "apim-ratecard-v1.azure-api.net", "vbr.butler.veeam.com",
        ];
        for (index, name) in names.into_iter().enumerate() {
            s.at(0.5 + index as f64 / 10.0).resolve(APPLIANCE, name, &server(index as u8 + 1));
        }
        let rows = [
            ("vbaz-05a", 1, 80, "refused"), ("vbaz-05b", 2, 80, "filtered"), ("vbaz-06", 3, 443, "prohibited"),
            ("vbaz-07", 4, 443, "unreachable"), ("vbaz-08", 5, 443, "cut"), ("vbaz-15", 6, 443, "cut"),
            ("vbaz-16", 7, 443, "tls-refused"),
        ];
        for (rule, number, port, outcome) in rows {
            let at = 2.0 + f64::from(number);
            let server = server(number);
            let name = names[usize::from(number) - 1];
            let talk = s.at(at).tcp(APPLIANCE, &server, port);
            match number {
                1 => drop(talk.syn().server_rst()),
                2 => drop(talk.syn().later(1.0).syn().later(2.0).syn().later(4.0).syn()),
                3 => drop(talk.syn().icmp(ROUTER, 3, 13)),
                4 => drop(talk.syn().icmp(ROUTER, 3, 1)),
                5 => drop(talk.handshake().client_in_vain(&hello(name)).server_ttl(250).server_rst()),
                6 => drop(
                    talk.handshake().client_in_vain(&hello(name)).later(0.3).client_again_in_vain().later(0.6)
                        .client_again_in_vain(),
                ),
                _ => drop(talk.handshake().client(&hello(name)).server(&alert(2, 40)).server_rst()),
            }
            s.expect(flow(APPLIANCE, &server, port).documented(&[rule]).outcome(outcome).carries("documented-blocked"));
            s.coverage(rule, "blocked");
        }
        let talk = s.at(12.0).tcp(APPLIANCE, "10.50.0.3", 3128).handshake();
        talk.exchange(&http_connect("repository.veeam.com:443"), &http_status(403)).fin();
        s.expect(flow(APPLIANCE, "10.50.0.3", 3128).documented(&["vbaz-04"]).outcome("proxy-denied"));
        s.at(13.0).tcp(APPLIANCE, &server(8), 443).syn().server_rst();
        s.at(14.0).web(APPLIANCE, &server(8), "vbr.butler.veeam.com");
        s.expect(flow(APPLIANCE, &server(8), 443).rows(2).documented(&["vbaz-17"])).coverage("vbaz-17", "intermittent");
        s.at(15.0).tcp(APPLIANCE, RESOLVER, 32526).syn().server_rst();
        s.expect(flow(APPLIANCE, RESOLVER, 32526).platform().outcome("refused").carries("platform-blocked"));
        s.at(16.0).dns(WORKER, RESOLVER).query("security.ubuntu.com", A).rcode(3);
        s.at(17.0).dns(WORKER, RESOLVER).query("archive.ubuntu.com", A).wait(1.0).query("archive.ubuntu.com", A);
        s.at(18.5).resolve(WORKER, "postgresql.org", &server(4)).at(25.0).resolve(WORKER, "postgresql.org", &server(4));
        s.expect_finding(finding("name-blocked").from(WORKER).about("security.ubuntu.com"));
        s.expect_finding(finding("name-blocked").from(WORKER).about("archive.ubuntu.com"));
        // And what is no block: half-open, and fragmentation needed on the way.
        s.at(19.0).tcp(WORKER, &server(4), 443).syn().synack().later(1.0).syn().synack();
        s.expect(flow(WORKER, &server(4), 443).documented(&["vbaz-21"]).outcome("half-open"));
        s.at(21.0).tcp(CONSOLE, BACKUP, 20443).handshake().client_in_vain(&app_data(1300)).icmp(ROUTER, 3, 4)
            .client_again().server(&app_data(99)).client_ack().fin();
        s.expect(flow(CONSOLE, BACKUP, 20443).documented(&["vbaz-34a"]).outcome("established"));
        s.findings(&["documented-blocked", "platform-blocked", "name-blocked", "intermittent"]);
    }

    fn mixed(s) {
        s.site_text(SITE).as_pcapng().keeps_talking(APPLIANCE, 0.05, 8.0);
        s.at(1.0).resolve(APPLIANCE, "nginx.org", &server(15)).at(1.1).tcp(APPLIANCE, &server(15), 443)
            .vlans(101, 102).copied_to(1, 0.001).handshake().tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, &server(15), 443).documented(&["vbaz-15"]).packets(7, 4).outcome("established"));
        s.at(2.0).resolve(APPLIANCE, "packages.microsoft.com", "2001:db8::8").at(2.1)
            .web(APPLIANCE6, "2001:db8::8", "packages.microsoft.com");
        s.expect(flow(APPLIANCE6, "2001:db8::8", 443).documented(&["vbaz-08"]).outcome("established"));
        s.at(3.0).tcp(BACKUP, APPLIANCE, 443).missed(|t| t.handshake().tls("appliance.contoso.example")).more_tls();
        s.expect(flow(BACKUP, APPLIANCE, 443).documented(&["vbaz-28"]).outcome("midstream"));
        s.at(4.0).resolve(APPLIANCE, "exfil.example", &server(70)).at(4.1).web(APPLIANCE, &server(70), "exfil.example");
        s.expect(flow(APPLIANCE, &server(70), 443).undocumented().outcome("established"));
        s.at(5.0).resolve(APPLIANCE, "archive.ubuntu.com", "2001:db8::52").at(5.1)
            .tcp(APPLIANCE6, "2001:db8::52", 80).syn().icmp("2001:db8:ffff::1", 1, 1);
        s.expect(flow(APPLIANCE6, "2001:db8::52", 80).documented(&["vbaz-05b"]).outcome("prohibited"));
        s.at(6.0).arp().capture("scene.pcapng", "duplicates", 11).capture("scene.pcapng", "skipped/arp", 1);
        s.findings(&["unexpected-traffic", "documented-blocked"]);
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

fn written(name: &str, build: fn(&mut Scene)) -> (String, Vec<u8>) {
    let mut scene = Scene::new();
    build(&mut scene);
    let file = scene.files().remove(0);
    let extension = file.name.rsplit('.').next().unwrap_or_default().to_string();
    (format!("{name}.{extension}"), file.bytes.expect("a capture has bytes"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_captures_are_what_this_file_writes() {
    let bless = std::env::var_os("PORTPROOF_BLESS").is_some();
    let mut total = 0;
    for &(name, build) in SCENES {
        let (file, bytes) = written(name, build);
        let path = folder().join(&file);
        if bless {
            std::fs::write(&path, &bytes).expect("a capture can be written");
        }
        let there = std::fs::read(&path).unwrap_or_default();
        assert!(there == bytes, "captures/{file} differs: PORTPROOF_BLESS=1 writes it anew");
        total += bytes.len();
    }
    assert!(total < 200_000, "{total} bytes are too many for a repository");
}

#[test]
fn the_index_gives_their_digests() {
    let path = folder().join("README.md");
    let mut index = std::fs::read_to_string(&path).expect("captures/README.md is there");
    for &(name, build) in SCENES {
        let (file, bytes) = written(name, build);
        let digest = sha256(&bytes);
        let line = index.lines().find(|line| line.contains(&format!("`{file}`"))).map(str::to_string);
        let line = line.unwrap_or_else(|| panic!("captures/README.md has no line for {file}"));
        if std::env::var_os("PORTPROOF_BLESS").is_some() {
            let (before, _) =
                line.trim_end_matches(['`', ' ', '|']).rsplit_once('`').expect("a digest in backticks");
            index = index.replace(&line, &format!("{before}`{digest}` |"));
        } else {
            assert!(line.contains(&digest), "captures/README.md: {file} has digest {digest}");
        }
    }
    if std::env::var_os("PORTPROOF_BLESS").is_some() {
        std::fs::write(&path, index).expect("the index can be written");
    }
}

#[test]
fn they_read_well_in_tshark() {
    if !crate::casebook::tshark_is_there() {
        return;
    }
    for &(name, build) in SCENES {
        let complaints = crate::casebook::tshark_complains(&folder().join(written(name, build).0));
        assert!(complaints.is_empty(), "{complaints}");
    }
}
