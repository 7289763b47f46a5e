//! What the captures themselves are worth, and the exit codes that say so.

use crate::scene::*;

/// Documented traffic only.
fn clean(s: &mut Scene) {
    s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "nginx.org");
    s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).outcome("established"));
}

/// Undocumented traffic too.
fn unclean(s: &mut Scene) {
    clean(s);
    s.at(5.0).resolve(APPLIANCE, "exfil.example", WEB2).at(6.0).web(APPLIANCE, WEB2, "exfil.example");
}

scenes! {
    fn nothing_to_report_and_everything_read_is_0(s) {
        clean(s);
        s.findings(&[]).exit(0).capture("scene.pcap", "frames", 13).capture("scene.pcap", "packets", 13);
        s.capture("scene.pcap", "end", "complete");
    }

    fn findings_are_1(s) {
        unclean(s);
        s.findings(&["unexpected-traffic"]).exit(1);
    }

    // damage

    fn a_capture_cut_off_inside_a_frame_is_audited_up_to_there(s) {
        clean(s);
        s.at(9.0).web(BROWSER, APPLIANCE, "appliance.contoso.example");
        // 24 frames; the last loses its tail, so it was not read.
        s.losing_the_last(20).findings(&[]).exit(3);
        s.expect(flow(BROWSER, APPLIANCE, 443).documented(&["vbaz-01", "vbaz-02"]).packets(6, 4));
        s.capture("scene.pcap", "frames", 23).capture("scene.pcap", "end/frame", 24);
        s.capture_not("scene.pcap", "end", "complete").expect_finding(finding("capture-damaged"));
    }

    fn damage_wins_over_findings(s) {
        unclean(s);
        s.losing_the_last(20).findings(&["unexpected-traffic"]).exit(3);
    }

    fn damage_wins_over_fail_on_never(s) {
        clean(s);
        s.losing_the_last(20).arguments(&["--fail-on", "never"]).findings(&[]).exit(3);
    }

    fn damage_in_one_file_of_two_keeps_the_other_whole(s) {
        clean(s);
        s.cut_after(&[6]).losing_the_last(20).findings(&[]).exit(3);
        s.capture("part0.pcap", "end", "complete").capture_not("part1.pcap", "end", "complete");
    }

    fn a_frame_header_of_impossible_length_is_damage(s) {
        clean(s);
        let mut bytes = pcap(&s.ordered_frames());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3]);
        s.without_its_own_capture().and_the_file("long.pcap", Some(&bytes)).findings(&[]).exit(3);
        s.capture("long.pcap", "frames", 13).capture("long.pcap", "end/frame", 14);
    }

    fn a_file_that_is_no_capture_beside_one_that_is_gives_3(s) {
        clean(s);
        s.and_the_file("notes.pcap", Some(b"dear diary, today I saved a text under the wrong name\n"));
        s.findings(&[]).exit(3);
    }

    fn a_file_that_is_not_there_beside_one_that_is_gives_3(s) {
        clean(s);
        s.and_the_file("nowhere.pcap", None).findings(&[]).exit(3);
    }

    fn no_readable_capture_gives_2(s) {
        s.without_its_own_capture().and_the_file("nowhere.pcap", None);
        s.and_the_file("notes.pcap", Some(b"dear diary, today I saved a text under the wrong name\n"));
        s.exit(2).says("nowhere.pcap").says("notes.pcap");
    }

    fn a_capture_without_frames_is_read_and_clean(s) {
        // open: an empty capture is no damage; it observes nothing
        s.findings(&[]).exit(0).capture("scene.pcap", "frames", 0).capture("scene.pcap", "end", "complete");
    }

    // skipped frames

    fn more_than_one_frame_in_a_hundred_undecodable_gives_3(s) {
        clean(s);
        s.at(8.0).undecodable();
        s.findings(&[]).exit(3).capture("scene.pcap", "frames", 14).capture("scene.pcap", "packets", 13);
    }

    fn packets_of_no_flow_count_as_undecodable(s) {
        clean(s);
        s.at(8.0).cut_udp_header(APPLIANCE, "203.0.113.9");
        s.findings(&[]).exit(3).expect_finding(finding("capture-loss"));
        s.capture("scene.pcap", "without_flow/transport-header-malformed", 1);
    }

    fn one_frame_in_a_hundred_undecodable_is_tolerable(s) {
        clean(s);
        let talk = s.at(2.0).tcp(BROWSER, APPLIANCE, 443).handshake().tls("appliance.contoso.example");
        (0..26).fold(talk, |talk, _| talk.more_tls()).fin();
        s.at(8.0).undecodable();
        s.findings(&[]).exit(0).capture("scene.pcap", "frames", 103).capture("scene.pcap", "packets", 102);
    }

    fn frames_known_not_to_be_ip_say_nothing_of_the_evidence(s) {
        clean(s);
        for index in 0..40 {
            s.at(8.0 + f64::from(index)).arp();
        }
        s.findings(&[]).exit(0).capture("scene.pcap", "skipped/arp", 40).capture("scene.pcap", "packets", 13);
    }

    fn headers_cut_by_the_snapshot_length_give_3(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).snap_at(20);
        s.findings(&[]).exit(3).capture("scene.pcap", "packets", 0).capture("scene.pcap", "frames", 2);
    }

    fn payload_cut_by_the_snapshot_length_is_counted_and_no_damage(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "appliance.contoso.example").snap_at(64);
        s.expect(flow(BROWSER, APPLIANCE, 443).documented(&["vbaz-01", "vbaz-02"]).outcome("established"));
        s.findings(&[]).exit(0).capture("scene.pcap", "packets", 11).capture_not("scene.pcap", "snaplen_cut", 0);
        s.remarks("of 11 frames were cut by the snapshot length").remarks("record with -s 0");
    }

    fn frames_that_the_interface_dropped_give_3(s) {
        clean(s);
        s.dropping(7).findings(&[]).exit(3).capture("scene.pcapng", "drops", 7);
    }

    fn statistics_that_say_nothing_was_dropped_give_0(s) {
        clean(s);
        s.dropping(0).findings(&[]).exit(0);
    }

    // formats and ways in

    fn pcapng_says_the_same_as_pcap(s) {
        clean(s);
        s.as_pcapng().findings(&[]).exit(0).capture("scene.pcapng", "frames", 13);
    }

    fn a_compressed_capture_says_the_same(s) {
        clean(s);
        s.gzipped().findings(&[]).exit(0).capture("scene.pcap.gz", "frames", 13);
    }

    fn a_capture_on_standard_input_says_the_same(s) {
        clean(s);
        s.on_stdin().findings(&[]).exit(0);
    }

    fn a_capture_of_one_direction_is_said_to_be_one(s) {
        s.at(1.0).tcp(BACKUP, APPLIANCE, 443).server_unseen().handshake().tls("appliance.contoso.example").fin();
        s.at(2.0).tcp(CONSOLE, BACKUP, 20443).server_unseen().handshake().tls("backup.contoso.example").fin();
        s.at(3.0).tcp(BROWSER, APPLIANCE, 443).server_unseen().handshake().tls("appliance.contoso.example").fin();
        s.expect(flow(BACKUP, APPLIANCE, 443).documented(&["vbaz-28"]).outcome("one-sided"));
        s.findings(&[]).exit(0).expect_finding(finding("one-sided-capture"));
    }

    fn a_capture_that_starts_too_late_leaves_what_it_has(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).web(APPLIANCE, WEB, "nginx.org");
        s.capture_starts_at(1.035);
        s.expect(flow(APPLIANCE, WEB, 443).undetermined("name").outcome("midstream"));
        s.findings(&["undetermined"]).exit(1);
    }

    fn a_capture_that_ends_too_soon_leaves_what_it_has(s) {
        s.keeps_talking(APPLIANCE, 0.1, 9.0).at(0.5).resolve(APPLIANCE, "nginx.org", WEB);
        s.at(1.0).tcp(APPLIANCE, WEB, 443).syn().later(1.0).synack();
        s.capture_ends_at(1.5);
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).outcome("undetermined"));
        s.findings(&[]).exit(0).coverage("vbaz-15", "not-observed");
    }

    // what cannot be done

    fn a_site_that_is_no_toml_gives_2(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "x.example").site_text("[site\nname = 3").exit(2).says("site.toml");
    }

    fn a_site_with_a_bad_address_gives_2(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "x.example").site("roles.worker", r#"["10.10.2.0/99"]"#);
        s.exit(2).says("site.toml").says("10.10.2.0/99");
    }

    fn a_site_with_a_misspelt_role_gives_2(s) {
        // open: a role that no rule knows would silently audit nothing
        s.at(1.0).web(BROWSER, APPLIANCE, "x.example").site("roles.backup-aplliance", r#"["10.10.1.5"]"#);
        s.exit(2).says("backup-aplliance");
    }

    fn an_unknown_option_gives_2(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "x.example").arguments(&["--no-such-option"]).exit(2);
    }

    fn rules_that_are_not_there_give_2(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "x.example").arguments(&["--rules", "nowhere.toml"]).exit(2);
    }
}
