//! What one flow is, who began it, and what is no flow at all: SEMANTICS.md section 1.

use crate::scene::*;

fn nginx_is_known(s: &mut Scene) {
    s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
    s.keeps_talking(APPLIANCE, 0.1, 10.0).at(1.0);
}

fn nginx() -> FlowExpect {
    flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"])
}

/// A documented session whose packets are all captured once more, and what its row counts.
fn captured_twice(s: &mut Scene, interface: u32, seconds: f64, forward: u64, back: u64) {
    nginx_is_known(s);
    s.as_pcapng().tcp(APPLIANCE, WEB, 443).copied_to(interface, seconds).handshake().tls("nginx.org").fin();
    s.expect(nginx().outcome("established").packets(forward, back));
    s.findings(&[]);
}

scenes! {
    // identity over time

    fn another_initial_sequence_number_on_the_same_ports_is_a_new_flow(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).client_port(50_001).handshake().tls("nginx.org");
        s.at(3.0).tcp(APPLIANCE, WEB, 443).client_port(50_001).handshake().tls("nginx.org").fin();
        s.expect(nginx().rows(2).outcome("established").initiator_by("syn"));
        s.expect(nginx().row(0, 2).packets(5, 3)).expect(nginx().row(1, 2).packets(7, 4));
        s.findings(&[]);
    }

    fn the_same_syn_after_a_reset_is_a_new_flow(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).syn().server_rst().later(0.5).syn().server_rst();
        s.expect(nginx().rows(2).outcome("refused").packets(1, 1));
        s.findings(&["documented-blocked"]);
        s.expect_finding(finding("documented-blocked").count(2));
    }

    fn the_same_syn_after_both_sides_closed_is_a_new_flow(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).client_port(50_001).isn(77).handshake().tls("nginx.org").fin();
        s.at(4.0).tcp(APPLIANCE, WEB, 443).client_port(50_001).isn(77).handshake().tls("nginx.org").fin();
        s.expect(nginx().rows(2).outcome("established").packets(7, 4));
        s.findings(&[]);
    }

    fn an_hour_of_silence_ends_no_tcp_flow(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).handshake().tls("nginx.org").later(3600.0).more_tls().fin();
        s.expect(nginx().outcome("established").packets(9, 5));
        s.findings(&[]);
    }

    fn a_udp_silence_of_two_minutes_begins_a_new_flow(s) {
        s.site("site.time_servers", r#"["203.0.113.123"]"#).at(1.0);
        let talk = s.udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).reply(&ntp(4));
        talk.later(121.0).request(&ntp(3)).reply(&ntp(4));
        s.expect(flow(APPLIANCE, "203.0.113.123", 123).udp().rows(2).packets(1, 1).platform());
        s.findings(&[]);
    }

    fn a_udp_silence_of_less_is_the_same_flow(s) {
        s.site("site.time_servers", r#"["203.0.113.123"]"#).at(1.0);
        let talk = s.udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).reply(&ntp(4));
        talk.later(119.0).request(&ntp(3)).reply(&ntp(4));
        s.expect(flow(APPLIANCE, "203.0.113.123", 123).udp().packets(2, 2).platform());
        s.findings(&[]);
    }

    fn vlan_tags_that_differ_by_direction_are_one_flow(s) {
        nginx_is_known(s);
        s.tcp(APPLIANCE, WEB, 443).vlans(100, 200).handshake().tls("nginx.org").fin();
        s.expect(nginx().outcome("established").packets(7, 4));
        s.findings(&[]);
    }

    fn times_that_run_backwards_give_the_least_and_the_greatest(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).in_the_order_written();
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().later(-0.5).tls("nginx.org").fin();
        s.expect(
            nginx()
                .is("first_ts", "2026-01-06T10:00:00.520000000Z")
                .is("last_ts", "2026-01-06T10:00:01.020000000Z")
                .packets(7, 4),
        );
        s.findings(&[]);
    }

    // answers dated before what they answer

    fn a_syn_ack_dated_before_the_syn_that_it_answers_is_of_the_same_flow(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.syn()).synack().syn().client_ack().tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, WEB, 443).rows(1).documented(&["vbaz-15"]).outcome("established")
            .initiator_by("syn").is("syn_count", 1));
        s.findings(&[]);
    }

    fn a_syn_ack_that_answers_another_syn_is_of_another_flow(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).client_port(50_123).isn(1000).missed(|t| t.syn()).synack();
        s.at(2.0).tcp(APPLIANCE, WEB, 443).client_port(50_123).isn(77_000).handshake().tls("nginx.org").fin();
        let each = || flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]);
        s.expect(each().row(0, 2).initiator_by("syn-ack").packets(0, 1));
        s.expect(each().row(1, 2).initiator_by("syn").outcome("established"));
        s.findings(&[]);
    }

    fn an_icmp_error_dated_before_the_syn_that_it_quotes_is_of_the_same_flow(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.syn()).icmp(ROUTER, 3, 13).syn();
        s.expect(flow(APPLIANCE, WEB, 443).rows(1).documented(&["vbaz-15"]).outcome("prohibited")
            .initiator_by("syn").packets(1, 0));
        s.findings(&["documented-blocked"]);
    }

    fn an_icmp_error_that_quotes_another_syn_is_of_another_flow(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        let talk = s.tcp(APPLIANCE, WEB, 443).client_port(50_123).isn(1000);
        talk.missed(|t| t.syn()).icmp(ROUTER, 3, 13);
        s.at(2.0).tcp(APPLIANCE, WEB, 443).client_port(50_123).isn(77_000).handshake().tls("nginx.org").fin();
        let each = || flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]);
        s.expect(each().row(0, 2).outcome("prohibited").initiator_by("icmp-quote").packets(0, 0));
        s.expect(each().row(1, 2).outcome("established").initiator_by("syn"));
        s.findings(&["documented-blocked", "intermittent"]);
    }

    fn a_syn_ack_dated_before_the_syn_that_was_taken_first_is_of_the_same_flow(s) {
        s.in_the_order_written().at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).client_port(50_123).syn().missed(|t| t.synack().client_ack());
        let talk = s.at(0.98).tcp(APPLIANCE, WEB, 443).client_port(50_123).missed(|t| t.syn());
        talk.synack().later(0.05).client_ack().tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, WEB, 443).rows(1).documented(&["vbaz-15"]).outcome("established"));
        s.findings(&[]);
    }

    // copies

    fn a_packet_seen_on_another_interface_within_5_ms_is_one_packet(s) {
        captured_twice(s, 1, 0.002, 7, 4);
        s.capture("scene.pcapng", "duplicates", 11);
    }

    fn a_packet_seen_on_another_interface_later_than_that_is_another_packet(s) {
        captured_twice(s, 1, 0.008, 14, 8);
        s.capture("scene.pcapng", "duplicates", 0);
    }

    fn copies_on_the_same_interface_are_counted_not_removed(s) {
        captured_twice(s, 0, 0.002, 14, 8);
    }

    fn a_copy_on_another_interface_is_no_retransmission(s) {
        nginx_is_known(s);
        s.as_pcapng().at(9.0).tcp(APPLIANCE, WEB, 443).copied_to(1, 0.004).syn();
        s.capture_ends_at(9.9);
        s.expect(nginx().outcome("undetermined").packets(1, 0));
        s.findings(&[]);
    }

    // who began

    fn a_matched_query_tells_the_initiator_of_a_dns_exchange(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.expect(flow(APPLIANCE, RESOLVER, 53).udp().platform().outcome("answered").initiator_by("dns-query"));
        s.findings(&[]);
    }

    fn a_port_that_the_matrix_names_tells_the_responder(s) {
        let talk = s.at(1.0).tcp(CONSOLE, BACKUP, 20443).missed(|t| t.handshake());
        talk.server(b"banner").client(b"answer").server(b"more").client_ack();
        s.expect(flow(CONSOLE, BACKUP, 20443).documented(&["vbaz-34a"]).outcome("midstream").initiator_by("port"));
        s.findings(&[]);
    }

    fn a_port_below_1024_tells_the_responder(s) {
        let talk = s.at(1.0).tcp("198.51.100.5", APPLIANCE, 22).missed(|t| t.handshake());
        talk.server(SSH_BANNER).client(SSH_BANNER).server(b"more").client_ack();
        s.expect(flow("198.51.100.5", APPLIANCE, 22).undocumented().outcome("midstream").initiator_by("port"));
        s.findings(&["unexpected-traffic"]);
    }

    fn between_two_high_ports_the_first_packet_tells(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 8443).client_port(50_001).missed(|t| t.handshake());
        talk.server(b"news").client(b"thanks").server(b"more news").client_ack();
        s.expect(flow(WEB, APPLIANCE, 50_001).undocumented().outcome("midstream").initiator_by("first-packet"));
        s.findings(&["unexpected-traffic"]);
    }

    fn a_syn_outweighs_any_port(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 50_001).client_port(443).handshake().exchange(b"one", b"two").fin();
        s.expect(flow(APPLIANCE, WEB, 50_001).undocumented().initiator_by("syn").is("initiator_port", 443));
        s.findings(&["unexpected-traffic"]);
    }

    fn a_syn_ack_outweighs_any_port(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 50_001).client_port(443).missed(|t| t.syn());
        talk.synack().client_ack().exchange(b"one", b"two").fin();
        s.expect(flow(APPLIANCE, WEB, 50_001).undocumented().initiator_by("syn-ack").is("initiator_port", 443));
        s.findings(&["unexpected-traffic"]);
    }

    // what is not judged

    fn link_upkeep_is_tallied_not_judged(s) {
        nginx_is_known(s);
        s.web(APPLIANCE, WEB, "nginx.org").at(2.0).arp().at(2.1).arp().at(2.2).neighbour_solicitation(APPLIANCE6);
        s.at(2.3).udp("0.0.0.0", "255.255.255.255", 67).client_port(68).request(&dhcp_discover());
        s.expect(nginx().outcome("established"));
        s.expect(flow("0.0.0.0", "255.255.255.255", 67).udp().rows(0));
        s.expect(flow(APPLIANCE6, "ff02::1:ff01:1", 0).icmp().rows(0));
        s.capture("scene.pcap", "skipped/arp", 2).findings(&[]);
    }

    fn echo_is_judged(s) {
        s.at(1.0).ping(APPLIANCE, "203.0.113.31").request().reply().later(1.0).request().reply();
        s.at(2.0).ping(APPLIANCE6, "2001:db8::31").request().reply();
        s.expect(flow(APPLIANCE, "203.0.113.31", 0).icmp().undocumented().outcome("answered").packets(2, 2));
        s.expect(flow(APPLIANCE6, "2001:db8::31", 0).icmp().undocumented().outcome("answered").packets(1, 1));
        s.findings(&["unexpected-traffic"]);
    }

    fn loopback_is_out_of_scope(s) {
        s.at(1.0).tcp("127.0.0.1", "127.0.0.1", 5432).handshake().exchange(&pg_startup(), PG_AUTHENTICATION).fin();
        // open: whether such flows have rows; if so, this is their verdict
        s.expect(flow("127.0.0.1", "127.0.0.1", 5432).out_of_scope());
        s.findings(&[]);
    }

    // frames that are not what the wire carried

    fn segments_captured_before_offload_are_normal(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).offloaded().handshake().tls("nginx.org");
        talk.client(&app_data(4000)).server(&app_data(3000)).client_ack().fin();
        s.expect(nginx().outcome("established").packets(9, 5));
        s.findings(&[]).capture("scene.pcap", "end", "complete");
    }

    fn a_client_hello_in_segments_out_of_order_is_read(s) {
        nginx_is_known(s);
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client_out_of_order(&client_hello(Some("nginx.org")), 90);
        talk.server(&server_hello()).more_tls().fin();
        s.expect(nginx().is("server_name", "nginx.org").is("app", "tls").grade("corroborated"));
        s.findings(&[]);
    }

    fn a_dns_answer_in_fragments_is_read(s) {
        let talk = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        talk.answer_in_fragments(&[a("nginx.org", "203.0.113.8"), a("nginx.org", WEB)], 48);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().outcome("established").grade("corroborated"));
        s.findings(&[]);
    }

    // several files

    fn a_connection_cut_into_two_files_is_one_flow(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.cut_after(&[5]).expect(nginx().outcome("established").packets(7, 4).grade("corroborated"));
        s.findings(&[]).capture("part0.pcap", "frames", 5).capture("part1.pcap", "frames", 8);
    }

    fn files_named_in_any_order_give_the_same(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.cut_after(&[1, 3, 6]).files_backwards();
        s.expect(nginx().outcome("established").packets(7, 4).grade("corroborated"));
        s.findings(&[]);
    }

    fn a_client_hello_cut_into_two_files_is_read(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        let hello = client_hello(Some("nginx.org"));
        let talk = s.tcp(APPLIANCE, WEB, 443).handshake().client(&hello[..90]).client(&hello[90..]);
        talk.server(&server_hello()).more_tls().fin();
        s.cut_after(&[6]).expect(nginx().is("server_name", "nginx.org").grade("corroborated").packets(8, 4));
        s.findings(&[]);
    }

    fn dns_fragments_cut_into_two_files_are_read(s) {
        let talk = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        talk.answer_in_fragments(&[a("nginx.org", "203.0.113.8"), a("nginx.org", WEB)], 48);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org").cut_after(&[2]);
        s.expect(nginx().outcome("established").grade("corroborated"));
        s.findings(&[]);
    }

    fn a_retransmission_in_the_next_file_is_the_same_attempt(s) {
        nginx_is_known(s);
        s.at(9.0).tcp(APPLIANCE, WEB, 443).syn().later(1.0).syn();
        s.cut_at(9.5).expect(nginx().outcome("filtered").packets(2, 0));
        s.findings(&["documented-blocked"]);
    }
}
