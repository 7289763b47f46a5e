//! What is reported, how often and how severely: SEMANTICS.md section 5.

use crate::scene::*;
use serde_json::Value;

/// The appliance asks for `name` at 1 s and gets `rcode`; the capture goes on, with another answer to it.
fn asked_in_vain(s: &mut Scene, client: &str, name: &str, rcode: u8) {
    s.keeps_talking(client, 0.1, 15.0).at(0.5).resolve(client, "time.contoso.example", "203.0.113.200");
    s.at(1.0).dns(client, RESOLVER).query(name, A).rcode(rcode);
    s.at(9.0).resolve(client, "time.contoso.example", "203.0.113.200");
}

const WORKING: &str = r#"
    from = "backup-appliance"
    to = "203.0.113.9"
    port = 8443
    proto = "tcp"
    reason = "staging repository, ticket 4711"
    until = "2026-12-31"
"#;

scenes! {
    // name-blocked

    fn nxdomain_for_a_documented_name_is_name_blocked(s) {
        asked_in_vain(s, APPLIANCE, "nginx.org", 3);
        s.findings(&["name-blocked"]);
        s.expect_finding(finding("name-blocked").from(APPLIANCE).about("nginx.org").severity("medium").count(1));
    }

    fn refused_and_servfail_are_name_blocked_too(s) {
        asked_in_vain(s, APPLIANCE, "nginx.org", 5);
        s.at(3.0).dns(APPLIANCE, RESOLVER).query("packages.microsoft.com", A).rcode(2);
        s.findings(&["name-blocked"]);
        s.expect_finding(finding("name-blocked").about("nginx.org"));
        s.expect_finding(finding("name-blocked").about("packages.microsoft.com"));
    }

    fn a_query_without_any_answer_for_5_s_is_name_blocked(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).wait(1.0).query("nginx.org", A);
        s.at(9.0).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.findings(&["name-blocked"]);
        s.expect_finding(finding("name-blocked").from(APPLIANCE).about("nginx.org"));
    }

    fn a_query_answered_at_another_try_is_not(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.at(3.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.findings(&[]);
    }

    fn nor_is_one_that_was_lost_and_whose_next_try_5_s_later_is_answered(s) {
        s.keeps_talking(APPLIANCE, 0.1, 30.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.at(6.005).resolve(APPLIANCE, "nginx.org", WEB);
        s.findings(&[]);
    }

    fn a_type_that_is_never_answered_blocks_no_name_that_was_just_given_an_address(s) {
        s.keeps_talking(APPLIANCE, 0.1, 25.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        for kind in [AAAA, 65] {
            s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
            s.dns(APPLIANCE, RESOLVER).wait(0.02).query("nginx.org", kind);
        }
        s.at(20.0).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.findings(&[]);
    }

    fn the_same_type_that_is_answered_no_more_does_and_so_does_another_one_later(s) {
        s.keeps_talking(APPLIANCE, 0.1, 25.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(1.2).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.at(1.0).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(8.0).dns(APPLIANCE, RESOLVER).query("packages.microsoft.com", AAAA);
        s.at(20.0).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.expect_finding(finding("name-blocked").about("nginx.org")).expect_finding(finding("name-blocked").about("packages.microsoft.com"));
        s.findings(&["name-blocked", "intermittent"]);
    }

    fn a_name_that_was_answered_once_and_then_no_more_is_name_blocked_and_intermittent(s) {
        s.keeps_talking(APPLIANCE, 0.1, 60.0).at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        for again in 0..4 {
            s.at(20.0 + 5.0 * f64::from(again)).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
            s.resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        }
        s.findings(&["name-blocked", "intermittent"]);
        // The query that was answered is no evidence of a block, and the answer is evidence that it worked.
        s.expect_finding(finding("name-blocked").about("nginx.org").count(4).evidence(4));
        s.expect_finding(finding("intermittent").about("nginx.org").titled("backup-appliance 10.10.1.4 asks for nginx.org: resolved at times, no answer at others").evidence(5));
    }

    fn a_name_that_is_not_answered_at_first_and_is_later_is_name_blocked_and_intermittent(s) {
        s.keeps_talking(APPLIANCE, 0.1, 60.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.at(30.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.findings(&["name-blocked", "intermittent"]);
        s.expect_finding(finding("name-blocked").about("nginx.org").count(1));
    }

    fn a_query_before_a_gap_hides_no_silence_behind_it(s) {
        s.keeps_talking(APPLIANCE, 0.1, 2.0).at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.keeps_talking(APPLIANCE, 200.1, 220.0).at(200.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(205.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.findings(&["name-blocked"]);
        s.expect_finding(finding("name-blocked").about("nginx.org").count(1));
    }

    fn what_refused_a_name_is_cited_and_dated_and_not_the_query_that_was_answered(s) {
        asked_in_vain(s, APPLIANCE, "nginx.org", 3);
        s.at(4.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.findings(&["name-blocked", "intermittent"]);
        s.expect_finding(finding("name-blocked").about("nginx.org").count(1).evidence(2));
        s.expect_finding(finding("intermittent").about("nginx.org").evidence(3));
    }

    fn a_query_near_the_end_of_the_capture_is_not(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.at(12.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.at(13.0).resolve(APPLIANCE, "time.contoso.example", "203.0.113.200");
        s.capture_ends_at(15.0).findings(&[]);
    }

    fn silence_is_not_where_the_capture_shows_no_answers_to_that_host(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(1.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        s.at(2.0).resolve(WORKER, "postgresql.org", WEB).at(9.0).resolve(WORKER, "postgresql.org", WEB);
        s.findings(&[]);
    }

    fn nodata_is_no_block(s) {
        asked_in_vain(s, APPLIANCE, "nginx.org", 0);
        s.findings(&[]);
    }

    fn nxdomain_for_an_undocumented_name_is_nobodys_block(s) {
        asked_in_vain(s, APPLIANCE, "nginx.org.contoso.example", 3);
        s.findings(&[]);
    }

    fn nxdomain_for_a_name_documented_for_another_role_is_nobodys_block(s) {
        asked_in_vain(s, WORKER, "nginx.org", 3);
        s.findings(&[]);
    }

    fn a_name_behind_a_tag_can_be_blocked(s) {
        asked_in_vain(s, APPLIANCE, "login.microsoftonline.com", 3);
        s.findings(&["name-blocked"]);
    }

    fn one_finding_for_each_asking_host_and_name(s) {
        asked_in_vain(s, APPLIANCE, "archive.ubuntu.com", 3);
        s.at(4.0).dns(APPLIANCE, RESOLVER).query("archive.ubuntu.com", AAAA).rcode(3);
        s.at(5.0).dns(WORKER, RESOLVER).query("archive.ubuntu.com", A).rcode(3);
        s.findings(&["name-blocked"]);
        s.expect_finding(finding("name-blocked").from(APPLIANCE).about("archive.ubuntu.com").count(2));
        s.expect_finding(finding("name-blocked").from(WORKER).about("archive.ubuntu.com").count(1));
        s.expect_finding(finding("name-blocked").times(2));
    }

    // blocked

    fn a_platform_service_that_is_refused_is_platform_blocked(s) {
        s.at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, IMDS, 80).syn().server_rst();
        s.expect(flow(APPLIANCE, IMDS, 80).platform().outcome("refused").carries("platform-blocked"));
        s.findings(&["platform-blocked"]).expect_finding(finding("platform-blocked").severity("medium"));
    }

    fn attempts_that_worked_and_that_were_blocked_are_intermittent(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn().server_rst();
        s.at(2.0).web(APPLIANCE, WEB, "nginx.org");
        s.findings(&["documented-blocked", "intermittent"]).coverage("vbaz-15", "intermittent");
    }

    fn another_hosts_success_does_not_make_it_intermittent(s) {
        s.keeps_talking(WORKER, 0.1, 15.0).at(0.5).resolve(WORKER, "postgresql.org", WEB);
        s.at(0.6).resolve("10.10.2.12", "postgresql.org", WEB);
        s.at(1.0).tcp(WORKER, WEB, 443).syn().server_rst();
        s.at(2.0).web("10.10.2.12", WEB, "postgresql.org");
        s.findings(&["documented-blocked"]);
    }

    fn a_half_open_attempt_beside_a_block_is_no_success(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn().server_rst();
        s.at(2.0).tcp(APPLIANCE, WEB, 443).syn().synack();
        s.findings(&["documented-blocked"]).coverage("vbaz-15", "blocked");
    }

    // folding and counting

    fn the_filter_of_a_finding_about_several_addresses_selects_them_all(s) {
        s.at(0.0).resolve_chain(APPLIANCE, &["other.example"], &[WEB, WEB2]);
        s.at(1.0).web(APPLIANCE, WEB, "other.example").at(2.0).web(APPLIANCE, WEB2, "other.example");
        let filter = "ip.addr == 10.10.1.4 && (ip.addr == 198.51.100.66 || ip.addr == 203.0.113.9) && tcp.port == 443";
        s.expect_finding(finding("unexpected-traffic").about("other.example").count(2).filter(filter));
        s.findings(&["unexpected-traffic"]);
    }

    fn the_filter_of_a_finding_about_both_families_names_both_addresses_of_the_host(s) {
        s.at(0.0).resolve(APPLIANCE, "other.example", WEB).resolve(APPLIANCE, "other.example", "2001:db8::9");
        s.at(1.0).web(APPLIANCE, WEB, "other.example").at(2.0).web(APPLIANCE6, "2001:db8::9", "other.example");
        let filter = "(ip.addr == 10.10.1.4 || ipv6.addr == fd10::1:4) && (ip.addr == 203.0.113.9 || ipv6.addr == 2001:db8::9) && \
                      tcp.port == 443";
        let expected = finding("unexpected-traffic").about("other.example").from(APPLIANCE).count(2).filter(filter);
        s.expect_finding(expected.tells("initiators: 10.10.1.4, fd10::1:4"));
        s.findings(&["unexpected-traffic"]);
    }

    fn the_filter_of_another_protocol_over_ipv6_finds_it_behind_extension_headers(s) {
        s.keeps_talking(APPLIANCE, 0.1, 20.0);
        // A hop-by-hop header of padding, and no next header behind it.
        s.at(1.0).packet(APPLIANCE6, "2001:db8::9", (0, 64), vec![59, 0, 1, 4, 0, 0, 0, 0]);
        let filter = "ipv6.addr == fd10::1:4 && ipv6.addr == 2001:db8::9 && (ipv6.nxt == 59 || ipv6.hopopts.nxt == 59 || \
                      ipv6.dstopts.nxt == 59 || ipv6.routing.nxt == 59 || ipv6.fraghdr.nxt == 59)";
        s.expect_finding(finding("unexpected-attempt").from(APPLIANCE6).filter(filter));
        s.findings(&["unexpected-attempt"]);
    }

    fn connections_to_one_place_are_one_finding_with_a_count(s) {
        s.at(0.0).resolve(APPLIANCE, "exfil.example", WEB);
        for index in 0..30 {
            s.at(1.0 + f64::from(index)).web(APPLIANCE, WEB, "exfil.example");
        }
        s.expect(flow(APPLIANCE, WEB, 443).rows(30).undocumented());
        s.findings(&["unexpected-traffic"]);
        s.expect_finding(finding("unexpected-traffic").from(APPLIANCE).about("exfil.example").count(30));
    }

    fn names_that_share_an_address_are_findings_of_their_own(s) {
        s.at(0.0).resolve(APPLIANCE, "one.example", WEB).resolve(APPLIANCE, "two.example", WEB);
        for (index, name) in ["one.example", "two.example", "one.example"].into_iter().enumerate() {
            s.at(1.0 + index as f64).web(APPLIANCE, WEB, name);
        }
        s.findings(&["unexpected-traffic"]);
        s.expect_finding(finding("unexpected-traffic").about("one.example").count(2));
        s.expect_finding(finding("unexpected-traffic").about("two.example").count(1));
    }

    fn a_finding_tells_each_way_in_which_its_name_was_known(s) {
        s.at(0.0).dns(APPLIANCE, RESOLVER).query("exfil.example", A).answer(&[a("exfil.example", WEB).ttl(5)]);
        s.at(1.0).web(APPLIANCE, WEB, "exfil.example").at(20.0).web(APPLIANCE, WEB, "exfil.example");
        s.findings(&["unexpected-traffic"]);
        s.expect_finding(finding("unexpected-traffic").count(2).tells("past its time to live"));
    }

    fn other_ports_and_other_hosts_are_findings_of_their_own(s) {
        s.at(0.0).resolve(APPLIANCE, "exfil.example", WEB).resolve(WORKER, "exfil.example", WEB);
        s.at(1.0).web(APPLIANCE, WEB, "exfil.example").at(2.0).web(WORKER, WEB, "exfil.example");
        s.at(3.0).tcp(APPLIANCE, WEB, 8443).handshake().tls("exfil.example").fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").times(3).count(1));
    }

    fn strangers_beyond_a_hundred_are_one_finding_that_counts_them(s) {
        for n in 0..105 {
            let stranger = format!("198.18.7.{}", n + 1);
            s.at(1.0 + f64::from(n) / 100.0).tcp(&stranger, APPLIANCE, 22).syn();
        }
        // One of the first hundred, and one of the others again.
        s.at(3.0).tcp("198.18.7.7", APPLIANCE, 22).syn();
        s.at(3.1).tcp("198.18.7.105", APPLIANCE, 22).syn();
        // Another port has a hundred of its own.
        s.at(4.0).tcp("198.18.7.105", APPLIANCE, 8443).syn();
        s.findings(&["unexpected-attempt"]).expect_finding(finding("unexpected-attempt").times(102));
        s.expect_finding(finding("unexpected-attempt").from("198.18.7.7").count(2));
        s.expect_finding(finding("unexpected-attempt").from("198.18.7.105").count(1));
        s.expect_finding(
            finding("unexpected-attempt")
                .titled("and 5 more addresses -> backup-appliance 10.10.1.4 TCP 22")
                .count(6)
                .evidence(6),
        );
    }

    fn strangers_at_every_port_are_a_thousand_findings_and_one(s) {
        for n in 0..1_005u16 {
            let stranger = format!("198.18.7.{}", n % 200 + 1);
            s.at(1.0 + f64::from(n) / 1_000.0).tcp(&stranger, APPLIANCE, 30_000 + n).syn();
        }
        s.findings(&["unexpected-attempt"]).expect_finding(finding("unexpected-attempt").times(1_001));
        s.expect_finding(
            finding("unexpected-attempt")
                .titled("and 5 more addresses -> further destinations and ports")
                .count(5)
                .evidence(5),
        );
    }

    fn machines_that_hold_a_role_are_never_folded(s) {
        for n in 0..105 {
            let worker = format!("10.10.2.{}", n + 1);
            s.at(1.0 + f64::from(n) / 100.0).tcp(&worker, WEB, 8443).syn();
        }
        s.findings(&["unexpected-attempt"]).expect_finding(finding("unexpected-attempt").times(105).count(1));
    }

    fn undetermined_flows_fold_by_role_and_server_name(s) {
        // So late that a live run looks at none of them again.
        for (time, worker) in [(1.0, "10.10.2.11"), (201.0, "10.10.2.12"), (401.0, "10.10.2.13")] {
            s.at(time).web(worker, WEB, "postgresql.org");
        }
        s.findings(&["undetermined"]);
        let filter = "(ip.addr == 10.10.2.11 || ip.addr == 10.10.2.12 || ip.addr == 10.10.2.13) && ip.addr == 203.0.113.9 && \
                      tcp.port == 443";
        let expected = finding("undetermined").titled("worker -> postgresql.org (203.0.113.9) TCP 443").is("from/ip", Value::Null);
        let expected = expected.is("from/roles/0", "worker").count(3).severity("medium").filter(filter);
        s.expect_finding(expected.tells("initiators: 10.10.2.11, 10.10.2.12, 10.10.2.13"));
    }

    fn an_undetermined_flow_by_itself_names_its_host(s) {
        s.at(1.0).web(WORKER, WEB, "postgresql.org");
        s.findings(&["undetermined"]);
        let expected = finding("undetermined").titled("worker 10.10.2.11 -> postgresql.org (203.0.113.9) TCP 443").from(WORKER);
        s.expect_finding(expected.is("to/port", 443).does_not_tell("initiators"));
    }

    fn undetermined_flows_fold_over_the_ports_of_their_rule(s) {
        // A region that the service tags do not know.
        s.site("site.region", r#""westeurope2""#);
        for (time, port) in [(1.0, 11_000), (2.0, 11_500)] {
            s.at(time).tcp(WORKER, SQL_HERE, port).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        }
        s.findings(&["undetermined"]);
        let filter = "ip.addr == 10.10.2.11 && ip.addr == 13.69.104.1 && (tcp.port == 11000 || tcp.port == 11500)";
        let expected = finding("undetermined").titled("worker 10.10.2.11 -> 13.69.104.1 TCP");
        let expected = expected.from(WORKER).is("to/port", Value::Null).count(2).filter(filter);
        s.expect_finding(expected.tells("ports: 11000, 11500"));
    }

    fn undetermined_flows_of_different_roles_do_not_fold(s) {
        let both = "10.10.1.5";
        s.site("roles.backup-appliance", r#"["10.10.1.4", "10.10.1.5"]"#).site("roles.smtp-server", r#"["10.10.1.5"]"#);
        s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
        for (time, client) in [(1.0, APPLIANCE), (2.0, both)] {
            let talk = s.at(time).tcp(client, "10.50.0.3", 3128);
            talk.missed(|talk| talk.handshake().exchange(&http_connect("nginx.org:443"), &http_status(200)))
                .exchange(&app_data(50), &app_data(50));
        }
        s.findings(&["undetermined"]);
        s.expect_finding(finding("undetermined").times(2).count(1));
    }

    fn undetermined_flows_to_different_addresses_do_not_fold(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.at(2.0).tcp(APPLIANCE, WEB2, 443).handshake().tls_without_name().fin();
        s.findings(&["undetermined"]).expect_finding(finding("undetermined").times(2).count(1));
    }

    fn rules_not_observed_are_notes(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "appliance.contoso.example");
        s.coverage("vbaz-08", "not-observed").findings(&[]).exit(0);
    }

    // accepted exceptions

    fn an_accepted_exception_stays_undocumented_and_raises_nothing(s) {
        s.accept(WORKING).at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls("staging.example").fin();
        s.expect(flow(APPLIANCE, WEB, 8443).undocumented().carries("accepted").lacks("unexpected-traffic"));
        s.findings(&[]).expect_finding(finding("accepted").count(1)).expect_finding(finding("accept-unused").times(0));
    }

    fn an_exception_by_name_covers_no_address_that_is_known_by_another_name_too(s) {
        let by_name = WORKING.replace("203.0.113.9", "staging.example");
        s.accept(&by_name).at(0.3).resolve(APPLIANCE, "staging.example", WEB);
        s.at(0.5).resolve(APPLIANCE, "exfil.example", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls_without_name().fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("accept-unused"));
    }

    fn an_exception_by_name_covers_no_address_with_more_names_than_are_told(s) {
        let by_name = WORKING.replace("203.0.113.9", "staging.example");
        s.accept(&by_name);
        for other in 0..70 {
            // The same name leads there in seventy ways; of the address it is the only one at the end.
            let alias = format!("a{other:02}.staging.example");
            s.at(0.3).dns(APPLIANCE, RESOLVER).query(&alias, A).answer(&[cname(&alias, "staging.example")]);
        }
        s.at(2.0).resolve(APPLIANCE, "staging.example", WEB);
        s.at(3.0).tcp(APPLIANCE, WEB, 8443).handshake().tls_without_name().fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("accept-unused"));
    }

    fn an_exception_by_name_covers_it_where_the_client_says_which(s) {
        let by_name = WORKING.replace("203.0.113.9", "staging.example");
        s.accept(&by_name).at(0.3).resolve(APPLIANCE, "staging.example", WEB);
        s.at(0.5).resolve(APPLIANCE, "exfil.example", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls("staging.example").fin();
        s.findings(&[]).expect_finding(finding("accepted").count(1));
    }

    fn an_exception_covers_no_other_port(s) {
        s.accept(WORKING).at(1.0).tcp(APPLIANCE, WEB, 9443).handshake().tls("staging.example").fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("accept-unused"));
    }

    fn an_exception_covers_no_other_host(s) {
        s.accept(WORKING).at(1.0).tcp(WORKER, WEB, 8443).handshake().tls("staging.example").fin();
        s.findings(&["unexpected-traffic"]).expect_finding(finding("accept-unused"));
    }

    fn an_expired_exception_is_a_finding_and_covers_nothing(s) {
        s.accept(&WORKING.replace("2026-12-31", "2025-12-31"));
        s.at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls("staging.example").fin();
        s.findings(&["accept-expired", "unexpected-traffic"]);
    }

    fn an_unused_exception_is_a_note(s) {
        s.accept(WORKING).at(1.0).web(BROWSER, APPLIANCE, "appliance.contoso.example");
        s.findings(&[]).expect_finding(finding("accept-unused")).exit(0);
    }

    fn an_exception_ends_with_its_last_day_by_the_captures_clock(s) {
        s.accept(&WORKING.replace("2026-12-31", "2026-01-06"));
        s.at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls("staging.example").fin();
        // open: `until` names the last day on which it holds
        s.findings(&[]).expect_finding(finding("accepted"));
    }

    // exit codes by severity

    fn fail_on_never_ends_with_0(s) {
        s.at(0.0).resolve(APPLIANCE, "exfil.example", WEB).at(1.0).web(APPLIANCE, WEB, "exfil.example");
        s.arguments(&["--fail-on", "never"]).findings(&["unexpected-traffic"]).exit(0);
    }

    fn fail_on_high_ends_with_1_for_high_findings(s) {
        s.at(0.0).resolve(APPLIANCE, "exfil.example", WEB).at(1.0).web(APPLIANCE, WEB, "exfil.example");
        s.arguments(&["--fail-on", "high"]).findings(&["unexpected-traffic"]).exit(1);
    }

    fn fail_on_high_ends_with_0_for_medium_findings(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.arguments(&["--fail-on", "high"]).findings(&["undetermined"]).exit(0);
    }
}
