//! Does the matrix document it: SEMANTICS.md section 4.

use crate::scene::*;

/// A connection with `name` looked up first and shown as TLS server name.
fn visit(s: &mut Scene, client: &str, name: &str, server: &str) {
    s.at(0.0).resolve(client, name, server).at(1.0).web(client, server, name);
}

const PROXY: &str = "10.50.0.3";

/// A CONNECT through the listed proxy and a TLS session with `target`'s host.
fn connect(s: &mut Scene, target: &str) {
    s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
    let host = target.split(':').next().unwrap_or(target);
    let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
    talk.exchange(&http_connect(target), &http_status(200)).tls(host).fin();
}

scenes! {
    // rules by role

    fn two_rules_with_the_same_five_tuple_are_both_observed(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "appliance.contoso.example");
        s.expect(flow(BROWSER, APPLIANCE, 443).documented(&["vbaz-01", "vbaz-02"]).grade("site").outcome("established"));
        s.findings(&[]).coverage("vbaz-01", "observed").coverage("vbaz-02", "observed");
    }

    fn role_rules_are_decided_by_address(s) {
        s.at(1.0).web(BROWSER, WORKER, "worker.contoso.example");
        s.at(2.0).web(BACKUP, APPLIANCE, "appliance.contoso.example");
        s.at(3.0).tcp(CONSOLE, BACKUP, 20443).handshake().tls("backup.contoso.example").fin();
        s.at(4.0).tcp(VEEAM_ONE, BACKUP, 20443).handshake().tls("backup.contoso.example").fin();
        s.expect(flow(BROWSER, WORKER, 443).documented(&["vbaz-03"]).grade("site"));
        s.expect(flow(BACKUP, APPLIANCE, 443).documented(&["vbaz-28"]).grade("site"));
        s.expect(flow(CONSOLE, BACKUP, 20443).documented(&["vbaz-34a"]).grade("site"));
        s.expect(flow(VEEAM_ONE, BACKUP, 20443).documented(&["vbaz-34b"]).grade("site"));
        s.findings(&[]);
    }

    fn any_role_of_an_address_may_fit(s) {
        s.site("roles.console", r#"["10.40.0.7"]"#);
        s.at(1.0).web(BROWSER, APPLIANCE, "appliance.contoso.example");
        s.at(2.0).tcp(BROWSER, BACKUP, 20443).handshake().tls("backup.contoso.example").fin();
        s.expect(flow(BROWSER, APPLIANCE, 443).documented(&["vbaz-01", "vbaz-02"]));
        s.expect(flow(BROWSER, BACKUP, 20443).documented(&["vbaz-34a"]));
        s.findings(&[]);
    }

    fn a_role_entry_that_is_a_name_fits_like_a_rule_by_name(s) {
        s.at(0.0).resolve(APPLIANCE, "mail.contoso.example", "203.0.113.25").at(1.0);
        let talk = s.tcp(APPLIANCE, "203.0.113.25", 587).handshake().server(SMTP_BANNER);
        talk.exchange(SMTP_EHLO, SMTP_OFFER).fin();
        s.expect(flow(APPLIANCE, "203.0.113.25", 587).documented(&["vbaz-09b"]).grade("dns"));
        s.findings(&[]);
    }

    fn a_role_entry_that_is_a_name_can_be_missing(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, "203.0.113.25", 587).handshake().server(SMTP_BANNER);
        talk.exchange(SMTP_EHLO, SMTP_OFFER).fin();
        s.expect(flow(APPLIANCE, "203.0.113.25", 587).undetermined("name"));
        s.findings(&["undetermined"]);
    }

    // what differs

    fn the_wrong_direction_is_undocumented(s) {
        s.at(1.0).tcp(BACKUP, CONSOLE, 20443).handshake().tls("console.contoso.example").fin();
        s.expect(flow(BACKUP, CONSOLE, 20443).undocumented().nearest("vbaz-34a", "direction"));
        s.findings(&["unexpected-traffic"]);
    }

    fn the_wrong_port_is_undocumented(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 8443).handshake().tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, WEB, 8443).undocumented().nearest("vbaz-15", "port"));
        s.findings(&["unexpected-traffic"]);
        s.expect_finding(finding("unexpected-traffic").from(APPLIANCE).severity("high").count(1));
    }

    fn the_wrong_name_is_undocumented(s) {
        visit(s, APPLIANCE, "exfil.example", WEB);
        s.expect(flow(APPLIANCE, WEB, 443).undocumented().differs("name").grade("corroborated"));
        s.findings(&["unexpected-traffic"]);
    }

    fn a_parent_documents_no_child(s) {
        visit(s, APPLIANCE, "mirror.nginx.org", WEB);
        s.expect(flow(APPLIANCE, WEB, 443).undocumented().differs("name"));
        s.findings(&["unexpected-traffic"]);
    }

    fn the_wrong_role_is_undocumented(s) {
        visit(s, WORKER, "nginx.org", WEB);
        // open: that the rule of another role with the very name is nearer than this role's rules with other names
        s.expect(flow(WORKER, WEB, 443).undocumented().nearest("vbaz-15", "role"));
        s.findings(&["unexpected-traffic"]);
    }

    fn the_appliances_port_is_not_the_workers(s) {
        visit(s, WORKER, "apt.postgresql.org", WEB);
        s.at(5.0).tcp(WORKER, WEB, 80).handshake().exchange(&http_get("apt.postgresql.org", "/"), &http_ok()).fin();
        s.at(6.0).resolve(APPLIANCE, "apt.postgresql.org", WEB).at(7.0).web(APPLIANCE, WEB, "apt.postgresql.org");
        s.expect(flow(WORKER, WEB, 443).undocumented().nearest("vbaz-20", "port"));
        s.expect(flow(WORKER, WEB, 80).documented(&["vbaz-20"]));
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-06"]));
        s.findings(&["unexpected-traffic"]);
    }

    fn a_port_that_only_the_other_page_has_is_said_to_be_so(s) {
        s.at(1.0).tcp(CONSOLE, BACKUP, 9392).handshake().exchange(b"hello", b"hello").fin();
        // open: `page`, since that page covers both roles, or `port`, since vbaz-34a is this pair's
        s.expect(flow(CONSOLE, BACKUP, 9392).undocumented().one_of("nearest/differs", &["page", "port"]));
        s.findings(&["unexpected-traffic"]);
    }

    // who is audited

    fn where_no_audited_machine_takes_part_that_is_said_first(s) {
        s.at(0.5).resolve(VM, "example.com", WEB).at(1.0).web(VM, WEB, "example.com");
        s.findings(&[]).remarks("no packet of any audited machine was judged (backup-appliance 10.10.1.4");
    }

    fn a_peers_own_traffic_is_out_of_scope(s) {
        visit(s, VM, "shop.example", WEB);
        s.at(5.0).tcp(BROWSER, VM, 3389).handshake().exchange(b"hello", b"hello").fin();
        s.expect(flow(VM, WEB, 443).out_of_scope()).expect(flow(BROWSER, VM, 3389).out_of_scope());
        s.findings(&[]);
    }

    fn a_peers_documented_traffic_is_documented(s) {
        s.at(0.0).resolve(VM, "contosobackup01.blob.core.windows.net", STORAGE).at(1.0);
        s.web(VM, STORAGE, "contosobackup01.blob.core.windows.net");
        s.expect(flow(VM, STORAGE, 443).documented(&["vbaz-18"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn a_stranger_who_reaches_a_subject_is_undocumented(s) {
        s.at(1.0).tcp("198.51.100.5", APPLIANCE, 22).handshake().server(SSH_BANNER).client(SSH_BANNER).fin();
        s.expect(flow("198.51.100.5", APPLIANCE, 22).undocumented().outcome("established").is("app", "ssh"));
        s.findings(&["unexpected-traffic"]);
    }

    fn a_peer_who_reaches_a_subject_otherwise_is_undocumented(s) {
        s.at(1.0).tcp(BROWSER, APPLIANCE, 8080).handshake().exchange(&http_get("x.example", "/"), &http_ok()).fin();
        s.expect(flow(BROWSER, APPLIANCE, 8080).undocumented().differs("port"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_undocumented_half_open_connection_is_unexpected_traffic(s) {
        s.keeps_talking(APPLIANCE, 0.1, 9.0).at(1.0).tcp(APPLIANCE, WEB, 8443).syn().synack();
        s.expect(flow(APPLIANCE, WEB, 8443).undocumented().outcome("half-open").carries("unexpected-traffic"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_undocumented_connection_that_is_blocked_is_an_attempt(s) {
        s.keeps_talking(APPLIANCE, 0.1, 9.0).at(1.0).tcp(APPLIANCE, WEB, 8443).syn().server_rst();
        s.at(2.0).tcp(APPLIANCE, WEB, 9443).handshake().client_in_vain(&client_hello(None)).server_rst();
        s.expect(flow(APPLIANCE, WEB, 8443).undocumented().outcome("refused").carries("unexpected-attempt"));
        s.expect(flow(APPLIANCE, WEB, 9443).undocumented().outcome("cut").carries("unexpected-attempt"));
        s.findings(&["unexpected-attempt"]);
        s.expect_finding(finding("unexpected-attempt").severity("medium").times(2).count(1));
    }

    fn the_site_may_name_other_subjects(s) {
        s.site("site.subjects", r#"["azure-vm"]"#);
        visit(s, VM, "shop.example", WEB);
        s.at(5.0).resolve(APPLIANCE, "exfil.example", WEB2).at(6.0).web(APPLIANCE, WEB2, "exfil.example");
        s.expect(flow(VM, WEB, 443).undocumented()).expect(flow(APPLIANCE, WEB2, 443).out_of_scope());
        s.findings(&["unexpected-traffic"]);
    }

    // missing names are bounded

    fn a_nameless_address_on_a_port_of_named_rules_is_undetermined(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 443).handshake().tls_without_name().fin();
        s.at(2.0).tcp(WORKER, WEB, 80).handshake().exchange(&http_get("archive.ubuntu.com", "/"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 443).undetermined("name"));
        s.expect(flow(WORKER, WEB, 80).undetermined("name").grade("server-name"));
        s.findings(&["undetermined"]);
    }

    fn a_nameless_address_on_a_port_of_no_named_rule_is_undocumented(s) {
        s.at(1.0).tcp(APPLIANCE, WEB, 8443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, WEB, 8443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn tag_rules_miss_no_name(s) {
        // Workers have rules for port 1433 by tag only (this site lists no managed instance).
        s.at(1.0).tcp(WORKER, WEB, 1433).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.expect(flow(WORKER, WEB, 1433).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn an_address_that_holds_a_role_misses_no_name(s) {
        s.at(1.0).tcp(APPLIANCE, VM, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, VM, 443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn an_undocumented_server_name_alone_decides_nothing_either(s) {
        s.at(1.0).web(APPLIANCE, WEB, "exfil.example");
        // open: a client can write anything there, so it neither documents nor convicts
        s.expect(flow(APPLIANCE, WEB, 443).undetermined("name").grade("server-name"));
        s.findings(&["undetermined"]);
    }

    // tags

    fn a_tag_alone_documents(s) {
        s.at(1.0).tcp(APPLIANCE, ENTRA, 443).handshake().tls_without_name().fin();
        s.at(2.0).tcp(APPLIANCE, ARM, 443).handshake().tls_without_name().fin();
        s.at(3.0).tcp(APPLIANCE, VAULT, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, ENTRA, 443).documented(&["vbaz-10"]).grade("tag"));
        s.expect(flow(APPLIANCE, ARM, 443).documented(&["vbaz-11"]).grade("tag"));
        s.expect(flow(APPLIANCE, VAULT, 443).documented(&["vbaz-13"]).grade("tag"));
        s.findings(&[]);
    }

    fn a_name_behind_a_tag_documents_no_address_outside_it(s) {
        visit(s, APPLIANCE, "login.microsoftonline.com", WEB);
        s.expect(flow(APPLIANCE, WEB, 443).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn where_the_page_gives_the_name_itself_any_public_address_will_do(s) {
        visit(s, BACKUP, "login.microsoftonline.com", WEB);
        s.at(5.0).resolve(BACKUP, "management.azure.com", ARM).at(6.0).web(BACKUP, ARM, "management.azure.com");
        s.expect(flow(BACKUP, WEB, 443).documented(&["vbaz-30"]).grade("corroborated"));
        s.expect(flow(BACKUP, ARM, 443).documented(&["vbaz-29"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn a_rule_by_name_accepts_no_tag_in_its_place(s) {
        s.at(1.0).tcp(BACKUP, ENTRA, 443).handshake().tls_without_name().fin();
        s.expect(flow(BACKUP, ENTRA, 443).undetermined("name"));
        s.findings(&["undetermined"]);
    }

    fn a_regional_tag_is_that_regions(s) {
        s.at(1.0).tcp(WORKER, SQL_HERE, 1433).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.at(2.0).tcp(WORKER, SQL_EASTUS, 1433).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.expect(flow(WORKER, SQL_HERE, 1433).documented(&["vbaz-22a"]).grade("tag").is("app", "tds"));
        s.expect(flow(WORKER, SQL_EASTUS, 1433).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn the_region_is_the_sites(s) {
        s.site("site.region", r#""eastus""#);
        s.at(1.0).tcp(WORKER, SQL_EASTUS, 1433).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.expect(flow(WORKER, SQL_EASTUS, 1433).documented(&["vbaz-22a"]).grade("tag"));
        s.findings(&[]);
    }

    fn redirected_database_connections_need_no_name(s) {
        s.at(1.0).tcp(WORKER, SQL_HERE, 11_999).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.at(2.0).tcp(WORKER, SQL_HERE, 12_000).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.expect(flow(WORKER, SQL_HERE, 11_999).documented(&["vbaz-22b"]).grade("tag"));
        s.expect(flow(WORKER, SQL_HERE, 12_000).undocumented().differs("port"));
        s.findings(&["unexpected-traffic"]);
    }

    fn the_port_tells_two_rules_of_one_tag_apart(s) {
        let talk = s.at(1.0).tcp(WORKER, COSMOS, 5432).handshake().exchange(PG_SSL_REQUEST, b"S");
        talk.tls("c-group.abc.postgres.cosmos.azure.com").fin();
        s.at(2.0).tcp(WORKER, COSMOS, 10255).handshake().tls("contoso.mongo.cosmos.azure.com").fin();
        s.expect(flow(WORKER, COSMOS, 5432).documented(&["vbaz-25"]).is("app", "postgresql"));
        s.expect(flow(WORKER, COSMOS, 10255).documented(&["vbaz-26"]));
        s.findings(&[]);
    }

    fn managed_instances_are_the_sites_to_give(s) {
        s.site("roles.sql-managed-instance", r#"["10.10.8.0/24"]"#).at(1.0);
        for (index, port) in [1433, 11_000, 3342].into_iter().enumerate() {
            let talk = s.at(1.0 + index as f64).tcp(WORKER, "10.10.8.5", port).handshake();
            talk.exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        }
        s.expect(flow(WORKER, "10.10.8.5", 1433).documented(&["vbaz-24a"]).grade("site"));
        s.expect(flow(WORKER, "10.10.8.5", 11_000).documented(&["vbaz-24b"]).grade("site"));
        s.expect(flow(WORKER, "10.10.8.5", 3342).documented(&["vbaz-23"]).grade("site"));
        s.findings(&[]);
    }

    fn managed_instances_may_be_given_by_name(s) {
        s.site("names.sql-managed-instance", r#"["mi1.public.abc123.database.windows.net"]"#);
        s.at(0.0).resolve(WORKER, "mi1.public.abc123.database.windows.net", WEB).at(1.0);
        s.tcp(WORKER, WEB, 3342).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.at(2.0).tcp(WORKER, WEB2, 3342).handshake().exchange(&tds_prelogin(0x12), &tds_prelogin(4)).fin();
        s.expect(flow(WORKER, WEB, 3342).documented(&["vbaz-23"]).grade("dns"));
        s.expect(flow(WORKER, WEB2, 3342).undetermined("name"));
        s.findings(&["undetermined"]);
    }

    fn a_blocked_name_that_the_site_gives_for_a_product_is_a_finding(s) {
        s.site("names.sql-managed-instance", r#"["mi1.abc123.database.windows.net"]"#);
        s.keeps_talking(WORKER, 0.1, 20.0);
        s.at(1.0).dns(WORKER, RESOLVER).query("mi1.abc123.database.windows.net", A).rcode(3);
        s.findings(&["name-blocked"]);
        s.expect_finding(finding("name-blocked").from(WORKER).about("mi1.abc123.database.windows.net"));
    }

    fn a_role_that_the_site_leaves_empty_makes_its_rules_not_applicable(s) {
        s.at(1.0).web(BROWSER, APPLIANCE, "appliance.contoso.example");
        for rule in ["vbaz-23", "vbaz-24a", "vbaz-24b"] {
            s.coverage(rule, "not-applicable");
        }
        s.findings(&[]).coverage("vbaz-14", "not-applicable");
    }

    // storage accounts

    fn the_sites_own_account_is_documented(s) {
        visit(s, APPLIANCE, "contosobackup01.blob.core.windows.net", STORAGE);
        s.at(5.0).resolve(BACKUP, "contosobackup01.blob.core.windows.net", STORAGE).at(6.0);
        s.web(BACKUP, STORAGE, "contosobackup01.blob.core.windows.net");
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12"]).grade("corroborated"));
        s.expect(flow(BACKUP, STORAGE, 443).documented(&["vbaz-33"]).grade("corroborated"));
        s.findings(&[]);
    }

    fn another_account_is_foreign_and_undetermined(s) {
        visit(s, APPLIANCE, "someoneelse.blob.core.windows.net", STORAGE);
        s.at(5.0).resolve(BACKUP, "someoneelse.blob.core.windows.net", STORAGE).at(6.0);
        s.web(BACKUP, STORAGE, "someoneelse.blob.core.windows.net");
        s.expect(flow(APPLIANCE, STORAGE, 443).undetermined("account").carries("foreign-account"));
        s.expect(flow(BACKUP, STORAGE, 443).undetermined("account").carries("foreign-account"));
        s.findings(&["foreign-account"]).perhaps(&["undetermined"]);
    }

    fn without_a_list_any_account_will_do(s) {
        s.site("site.storage_accounts", "[]");
        visit(s, APPLIANCE, "someoneelse.blob.core.windows.net", STORAGE);
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12"]).lacks("foreign-account"));
        s.findings(&[]);
    }

    fn a_storage_address_without_a_name_is_documented_by_its_tag(s) {
        s.at(1.0).tcp(APPLIANCE, STORAGE, 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12"]).grade("tag").lacks("foreign-account"));
        s.findings(&[]);
    }

    fn two_accounts_on_one_stamp_are_settled_by_the_server_name(s) {
        s.at(0.0).resolve(APPLIANCE, "someoneelse.blob.core.windows.net", STORAGE);
        visit(s, APPLIANCE, "contosobackup01.blob.core.windows.net", STORAGE);
        s.expect(flow(APPLIANCE, STORAGE, 443).documented(&["vbaz-12"]).lacks("foreign-account"));
        s.findings(&[]);
    }

    fn two_accounts_on_one_stamp_are_undetermined_without_it(s) {
        s.at(0.0).resolve(APPLIANCE, "someoneelse.blob.core.windows.net", STORAGE);
        s.at(0.5).resolve(APPLIANCE, "contosobackup01.blob.core.windows.net", STORAGE);
        s.at(1.0).tcp(APPLIANCE, STORAGE, 443).handshake().tls_without_name().fin();
        // open: whether the account or the ambiguity is what is missing, and so which of the two codes is raised
        let flow = flow(APPLIANCE, STORAGE, 443).is("verdict", "undetermined");
        s.expect(flow.one_of("missing", &["ambiguous", "account"]));
        s.findings(&[]).perhaps(&["undetermined", "foreign-account"]).exit(1);
    }

    fn names_of_managed_disks_are_no_accounts(s) {
        visit(s, WORKER, "md-abc123.z07.blob.storage.azure.net", STORAGE);
        s.expect(flow(WORKER, STORAGE, 443).documented(&["vbaz-27a"]).lacks("foreign-account"));
        s.findings(&[]);
    }

    fn file_shares_are_read_over_smb(s) {
        s.at(0.0).resolve(WORKER, "contosobackup01.file.core.windows.net", STORAGE).at(1.0);
        s.tcp(WORKER, STORAGE, 445).handshake().exchange(&smb_negotiate(), &smb_negotiated()).fin();
        s.expect(flow(WORKER, STORAGE, 445).documented(&["vbaz-27b"]).grade("corroborated").is("app", "smb"));
        s.findings(&[]);
    }

    // platform

    fn the_platforms_services_are_platform(s) {
        s.at(1.0).tcp(APPLIANCE, IMDS, 80).handshake().exchange(&http_get(IMDS, "/metadata/instance"), &http_ok()).fin();
        s.at(2.0).tcp(APPLIANCE, RESOLVER, 80).handshake().exchange(&http_get(RESOLVER, "/machine"), &http_ok()).fin();
        let talk = s.at(3.0).tcp(WORKER, RESOLVER, 32526).handshake();
        talk.exchange(&http_get(RESOLVER, "/status"), &http_ok()).fin();
        s.at(4.0).tcp(WORKER, "20.118.99.224", 1688).handshake().exchange(b"activate", b"activated").fin();
        s.at(5.0).tcp(RESOLVER, APPLIANCE, 443).handshake().client_rst();
        s.expect(flow(APPLIANCE, IMDS, 80).platform()).expect(flow(APPLIANCE, RESOLVER, 80).platform());
        s.expect(flow(WORKER, RESOLVER, 32526).platform()).expect(flow(WORKER, "20.118.99.224", 1688).platform());
        s.expect(flow(RESOLVER, APPLIANCE, 443).platform());
        s.findings(&[]);
    }

    fn another_port_of_the_platforms_addresses_is_undocumented(s) {
        s.at(1.0).tcp(APPLIANCE, IMDS, 8080).handshake().exchange(b"hello", b"hello").fin();
        s.at(2.0).tcp(APPLIANCE, RESOLVER, 8080).handshake().exchange(b"hello", b"hello").fin();
        s.expect(flow(APPLIANCE, IMDS, 8080).undocumented()).expect(flow(APPLIANCE, RESOLVER, 8080).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn a_resolver_is_platform_on_port_53_only(s) {
        s.site("site.resolvers", r#"["168.63.129.16", "203.0.113.53"]"#);
        s.at(1.0).dns(APPLIANCE, "203.0.113.53").query("nginx.org", A).answer(&[a("nginx.org", WEB)]);
        s.at(2.0).tcp(APPLIANCE, "203.0.113.53", 853).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "203.0.113.53", 53).udp().platform());
        s.expect(flow(APPLIANCE, "203.0.113.53", 853).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn time_is_platform_only_with_servers_the_site_lists(s) {
        s.site("site.time_servers", r#"["203.0.113.123"]"#);
        s.at(0.0).resolve(APPLIANCE, "ntp.ubuntu.com", "203.0.113.124");
        s.at(1.0).udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).reply(&ntp(4));
        s.at(2.0).udp(APPLIANCE, "203.0.113.124", 123).request(&ntp(3)).reply(&ntp(4));
        s.expect(flow(APPLIANCE, "203.0.113.123", 123).udp().platform());
        s.expect(flow(APPLIANCE, "203.0.113.124", 123).udp().undocumented().differs("os-noise"));
        s.findings(&["unexpected-traffic"]);
    }

    fn time_servers_may_be_listed_by_name(s) {
        s.site("site.time_servers", r#"["time.contoso.example"]"#);
        s.at(0.0).resolve(APPLIANCE, "time.contoso.example", "203.0.113.123").resolve(APPLIANCE, "ntp.ubuntu.com", WEB);
        s.at(1.0).udp(APPLIANCE, "203.0.113.123", 123).request(&ntp(3)).reply(&ntp(4));
        s.at(2.0).udp(APPLIANCE, WEB, 123).request(&ntp(3)).reply(&ntp(4));
        s.at(3.0).udp(APPLIANCE, WEB2, 123).request(&ntp(3)).reply(&ntp(4));
        s.expect(flow(APPLIANCE, "203.0.113.123", 123).udp().platform());
        s.expect(flow(APPLIANCE, WEB, 123).udp().undocumented()).expect(flow(APPLIANCE, WEB2, 123).udp().undocumented());
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").times(2));
    }

    fn an_audited_machine_given_by_name_is_audited_where_it_is_reached(s) {
        s.site("roles.worker", r#"["10.10.2.0/24", "w9.contoso.example"]"#);
        s.at(0.0).resolve(BROWSER, "w9.contoso.example", "10.77.0.9").resolve(BROWSER, "other.contoso.example", "10.77.0.8");
        s.at(1.0).tcp(BROWSER, "10.77.0.9", 22).handshake().exchange(b"SSH-2.0-x\r\n", b"SSH-2.0-y\r\n").fin();
        s.at(2.0).tcp(BROWSER, "10.77.0.8", 22).handshake().exchange(b"SSH-2.0-x\r\n", b"SSH-2.0-y\r\n").fin();
        s.at(3.0).web(BROWSER, "10.77.0.9", "w9.contoso.example");
        s.expect(flow(BROWSER, "10.77.0.9", 22).undocumented()).expect(flow(BROWSER, "10.77.0.8", 22).out_of_scope());
        s.expect(flow(BROWSER, "10.77.0.9", 443).documented(&["vbaz-03"]));
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").about("w9.contoso.example"));
    }

    fn a_mail_server_that_refuses_speaks_smtp(s) {
        for (index, greeting) in [&b"554 mail.contoso.example no\r\n"[..], b"421-mail.contoso.example busy\r\n"].into_iter().enumerate() {
            s.at(1.0 + index as f64).tcp(APPLIANCE, MAIL, 25).handshake().server(greeting).client_ack().fin();
        }
        s.expect(flow(APPLIANCE, MAIL, 25).rows(2).documented(&["vbaz-09a"]).is("app", "smtp"));
        s.findings(&[]);
    }

    fn lines_of_other_classes_give_no_platform(s) {
        visit(s, APPLIANCE, "contracts.canonical.com", WEB);
        s.expect(flow(APPLIANCE, WEB, 443).undocumented().differs("os-noise"));
        s.findings(&["unexpected-traffic"]);
    }

    // conditions and aliases

    fn a_condition_that_is_off_documents_nothing(s) {
        s.at(1.0).tcp(APPLIANCE, "10.10.7.7", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "10.10.7.7", 443).undocumented().nearest("vbaz-14", "condition"));
        s.findings(&["unexpected-traffic"]).coverage("vbaz-14", "not-applicable");
    }

    fn the_site_switches_a_condition_on(s) {
        s.site("conditions.private-environment", "true");
        s.at(1.0).tcp(APPLIANCE, "10.10.7.7", 443).handshake().tls_without_name().fin();
        s.expect(flow(APPLIANCE, "10.10.7.7", 443).documented(&["vbaz-14"]));
        s.findings(&[]).coverage("vbaz-14", "observed");
    }

    fn the_site_switches_a_condition_off(s) {
        s.site("conditions.cosmos-mongodb", "false");
        s.at(1.0).tcp(WORKER, COSMOS, 10255).handshake().tls("contoso.mongo.cosmos.azure.com").fin();
        s.expect(flow(WORKER, COSMOS, 10255).undocumented().nearest("vbaz-26", "condition"));
        s.findings(&["unexpected-traffic"]).coverage("vbaz-26", "not-applicable");
    }

    fn an_alias_that_is_off_is_undocumented_but_mild(s) {
        s.at(0.0).resolve(APPLIANCE, "azure.archive.ubuntu.com", WEB).at(1.0);
        let talk = s.tcp(APPLIANCE, WEB, 80).handshake();
        talk.exchange(&http_get("azure.archive.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 80).undocumented().differs("alias"));
        s.findings(&["unexpected-traffic"]).expect_finding(finding("unexpected-traffic").severity("medium"));
    }

    fn the_site_counts_aliases_as_documented(s) {
        s.site("site.aliases", "true");
        s.at(0.0).resolve(APPLIANCE, "azure.archive.ubuntu.com", WEB).at(1.0);
        let talk = s.tcp(APPLIANCE, WEB, 80).handshake();
        talk.exchange(&http_get("azure.archive.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        visit(s, WORKER, "www.postgresql.org", WEB2);
        s.expect(flow(APPLIANCE, WEB, 80).is("verdict", "documented"));
        s.expect(flow(WORKER, WEB2, 443).is("verdict", "documented"));
        s.findings(&[]);
    }

    fn a_name_that_we_had_to_supply_is_on(s) {
        s.at(0.0).resolve_chain(APPLIANCE, &["repository.veeam.com", "d1abc.cloudfront.net"], &[WEB]);
        s.at(1.0).web(APPLIANCE, WEB, "repository.veeam.com");
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-04"]).grade("corroborated"));
        s.findings(&[]);
    }

    // proxies

    fn what_connect_asks_for_is_the_destination(s) {
        connect(s, "nginx.org:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-15"]).grade("dns").outcome("established"));
        s.findings(&[]);
    }

    fn names_behind_a_tag_fit_its_rule_through_a_proxy(s) {
        connect(s, "login.microsoftonline.com:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-10"]).grade("dns"));
        s.findings(&[]);
    }

    fn another_destination_through_the_proxy_is_undocumented(s) {
        connect(s, "exfil.example:443");
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn another_port_through_the_proxy_is_undocumented(s) {
        connect(s, "nginx.org:8443");
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented().nearest("vbaz-15", "port"));
        s.findings(&["unexpected-traffic"]);
    }

    fn an_undocumented_destination_that_the_proxy_denies_is_an_attempt(s) {
        s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        talk.exchange(&http_connect("exfil.example:443"), &http_status(403)).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented().outcome("proxy-denied"));
        s.findings(&["unexpected-attempt"]);
    }

    fn the_absolute_form_counts_like_connect(s) {
        s.site("roles.http-proxy", r#"["10.50.0.3"]"#);
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/ubuntu"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).documented(&["vbaz-05b"]).grade("dns"));
        s.findings(&[]);
    }

    fn connect_to_a_host_that_is_no_listed_proxy_proves_nothing(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        talk.exchange(&http_connect("nginx.org:443"), &http_status(200)).tls("nginx.org").fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented());
        s.findings(&["unexpected-traffic"]);
    }

    fn several_hosts_asked_of_a_host_that_is_no_listed_proxy_prove_nothing(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, PROXY, 3128).handshake();
        let talk = talk.exchange(&http_get_by_proxy("archive.ubuntu.com", "/"), &http_ok());
        talk.exchange(&http_get_by_proxy("security.ubuntu.com", "/"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, PROXY, 3128).undocumented().rows(1));
        s.findings(&["unexpected-traffic"]);
    }

    // application

    fn seven_bytes_that_tell_the_protocol_are_enough_for_a_mismatch(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).handshake().client(b"SSH-2.0").fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).carries("protocol-mismatch").is("app", "ssh"));
        s.findings(&["protocol-mismatch"]);
    }

    fn first_bytes_tell_also_where_the_syn_was_missed(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).missed(|t| t.syn()).synack().client_ack().client(&[0x77; 8]).fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).carries("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
    }

    fn seven_bytes_that_tell_nothing_are_no_mismatch_and_eight_are_one(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).resolve(APPLIANCE, "nginx.org", WEB2).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).handshake().client(&[0x77; 7]).fin();
        s.tcp(APPLIANCE, WEB2, 443).handshake().client(&[0x77; 8]).fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).lacks("protocol-mismatch"));
        s.expect(flow(APPLIANCE, WEB2, 443).documented(&["vbaz-15"]).carries("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
    }

    fn plain_http_where_the_page_says_https_is_a_mismatch(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).handshake().exchange(&http_get("nginx.org", "/"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).carries("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
        s.expect_finding(finding("protocol-mismatch").severity("medium"));
    }

    fn tls_where_the_page_says_http_is_a_mismatch(s) {
        s.at(0.0).resolve(APPLIANCE, "archive.ubuntu.com", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 80).handshake().tls("archive.ubuntu.com").fin();
        s.expect(flow(APPLIANCE, WEB, 80).documented(&["vbaz-05b"]).carries("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
    }

    fn the_clients_first_bytes_decide(s) {
        let talk = s.at(1.0).tcp(APPLIANCE, MAIL, 25).handshake().server(SMTP_BANNER);
        talk.exchange(&http_get("x.example", "/"), &http_ok()).fin();
        s.expect(flow(APPLIANCE, MAIL, 25).documented(&["vbaz-09a"]).carries("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
    }

    fn the_servers_bytes_decide_only_while_the_client_is_silent(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0);
        s.tcp(APPLIANCE, WEB, 443).handshake().server(SSH_BANNER).client_ack().fin();
        s.at(2.0).tcp(APPLIANCE, MAIL, 25).handshake().server(SMTP_BANNER).client_ack().fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).carries("protocol-mismatch"));
        s.expect(flow(APPLIANCE, MAIL, 25).documented(&["vbaz-09a"]).lacks("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
    }

    fn no_payload_no_claim(s) {
        s.at(0.0).resolve(APPLIANCE, "nginx.org", WEB).at(1.0).tcp(APPLIANCE, WEB, 443).handshake().fin();
        s.expect(flow(APPLIANCE, WEB, 443).documented(&["vbaz-15"]).lacks("protocol-mismatch"));
        s.findings(&[]);
    }

    fn databases_match_plain_or_tls(s) {
        let exchange = |s: &mut Scene, at: f64, port: u16, one: &[u8], two: &[u8]| {
            s.at(at).tcp(WORKER, COSMOS, port).handshake().exchange(one, two).fin();
        };
        exchange(s, 1.0, 10255, &mongo(1, 0), &mongo(2, 1));
        s.at(2.0).tcp(WORKER, COSMOS, 10255).handshake().tls_without_name().fin();
        exchange(s, 3.0, 5432, &pg_startup(), PG_AUTHENTICATION);
        s.at(4.0).tcp(WORKER, COSMOS, 5432).handshake().tls_without_name().fin();
        s.expect(flow(WORKER, COSMOS, 10255).rows(2).documented(&["vbaz-26"]).lacks("protocol-mismatch"));
        s.expect(flow(WORKER, COSMOS, 5432).rows(2).documented(&["vbaz-25"]).lacks("protocol-mismatch"));
        s.expect(flow(WORKER, COSMOS, 10255).row(0, 2).is("app", "mongodb"));
        s.findings(&[]);
    }

    fn an_inferred_application_is_checked_too(s) {
        s.at(1.0).tcp(WORKER, COSMOS, 5432).handshake().exchange(&http_get("x.example", "/"), &http_ok()).fin();
        s.expect(flow(WORKER, COSMOS, 5432).documented(&["vbaz-25"]).carries("protocol-mismatch"));
        s.findings(&["protocol-mismatch"]);
    }
}
