//! How far a connection got: SEMANTICS.md section 2, rung by rung, each with its near misses.

use crate::scene::*;

/// The appliance has looked up nginx.org, and goes on talking until 20 s.
fn nginx_is_known(s: &mut Scene) {
    s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
    s.keeps_talking(APPLIANCE, 0.1, 20.0).at(1.0);
}

fn nginx() -> FlowExpect {
    flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"])
}

fn proxy_is_known(s: &mut Scene) {
    s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
    s.keeps_talking(APPLIANCE, 0.1, 20.0).at(1.0);
}

const PROXY: &str = "10.50.0.3";

/// One SYN to each of several addresses on a port that no rule has, and what ICMP says to it.
fn syns_answered_by_icmp(
    s: &mut Scene,
    client: &str,
    network: &str,
    from: Option<&str>,
    errors: &[(u8, u8)],
    outcome: &str,
) {
    s.keeps_talking(APPLIANCE, 0.1, 20.0);
    for (index, (kind, code)) in errors.iter().enumerate() {
        let target = format!("{network}{}", 20 + index);
        s.at(1.0 + index as f64).tcp(client, &target, 8443).syn().icmp(from.unwrap_or(&target), *kind, *code);
        s.expect(flow(client, &target, 8443).undocumented().outcome(outcome).packets(1, 0));
    }
    s.findings(&["unexpected-attempt"]);
}

scenes! {
    // established

    fn a_connection_opened_used_and_closed_is_established(s) {
        nginx_is_known(s);
        s.web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().outcome("established").is("conn_state", "SF").packets(7, 4).initiator_by("syn"));
        s.findings(&[]).coverage("vbaz-15", "observed");
    }

    fn a_probe_that_resets_the_syn_ack_is_established(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().synack().client_rst();
        s.expect(nginx().outcome("established").grade("dns"));
        s.findings(&[]);
    }

    fn payload_both_ways_after_a_syn_ack_is_established_although_the_syn_was_missed(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.syn()).synack().client_ack().tls("nginx.org").fin();
        s.expect(nginx().outcome("established").initiator_by("syn-ack"));
        s.findings(&[]);
    }

    fn payload_both_ways_after_a_syn_is_established_although_the_syn_ack_was_missed(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().missed(|t| t.synack()).client_ack().tls("nginx.org").fin();
        s.expect(nginx().outcome("established").initiator_by("syn"));
        s.findings(&[]);
    }

    fn a_server_that_hangs_up_before_the_client_spoke_is_established(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).handshake().later(2.0).server_rst();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn a_server_that_spoke_first_and_then_resets_is_established(s) {
        s.keeps_talking(APPLIANCE, 0.1, 10.0).at(1.0);
        s.tcp(APPLIANCE, MAIL, 25).handshake().server(SMTP_BANNER).client(SMTP_EHLO).server_rst();
        s.expect(flow(APPLIANCE, MAIL, 25).documented(&["vbaz-09a"]).grade("site").outcome("established"));
        s.findings(&[]);
    }

    // midstream

    fn a_connection_older_than_the_capture_is_midstream(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.handshake().tls("nginx.org")).more_tls().more_tls();
        s.expect(nginx().outcome("midstream").initiator_by("port").is("conn_state", "OTH"));
        s.findings(&[]).coverage("vbaz-15", "observed");
    }

    // cut

    fn a_syn_ack_that_acknowledges_more_than_a_syn_can_carry_acknowledges_no_payload(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).isn(1000).syn().isn(201_000).synack().isn(1001);
        talk.client_in_vain(&client_hello(Some("nginx.org"))).later(1.0).client_again_in_vain();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn a_reset_after_the_first_payload_is_a_cut(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&client_hello(Some("nginx.org"))).server_rst();
        s.expect(nginx().outcome("cut").grade("corroborated").carries("documented-blocked"));
        s.findings(&["documented-blocked"]).coverage("vbaz-15", "blocked");
    }

    fn a_reset_of_another_time_to_live_is_the_same_cut(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        s.tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&hello).server_ttl(254).server_rst();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn a_reset_after_an_acknowledged_payload_is_a_cut_too(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).handshake().client(&client_hello(Some("nginx.org"))).server_ack().server_rst();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn a_first_payload_never_acknowledged_is_a_cut(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&hello);
        talk.later(0.3).client_again_in_vain().later(0.6).client_again_in_vain().later(1.2).client_again_in_vain();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn a_first_payload_retransmitted_and_then_answered_is_mere_loss(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&hello).later(0.4).client_again();
        talk.server(&server_hello()).more_tls().fin();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn a_payload_acknowledged_and_then_silence_is_a_slow_server(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).handshake().client(&client_hello(Some("nginx.org"))).server_ack();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn an_unacknowledged_payload_at_the_end_of_the_capture_is_no_cut(s) {
        nginx_is_known(s);
        s.at(18.0).tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&client_hello(Some("nginx.org")));
        s.capture_ends_at(20.0);
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn an_unacknowledged_payload_three_seconds_before_the_end_is_a_cut(s) {
        nginx_is_known(s);
        s.at(16.0).tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&client_hello(Some("nginx.org")));
        s.capture_ends_at(20.0);
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn an_octet_by_which_the_responder_keeps_a_connection_alive_is_no_payload(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&client_hello(Some("nginx.org")));
        talk.later(2.0).server_keep_alive().later(3.0).server_keep_alive();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn an_octet_that_keeps_alive_is_no_payload_though_the_handshake_is_in_another_capture(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client_in_vain(&client_hello(Some("nginx.org")));
        talk.later(2.0).server_keep_alive().later(3.0).server_keep_alive();
        s.cut_at(2.0);
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn octets_by_which_the_initiator_keeps_an_idle_connection_alive_are_no_payload(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().later(4.0).client_keep_alive().client_ack();
        talk.later(4.0).client_keep_alive().later(0.01).server_ack().client_rst();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn what_is_said_after_an_octet_that_keeps_alive_is_payload(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().later(2.0).client_keep_alive().server_ack();
        talk.client_in_vain(&client_hello(Some("nginx.org"))).server_rst();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn how_long_a_payload_waits_is_not_told_from_an_octet_that_keeps_alive(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().later(5.0).client_keep_alive();
        talk.later(12.5).client_in_vain(&client_hello(Some("nginx.org")));
        s.capture_ends_at(19.9);
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn payload_that_the_syn_ack_acknowledges_and_then_silence_is_a_slow_server(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).syn_with(&client_hello(Some("nginx.org"))).synack_of_payload();
        talk.client_ack().later(14.0).client_rst();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn a_reset_that_was_taken_after_the_payload_and_is_dated_before_it_is_a_cut(s) {
        nginx_is_known(s);
        let talk = s.in_the_order_written().tcp(APPLIANCE, WEB, 443).handshake();
        talk.client_in_vain(&client_hello(Some("nginx.org"))).later(-0.0002).server_rst();
        s.expect(nginx().outcome("cut"));
        s.findings(&["documented-blocked"]);
    }

    fn an_acknowledgement_that_is_dated_before_the_syn_ack_opens_the_connection(s) {
        nginx_is_known(s);
        s.in_the_order_written().tcp(APPLIANCE, WEB, 443).syn().synack().later(-0.0001).client_ack();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn a_reset_of_a_conversation_whose_syn_ack_was_missed_is_no_refusal(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).syn().missed(|t| t.synack()).client_ack();
        talk.client(&client_hello(Some("nginx.org"))).server_ack().later(4.0).server_rst();
        s.expect(nginx().outcome("undetermined"));
        s.findings(&[]);
    }

    fn data_that_nothing_but_resets_answer_shows_no_rule_at_work(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.handshake()).client_in_vain(&app_data(90)).server_rst();
        s.expect(nginx().outcome("midstream"));
        s.coverage("vbaz-15", "not-observed").coverage_why("vbaz-15", "midstream");
    }

    fn a_reset_before_a_syn_ack_does_not_make_it_nothing(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.syn()).server_rst().synack().server_ack();
        s.expect(nginx().outcome("one-sided"));
        s.coverage("vbaz-15", "observed");
    }

    fn resets_alone_are_one_sided_and_show_no_rule_at_work(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.syn()).server_rst();
        s.expect(nginx().outcome("one-sided"));
        s.coverage("vbaz-15", "not-observed").coverage_why("vbaz-15", "one-sided");
    }

    // tls-refused

    fn a_fatal_alert_to_a_hello_of_which_the_capture_has_the_beginning_is_tls_refused(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client(&hello[..60]);
        talk.missed(|t| t.client(&hello[60..])).server(&alert(2, 40)).fin();
        s.expect(nginx().outcome("tls-refused"));
        s.findings(&["documented-blocked"]);
    }

    fn a_fatal_alert_to_the_client_hello_is_tls_refused(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        s.tcp(APPLIANCE, WEB, 443).handshake().client(&hello).server(&alert(2, 40)).server_rst();
        s.expect(nginx().outcome("tls-refused"));
        s.findings(&["documented-blocked"]);
    }

    fn a_client_that_trusts_no_certificate_is_tls_refused(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client(&hello).server(&server_hello_in_the_clear());
        talk.client(&alert(2, 48)).client_rst();
        s.expect(nginx().outcome("tls-refused"));
        s.findings(&["documented-blocked"]);
    }

    fn a_warning_alert_refuses_nothing(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client(&client_hello(Some("nginx.org")));
        talk.server(&alert(1, 112)).server(&server_hello()).more_tls().fin();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn a_fatal_alert_after_application_data_refuses_nothing(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).handshake().tls("nginx.org").server(&alert(2, 80)).server_rst();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    // proxy-denied

    fn a_connect_answered_403_is_proxy_denied(s) {
        proxy_is_known(s);
        s.tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&http_connect("nginx.org:443"), &http_status(403)).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-15"]).outcome("proxy-denied"));
        s.findings(&["documented-blocked"]);
    }

    fn a_connect_answered_407_and_no_more_is_proxy_denied(s) {
        proxy_is_known(s);
        s.tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&http_connect("nginx.org:443"), &http_status(407)).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-15"]).outcome("proxy-denied"));
        s.findings(&["documented-blocked"]);
    }

    fn a_connect_answered_407_and_then_200_on_the_same_connection_is_not_denied(s) {
        proxy_is_known(s);
        let connect = http_connect("nginx.org:443");
        let talk = s.tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&connect, &http_status(407));
        talk.exchange(&connect, &http_status(200)).tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-15"]).outcome("established"));
        s.findings(&[]);
    }

    fn nor_where_the_page_with_the_407_is_so_long_that_the_200_is_not_kept(s) {
        proxy_is_known(s);
        let connect = http_connect("nginx.org:443");
        for (at, length) in [(1.0, 100), (3.0, 5_000)] {
            let page = [format!("HTTP/1.1 407 Who are you\r\nContent-Length: {length}\r\n\r\n").into_bytes(), vec![b'x'; length]];
            let talk = s.at(at).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&connect, &page.concat());
            talk.exchange(&connect, &http_status(200)).tls("nginx.org").fin();
        }
        s.expect(flow(APPLIANCE, PROXY, 3128).rows(2).outcome("established").documented(&["vbaz-15"]));
        s.findings(&[]);
    }

    fn a_long_page_with_a_407_and_no_more_is_proxy_denied(s) {
        proxy_is_known(s);
        let page = [b"HTTP/1.1 407 Who are you\r\nContent-Length: 5000\r\n\r\n".to_vec(), vec![b'x'; 5_000]];
        s.tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&http_connect("nginx.org:443"), &page.concat()).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).outcome("proxy-denied"));
        s.findings(&["documented-blocked"]);
    }

    fn a_refusal_is_not_hidden_by_a_success_of_something_else_on_the_same_connection(s) {
        proxy_is_known(s);
        let (denied, let_through) = (http_connect("nginx.org:443"), http_connect("packages.microsoft.com:443"));
        let get = http_get_by_proxy("archive.ubuntu.com", "/x");
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&denied, &http_status(403));
        talk.exchange(&let_through, &http_status(200)).exchange(&app_data(50), &app_data(50)).fin();
        let talk = s.at(2.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&denied, &http_status(403));
        talk.exchange(&get, &http_ok()).fin();
        let talk = s.at(3.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&get, &http_ok());
        talk.exchange(&denied, &http_status(403)).fin();
        // Nor by what its page says.
        let page = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nNot even\r\nHTTP/1.1 200 OK\r\n\r\nwill do\r\n";
        s.at(4.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&denied, page).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).rows(4).outcome("proxy-denied"));
        s.expect_finding(finding("documented-blocked").about("nginx.org").count(4));
        s.findings(&["documented-blocked"]);
    }

    fn who_is_refused_and_let_through_at_last_is_not_denied(s) {
        proxy_is_known(s);
        let connect = http_connect("nginx.org:443");
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&connect, &http_status(502));
        talk.exchange(&connect, &http_status(200)).tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-15"]).outcome("established"));
        s.findings(&[]);
    }

    fn connects_answered_502_503_and_504_are_proxy_denied(s) {
        proxy_is_known(s);
        for (index, code) in [502, 503, 504].into_iter().enumerate() {
            let talk = s.at(1.0 + index as f64).tcp(APPLIANCE, PROXY, 3128).handshake();
            talk.exchange(&http_connect("nginx.org:443"), &http_status(code)).fin();
        }
        s.expect(flow(APPLIANCE, PROXY, 3128).rows(3).outcome("proxy-denied"));
        s.findings(&["documented-blocked"]);
    }

    fn a_connect_answered_405_is_not_what_proxies_deny_with(s) {
        proxy_is_known(s);
        s.tcp(APPLIANCE, PROXY, 3128).handshake().exchange(&http_connect("nginx.org:443"), &http_status(405)).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).outcome("established"));
    }

    // refused

    fn a_reset_to_a_syn_that_carried_payload_is_refused(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn_with(&client_hello(Some("nginx.org"))).server_rst();
        s.expect(nginx().outcome("refused"));
        s.findings(&["documented-blocked"]);
    }

    fn an_rst_to_the_syn_is_refused(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().server_rst();
        s.expect(nginx().outcome("refused").grade("dns").is("conn_state", "REJ").packets(1, 1));
        s.findings(&["documented-blocked"]).coverage("vbaz-15", "blocked");
        s.expect_finding(finding("documented-blocked").from(APPLIANCE).severity("high").count(1));
    }

    fn an_rst_that_acknowledges_something_else_refuses_nothing(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().blind_rst().synack().client_ack().tls("nginx.org").fin();
        // open: whether the blind RST ends a flow: the connection that follows is established either way
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn a_challenge_ack_to_the_syn_refuses_nothing(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).syn().challenge_ack().client_rst();
        talk.later(1.0).syn().synack().client_ack().tls("nginx.org").fin();
        // open: the client's RST closes the first attempt, so the same SYN again is a flow of its own
        s.expect(nginx().row(0, 2).outcome("undetermined")).expect(nginx().row(1, 2).outcome("established"));
        s.findings(&[]);
    }

    fn a_port_unreachable_for_udp_from_the_target_itself_is_refused(s) {
        s.keeps_talking(APPLIANCE, 0.1, 10.0).at(1.0);
        s.udp(APPLIANCE, "203.0.113.30", 9999).request(b"hello").icmp("203.0.113.30", 3, 3);
        s.at(2.0).udp(APPLIANCE6, "2001:db8::30", 9999).request(b"hello").icmp("2001:db8::30", 1, 4);
        s.expect(flow(APPLIANCE, "203.0.113.30", 9999).udp().undocumented().outcome("refused").packets(1, 0));
        s.expect(flow(APPLIANCE6, "2001:db8::30", 9999).udp().undocumented().outcome("refused").packets(1, 0));
        s.findings(&["unexpected-attempt"]);
    }

    // prohibited

    fn a_documented_connection_that_icmp_prohibits_is_blocked(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().icmp(ROUTER, 3, 13);
        s.expect(nginx().outcome("prohibited").packets(1, 0).carries("documented-blocked"));
        s.findings(&["documented-blocked"]);
    }

    fn icmp_3_9_and_3_10_and_3_13_are_prohibited(s) {
        syns_answered_by_icmp(s, APPLIANCE, "203.0.113.", Some(ROUTER), &[(3, 9), (3, 10), (3, 13)], "prohibited");
    }

    fn icmpv6_1_1_and_1_5_and_1_6_are_prohibited(s) {
        let errors = [(1, 1), (1, 5), (1, 6)];
        syns_answered_by_icmp(s, APPLIANCE6, "2001:db8::", Some("2001:db8:ffff::1"), &errors, "prohibited");
    }

    fn a_port_unreachable_for_tcp_is_prohibited_whoever_sends_it(s) {
        syns_answered_by_icmp(s, APPLIANCE, "203.0.113.", None, &[(3, 3)], "prohibited");
        s.at(8.0).tcp(APPLIANCE, "203.0.113.40", 8443).syn().icmp(ROUTER, 3, 3);
        s.expect(flow(APPLIANCE, "203.0.113.40", 8443).outcome("prohibited"));
        s.at(9.0).tcp(APPLIANCE6, "2001:db8::40", 8443).syn().icmp("2001:db8::40", 1, 4);
        s.expect(flow(APPLIANCE6, "2001:db8::40", 8443).outcome("prohibited"));
    }

    fn a_port_unreachable_for_udp_from_a_third_party_is_prohibited(s) {
        s.keeps_talking(APPLIANCE, 0.1, 10.0).at(1.0);
        s.udp(APPLIANCE, "203.0.113.30", 9999).request(b"hello").icmp(ROUTER, 3, 3);
        s.expect(flow(APPLIANCE, "203.0.113.30", 9999).udp().undocumented().outcome("prohibited"));
        s.findings(&["unexpected-attempt"]);
    }

    fn an_icmp_error_about_a_packet_not_seen_makes_a_row_of_its_own(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).client_port(50_123).missed(|t| t.syn()).icmp(ROUTER, 3, 13);
        s.expect(nginx().outcome("prohibited").initiator_by("icmp-quote").is("initiator_port", 50_123).packets(0, 0));
        s.findings(&["documented-blocked"]);
    }

    // unreachable

    fn other_unreachable_and_time_exceeded_errors_are_unreachable(s) {
        let errors = [(3, 0), (3, 1), (3, 2), (11, 0)];
        syns_answered_by_icmp(s, APPLIANCE, "203.0.113.", Some(ROUTER), &errors, "unreachable");
    }

    fn other_icmpv6_unreachable_and_time_exceeded_errors_are_unreachable(s) {
        let errors = [(1, 0), (1, 3), (3, 0)];
        syns_answered_by_icmp(s, APPLIANCE6, "2001:db8::", Some("2001:db8:ffff::1"), &errors, "unreachable");
    }

    // what blocks nothing

    fn an_icmp_error_after_the_handshake_changes_nothing(s) {
        nginx_is_known(s);
        let hello = client_hello(Some("nginx.org"));
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client(&hello).icmp(ROUTER, 3, 13);
        talk.server(&server_hello()).more_tls().fin();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn an_icmp_error_to_the_first_syn_is_nothing_once_the_second_is_answered(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).syn().icmp(ROUTER, 3, 1).later(1.0).syn().synack().client_ack();
        talk.tls("nginx.org").fin();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn fragmentation_needed_blocks_no_transfer(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client(&client_hello(Some("nginx.org")));
        let talk = talk.server(&server_hello()).client_in_vain(&app_data(1300)).icmp(ROUTER, 3, 4);
        talk.client_again().server(&app_data(99)).client_ack().fin();
        s.expect(nginx().outcome("established"));
        s.findings(&[]);
    }

    fn fragmentation_needed_and_redirects_block_no_syn(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn().icmp(ROUTER, 3, 4);
        s.at(1.5).tcp(APPLIANCE, WEB2, 443).syn().icmp(ROUTER, 5, 1);
        s.expect(nginx().outcome("undetermined"));
        s.expect(flow(APPLIANCE, WEB2, 443).documented(&["vbaz-08"]).outcome("undetermined"));
        s.findings(&[]);
    }

    fn packet_too_big_blocks_nothing(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", "2001:db8::9");
        s.keeps_talking(APPLIANCE, 0.1, 10.0).at(1.0);
        let talk = s.tcp(APPLIANCE6, "2001:db8::9", 443).handshake().client(&client_hello(Some("nginx.org")));
        let talk = talk.server(&server_hello()).client_in_vain(&app_data(1300)).icmp("2001:db8:ffff::1", 2, 0);
        talk.client_again().server(&app_data(99)).client_ack().fin();
        s.expect(flow(APPLIANCE6, "2001:db8::9", 443).documented(&["vbaz-15"]).outcome("established"));
        s.findings(&[]);
    }

    // half-open

    fn a_syn_ack_that_the_initiator_does_not_hear_is_half_open(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().synack().later(1.0).syn().synack().later(2.0).syn().synack();
        s.expect(nginx().outcome("half-open").packets(3, 3));
        s.findings(&[]).coverage("vbaz-15", "not-observed").coverage_why("vbaz-15", "half-open");
    }

    fn a_syn_ack_and_then_nothing_is_half_open(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().synack();
        s.expect(nginx().outcome("half-open"));
        s.findings(&[]);
    }

    fn a_syn_ack_that_a_reset_takes_back_is_half_open_and_not_refused(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().synack().server_rst();
        s.expect(nginx().outcome("half-open").lacks("documented-blocked"));
        s.findings(&[]);
    }

    fn an_icmp_error_after_a_syn_ack_changes_nothing(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().synack().icmp(ROUTER, 3, 13);
        s.expect(nginx().outcome("half-open").is("icmp_type", ()));
        s.findings(&[]);
    }

    // one-sided

    fn an_initiator_that_acknowledges_what_we_do_not_see_is_one_sided(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).server_unseen().handshake().tls("nginx.org").fin();
        s.expect(nginx().outcome("one-sided").packets(7, 0).initiator_by("syn"));
        s.findings(&[]).coverage("vbaz-15", "observed");
    }

    fn a_responder_seen_alone_is_one_sided(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).client_unseen().handshake().tls("nginx.org").fin();
        s.expect(nginx().outcome("one-sided").packets(0, 4).initiator_by("syn-ack").grade("dns"));
        s.findings(&[]);
    }

    fn acknowledgements_that_advance_midstream_are_one_sided(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).missed(|t| t.handshake().tls("nginx.org"));
        talk.server_unseen().more_tls().more_tls();
        s.expect(nginx().outcome("one-sided").initiator_by("port"));
        s.findings(&[]);
    }

    fn a_lone_segment_of_the_initiator_proves_no_other_side(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.handshake().tls("nginx.org")).server_unseen().client(&app_data(40));
        s.expect(nginx().outcome("undetermined"));
        s.findings(&[]);
    }

    // filtered

    fn a_syn_repeated_in_vain_is_filtered(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().later(1.0).syn().later(2.0).syn();
        s.expect(nginx().outcome("filtered").is("conn_state", "S0").is("syn_count", 3).packets(3, 0));
        s.findings(&["documented-blocked"]).coverage("vbaz-15", "blocked");
    }

    fn a_single_syn_is_filtered_where_the_capture_goes_on_three_seconds(s) {
        nginx_is_known(s);
        s.at(16.0).tcp(APPLIANCE, WEB, 443).syn();
        s.capture_ends_at(19.6);
        s.expect(nginx().outcome("filtered"));
        s.findings(&["documented-blocked"]);
    }

    fn a_single_syn_less_than_three_seconds_before_the_end_is_undetermined(s) {
        nginx_is_known(s);
        s.at(17.0).tcp(APPLIANCE, WEB, 443).syn();
        s.capture_ends_at(19.6);
        s.expect(nginx().outcome("undetermined"));
        s.findings(&[]);
    }

    fn a_retransmission_makes_it_filtered_however_near_the_end(s) {
        nginx_is_known(s);
        s.at(18.5).tcp(APPLIANCE, WEB, 443).syn().later(1.0).syn();
        s.capture_ends_at(19.6);
        s.expect(nginx().outcome("filtered"));
        s.findings(&["documented-blocked"]);
    }

    fn a_syn_repeated_within_200_ms_is_a_duplicate_not_a_retransmission(s) {
        nginx_is_known(s);
        s.at(18.5).tcp(APPLIANCE, WEB, 443).syn().later(0.15).syn();
        s.capture_ends_at(19.6);
        s.expect(nginx().outcome("undetermined"));
        s.findings(&[]);
    }

    fn a_syn_is_undetermined_where_nothing_ever_comes_to_its_host(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(1.0).tcp(BACKUP, APPLIANCE, 443).syn().later(1.0).syn().later(2.0).syn();
        s.expect(flow(BACKUP, APPLIANCE, 443).documented(&["vbaz-28"]).grade("site").outcome("undetermined"));
        s.findings(&[]);
    }

    fn a_syn_is_filtered_where_other_flows_bring_packets_to_its_host(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(0.5).resolve(BACKUP, "graph.microsoft.com", WEB);
        s.at(1.0).tcp(BACKUP, APPLIANCE, 443).syn().later(1.0).syn().later(2.0).syn();
        s.expect(flow(BACKUP, APPLIANCE, 443).documented(&["vbaz-28"]).outcome("filtered"));
        s.findings(&["documented-blocked"]);
    }

    fn a_frame_more_than_sixty_seconds_after_the_syn_says_nothing_of_it(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn();
        s.keeps_talking(APPLIANCE, 70.0, 80.0);
        s.expect(nginx().outcome("undetermined"));
        s.findings(&[]);
    }

    fn retransmissions_over_minutes_of_back_off_are_one_attempt(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).syn().later(1.0).syn().later(2.0).syn().later(4.0).syn().later(8.0).syn();
        talk.later(16.0).syn().later(32.0).syn().later(64.0).syn();
        s.expect(nginx().outcome("filtered").packets(8, 0).is("syn_count", 8));
        s.findings(&["documented-blocked"]);
        s.expect_finding(finding("documented-blocked").count(1));
    }

    // anything but TCP

    fn packets_both_ways_without_tcp_are_answered(s) {
        s.site("site.time_servers", r#"["203.0.113.123"]"#);
        s.at(1.0).udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).reply(&ntp(4));
        s.at(2.0).ping(APPLIANCE, "203.0.113.31").request().reply();
        s.expect(flow(APPLIANCE, "203.0.113.123", 123).udp().platform().outcome("answered"));
        s.expect(flow(APPLIANCE, "203.0.113.31", 0).icmp().undocumented().outcome("answered"));
        s.findings(&["unexpected-traffic"]);
    }

    fn a_question_without_reply_is_unanswered_and_alone_never_blocked(s) {
        s.site("site.time_servers", r#"["203.0.113.123"]"#);
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(1.0).udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).later(2.0).request(&ntp(3));
        s.expect(flow(APPLIANCE, "203.0.113.123", 123).udp().platform().outcome("unanswered"));
        s.findings(&[]);
    }

    fn an_undocumented_question_without_reply_is_an_attempt(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        s.at(1.0).udp(APPLIANCE, "203.0.113.30", 9999).request(b"hello").later(2.0).request(b"hello");
        s.at(2.0).ping(APPLIANCE, "203.0.113.31").request().later(1.0).request();
        s.expect(flow(APPLIANCE, "203.0.113.30", 9999).udp().undocumented().outcome("unanswered"));
        s.expect(flow(APPLIANCE, "203.0.113.31", 0).icmp().undocumented().outcome("unanswered"));
        s.findings(&["unexpected-attempt"]);
    }

    fn an_answer_without_its_question_is_not_one_sided_without_tcp(s) {
        s.at(1.0).udp(APPLIANCE, "203.0.113.30", 999).client_unseen().reply(b"hello");
        s.expect(flow(APPLIANCE, "203.0.113.30", 999).udp().undocumented().never("outcome", "one-sided"));
    }
}
