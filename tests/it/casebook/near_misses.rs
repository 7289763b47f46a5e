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

    fn another_account_through_a_proxy_is_foreign(s) {
        with_proxy(s);
        connect(s, 1.0, "exfil01.blob.core.windows.net:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account", "undetermined"]);
    }

    // proxies

    fn a_second_destination_on_one_proxy_connection_is_not_hidden_by_the_first(s) {
        with_proxy(s);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/ubuntu"), &http_ok());
        talk.exchange(&http_get_by_proxy("exfil.example", "/"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).never("verdict", "documented"));
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

    fn dhcp_ports_to_a_stranger_are_no_link_upkeep(s) {
        s.at(1.0).udp(APPLIANCE, WEB, 67).client_port(68).request(b"exfiltrated").reply(b"thanks");
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
}
