//! Where one detail turns the answer: sentences of SEMANTICS.md at their edges.

use crate::scene::*;

const PROXY: &str = "10.50.0.3";
const OWN: &str = "contosobackup01.blob.core.windows.net";

fn with_proxy(s: &mut Scene) {
    s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
}

fn connect(s: &mut Scene, time: f64, target: &str) {
    let talk = s.at(time).tcp(APPLIANCE, PROXY, 3128).handshake();
    talk.exchange(&http_connect(target), &http_status(200)).tls("any.example").fin();
}

scenes! {
    // storage accounts

    fn a_server_name_of_another_account_on_the_stamp_of_ones_own_is_foreign(s) {
        s.at(0.0).resolve(APPLIANCE, OWN, STORAGE).at(1.0).web(APPLIANCE, STORAGE, "exfil01.blob.core.windows.net");
        s.expect(flow(APPLIANCE, STORAGE, 443).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account", "undetermined"]);
    }

    fn the_secondary_endpoint_of_ones_own_account_is_ones_own(s) {
        let secondary = "contosobackup01-secondary.blob.core.windows.net";
        s.at(0.0).resolve(APPLIANCE, secondary, STORAGE).at(1.0).web(APPLIANCE, STORAGE, secondary);
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12"]));
        s.findings(&[]);
    }

    fn a_private_endpoint_of_another_account_is_foreign(s) {
        let chain = ["exfil01.blob.core.windows.net", "exfil01.privatelink.blob.core.windows.net"];
        s.at(0.0).resolve_chain(APPLIANCE, &chain, &["10.10.5.5"]).at(1.0).web(APPLIANCE, "10.10.5.5", chain[0]);
        s.expect(flow(APPLIANCE, "10.10.5.5", 443).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account", "undetermined"]);
    }

    fn ones_own_account_that_leads_to_another_is_foreign(s) {
        let chain = [OWN, "exfil01.blob.core.windows.net"];
        s.at(0.0).resolve_chain(APPLIANCE, &chain, &[STORAGE]).at(1.0).web(APPLIANCE, STORAGE, chain[0]);
        s.expect(flow(APPLIANCE, STORAGE, 443).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account", "undetermined"]);
    }

    fn another_account_through_a_proxy_is_foreign(s) {
        with_proxy(s);
        connect(s, 1.0, "exfil01.blob.core.windows.net:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account", "undetermined"]);
    }

    fn another_account_named_inside_the_tunnel_is_foreign(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let target = format!("{OWN}:443");
        talk.exchange(&http_connect(&target), &http_status(200)).tls("exfil01.blob.core.windows.net").fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account", "undetermined"]);
    }

    fn a_name_that_fits_a_wildcard_of_the_platform_is_the_platforms_only_at_its_addresses(s) {
        let name = "umsaexfil.blob.core.windows.net";
        s.at(0.0).resolve(APPLIANCE, name, "203.0.113.9").at(1.0).web(APPLIANCE, "203.0.113.9", name);
        s.expect(flow(APPLIANCE, "203.0.113.9", 443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn a_name_that_fits_a_wildcard_of_the_platform_is_the_platforms_at_its_addresses(s) {
        let name = "umsa1234.blob.core.windows.net";
        s.at(0.0).resolve(CONSOLE, name, STORAGE).at(1.0).web(CONSOLE, STORAGE, name);
        s.expect(flow(CONSOLE, STORAGE, 443).platform().is("rules", vec!["plat-agent-ext"]));
        s.findings(&[]);
    }

    // proxies

    fn what_was_asked_of_a_proxy_before_the_capture_began_is_missing(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128);
        talk.missed(|talk| talk.handshake().exchange(&http_connect("nginx.org:443"), &http_status(200)))
            .exchange(&app_data(50), &app_data(50));
        s.expect(flow(APPLIANCE, PROXY, 3128).undetermined("name"));
        s.findings(&["undetermined"]);
    }

    fn a_second_destination_on_one_proxy_connection_is_not_hidden_by_the_first(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/ubuntu"), &http_ok());
        talk.exchange(&http_get_by_proxy("exfil.example", "/"), &http_ok()).fin();
        // Whatever is said of the connection is said of the destination that no rule documents.
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented().named("exfil.example").named("archive.ubuntu.com"));
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").about("exfil.example").times(1));
    }

    fn of_more_names_on_an_address_than_are_told_none_is_said_to_be_undocumented(s) {
        for other in 0..20 {
            s.at(1.0 + 0.1 * f64::from(other)).dns(APPLIANCE, RESOLVER).query(&format!("a{other:02}.example"), A).answer(&[cname(&format!("a{other:02}.example"), "shared.example")]);
        }
        s.at(4.0).dns(APPLIANCE, RESOLVER).query("security.ubuntu.com", A).answer(&[cname("security.ubuntu.com", "shared.example")]);
        s.at(5.0).resolve(APPLIANCE, "shared.example", WEB).at(6.0).tcp(APPLIANCE, WEB, 80).handshake().client(b"x").fin();
        s.expect(flow(APPLIANCE, WEB, 80).is("verdict", "undetermined").is("missing", "ambiguous"));
        s.findings(&["undetermined"]);
    }

    fn a_tunnel_of_an_audited_machine_is_said(s) {
        for at in 1..4 {
            s.at(f64::from(at)).tunnelled(APPLIANCE, WEB, "192.168.7.1", "192.168.7.2");
        }
        s.at(5.0).tunnelled(VM, WEB2, "192.168.7.1", "192.168.7.2");
        s.findings(&[]).remarks("an end of a tunnel, by packets: backup-appliance 10.10.1.4 -> 203.0.113.9 (3). What");
    }

    fn a_destination_beyond_what_is_kept_of_a_proxy_connection_is_not_known_and_that_is_said(s) {
        with_proxy(s);
        let mut talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        for _ in 0..60 {
            talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/ubuntu/dists/noble/InRelease"), &http_ok());
        }
        talk.exchange(&http_get_by_proxy("exfil.example", "/"), &http_ok()).fin();
        s.findings(&[]).remarks("1 connection asked a proxy for more than the first 4 KiB show");
    }

    fn answers_beyond_what_is_read_of_a_tcp_connection_are_said_to_be_missing(s) {
        s.at(1.0).tcp(APPLIANCE, RESOLVER, 53).handshake().client(&[0; 30]).server(&[0; 40_000]).server(&[0; 40_000]).client_ack().fin();
        s.damaged_on_purpose();
        s.perhaps(&["undetermined", "unexpected-traffic"]).remarks("1 connection to TCP port 53 with more than 64 KiB");
    }

    fn a_second_host_on_one_connection_is_not_hidden_by_the_first(s) {
        s.at(0.3).resolve(APPLIANCE, "security.ubuntu.com", WEB).at(0.5).resolve(APPLIANCE, "exfil.example", WEB);
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 80).handshake();
        let talk = talk.exchange(&http_get("security.ubuntu.com", "/ubuntu"), &http_ok());
        talk.exchange(&http_get("exfil.example", "/"), &http_ok()).fin();
        let talk = s.at(2.0).tcp(APPLIANCE, WEB, 80).client_port(50_001).handshake();
        let talk = talk.exchange(&http_get("exfil.example", "/"), &http_ok());
        talk.exchange(&http_get("security.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 80).rows(2).is("verdict", "undetermined").is("missing", "ambiguous"));
        s.findings(&["undetermined"]);
    }

    fn nor_is_a_second_host_in_one_request(s) {
        s.at(0.3).resolve(APPLIANCE, "security.ubuntu.com", WEB).at(0.5).resolve(APPLIANCE, "exfil.example", WEB);
        let request = b"GET / HTTP/1.1\r\nHost: security.ubuntu.com\r\nHost: exfil.example\r\n\r\n";
        s.at(1.0).tcp(APPLIANCE, WEB, 80).handshake().exchange(request, &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 80).is("verdict", "undetermined").is("missing", "ambiguous"));
        s.findings(&["undetermined"]);
    }

    fn an_https_address_asked_of_a_proxy_is_port_443_and_no_mismatch(s) {
        with_proxy(s);
        let request = b"GET https://nginx.org/keys HTTP/1.1\r\nHost: nginx.org\r\n\r\n";
        s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(request, &http_ok()).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-15"]));
        s.findings(&[]);
    }

    fn one_host_asked_twice_on_one_connection_still_tells_whose_it_is(s) {
        s.at(0.3).resolve(APPLIANCE, "security.ubuntu.com", WEB).at(0.5).resolve(APPLIANCE, "exfil.example", WEB);
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 80).handshake();
        let talk = talk.exchange(&http_get("security.ubuntu.com", "/ubuntu"), &http_ok());
        talk.exchange(&http_get("security.ubuntu.com", "/more"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 80).documented(&["vbaz-05a"]));
        s.findings(&[]);
    }

    fn ports_asked_of_a_proxy_are_findings_of_their_own(s) {
        with_proxy(s);
        connect(s, 1.0, "exfil.example:443");
        connect(s, 2.0, "exfil.example:8443");
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").times(2).count(1));
    }

    fn an_exception_names_what_the_proxy_was_asked_for(s) {
        with_proxy(s);
        s.accept("from = \"backup-appliance\"\nto = \"exfil.example\"\nport = 443\nproto = \"tcp\"\nreason = \"x\"");
        connect(s, 1.0, "exfil.example:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented().carries("accepted"));
        s.findings(&[]);
    }

    fn an_exception_for_one_destination_of_a_proxy_connection_accepts_no_other(s) {
        with_proxy(s);
        s.accept("from = \"backup-appliance\"\nto = \"exfil.example\"\nport = 443\nreason = \"x\"");
        s.accept("from = \"backup-appliance\"\nto = \"203.0.113.9\"\nport = 8080\nreason = \"y\"");
        let others = ["exfil.example:8443", "other.example:443", "198.51.100.66:8443"];
        for (index, other) in others.into_iter().enumerate() {
            let talk = s.at(1.0 + index as f64).tcp(APPLIANCE, PROXY, 3128).handshake();
            let talk = talk.exchange(&http_connect("exfil.example:443"), &http_status(403));
            talk.exchange(&http_connect(other), &http_status(200)).exchange(&app_data(50), &app_data(50)).fin();
        }
        // Two destinations that are accepted, each by an entry of its own, and one that is documented beside one that is accepted.
        let get = http_get_by_proxy("203.0.113.9:8080", "/x");
        let talk = s.at(8.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&get, &http_ok());
        talk.exchange(&http_connect("exfil.example:443"), &http_status(200)).exchange(&app_data(50), &app_data(50)).fin();
        let talk = s.at(9.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/x"), &http_ok());
        talk.exchange(&http_connect("exfil.example:443"), &http_status(200)).exchange(&app_data(50), &app_data(50)).fin();
        for row in 0..3 {
            s.expect(flow(APPLIANCE, PROXY, 3128).row(row, 5).undocumented().carries("unexpected-traffic"));
        }
        for row in 3..5 {
            let row = flow(APPLIANCE, PROXY, 3128).row(row, 5);
            s.expect(row.undocumented().carries("accepted").lacks("unexpected-traffic"));
        }
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").times(3));
    }

    fn each_destination_that_one_proxy_connection_asked_for_is_a_finding_of_its_own(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("one.example", "/x"), &http_ok());
        talk.exchange(&http_get_by_proxy("two.example:8080", "/x"), &http_ok()).fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").times(2));
        s.expect_finding(finding("unexpected-traffic").about("one.example"));
        s.expect_finding(finding("unexpected-traffic").about("two.example"));
    }

    fn a_destination_of_several_is_proven_by_its_own_request_and_answer(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/x"), &http_ok());
        talk.exchange(&http_get_by_proxy("exfil.example", "/y"), &http_ok()).fin();
        let cited = finding("unexpected-traffic").about("exfil.example");
        // The SYN and its answer, then the request and what came of it; the first request was frame 4.
        s.findings(&["unexpected-traffic"]).expect_finding(cited.is("evidence/2/frame", 7).is("evidence/3/frame", 8));
    }

    fn an_alert_in_a_tunnel_is_of_that_tunnel(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/x"), &http_ok());
        let talk = talk.exchange(&http_connect("nginx.org:443"), &http_status(200));
        talk.exchange(&client_hello(Some("nginx.org")), &alert(2, 40)).fin();
        s.findings(&["documented-blocked"]).expect_finding(finding("documented-blocked").about("nginx.org"));
        s.coverage("vbaz-05b", "observed").coverage("vbaz-15", "blocked");
    }

    fn a_connect_that_nobody_answered_beside_others_let_nothing_through(s) {
        with_proxy(s);
        let asked = [http_connect("nginx.org:443"), http_connect("exfil.example:443")].concat();
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        talk.exchange(&asked, &http_status(403)).fin();
        s.findings(&["documented-blocked", "unexpected-attempt"]);
        s.expect_finding(finding("documented-blocked").about("nginx.org"));
        s.expect_finding(finding("unexpected-attempt").about("exfil.example"));
    }

    fn an_answer_to_head_has_no_body_whatever_its_length_says(s) {
        with_proxy(s);
        let head = b"HEAD http://archive.ubuntu.com/x HTTP/1.1\r\nHost: archive.ubuntu.com\r\n\r\n";
        let long = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(head, long);
        talk.exchange(&http_connect("nginx.org:443"), &http_status(403)).fin();
        s.findings(&["documented-blocked"]).coverage("vbaz-05b", "observed").coverage("vbaz-15", "blocked");
    }

    fn what_a_proxy_refused_is_blocked_and_what_it_let_through_on_the_same_connection_is_not(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_connect("nginx.org:443"), &http_status(403));
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/x"), &http_ok());
        let talk = talk.exchange(&http_connect("refused.example:443"), &http_status(403));
        talk.exchange(&http_connect("exfil.example:443"), &http_status(200)).exchange(&app_data(50), &app_data(50)).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented().is("outcome", "proxy-denied"));
        s.findings(&["documented-blocked", "unexpected-attempt", "unexpected-traffic"]);
        for (code, name) in [
            ("documented-blocked", "nginx.org"),
            ("unexpected-attempt", "refused.example"),
            ("unexpected-traffic", "exfil.example"),
        ] {
            s.expect_finding(finding(code).times(1).about(name));
        }
        // Frame 4 asked for another destination.
        let through = finding("unexpected-traffic").about("exfil.example");
        s.expect_finding(through.evidence(4).is("evidence/2/frame", 13));
        s.coverage("vbaz-15", "blocked").coverage("vbaz-05b", "observed");
    }

    fn a_request_in_origin_form_behind_one_for_the_proxy_is_for_the_proxy_too(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/x"), &http_ok());
        talk.exchange(&http_get("exfil.example", "/y"), &http_ok()).fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").about("exfil.example"));
    }

    fn another_scheme_asked_of_a_proxy_has_another_port(s) {
        with_proxy(s);
        for (index, scheme) in ["ftp", "wss", "gopher"].into_iter().enumerate() {
            let get = format!("GET {scheme}://archive.ubuntu.com/x HTTP/1.1\r\nHost: archive.ubuntu.com\r\n\r\n");
            let talk = s.at(1.0 + index as f64).tcp(APPLIANCE, PROXY, 3128).handshake();
            talk.exchange(get.as_bytes(), &http_ok()).fin();
        }
        s.expect(flow(APPLIANCE, PROXY, 3128).rows(3).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn an_exception_with_a_port_accepts_no_protocol_without_ports(s) {
        s.accept("from = \"backup-appliance\"\nto = \"203.0.113.9\"\nport = 8443\nreason = \"x\"");
        s.keeps_talking(APPLIANCE, 0.1, 9.0).at(1.0).packet(APPLIANCE, WEB, (50, 64), vec![0, 0, 8, 0, 1, 2, 3, 4]);
        s.at(2.0).tcp(APPLIANCE, WEB, 8443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, WEB, 8443).carries("accepted"));
        s.findings(&["unexpected-attempt"]);
    }

    fn an_exception_for_the_proxys_address_accepts_no_destination_behind_it(s) {
        with_proxy(s);
        s.accept("from = \"backup-appliance\"\nto = \"10.50.0.3\"\nport = 3128\nproto = \"tcp\"\nreason = \"x\"");
        connect(s, 1.0, "exfil.example:443");
        s.findings(&["unexpected-traffic"]);
    }

    fn a_proxy_that_holds_another_role_may_be_met_in_that_role(s) {
        with_proxy(s);
        s.site("roles.smtp-server", r#"["10.50.0.3"]"#).at(1.0);
        s.tcp(APPLIANCE, PROXY, 25).handshake().server(SMTP_BANNER).exchange(SMTP_EHLO, SMTP_OFFER).fin();
        s.expect(flow(APPLIANCE, PROXY, 25).documented(&["vbaz-09a"]).grade("site"));
        s.findings(&[]);
    }

    // DNS

    fn a_forged_answer_that_meets_a_closed_port_is_no_flow_either(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        let forged = Reply { id: Some(1), question: Some("nginx.org".into()), answers: vec![a("nginx.org", WEB)], ..Reply::default() };
        s.at(9.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).closed_port(forged);
        s.expect(flow(APPLIANCE, RESOLVER, 53).udp().rows(1).platform());
        s.expect(flow(RESOLVER, APPLIANCE, 49155).udp().rows(0));
        s.findings(&["unsolicited-answer"]);
    }

    fn an_answer_of_a_stranger_at_the_beginning_is_still_a_flow(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(3.0).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(0.2).dns(APPLIANCE, "8.8.8.8").unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.expect(flow(APPLIANCE, "8.8.8.8", 53).udp().undocumented());
        s.findings(&["unexpected-attempt"]).perhaps(&["unexpected-traffic"]);
    }

    fn an_uncontested_earlier_answer_for_the_same_address_outweighs_a_contested_newer_one(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        let ask = s.at(10.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB2)]).answer(&[a("nginx.org", WEB)]);
        s.at(11.0).web(APPLIANCE, WEB, "nginx.org").at(12.0).web(APPLIANCE, WEB2, "nginx.org");
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).lacks("name-conflict"));
        s.expect(flow(APPLIANCE, WEB2, 443).undetermined("conflict").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined"]);
    }

    fn loopback_resolution_is_nobodys_business(s) {
        s.at(0.0).dns("127.0.0.1", "127.0.0.53").query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(1.0).web(BROWSER, APPLIANCE, "x.example");
        s.findings(&[]);
    }

    // link upkeep

    fn what_goes_between_the_ports_of_dhcp_and_is_none_is_no_link_upkeep(s) {
        s.damaged_on_purpose().at(1.0).udp(APPLIANCE, "10.99.9.9", 67).client_port(68).request(&dhcp_discover()).reply(&dhcp_discover());
        s.at(2.0).udp(APPLIANCE, "10.99.9.8", 67).client_port(68).request(&[7; 700]).reply(&[7; 700]);
        // Hidden behind one that is.
        let talk = s.at(3.0).udp(APPLIANCE, "10.99.9.7", 67).client_port(68).request(&dhcp_discover());
        talk.reply(&dhcp_discover()).request(&[1; 700]);
        s.expect(flow(APPLIANCE, "10.99.9.9", 67).udp().rows(0));
        s.expect(flow(APPLIANCE, "10.99.9.8", 67).udp().undocumented());
        s.expect(flow(APPLIANCE, "10.99.9.7", 67).udp().undocumented());
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").times(2));
    }

    fn dhcp_ports_to_a_stranger_are_no_link_upkeep(s) {
        s.damaged_on_purpose().at(1.0).udp(APPLIANCE, WEB, 67).client_port(68).request(b"exfiltrated").reply(b"thanks");
        s.expect(flow(APPLIANCE, WEB, 67).udp().undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    // one rule, one host

    fn one_rule_that_worked_and_was_blocked_is_intermittent_whatever_else_fits(s) {
        s.site("roles.backup-server", r#"["10.20.0.10", "10.10.1.4"]"#);
        s.at(0.5).resolve(APPLIANCE, OWN, STORAGE);
        s.at(1.0).tcp(APPLIANCE, STORAGE, 443).syn().server_rst();
        s.at(2.0).tcp(APPLIANCE, "13.69.40.18", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12", "vbaz-33"]));
        s.findings(&["documented-blocked", "intermittent"]).coverage("vbaz-12", "intermittent");
    }

    // times far apart

    fn a_payload_at_the_end_of_one_capture_is_no_cut_because_another_came_an_hour_later(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&client_hello(Some("nginx.org")));
        s.cut_at(2.0).at(3600.0).web(BROWSER, APPLIANCE, "x.example");
        s.expect(flow(APPLIANCE, WEB, 443).never("outcome", "cut"));
        s.findings(&[]);
    }

    fn a_query_at_the_end_of_one_capture_is_not_blocked_because_another_came_an_hour_later(s) {
        s.at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB);
        s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.cut_at(2.0).at(3600.0).resolve(APPLIANCE, "packages.microsoft.com", WEB);
        s.findings(&[]);
    }

    // clouds

    fn public_addresses_are_nothing_to_a_government_site(s) {
        s.site("site.cloud", r#""usgov""#).site("site.region", r#""usgovvirginia""#);
        s.at(1.0).web(APPLIANCE, ENTRA, "login.microsoftonline.com");
        s.expect(flow(APPLIANCE, ENTRA, 443).never("verdict", "documented"));
        s.findings(&["undetermined"]);
    }

    // TCP

    fn a_client_hello_in_the_syn_is_read(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn_with(&client_hello(Some("nginx.org"))).synack().client_ack().server(&server_hello()).fin();
        s.expect(flow(APPLIANCE, WEB, 443).is("server_name", "nginx.org").documented(&["vbaz-15"]));
        s.findings(&[]);
    }

    // evidence

    fn evidence_cites_each_frame_once(s) {
        s.at(0.0).resolve(APPLIANCE, "exfil.example", WEB);
        for index in 0..5 {
            s.at(1.0 + f64::from(index)).tcp(APPLIANCE, WEB, 443).syn().server_rst();
        }
        s.findings(&["unexpected-attempt"]);
        s.expect_finding(finding("unexpected-attempt").count(5).evidence(11));
    }

    // IPv6, several files, strangers, exceptions

    fn an_icmpv6_error_blocks_what_an_answer_over_ipv4_named(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", "2001:db8::9");
        s.at(1.0).tcp(APPLIANCE6, "2001:db8::9", 443).syn().icmp("2001:db8:ffff::1", 1, 1);
        s.expect(flow(APPLIANCE6, "2001:db8::9", 443).documented(&["vbaz-15"]).outcome("prohibited"));
        s.findings(&["documented-blocked"]);
    }

    fn both_addresses_of_one_host_are_one_finding(s) {
        s.at(0.5).resolve(APPLIANCE, "exfil.example", WEB).resolve(APPLIANCE, "exfil.example", "2001:db8::9");
        s.at(1.0).web(APPLIANCE, WEB, "exfil.example").at(2.0).web(APPLIANCE6, "2001:db8::9", "exfil.example");
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").count(2));
    }

    fn a_documented_name_at_a_private_address_is_a_conflict_at_a_site_that_lists_nothing(s) {
        s.site("site.resolvers", "[]").site("site.virtual_network", "[]").site("site.storage_accounts", "[]");
        s.at(0.5).dns(APPLIANCE, "8.8.8.8").query("nginx.org", A).answer(&[a("nginx.org", "10.10.5.5")]);
        s.at(1.0).web(APPLIANCE, "10.10.5.5", "nginx.org");
        s.expect(flow(APPLIANCE, "10.10.5.5", 443).undetermined("conflict"));
        s.findings(&["name-conflict", "undetermined"]);
    }

    fn files_that_overlap_in_time_show_one_connection(s) {
        // the same frames in two files, a little later in the second
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "nginx.org");
        let mut other = Scene::new();
        other.at(0.5003).resolve(APPLIANCE, "nginx.org", WEB).at(1.0003).web(APPLIANCE, WEB, "nginx.org");
        let bytes = other.files().remove(0).bytes.unwrap_or_default();
        s.and_the_file("other.pcap", Some(&bytes));
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).outcome("established").is("syn_count", 1));
        s.findings(&[]);
    }

    fn a_refusal_seen_in_two_files_that_overlap_is_one(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).tcp(APPLIANCE, WEB, 443).syn().server_rst();
        let mut other = Scene::new();
        other.at(0.5003).resolve(APPLIANCE, "nginx.org", WEB).at(1.0003).tcp(APPLIANCE, WEB, 443).syn().server_rst();
        let bytes = other.files().remove(0).bytes.unwrap_or_default();
        s.and_the_file("other.pcap", Some(&bytes));
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).outcome("refused"));
        s.findings(&["documented-blocked"]).expect_finding(finding("documented-blocked").count(1));
    }

    fn an_icmp_error_captured_before_the_syn_that_it_quotes_is_about_that_syn(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB).in_the_order_written();
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn().later(-0.001).icmp(ROUTER, 3, 13);
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).outcome("prohibited").packets(1, 0));
        s.findings(&["documented-blocked"]);
    }

    fn an_answer_that_was_taken_after_its_query_and_is_dated_before_it_answers_it(s) {
        let dns = s.in_the_order_written().at(0.5).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        dns.wait(-0.0053).answer(&[a("nginx.org", WEB)]);
        // The resolver's answers are looked for 5 s after the capture began.
        s.at(7.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).wait(-0.0053).answer(&[a("nginx.org", WEB)]);
        s.at(8.0).web(APPLIANCE, WEB, "nginx.org").keeps_talking(APPLIANCE, 8.5, 20.0);
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn an_answer_that_was_taken_before_its_query_answers_nothing(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(7.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]).query("nginx.org", A);
        s.findings(&["unsolicited-answer"]);
    }

    fn a_documented_name_that_leads_to_no_machine_is_said(s) {
        for (second, address) in [(1.0, "0.0.0.0"), (3.0, "127.0.0.1")] {
            s.at(second).resolve(APPLIANCE, "nginx.org", address);
        }
        s.at(5.0).resolve(APPLIANCE, "www.example", "0.0.0.0");
        // Of this name one address leads somewhere.
        s.at(5.2).resolve(APPLIANCE, "packages.microsoft.com", "0.0.0.0");
        s.at(5.4).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.keeps_talking(APPLIANCE, 6.0, 20.0);
        s.remarks("documented names lead to no machine (0.0.0.0, ::, loopback), as a DNS filter has it: nginx.org (asked by 10.10.1.4).");
        s.coverage("vbaz-15", "not-observed").coverage_why("vbaz-15", "nginx.org leads to no machine");
        s.findings(&[]);
    }

    fn who_is_no_listed_proxy_and_is_asked_for_another_host_is_said(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).keeps_talking(APPLIANCE, 0.1, 20.0);
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake();
        let talk = talk.exchange(&http_connect("evil.example:443"), &http_status(200));
        talk.client(&client_hello(Some("evil.example"))).server(&server_hello()).more_tls();
        s.at(3.0).tcp(APPLIANCE, WEB, 443).handshake().exchange(&http_connect("nginx.org:443"), &http_status(405)).fin();
        s.perhaps(&["protocol-mismatch"]);
        s.remarks("for other hosts: 203.0.113.9 port 443 for evil.example port 443 (1).");
    }

    fn what_a_machine_sends_to_its_own_address_never_leaves_it(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(1.0).tcp(APPLIANCE, APPLIANCE, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, APPLIANCE, 443).out_of_scope().outcome("established"));
        s.findings(&[]);
    }

    fn what_claims_to_be_upkeep_of_the_link_and_comes_over_routers_is_judged(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(1.0).link_message_from_afar(135, "2001:db8:66::1", APPLIANCE6);
        s.at(2.0).packet(APPLIANCE, "198.51.100.66", (2, 64), vec![0x16, 0, 0x08, 0xfe, 224, 0, 1, 1]);
        // A report of multicast listeners (MLD).
        s.at(3.0).link_message_from_afar(131, "2001:db8:66::2", APPLIANCE6);
        s.expect_finding(finding("unexpected-attempt").from("2001:db8:66::1"));
        s.expect_finding(finding("unexpected-attempt").from("2001:db8:66::2"));
        s.expect_finding(finding("unexpected-attempt").from(APPLIANCE));
        s.findings(&["unexpected-attempt"]);
    }

    fn a_name_of_a_service_whose_tag_is_not_known_in_this_cloud_is_undetermined(s) {
        s.site("site.cloud", r#""usgov""#).site("site.storage_accounts", r#"["contosobackup01"]"#);
        let name = "contosobackup01.blob.core.usgovcloudapi.net";
        s.at(0.0).resolve(APPLIANCE, name, "52.227.1.1").at(1.0).web(APPLIANCE, "52.227.1.1", name);
        s.expect(flow(APPLIANCE, "52.227.1.1", 443).undetermined("ambiguous"));
        s.findings(&["undetermined"]).remarks("cannot be told");
        s.expect_finding(finding("undetermined").tells("give its service tags"));
    }

    fn a_service_whose_tag_is_not_known_does_not_hide_a_rule_by_name(s) {
        let name = "mirror01.blob.core.usgovcloudapi.net";
        s.site("site.cloud", r#""usgov""#).site("names.veeam-update-repository", &format!("[{name:?}]"));
        s.at(0.0).resolve(APPLIANCE, name, "52.227.1.1").at(1.0).web(APPLIANCE, "52.227.1.1", name);
        s.expect(flow(APPLIANCE, "52.227.1.1", 443).documented(&["vbaz-04"]));
        s.findings(&[]);
    }

    fn a_proxy_s_client_names_a_service_whatever_its_tag(s) {
        s.site("site.cloud", r#""usgov""#).site("site.storage_accounts", r#"["contosobackup01"]"#);
        s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
        let name = "contosobackup01.blob.core.usgovcloudapi.net";
        let talk = s.at(1.0).tcp(APPLIANCE, "10.50.0.3", 3128).handshake();
        talk.exchange(&http_connect(&format!("{name}:443")), &http_status(200)).tls(name).fin();
        s.expect(flow(APPLIANCE, "10.50.0.3", 3128).documented(&["vbaz-12"]));
        s.findings(&[]);
    }

    fn one_of_two_names_of_a_service_whose_tag_is_not_known_is_ambiguous(s) {
        s.site("site.cloud", r#""usgov""#).site("site.storage_accounts", r#"["contosobackup01"]"#);
        s.at(0.0).resolve(APPLIANCE, "contosobackup01.blob.core.usgovcloudapi.net", "52.227.1.1");
        s.at(0.2).resolve(APPLIANCE, "www.example", "52.227.1.1");
        s.at(1.0).tcp(APPLIANCE, "52.227.1.1", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "52.227.1.1", 443).undetermined("ambiguous"));
        s.findings(&["undetermined"]);
    }

    fn a_half_open_scan_of_the_appliance_is_unexpected_traffic(s) {
        s.at(1.0).tcp("203.0.113.77", APPLIANCE, 22).syn().synack();
        s.expect(flow("203.0.113.77", APPLIANCE, 22).undocumented().outcome("half-open"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_undocumented_datagram_that_is_refused_is_an_attempt(s) {
        s.at(1.0).udp(APPLIANCE, WEB, 443).request(b"x").icmp(WEB, 3, 3);
        s.expect(flow(APPLIANCE, WEB, 443).udp().undocumented().outcome("refused"));
        s.findings(&["unexpected-attempt"]);
    }

    fn a_connect_to_an_address_misses_a_name(s) {
        with_proxy(s);
        connect(s, 1.0, "203.0.113.9:443");
        connect(s, 2.0, "198.51.100.66:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).rows(2).never("verdict", "documented"));
        s.findings(&["undetermined"]).expect_finding(finding("undetermined").times(2));
    }

    fn a_server_name_corroborates_letter_case_and_last_dot_aside(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "NGINX.org.");
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn a_resolver_that_refuses_tcp_is_platform_blocked(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", WEB2);
        s.at(1.0).tcp(APPLIANCE, RESOLVER, 53).syn().server_rst();
        s.expect(flow(APPLIANCE, RESOLVER, 53).platform().outcome("refused").carries("platform-blocked"));
        s.findings(&["platform-blocked"]);
    }

    fn an_appliance_that_the_site_takes_for_no_subject_is_a_peer(s) {
        s.site("site.subjects", r#"["worker"]"#).at(0.5).resolve(APPLIANCE, "exfil.example", WEB);
        s.at(1.0).web(APPLIANCE, WEB, "exfil.example").at(2.0).web(WORKER, APPLIANCE, "x.example");
        s.expect(flow(APPLIANCE, WEB, 443).out_of_scope()).expect(flow(WORKER, APPLIANCE, 443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn an_exception_may_name_a_prefix_and_a_range_of_ports(s) {
        s.accept("from = \"10.10.2.0/24\"\nto = \"exfil.example\"\nport = \"8000-9000\"\nproto = \"tcp\"\nreason = \"x\"");
        s.at(0.5).resolve(WORKER, "exfil.example", WEB).at(1.0).tcp(WORKER, WEB, 8443).handshake().tls("exfil.example").fin();
        s.expect(flow(WORKER, WEB, 8443).carries("accepted"));
        s.findings(&[]);
    }

    fn an_exception_by_name_does_not_believe_the_client(s) {
        s.accept("from = \"backup-appliance\"\nto = \"staging.example\"\nport = 8443\nproto = \"tcp\"\nreason = \"x\"");
        s.at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls("staging.example").fin();
        s.findings(&["unexpected-traffic"]);
    }

    fn a_reset_seconds_after_an_acknowledged_first_payload_is_a_cut(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).tcp(APPLIANCE, WEB, 443).handshake().client(&client_hello(Some("nginx.org"))).server_ack().later(4.0).server_rst();
        s.expect(flow(APPLIANCE, WEB, 443).outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn a_copy_after_exactly_5_ms_is_a_copy(s) {
        s.as_pcapng().at(0.5);
        s.resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).copied_to(1, 0.005).handshake().tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).packets(7, 4));
        s.findings(&[]);
    }
}
