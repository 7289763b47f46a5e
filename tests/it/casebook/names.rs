//! What names an address, what does not, and what is in conflict: SEMANTICS.md section 3.

use crate::scene::*;
use serde_json::Value;

fn nginx() -> FlowExpect {
    flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).outcome("established")
}

/// The nameless connection: to port 443 of an address that nothing names.
fn nameless() -> FlowExpect {
    flow(APPLIANCE, WEB, 443).undetermined("name").outcome("established")
}

scenes! {
    // what counts

    fn an_answer_over_tcp_of_more_than_four_kilobytes_is_read_to_its_end(s) {
        let answers: Vec<_> = (0..400).map(|at| a("nginx.org", &format!("198.51.{}.{}", at / 200, at % 200)))
            .chain([a("nginx.org", WEB)]).collect();
        s.at(0.0).dns_over_tcp(APPLIANCE, RESOLVER, "nginx.org", &answers).at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn an_answer_names_the_address_it_gives(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nginx().grade("dns").named("nginx.org"));
        s.findings(&[]);
    }

    fn an_answer_and_a_server_name_corroborate_each_other(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "NGINX.org");
        s.expect(nginx().grade("corroborated").is("server_name", "nginx.org"));
        s.findings(&[]);
    }

    fn an_answer_and_a_tag_corroborate_each_other(s) {
        s.at(0.0).resolve_chain(
            APPLIANCE,
            &["login.microsoftonline.com", "login.mso.msidentity.com", "ak.privatelink.msidentity.com"],
            &[ENTRA],
        );
        s.at(1.0).tcp(APPLIANCE, ENTRA, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, ENTRA, 443).documented(&["vbaz-10"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn an_http_host_corroborates_too(s) {
        s.at(0.0).resolve(APPLIANCE, "archive.ubuntu.com", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 80).handshake().exchange(&http_get("archive.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 80).documented(&["vbaz-05b"]).grade("corroborated").is("app", "http"));
        s.findings(&[]);
    }

    fn the_question_counts_letter_case_aside(s) {
        let talk = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nGinX.oRg", A);
        talk.reply(Reply {
            question: Some("nginx.org".to_string()),
            answers: vec![a("NGINX.ORG", WEB)],
            ..Reply::default()
        });
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().named("nginx.org"));
        s.findings(&[]);
    }

    fn every_name_of_a_chain_counts(s) {
        s.at(0.0).resolve_chain(APPLIANCE, &["packages.microsoft.com", "e1.edge.example", "e2.edge.example"], &[WEB]);
        s.at(1.0).web(APPLIANCE, WEB, "packages.microsoft.com");
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-08"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn a_documented_name_further_down_the_chain_counts(s) {
        s.at(0.0).resolve_chain(APPLIANCE, &["mirror.contoso.example", "nginx.org"], &[WEB]);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nginx().grade("dns"));
        s.findings(&[]);
    }

    fn chains_join_across_answers_to_the_same_host(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("packages.microsoft.com", A);
        ask.answer(&[cname("packages.microsoft.com", "e1.edge.example")]);
        s.at(0.5).resolve(APPLIANCE, "e1.edge.example", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-08"]).grade("dns"));
        s.findings(&[]);
    }

    fn chains_of_different_hosts_do_not_join(s) {
        let ask = s.at(0.0).dns(WORKER, RESOLVER).query("nginx.org", A);
        ask.answer(&[cname("nginx.org", "e1.edge.example")]);
        s.at(0.5).resolve(APPLIANCE, "e1.edge.example", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, WEB, 443).undocumented().named("e1.edge.example"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_answer_over_tcp_counts(s) {
        s.at(0.0).dns_over_tcp(APPLIANCE, RESOLVER, "nginx.org", &[a("nginx.org", WEB)]);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().grade("corroborated")).expect(flow(APPLIANCE, RESOLVER, 53).platform());
        s.findings(&[]);
    }

    fn a_listed_resolver_counts_and_so_does_the_platforms(s) {
        s.site("site.resolvers", r#"["10.20.0.53"]"#);
        s.at(0.0).dns(APPLIANCE, "10.20.0.53").query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org").at(2.0).web(APPLIANCE, WEB2, "packages.microsoft.com");
        s.expect(nginx()).expect(flow(APPLIANCE, WEB2, 443).documented(&["vbaz-08"]));
        s.expect(flow(APPLIANCE, "10.20.0.53", 53).udp().platform());
        s.findings(&[]);
    }

    fn with_no_resolvers_listed_every_resolver_counts(s) {
        s.site("site.resolvers", "[]");
        s.at(0.0).dns(APPLIANCE, "10.20.0.53").query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().grade("corroborated"));
        s.expect_finding(finding("unexpected-resolver").times(0)).expect_finding(finding("name-conflict").times(0));
        // open: the verdict of the exchange with the resolver itself
        s.findings(&[]).perhaps(&["unexpected-traffic"]).exit_either(&[0, 1]);
    }

    // how long, and for whom

    fn past_its_ttl_a_name_still_counts(s) {
        s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).answer(&[a("nginx.org", WEB).ttl(5)]);
        s.at(900.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().named("nginx.org"));
        s.findings(&[]);
    }

    fn an_answer_within_5_s_of_the_flows_beginning_binds_back(s) {
        s.at(0.9).dns(APPLIANCE, RESOLVER).query("nginx.org", A).wait(4.5).answer(&[a("nginx.org", WEB)]);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nginx().named("nginx.org"));
        s.findings(&[]);
    }

    fn an_answer_later_than_that_does_not(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.at(6.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.expect(nameless());
        s.findings(&["undetermined"]);
    }

    fn a_name_once_bound_to_a_flow_stays(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name();
        talk.later(60.0).more_tls().fin();
        s.at(30.0).resolve(APPLIANCE, "tracker.example", WEB);
        s.expect(nginx().grade("dns"));
        s.findings(&[]);
    }

    fn what_a_host_asked_over_ipv4_it_uses_over_ipv6(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", "2001:db8::9").at(1.0).web(APPLIANCE6, "2001:db8::9", "nginx.org");
        s.expect(flow(APPLIANCE6, "2001:db8::9", 443).documented(&["vbaz-15"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn what_one_host_asked_names_nothing_for_another(s) {
        s.at(0.0).resolve(WORKER, "postgresql.org", WEB);
        s.at(1.0).tcp("10.10.2.12", WEB, 443).handshake().tls_without_name().fin();
        s.expect(flow("10.10.2.12", WEB, 443).undetermined("name").unnamed());
        s.findings(&["undetermined"]);
    }

    // what names nothing

    fn a_warm_cache_leaves_the_flow_undetermined(s) {
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nameless().grade("server-name").is("server_name", "nginx.org").carries("undetermined"));
        s.findings(&["undetermined"]);
    }

    fn additional_records_name_nothing(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("other.example", A);
        let (answers, additional) = (vec![a("other.example", WEB2)], vec![a("nginx.org", WEB)]);
        ask.reply(Reply { answers, additional, ..Reply::default() });
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().unnamed());
        s.findings(&["undetermined"]);
    }

    fn answer_records_not_reached_from_the_question_name_nothing(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("other.example", A);
        ask.answer(&[a("other.example", WEB2), a("nginx.org", WEB)]);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().unnamed());
        s.findings(&["undetermined"]);
    }

    fn multicast_dns_and_llmnr_are_not_dns(s) {
        for (index, port) in [5353, 5355].into_iter().enumerate() {
            let ask = s.at(index as f64 / 4.0).dns(APPLIANCE, "10.10.1.202").on_port(port).query("nginx.org", A);
            ask.answer(&[a("nginx.org", WEB)]);
        }
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().unnamed());
        s.findings(&["undetermined", "unexpected-traffic"]);
    }

    fn an_answer_to_another_question_names_nothing(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("other.example", A);
        ask.reply(Reply {
            question: Some("nginx.org".to_string()),
            answers: vec![a("nginx.org", WEB)],
            ..Reply::default()
        });
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().unnamed().lacks("unsolicited-answer"));
        s.findings(&["undetermined"]);
    }

    // damage in the answer

    fn a_response_with_one_bad_record_is_salvaged(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB), a("nginx.org", WEB2).claiming(3)]);
        s.damaged_on_purpose().at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nginx().grade("dns"));
        s.findings(&[]);
    }

    fn a_response_with_a_cut_tail_is_salvaged(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB), a("nginx.org", WEB2).claiming(400)]);
        s.damaged_on_purpose().at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nginx().grade("dns"));
        s.findings(&[]);
    }

    // several names on one address

    fn an_address_with_a_documented_and_another_name_is_ambiguous(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).resolve(APPLIANCE, "tracker.example", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, WEB, 443).undetermined("ambiguous").named("nginx.org").named("tracker.example"));
        s.findings(&["undetermined"]);
    }

    fn the_server_name_settles_it_for_the_documented_name(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).resolve(APPLIANCE, "tracker.example", WEB);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().grade("corroborated"));
        s.findings(&[]);
    }

    fn the_server_name_settles_it_for_the_other_name(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).resolve(APPLIANCE, "tracker.example", WEB);
        s.at(1.0).web(APPLIANCE, WEB, "tracker.example");
        s.expect(flow(APPLIANCE, WEB, 443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn an_address_whose_names_are_all_documented_is_documented(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).resolve(APPLIANCE, "packages.microsoft.com", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        // open: that both rules are named, since either may be the one
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-08", "vbaz-15"]).grade("dns"));
        s.findings(&[]);
    }

    fn an_address_none_of_whose_names_is_documented_is_undocumented(s) {
        s.at(0.0).resolve(APPLIANCE, "ads.example", WEB).resolve(APPLIANCE, "tracker.example", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, WEB, 443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    // resolvers not trusted, answers not asked for

    fn an_answer_dated_a_moment_before_the_query_taken_before_it_is_its_answer(s) {
        s.in_the_order_written().keeps_talking(APPLIANCE, 0.1, 9.0);
        s.at(10.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).wait(-0.5).answer(&[a("nginx.org", WEB)]);
        s.at(11.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]));
        s.findings(&[]);
    }

    fn an_answer_dated_more_than_a_second_before_its_query_is_unsolicited(s) {
        s.in_the_order_written().keeps_talking(APPLIANCE, 0.1, 9.0);
        s.at(10.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).wait(-1.5).answer(&[a("nginx.org", WEB)]);
        s.at(11.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(flow(APPLIANCE, WEB, 443).undetermined("name").carries("unsolicited-answer"));
        s.findings(&["undetermined", "unsolicited-answer"]);
    }

    fn an_answer_of_another_resolver_names_nothing(s) {
        s.at(0.0).dns(APPLIANCE, "203.0.113.53").query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(flow(APPLIANCE, WEB, 443).undetermined("conflict").carries("name-conflict"));
        s.expect(flow(APPLIANCE, "203.0.113.53", 53).udp().undocumented().outcome("answered"));
        // open: whether a flow in conflict is also folded into `undetermined`
        s.findings(&["name-conflict", "unexpected-resolver", "unexpected-traffic"]).perhaps(&["undetermined"]);
    }

    fn an_unexpected_resolver_is_reported_once(s) {
        for (index, asked) in ["nginx.org", "packages.microsoft.com", "tracker.example"].into_iter().enumerate() {
            s.at(index as f64).dns(APPLIANCE, "203.0.113.53").query(asked, A).answer(&[a(asked, WEB)]);
        }
        s.expect_finding(finding("unexpected-resolver").severity("medium"));
        s.findings(&["unexpected-resolver", "unexpected-traffic"]);
    }

    fn an_unexpected_resolver_is_reported_once_whoever_asks_it_and_how(s) {
        s.at(1.0).dns(WORKER, "203.0.113.53").query("postgresql.org", A).answer(&[a("postgresql.org", WEB)]);
        s.at(2.0).dns_over_tcp(APPLIANCE, "203.0.113.53", "nginx.org", &[a("nginx.org", WEB)]);
        let title = "2 addresses of backup-appliance+worker ask 203.0.113.53, which the site does not list as a resolver";
        let expected = finding("unexpected-resolver").titled(title).is("from/ip", Value::Null).is("to/proto", Value::Null);
        let expected = expected.count(2).filter("dns && ip.addr == 203.0.113.53").tells("over UDP and TCP");
        s.expect_finding(expected.tells("first asked for postgresql.org").tells("asked by: 10.10.1.4, 10.10.2.11"));
        s.findings(&["unexpected-resolver", "unexpected-traffic"]);
    }

    fn an_unexpected_resolver_may_be_asked_over_tcp_alone(s) {
        s.at(2.0).dns_over_tcp(APPLIANCE, "203.0.113.53", "nginx.org", &[a("nginx.org", WEB)]);
        let title = "backup-appliance 10.10.1.4 asks 203.0.113.53, which the site does not list as a resolver";
        let expected = finding("unexpected-resolver").titled(title).from(APPLIANCE).is("to/proto", "tcp").count(1);
        s.expect_finding(expected.does_not_tell("asked by").does_not_tell("over UDP"));
        s.findings(&["unexpected-resolver", "unexpected-traffic"]);
    }

    fn an_answer_nobody_asked_for_may_come_over_tcp(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        let answer = [a("nginx.org", WEB)];
        s.at(9.0).tcp(APPLIANCE, RESOLVER, 53).handshake().server(&dns_answer_over_tcp("nginx.org", &answer)).client_ack();
        s.expect_finding(finding("unsolicited-answer").about("nginx.org").is("to/proto", "tcp").is("to/port", 53));
        s.findings(&["unsolicited-answer"]);
    }

    fn a_trusted_answer_outweighs_another_resolvers(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(0.5).dns(APPLIANCE, "203.0.113.53").query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().lacks("name-conflict"));
        s.findings(&["unexpected-resolver", "unexpected-traffic"]);
    }

    fn an_answer_nobody_asked_for_is_reported_and_names_nothing(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(9.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(10.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        // open: whether `missing` is `name` or `conflict`
        let flow = flow(APPLIANCE, WEB, 443).is("verdict", "undetermined").one_of("missing", &["name", "conflict"]);
        s.expect(flow.carries("unsolicited-answer").never("grade", "dns"));
        s.findings(&["unsolicited-answer"]).perhaps(&["undetermined"]);
    }

    fn forged_answers_are_evidence_not_flows(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(9.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.expect(flow(APPLIANCE, RESOLVER, 53).udp().rows(1).platform());
        s.findings(&["unsolicited-answer"]);
    }

    fn an_answer_with_the_wrong_id_beside_the_right_one_is_not_asked_for(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(9.0);
        let talk = s.dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        let forged = Reply { id: Some(1), answers: vec![a("nginx.org", WEB2)], ..Reply::default() };
        talk.reply(forged).answer(&[a("nginx.org", WEB)]);
        s.at(10.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().lacks("name-conflict"));
        s.findings(&["unsolicited-answer"]);
    }

    fn in_the_first_5_s_of_the_capture_an_unmatched_answer_raises_nothing(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.at(2.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(3.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().lacks("unsolicited-answer"));
        s.findings(&["undetermined"]);
    }

    fn nor_does_it_in_the_first_5_s_after_a_pause(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.keeps_talking(APPLIANCE, 200.0, 215.0);
        s.at(202.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(203.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().lacks("unsolicited-answer"));
        s.findings(&["undetermined"]);
    }

    fn after_those_5_s_it_is_reported_again(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0).at(0.5).resolve(APPLIANCE, "packages.microsoft.com", WEB2);
        s.keeps_talking(APPLIANCE, 200.0, 215.0);
        s.at(206.0).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.findings(&["unsolicited-answer"]);
    }

    fn where_the_capture_shows_no_queries_an_unmatched_answer_raises_nothing(s) {
        s.keeps_talking(APPLIANCE, 0.1, 15.0);
        for time in [6.0, 9.0, 12.0] {
            s.at(time).dns(APPLIANCE, RESOLVER).unseen_query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        }
        s.at(13.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless().lacks("unsolicited-answer"));
        s.findings(&["undetermined"]);
    }

    // conflicts

    fn an_address_told_under_another_name_before_is_not_in_conflict_over_a_server_name(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB2).at(0.5).resolve(APPLIANCE, "other.example", WEB);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(flow(APPLIANCE, WEB, 443).undocumented().lacks("name-conflict"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_address_told_only_late_under_another_name_is_in_conflict_over_a_server_name(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB2);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.at(3.0).resolve(APPLIANCE, "other.example", WEB);
        s.expect(flow(APPLIANCE, WEB, 443).undocumented().carries("name-conflict"));
        s.findings(&["name-conflict", "unexpected-traffic"]);
    }

    fn more_answers_than_questions_with_different_addresses_are_a_conflict(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB2)]).answer(&[a("nginx.org", WEB)]);
        s.at(1.0).web(APPLIANCE, WEB2, "nginx.org").at(2.0).web(APPLIANCE, WEB, "nginx.org");
        for server in [WEB, WEB2] {
            s.expect(flow(APPLIANCE, server, 443).undetermined("conflict").carries("name-conflict"));
        }
        s.findings(&["name-conflict"]).perhaps(&["undetermined"]);
    }

    fn more_answers_with_the_same_addresses_are_none(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB), a("nginx.org", WEB2)]).answer(&[a("nginx.org", WEB2), a("nginx.org", WEB)]);
        s.at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().lacks("name-conflict"));
        s.findings(&[]);
    }

    fn as_many_answers_as_transmissions_are_a_rotation(s) {
        let ask = s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).wait(1.0).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB)]).answer(&[a("nginx.org", WEB2)]);
        s.at(2.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nginx().lacks("name-conflict"));
        s.findings(&[]);
    }

    fn a_flow_with_its_own_uncontested_earlier_answer_is_not_touched(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "nginx.org");
        let ask = s.at(20.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A);
        ask.answer(&[a("nginx.org", WEB)]).answer(&[a("nginx.org", WEB2)]);
        s.at(21.0).web(APPLIANCE, WEB2, "nginx.org");
        s.expect(nginx().lacks("name-conflict"));
        s.expect(flow(APPLIANCE, WEB2, 443).undetermined("conflict").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined"]);
    }

    fn a_documented_server_name_at_an_address_never_answered_for_it_is_a_conflict(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB2, "nginx.org");
        // open: whether `missing` is `name` or `conflict`
        let flow = flow(APPLIANCE, WEB2, 443).is("verdict", "undetermined").one_of("missing", &["conflict", "name"]);
        s.expect(flow.carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined"]);
    }

    fn once_that_answer_has_expired_it_is_none(s) {
        s.at(0.0).dns(APPLIANCE, RESOLVER).query("nginx.org", A).answer(&[a("nginx.org", WEB2).ttl(30)]);
        s.at(100.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nameless().lacks("name-conflict"));
        s.findings(&["undetermined"]);
    }

    fn an_answer_of_the_other_family_is_none(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", "2001:db8::9").at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.expect(nameless().lacks("name-conflict"));
        s.findings(&["undetermined"]);
    }

    fn an_undocumented_server_name_elsewhere_is_none(s) {
        s.at(0.0).resolve(APPLIANCE, "tracker.example", WEB2).at(1.0).web(APPLIANCE, WEB, "tracker.example");
        s.expect(flow(APPLIANCE, WEB, 443).lacks("name-conflict"));
        s.expect_finding(finding("name-conflict").times(0));
    }

    fn a_documented_name_at_an_address_that_is_no_ones_is_a_conflict(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", "0.0.0.5").at(1.0).web(APPLIANCE, "0.0.0.5", "nginx.org");
        s.expect(flow(APPLIANCE, "0.0.0.5", 443).undetermined("conflict").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined"]);
    }

    fn a_documented_name_at_a_private_address_is_a_conflict(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", "10.10.9.9").at(1.0).web(APPLIANCE, "10.10.9.9", "nginx.org");
        s.at(5.0).resolve(APPLIANCE, "packages.microsoft.com", "192.168.7.7");
        s.at(6.0).web(APPLIANCE, "192.168.7.7", "packages.microsoft.com");
        s.expect(flow(APPLIANCE, "10.10.9.9", 443).undetermined("conflict").carries("name-conflict"));
        s.expect(flow(APPLIANCE, "192.168.7.7", 443).undetermined("conflict").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined"]);
    }

    fn a_documented_name_at_an_address_of_another_role_is_a_conflict(s) {
        s.site("roles.veeam-one", r#"["10.20.0.31", "203.0.113.31"]"#);
        s.at(0.0).resolve(APPLIANCE, "nginx.org", "203.0.113.31").at(1.0).web(APPLIANCE, "203.0.113.31", "nginx.org");
        // open: undetermined for the conflict, or undocumented since the address is identified
        s.expect(flow(APPLIANCE, "203.0.113.31", 443).never("verdict", "documented").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined", "unexpected-traffic"]);
    }

    fn a_listed_mirror_stands_in_for_the_documented_name(s) {
        s.site("mirrors.archive.ubuntu.com", r#"["10.10.9.9"]"#);
        s.at(0.0).resolve(APPLIANCE, "archive.ubuntu.com", "10.10.9.9").at(1.0);
        let talk = s.tcp(APPLIANCE, "10.10.9.9", 80).handshake();
        talk.exchange(&http_get("archive.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, "10.10.9.9", 80).documented(&["vbaz-05b"]).lacks("name-conflict"));
        s.findings(&[]);
    }

    fn a_private_endpoint_in_the_virtual_network_is_documented_by_its_name(s) {
        s.at(0.0).resolve_chain(
            APPLIANCE,
            &["contosobackup01.blob.core.windows.net", "contosobackup01.privatelink.blob.core.windows.net"],
            &["10.10.5.5"],
        );
        s.at(1.0).tcp(APPLIANCE, "10.10.5.5", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "10.10.5.5", 443).documented(&["vbaz-12"]).grade("dns").lacks("name-conflict"));
        s.findings(&[]);
    }

    fn a_key_vaults_private_endpoint_is_documented_by_its_name(s) {
        s.at(0.0).resolve_chain(
            APPLIANCE,
            &["contosokeys.vault.azure.net", "contosokeys.privatelink.vaultcore.azure.net"],
            &["10.10.5.6"],
        );
        s.at(1.0).tcp(APPLIANCE, "10.10.5.6", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "10.10.5.6", 443).documented(&["vbaz-13"]).grade("dns"));
        s.findings(&[]);
    }

    fn a_rule_tells_every_name_by_which_its_destination_was_known(s) {
        s.site("site.storage_accounts", r#"["one", "three", "two"]"#);
        for (time, account) in [(0.0, "two"), (5.0, "one"), (10.0, "three")] {
            let name = format!("{account}.blob.core.windows.net");
            s.at(time).resolve(APPLIANCE, &name, STORAGE);
            s.at(time + 1.0).tcp(APPLIANCE, STORAGE, 443).handshake().tls_without_name().fin();
        }
        let names = ["one", "three", "two"].map(|account| format!("{account}.blob.core.windows.net"));
        s.coverage_names("vbaz-12", &names.each_ref().map(String::as_str));
    }

    fn a_private_endpoint_elsewhere_is_a_conflict(s) {
        s.at(0.0).resolve_chain(
            APPLIANCE,
            &["contosobackup01.blob.core.windows.net", "contosobackup01.privatelink.blob.core.windows.net"],
            &["10.99.0.5"],
        );
        s.at(1.0).web(APPLIANCE, "10.99.0.5", "contosobackup01.blob.core.windows.net");
        s.expect(flow(APPLIANCE, "10.99.0.5", 443).never("verdict", "documented").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined", "unexpected-traffic"]);
    }

    fn a_service_name_in_the_virtual_network_without_privatelink_is_a_conflict(s) {
        s.at(0.0).resolve(APPLIANCE, "contosobackup01.blob.core.windows.net", "10.10.5.7");
        s.at(1.0).web(APPLIANCE, "10.10.5.7", "contosobackup01.blob.core.windows.net");
        s.expect(flow(APPLIANCE, "10.10.5.7", 443).never("verdict", "documented").carries("name-conflict"));
        s.findings(&["name-conflict"]).perhaps(&["undetermined", "unexpected-traffic"]);
    }

    fn privatelink_in_the_chain_of_a_public_address_changes_nothing(s) {
        s.at(0.0).resolve_chain(
            APPLIANCE,
            &["contosobackup01.blob.core.windows.net", "contosobackup01.privatelink.blob.core.windows.net"],
            &[STORAGE],
        );
        s.at(1.0).web(APPLIANCE, STORAGE, "contosobackup01.blob.core.windows.net");
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn what_the_site_gives_may_be_private(s) {
        s.at(0.0).resolve(APPLIANCE, "mail.contoso.example", "10.50.0.9").at(1.0);
        let talk = s.tcp(APPLIANCE, "10.50.0.9", 25).handshake().server(SMTP_BANNER);
        talk.exchange(SMTP_EHLO, SMTP_OFFER).fin();
        s.expect(flow(APPLIANCE, "10.50.0.9", 25).documented(&["vbaz-09a"]).grade("dns").lacks("name-conflict"));
        s.findings(&[]);
    }

    // hosts in QUIC, HTTP/2 and SSDP

    fn the_server_name_of_a_quic_initial_packet_is_read(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.udp(APPLIANCE, WEB, 443).request(&quic_initial("nginx.org")).reply(&[0x40; 40]);
        s.expect(flow(APPLIANCE, WEB, 443).udp().undocumented().is("app", "quic").is("server_name", "nginx.org")
            .grade("corroborated"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_authority_of_http2_corroborates_too(s) {
        s.at(0.0).resolve(APPLIANCE, "archive.ubuntu.com", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 80).handshake().exchange(&http2_get("archive.ubuntu.com"), &http2_no_content()).fin();
        let flow = flow(APPLIANCE, WEB, 80).documented(&["vbaz-05b"]).grade("corroborated").is("app", "http");
        s.expect(flow.is("http_host", "archive.ubuntu.com"));
        s.findings(&[]);
    }

    fn an_authority_of_http2_alone_documents_nothing(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 80).handshake().exchange(&http2_get("archive.ubuntu.com"), &http2_no_content()).fin();
        s.expect(flow(APPLIANCE, WEB, 80).undetermined("name").grade("server-name").named("archive.ubuntu.com"));
        s.findings(&["undetermined"]);
    }

    fn service_discovery_is_recognised_and_its_host_names_nothing(s) {
        s.at(1.0).udp(APPLIANCE, "239.255.255.250", 1900).request(&ssdp_search()).request(&ssdp_search());
        let flow = flow(APPLIANCE, "239.255.255.250", 1900).udp().is("app", "ssdp");
        s.expect(flow.is("http_host", "239.255.255.250").unnamed().undocumented());
        s.findings(&["unexpected-attempt"]);
    }

    // TLS that begins inside another protocol

    fn the_hello_after_starttls_reaches_the_row(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, MAIL, 25).handshake().server(SMTP_BANNER).exchange(SMTP_EHLO, SMTP_OFFER);
        let talk = talk.exchange(b"STARTTLS\r\n", b"220 ready\r\n");
        talk.client(&client_hello_offering(Some("mail.contoso.example"), &["smtp"])).server(&server_hello()).more_tls().fin();
        let flow = flow(APPLIANCE, MAIL, 25).documented(&["vbaz-09a"]).is("app", "smtp").is("alpn/0", "smtp");
        s.expect(flow.is("server_name", "mail.contoso.example").is("tls_version", "TLSv1.3").is("tls_offered/1", "TLSv1.2"));
        s.findings(&[]);
    }

    fn the_hello_inside_postgresql_reaches_the_row(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, WEB, 5432).handshake().exchange(PG_SSL_REQUEST, b"S");
        talk.client(&client_hello(Some("db.contoso.example"))).server(&server_hello_in_the_clear()).more_tls().fin();
        let flow = flow(APPLIANCE, WEB, 5432).is("app", "postgresql").is("server_name", "db.contoso.example");
        s.expect(flow.is("tls_version", "TLSv1.2").is("tls_offered/0", "TLSv1.3").is("ech", false));
    }

    fn the_hello_inside_tds_reaches_the_row(s) {
        let wrapped = |tls: &[u8]| [&[0x12, 1], &(8 + tls.len() as u16).to_be_bytes()[..], &[0, 0, 0, 0], tls].concat();
        let talk = s.at(1.0).tcp(WORKER, SQL_HERE, 1433).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4));
        let talk = talk.client(&wrapped(&client_hello(Some("mi1.abc123.database.windows.net"))));
        talk.server(&wrapped(&server_hello_in_the_clear())).fin();
        let flow = flow(WORKER, SQL_HERE, 1433).is("app", "tds").is("server_name", "mi1.abc123.database.windows.net");
        s.expect(flow.is("tls_version", "TLSv1.2").is("alpn/0", "http/1.1"));
    }

    // names that encrypted DNS hides

    fn names_hidden_by_dns_over_https_are_said_to_be(s) {
        s.at(0.0).resolve(APPLIANCE, "dns.google", WEB2).at(0.5);
        let hello = client_hello_offering(Some("dns.google"), &["h2", "http/1.1"]);
        s.tcp(APPLIANCE, WEB2, 443).handshake().client(&hello).server(&server_hello()).more_tls().fin();
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless()).expect(flow(APPLIANCE, WEB2, 443).undocumented().is("alpn/0", "h2").is("tls_offered/0", "TLSv1.3"));
        s.findings(&["undetermined", "unexpected-traffic"]).remarks("10.10.1.4 resolves names over encrypted DNS");
        let told = finding("undetermined").tells("DNS over HTTPS to dns.google").tells("switch encrypted DNS off");
        s.expect_finding(told.does_not_tell("resolver cache"));
        s.audit("names_quality/encrypted_dns/0/host", APPLIANCE);
        s.audit("names_quality/encrypted_dns/0/kind", "dns-over-https");
        s.audit("names_quality/encrypted_dns/0/resolver", "dns.google");
        s.audit("names_quality/encrypted_dns/0/flows", 1);
    }

    fn dns_over_tls_is_known_by_its_port(s) {
        s.at(0.5).tcp(APPLIANCE, WEB2, 853).handshake().tls_without_name().fin();
        s.at(0.7).tcp(APPLIANCE, WEB2, 853).handshake().tls_without_name().fin();
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless()).expect(flow(APPLIANCE, WEB2, 853).rows(2).undocumented());
        s.expect_finding(finding("undetermined").tells("DNS over TLS to 198.51.100.66"));
        s.audit("names_quality/encrypted_dns/0/kind", "dns-over-tls").audit("names_quality/encrypted_dns/0/flows", 2);
    }

    fn dns_over_tls_elsewhere_is_known_by_its_alpn(s) {
        let hello = client_hello_offering(Some("dns.contoso.example"), &["dot"]);
        s.at(0.5).tcp(APPLIANCE, WEB2, 8853).handshake().client(&hello).server(&server_hello()).more_tls().fin();
        s.audit("names_quality/encrypted_dns/0/resolver", "dns.contoso.example");
        s.audit("names_quality/encrypted_dns/0/kind", "dns-over-tls").remarks("DNS over TLS to dns.contoso.example");
    }

    fn dns_over_quic_is_known_by_its_port(s) {
        s.at(0.5).udp(APPLIANCE, WEB2, 853).request(&[0x40; 60]).reply(&[0x41; 60]);
        s.audit("names_quality/encrypted_dns/0/kind", "dns-over-quic").remarks("DNS over QUIC to 198.51.100.66");
    }

    fn encrypted_dns_through_a_proxy_is_known_by_what_was_asked_of_it(s) {
        s.site("roles.http-proxy", r#"["10.20.0.99"]"#).at(0.5);
        let talk = s.tcp(APPLIANCE, "10.20.0.99", 3128).handshake();
        let talk = talk.exchange(&http_connect("cloudflare-dns.com:443"), &http_status(200));
        talk.tls("cloudflare-dns.com").fin();
        s.audit("names_quality/encrypted_dns/0/kind", "dns-over-https").remarks("cloudflare-dns.com");
    }

    fn encrypted_dns_that_is_blocked_hides_nothing(s) {
        s.at(0.5).tcp(APPLIANCE, WEB2, 853).syn().server_rst();
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect(nameless()).expect_finding(finding("undetermined").tells("resolver cache").does_not_tell("encrypted"));
        s.audit("names_quality/encrypted_dns", serde_json::json!([]));
    }

    fn encrypted_dns_of_another_host_explains_nothing(s) {
        s.at(0.5).tcp(WORKER, WEB2, 853).handshake().tls_without_name().fin();
        s.at(0.6).tcp(BROWSER, WEB2, 853).handshake().tls_without_name().fin();
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.expect_finding(finding("undetermined").tells("resolver cache").does_not_tell("encrypted"));
        s.audit("names_quality/encrypted_dns/0/host", WORKER).audit("names_quality/encrypted_dns/1", serde_json::Value::Null);
    }
}
