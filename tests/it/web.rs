//! The page of a live run: asked over plain sockets, and looked at in a browser.

use crate::live::{Cable, can_make_namespaces, ended, ip, portproof, scratch, signal, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A live run with a page.
struct Run {
    child: Option<Child>,
    pipe: Option<ChildStdin>,
    /// Where the page stands: `http://127.0.0.1:PORT/`.
    url: String,
}

impl Run {
    /// Starts it, and reads from its standard error where the page is.
    fn start(mut command: Command) -> Run {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let errors = BufReader::new(child.stderr.take().expect("standard error"));
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("{line}");
                if let Some((_, url)) = line.split_once("the run is shown at ") {
                    let _ = tell.send(url.to_owned());
                }
            }
        });
        let url = told.recv_timeout(Duration::from_secs(60));
        let mut run = Run { pipe: child.stdin.take(), child: Some(child), url: String::new() };
        run.url = url.expect("it says where the page is");
        run
    }

    /// One that reads standard input.
    fn of_pipe(web: &str, more: &[&str]) -> Run {
        let arguments =
            [&["live", "-i", "-", "--site", "captures/site.toml", "--web", web, "--format", "json"], more]
                .concat();
        let mut command = portproof(&arguments);
        command.stdin(Stdio::piped());
        Run::start(command)
    }

    fn feed(&mut self, bytes: &[u8]) {
        let pipe = self.pipe.as_mut().expect("a pipe");
        pipe.write_all(bytes).and_then(|()| pipe.flush()).expect("it reads");
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("an address")
    }

    /// Asks, and gives status line with headers, and the body.
    fn ask(&self, target: &str, headers: &[&str]) -> (String, String) {
        let host = format!("Host: {}", self.address());
        raw(self.address(), &format!("GET {target} HTTP/1.1"), &[&[host.as_str()], headers].concat())
    }

    fn json(&self, target: &str) -> Value {
        let (head, body) = self.ask(target, &[]);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{target}: {error}: {head}\n{body}"))
    }

    fn follow(&self, headers: &[&str]) -> Events {
        let mut stream = TcpStream::connect(self.address()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let host = self.address();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        write!(stream, "GET /events HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").unwrap();
        Events(BufReader::new(stream))
    }

    /// Ends it as its input's end does, and hands back its audit.
    fn finish(mut self) -> Value {
        drop(self.pipe.take());
        let output = ended(self.child.take().expect("a run"));
        serde_json::from_slice(&output.stdout).expect("an audit")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn raw(address: &str, request: &str, headers: &[&str]) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let _ = write!(stream, "{request}\r\n{headers}\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    (head.to_owned(), body)
}

/// RFC 9112 section 7.1.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// Server-sent events, as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    /// The next one: its id, and what it tells.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("an event comes in time") == 0 {
                return None;
            }
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.trim().to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                return Some((id, serde_json::from_str(text).expect("JSON")));
            }
        }
    }

    /// Events until one says what is looked for.
    fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> (String, Value) {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            let event = self.next().expect("it goes on");
            if wanted(&event.1) {
                return event;
            }
        }
        panic!("what is looked for does not come");
    }
}

/// The state of a row, if an event tells it.
fn state_of(told: &Value, rule: &str) -> Option<String> {
    let row = told["rows"].as_array()?.iter().find(|row| row["rule"] == rule)?;
    row["state"].as_str().map(str::to_owned)
}

fn lab() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/captures/lab.pcap")).expect("the lab's capture")
}

#[test]
fn a_run_is_told_as_it_goes_on_and_a_client_that_comes_back_is_told_only_the_rest() {
    let mut run = Run::of_pipe("127.0.0.1:0", &[]);
    let lab = lab();
    run.feed(&lab[..2_000]);
    let mut events = run.follow(&[]);
    let (_, first) = events.until(|told| state_of(told, "vbaz-01").is_some());
    assert_eq!(first["reset"], true);
    assert_eq!(state_of(&first, "vbaz-01").as_deref(), Some("not-observable"));
    assert_eq!(first["about"]["site"]["name"], "contoso-weu");
    run.feed(&lab[2_000..]);
    events.until(|told| state_of(told, "vbaz-01").as_deref() == Some("observed"));
    let mut known = Vec::new();
    let mut events = run.follow(&[]);
    let (id, _) = events.until(|told| {
        assert!(!known.is_empty() || told["reset"] == true, "whoever is new begins anew");
        known.push(told.clone());
        told["more"] == false
    });
    assert_eq!(state_of(&known[0], "vbaz-06").as_deref(), Some("blocked"));
    let findings = known.iter().filter_map(|told| told["findings"].as_array()).flatten().count();
    assert!(findings > 3, "{findings} findings");
    drop(events);
    // Coming back: what it has is not told again.
    let (_, again) = run.follow(&[&format!("Last-Event-ID: {id}")]).next().expect("an event");
    assert_eq!(again["reset"], false, "{again}");
    assert!(again["rows"].as_array().is_none_or(|rows| rows.len() < 5), "{again}");

    let (head, body) = run.ask("/healthz", &[]);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let past = json!({ "lost_frames": 0, "unsaved_frames": 0, "gaps": 0 });
    let well = json!({ "state": "ok", "reasons": [], "past": past });
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), well);
    let audit = run.json("/audit.json");
    assert_eq!((&audit["provisional"], &audit["schema"]), (&json!(true), &json!(1)));
    let (head, metrics) = run.ask("/metrics", &[]);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(metrics.contains("portproof_rule_state{rule=\"vbaz-01\",state=\"observed\"} 1\n"), "{metrics}");
    checked_by_promtool(&metrics);
    let (head, page) = run.ask("/", &[]);
    assert!(head.contains("content-security-policy: default-src 'none';"), "{head}");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));

    // The last picture is told before the end, and what it says is what the audit says.
    let mut events = run.follow(&[]);
    events.until(|told| told["more"] == false);
    let follower = std::thread::spawn(move || {
        let mut ended = false;
        while let Some((_, told)) = events.next() {
            ended |= told["head"]["ended"] == true;
        }
        ended
    });
    let last = run.finish();
    assert!(follower.join().expect("the follower"), "nobody told that the run has ended");
    let states = |audit: &Value| -> Vec<Value> {
        audit["coverage"].as_array().unwrap().iter().map(|row| json!([row["rule"], row["state"]])).collect()
    };
    // Whether a rule could be observed at all is known at the end.
    let seen = |states: Vec<Value>| -> Vec<Value> {
        states
            .into_iter()
            .filter(|row| ["observed", "blocked", "intermittent"].iter().any(|s| row[1] == *s))
            .collect()
    };
    assert_eq!(seen(states(&audit)), seen(states(&last)));
}

/// Where promtool is there, it has no complaint either.
fn checked_by_promtool(metrics: &str) {
    let tool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let spawned = Command::new(tool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else {
        assert!(!required(), "promtool is not here (Debian package `prometheus`; PROMTOOL names it)");
        return eprintln!("skipped: no promtool here to read the metrics");
    };
    promtool.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("its answer");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.trim().is_empty(), "{complaints}");
}

fn required() -> bool {
    std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_some_and(|value| value == "1")
}

#[test]
fn strangers_and_strange_requests_are_refused() {
    let mut run = Run::of_pipe("127.0.0.1:0", &[]);
    run.feed(&lab()[..2_000]);
    let address = run.address().to_owned();
    let long = format!("X: {}", "x".repeat(40_000));
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: x")).collect();
    let many: Vec<&str> = ["Host: localhost"].into_iter().chain(many.iter().map(String::as_str)).collect();
    for (request, headers, status) in [
        ("GET / HTTP/1.1", vec!["Host: localhost:1"], "200"),
        ("GET / HTTP/1.1", vec!["Host: evil.example"], "421"),
        ("GET /events HTTP/1.1", vec!["Host: evil.example"], "421"),
        ("GET http://evil.example/ HTTP/1.1", vec!["Host: localhost"], "421"),
        ("POST / HTTP/1.1", vec!["Host: localhost", "Content-Length: 0"], "405"),
        ("HEAD / HTTP/1.1", vec!["Host: localhost"], "405"),
        ("GET / HTTP/1.1", vec!["Host: localhost", "Content-Length: 5"], "413"),
        ("GET /../etc/passwd HTTP/1.1", vec!["Host: localhost"], "404"),
        ("GET / HTTP/1.1", vec!["Host: localhost", &long], "431"),
        ("GET / HTTP/1.1", many, "431"),
    ] {
        let (head, _) = raw(&address, request, &headers);
        let got = head.split(' ').nth(1).unwrap_or_default();
        assert_eq!(got, status, "{request} {}", headers.first().unwrap_or(&""));
        assert!(status == "431" || head.contains("x-content-type-options: nosniff"), "{head}");
    }
    // Many connections that say nothing do not keep others out for good, nor does the run fail.
    let silent: Vec<TcpStream> = (0..200).map_while(|_| TcpStream::connect(&address).ok()).collect();
    assert!(silent.len() > 100);
    drop(silent);
    wait_for("an answer", || raw(&address, "GET / HTTP/1.1", &["Host: localhost"]).0.contains(" 200 "));
}

#[test]
fn where_others_could_ask_a_token_is_needed_which_is_told_once() {
    let mut run = Run::of_pipe("0.0.0.0:0", &[]);
    run.feed(&lab()[..2_000]);
    let token = run.url.split_once("?token=").expect("a token").1.to_owned();
    let port = run.address().rsplit(':').next().unwrap().to_owned();
    let address = format!("127.0.0.1:{port}");
    let asked = |target: &str, header: &str| {
        raw(&address, &format!("GET {target} HTTP/1.1"), &["Host: any.example", header]).0
    };
    for target in ["/", "/events", "/audit.json", "/metrics", "/healthz", "/no-such"] {
        assert!(asked(target, "X: x").starts_with("HTTP/1.1 401 "), "{target}");
    }
    assert!(asked("/metrics", &format!("Authorization: Bearer {token}")).contains(" 200 "));
    let opened = asked(&format!("/?token={token}"), "X: x");
    let cookie = format!("portproof-{port}={token}");
    assert!(opened.contains(&format!("set-cookie: {cookie}; Path=/; HttpOnly; SameSite=Strict")), "{opened}");
    assert!(asked("/audit.json", &format!("Cookie: {cookie}")).contains(" 200 "));

    let directory = scratch("token");
    let file = directory.join("token");
    fs::write(&file, "my-own-secret-0123456789\n").unwrap();
    let mut own = Run::of_pipe("127.0.0.1:0", &["--web-token-file", file.to_str().unwrap()]);
    own.feed(&lab()[..2_000]);
    assert!(!own.url.contains("token"), "a token that is known is not told: {}", own.url);
    assert!(own.ask("/healthz", &[]).0.contains(" 401 "));
    assert!(own.ask("/healthz", &["Authorization: Bearer my-own-secret-0123456789"]).0.contains(" 200 "));
    drop(own);
    fs::write(&file, "short").unwrap();
    let refused = portproof(&[
        "live",
        "-i",
        "-",
        "--site",
        "captures/site.toml",
        "--web",
        "127.0.0.1:0",
        "--web-token-file",
        file.to_str().unwrap(),
    ]);
    let refused = { refused }.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && told.contains("a token has 16 to 256 letters"), "{told}");
    fs::remove_dir_all(directory).unwrap();
}

/// A browser without a window, led over its own pipe (Chrome DevTools Protocol).
struct Browser {
    child: Child,
    pipe: ChildStdin,
    told: Receiver<Value>,
    calls: u64,
    /// What it complained about: errors of the script, and what the page's own policy refused.
    complaints: Vec<Value>,
    session: Option<String>,
    profile: PathBuf,
}

/// The browser's program, if there is one; else says that there is none.
fn browser(test: &str) -> Option<&'static str> {
    let there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|run| run.status.success());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there);
    if found.is_none() {
        assert!(!required(), "{test}: no browser here (Debian package `chromium`)");
        eprintln!("{test}: skipped: no browser here (Debian package `chromium`)");
    }
    found
}

impl Browser {
    fn start(program: &str, space: Option<&str>, name: &str) -> Browser {
        let profile = scratch(&format!("browser-{name}"));
        // It reads commands from descriptor 3 and writes answers to 4, each ended by a zero byte.
        let line = format!(
            "exec {program} --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
             --disable-background-networking --remote-debugging-pipe --user-data-dir={} about:blank \
             3<&0 4>&1 </dev/null >/dev/null 2>/dev/null",
            profile.display()
        );
        let mut command = match space {
            Some(space) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space, "sh", "-c", &line]);
                command
            }
            None => {
                let mut command = Command::new("sh");
                command.args(["-c", &line]);
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a browser");
        let pipe = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if tell.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let complaints = Vec::new();
        let mut browser = Browser { child, pipe, told, calls: 0, complaints, session: None, profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.pipe.write_all(&bytes).expect("the browser reads");
        loop {
            let told = self.told.recv_timeout(Duration::from_secs(120)).expect("the browser answers");
            if told["id"] == self.calls {
                assert!(told["error"].is_null(), "{method}: {told}");
                return told["result"].clone();
            }
            let method = told["method"].as_str().unwrap_or_default();
            if method == "Runtime.exceptionThrown" || method == "Log.entryAdded" {
                self.complaints.push(told["params"].clone());
            }
        }
    }

    fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        self.call("Runtime.evaluate", parameters)["result"]["value"].clone()
    }

    /// What a row's node says of its state.
    fn row(&mut self, rule: &str) -> String {
        let said = self.value(&format!(
            "(() => {{ const row = document.getElementById('row-{rule}'); if (!row) return 'none'; \
             return row.className.replace(' lit', '') + ', ' + row.querySelector('.badge').textContent }})()"
        ));
        said.as_str().unwrap_or_default().to_owned()
    }

    fn wait_for_row(&mut self, rule: &str, wanted: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        let mut last = String::new();
        while Instant::now() < until {
            last = self.row(rule);
            if last == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{rule} is `{last}`, not `{wanted}`; complaints: {:?}", self.complaints);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.calls += 1;
        let close = format!("{{\"id\":{},\"method\":\"Browser.close\"}}\0", self.calls);
        let _ = self.pipe.write_all(close.as_bytes());
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && !matches!(self.child.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// No packet of its initiator was seen.
const NO_HOST: &str = "row not-observable, ? no host yet";
const NOT_YET: &str = "row not-observed, ○ not yet";
const GREEN: &str = "row observed, ✓ works";
const RED: &str = "row blocked, ✕ blocked";

#[test]
fn in_a_browser_rows_light_up_texts_stay_texts_and_ten_thousand_findings_are_a_short_list() {
    let Some(program) = browser("in_a_browser") else { return };
    let mut run = Run::of_pipe("127.0.0.1:0", &[]);
    let lab = lab();
    run.feed(&lab[..2_000]);
    let mut browser = Browser::start(program, None, "pipe");
    browser.open(&run.url);
    browser.wait_for_row("vbaz-01", NO_HOST);
    run.feed(&lab[2_000..]);
    browser.wait_for_row("vbaz-01", GREEN);
    browser.wait_for_row("vbaz-06", RED);
    // The server keeps what is shown: another page, or the same one anew, has it too.
    browser.call("Page.reload", json!({}));
    browser.wait_for_row("vbaz-01", GREEN);
    assert!(browser.value("cards.size").as_u64() > Some(3));
    // A finding opens by keyboard, and leads to its row.
    let led = browser.value(
        "(() => { const card = [...cards.values()].find((card) => state.findings.get(Number(card.node.id.slice(8))).finding.rules.length); \
         card.node.firstChild.focus(); card.node.open = true; card.node.dispatchEvent(new Event('toggle')); \
         const link = card.inside.querySelector('a'); link.click(); \
         return [link.textContent, document.activeElement.parentNode.dataset.rule, document.activeElement.parentNode.open] })()",
    );
    assert!(led[0].is_string() && led[0] == led[1] && led[2] == true, "{led}");

    // What a capture says cannot become markup; what would turn a text around is shown.
    let said = browser.value(
        "(() => { const hostile = '<img src=x onerror=\"window.taken=1\"></script><script>window.taken=1</script>\\u202e'; \
         const one = structuredClone([...state.findings.values()][0]); one.number = 900000; one.finding.count = 3; \
         one.finding.severity = 'high'; one.finding.title = one.finding.remedy = hostile; one.finding.details = [hostile]; \
         one.finding.display_filter = hostile; one.finding.evidence = [{capture: hostile, frame: 1}]; one.finding.rules = [hostile]; \
         for (const open of document.querySelectorAll('details[open]')) open.open = false; document.activeElement.blur(); scrollTo(0, 0); \
         apply({findings: [one], notices: [{event: 'unwritten', path: hostile, problem: hostile}]}); draw(); openFinding(900000); \
         fillInside(cards.get(900000), one); \
         return [cards.get(900000).title.textContent, document.querySelectorAll('main img, main script').length, typeof window.taken] })()",
    );
    assert!(said[0].as_str().unwrap_or_default().ends_with("</script>\\u{202e}"), "{said}");
    assert_eq!((&said[1], &said[2]), (&json!(0), &json!("undefined")), "{said}");

    // Ten thousand findings: all can be found, few are drawn.
    let many = browser.value(
        "(() => { const model = [...state.findings.values()][0]; const many = []; \
         for (let number = 1000; number < 11000; number++) { const one = structuredClone(model); one.number = number; \
           one.finding.title = 'invented ' + number; one.finding.count = 1; many.push(one); } \
         apply({findings: many}); draw(); const nodes = document.getElementsByTagName('*').length; \
         $('filter').value = 'invented 4321'; refilter(); \
         return [state.findings.size, nodes, cards.size, document.querySelector('.card .title').textContent] })()",
    );
    assert!(many[0].as_u64() >= Some(10_000), "{many}");
    assert!(many[1].as_u64() < Some(4_000), "{many}");
    assert!(many[2] == 1 && many[3].as_str().unwrap_or_default().contains("invented 4321"), "{many}");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);

    drop(run.pipe.take());
    let until = Instant::now() + Duration::from_secs(60);
    while browser.value("document.getElementById('link').textContent") != "the run has ended" {
        assert!(Instant::now() < until, "the page does not say that the run has ended");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn in_a_browser_rules_that_are_read_again_show_at_once_and_the_page_stays_smooth() {
    let Some(program) = browser("reload") else { return };
    let directory = scratch("web-reload");
    let (site, good) = (directory.join("site.toml"), fs::read_to_string("captures/site.toml").unwrap());
    fs::write(&site, &good).unwrap();
    let arguments =
        ["live", "-i", "-", "--site", site.to_str().unwrap(), "--web", "127.0.0.1:0", "--format", "json"];
    let mut command = portproof(&arguments);
    command.stdin(Stdio::piped());
    let mut run = Run::start(command);
    run.feed(&lab());
    let mut browser = Browser::start(program, None, "reload");
    browser.open(&run.url);
    browser.wait_for_row("vbaz-01", GREEN);
    browser.wait_for_row("vbaz-03", NOT_YET);
    // The longest time in which the page drew nothing, from now on.
    browser.value(
        "window.worst = 0; window.before = performance.now(); \
         (function look(now) { worst = Math.max(worst, now - before); before = now; requestAnimationFrame(look); })(before)",
    );
    let without_workers: Vec<&str> = good.lines().filter(|line| !line.starts_with("worker")).collect();
    let changed = without_workers.join("\n").replace("name = \"contoso-weu\"", "name = \"renamed\"");
    fs::write(&site, changed).unwrap();
    signal(run.child.as_ref().expect("a run"), "-HUP");
    browser.wait_for_row("vbaz-03", "row not-applicable, – not needed");
    browser.wait_for_row("vbaz-01", GREEN);
    assert_eq!(browser.value("state.about.site.name"), "renamed");
    let told = browser
        .value("state.notices.some((notice) => notice.event === 'reloaded' && !notice.refused.length)");
    assert_eq!(told, true);
    let worst = browser.value("worst").as_f64().expect("a time");
    assert!(worst < 1_000.0, "nothing was drawn for {worst} ms");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    drop(browser);
    assert_eq!(run.finish()["site"]["name"], "renamed");
    fs::remove_dir_all(directory).unwrap();
}

/// Someone who asks and never reads, with a window that is soon full.
fn stalled(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 2_048).expect("a small buffer");
    write!(&stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    stream
}

#[test]
fn those_who_take_nothing_hold_up_neither_the_capture_nor_those_who_do() {
    let mut run = Run::of_pipe("127.0.0.1:0", &[]);
    let lab = lab();
    run.feed(&lab[..2_000]);
    let stalled: Vec<TcpStream> = (0..8).map(|_| stalled(run.address())).collect();
    run.feed(&lab[2_000..]);
    // A hundred times the same frames, without the file's header.
    for _ in 0..100 {
        run.feed(&lab[24..]);
    }
    let mut events = run.follow(&[]);
    events.until(|told| told["head"]["stages"]["frames"] == 278 * 101);
    let (_, metrics) = run.ask("/metrics", &[]);
    let followers = metrics.lines().find(|line| line.starts_with("portproof_web_followers "));
    assert_eq!(followers, Some("portproof_web_followers 9"));
    drop(events);
    let audit = run.finish();
    assert_eq!(audit["totals"]["frames"], 278 * 101);
    drop(stalled);
}

const SPACE_SITE: &str = r#"[site]
name = "cable"
cloud = "public"
region = "westeurope"

[conditions]
email-plain = true

[roles]
backup-appliance = ["10.10.1.4"]
web-browser = ["10.20.0.10"]
smtp-server = ["10.20.0.10"]
"#;

#[test]
fn in_a_browser_a_row_turns_green_when_the_connection_happens_and_red_when_nftables_rejects_it() {
    let Some(program) = browser("nftables") else { return };
    if !can_make_namespaces("nftables") {
        return;
    }
    let (cable, directory) = (Cable::new("web"), scratch("web"));
    let site = directory.join("site.toml");
    fs::write(&site, SPACE_SITE).unwrap();
    let site = site.to_str().unwrap();
    let inside = |space: &str, arguments: &[&str]| ip(&[&["netns", "exec", space], arguments].concat());
    inside(
        &cable.far,
        &[
            "nft",
            "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add rule inet wall in tcp dport 25 reject with tcp reset",
        ],
    );
    let mut server = Command::new("ip");
    server.args(["netns", "exec", &cable.near, "python3", "-m", "http.server", "443", "--bind", Cable::NEAR]);
    let mut server =
        server.current_dir(&directory).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("python3");
    let run = Run::start(cable.portproof(&[
        "live",
        "-i",
        "cable",
        "--site",
        site,
        "--web",
        "127.0.0.1:0",
        "--format",
        "json",
    ]));
    let mut browser = Browser::start(program, Some(&cable.near), "space");
    browser.open(&run.url);
    browser.wait_for_row("vbaz-01", NO_HOST);
    let mail = browser.value("[...state.rows.values()].find((row) => row.to.startsWith('SMTP')).rule");
    let mail = mail.as_str().expect("the row of the mail server").to_owned();
    browser.wait_for_row(&mail, NO_HOST);

    let connect = |space: &str, address: &str, port: u16| {
        let script = format!("exec 3<>/dev/tcp/{address}/{port} && sleep 0.2");
        let tried = Command::new("ip")
            .args(["netns", "exec", space, "bash", "-c", &script])
            .stderr(Stdio::null())
            .status();
        tried.expect("bash").success()
    };
    wait_for("the server", || connect(&cable.far, Cable::NEAR, 443));
    browser.wait_for_row("vbaz-01", GREEN);
    browser.wait_for_row(&mail, NOT_YET);
    assert!(!connect(&cable.near, Cable::FAR, 25), "nftables rejects it");
    browser.wait_for_row(&mail, RED);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);

    let _ = server.kill();
    let _ = server.wait();
    drop(browser);
    signal(run.child.as_ref().expect("a run"), "-TERM");
    let audit = run.finish();
    let state = |rule: &str| {
        audit["coverage"].as_array().unwrap().iter().find(|row| row["rule"] == rule).unwrap()["state"].clone()
    };
    assert_eq!((state("vbaz-01"), state(&mail)), (json!("observed"), json!("blocked")));
    fs::remove_dir_all(directory).unwrap();
}
