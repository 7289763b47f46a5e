//! What the program gives up before it reads a capture. Each probe is first tried unconfined, where it has to succeed: a
//! probe that fails for another reason proves nothing.

use portproof::confine::{Level, Live, Needs, User, confine};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the confined process finds its files; that it is set makes it the confined process.
const ROOM: &str = "PORTPROOF_TEST_ROOM";
/// Which confinement: `offline`, `live` or `nobody`.
const MANNER: &str = "PORTPROOF_TEST_MANNER";

fn tell(name: &str, done: bool) {
    eprintln!("probe {name} {}", if done { "done" } else { "denied" });
}

/// What no audit needs. `true` is done, `false` is denied.
fn probes(room: &Path, address: std::net::SocketAddr, child: i32) -> Vec<(&'static str, bool)> {
    let elsewhere = room.join("elsewhere");
    vec![
        ("read-shadow", fs::read("/etc/shadow").is_ok()),
        ("read-elsewhere", fs::read(elsewhere.join("secret")).is_ok()),
        ("list-elsewhere", fs::read_dir(&elsewhere).is_ok()),
        ("list-root", fs::read_dir("/").is_ok()),
        ("write-elsewhere", fs::write(elsewhere.join("new"), "x").is_ok()),
        ("write-input", fs::OpenOptions::new().append(true).open(room.join("in/capture")).is_ok()),
        (
            "truncate-elsewhere",
            fs::OpenOptions::new().write(true).truncate(true).open(elsewhere.join("old")).is_ok(),
        ),
        ("remove-elsewhere", fs::remove_file(elsewhere.join("old")).is_ok()),
        ("rename-elsewhere", fs::rename(room.join("out/kept"), elsewhere.join("moved")).is_ok()),
        ("link-elsewhere", fs::hard_link(room.join("out/other"), elsewhere.join("linked")).is_ok()),
        ("make-directory", fs::create_dir(elsewhere.join("directory")).is_ok()),
        ("make-link", std::os::unix::fs::symlink("/etc/shadow", room.join("out/link")).is_ok()),
        ("change-mode", fs::set_permissions(elsewhere.join("secret"), mode()).is_ok()),
        ("connect", TcpStream::connect(address).is_ok()),
        ("udp", UdpSocket::bind("127.0.0.1:0").is_ok_and(|socket| socket.send_to(b"x", address).is_ok())),
        ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
        (
            "unix-socket",
            UnixDatagram::unbound().is_ok_and(|socket| socket.connect(room.join("syslog")).is_ok()),
        ),
        ("exec", Command::new("/bin/true").status().is_ok()),
        ("exec-itself", exec().kind() == std::io::ErrorKind::NotFound),
        ("kill", nix::sys::signal::kill(nix::unistd::getppid(), None).is_ok()),
        (
            "raise-limit",
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).is_ok(),
        ),
        ("unshare", nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).is_ok()),
        ("ptrace", nix::sys::ptrace::attach(nix::unistd::Pid::from_raw(child)).is_ok()),
    ]
}

/// Whether libpcap can open a device and set a filter on it.
fn opens_a_device() -> bool {
    let capture = pcap::Capture::from_device("lo").and_then(|capture| capture.immediate_mode(true).open());
    capture.is_ok_and(|mut capture| capture.filter("tcp", true).is_ok() && capture.stats().is_ok())
}

fn mode() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o644)
}

/// Why the program cannot become another: since there is no such file, unless that is not even looked at.
fn exec() -> std::io::Error {
    use std::os::unix::process::CommandExt;
    Command::new("/no/such/program").exec()
}

/// What an audit needs.
fn needed(room: &Path, live: Option<(&TcpListener, &UnixDatagram)>) -> Vec<(&'static str, bool)> {
    let out = room.join("out");
    let replaced = || {
        fs::write(out.join(".report.tmp"), "x")?;
        fs::rename(out.join(".report.tmp"), out.join("report"))?;
        fs::remove_file(out.join("report"))
    };
    let scratch = || -> std::io::Result<()> {
        let mut file = tempfile::tempfile_in(room.join("scratch"))?;
        file.write_all(b"pieces")
    };
    let mut needed = vec![
        ("needed:read-input", fs::read(room.join("in/capture")).is_ok()),
        ("needed:list-input", fs::read_dir(room.join("in")).is_ok()),
        ("needed:write-output", replaced().is_ok()),
        ("needed:scratch", scratch().is_ok()),
        ("needed:thread", std::thread::spawn(|| 1).join().is_ok()),
        ("needed:processors", std::thread::available_parallelism().is_ok()),
        ("needed:status", fs::read_to_string("/proc/self/status").is_ok()),
        ("needed:remove-scratch", fs::remove_dir_all(room.join("scratch")).is_ok()),
    ];
    if let Some((web, syslog)) = live {
        let served = || -> std::io::Result<()> {
            let (mut stream, _) = web.accept()?;
            stream.write_all(b"hello")?;
            stream.shutdown(std::net::Shutdown::Write)
        };
        needed.push(("needed:accept", served().is_ok()));
        needed.push(("needed:syslog", syslog.send(b"<13>1 - - - - - - x").is_ok()));
        needed.push(("needed:syslog-again", syslog.connect(room.join("syslog")).is_ok()));
    }
    needed
}

/// What the process does that confines itself: [`said_by`] starts it, as one of these tests with a room of its own.
fn confined(room: &Path) {
    let manner = std::env::var(MANNER).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let syslog = UnixDatagram::unbound().unwrap();
    syslog.connect(room.join("syslog")).unwrap();
    // Stands for a packet socket, which the filter knows by nothing but its number.
    let packet_socket = UnixDatagram::unbound().unwrap();
    packet_socket.connect(room.join("syslog")).unwrap();
    // Ends when its standard input does: with this process.
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Made before: afterwards nobody here can connect.
    let mut visitor = TcpStream::connect(web.local_addr().unwrap()).unwrap();
    let mut needs = Needs {
        read: vec![room.join("in"), room.join("no-such-file")],
        write: vec![room.join("out")],
        scratch: Some(room.join("scratch")),
        ..Needs::default()
    };
    let live = manner != "offline";
    if live {
        needs.live = Some(Live {
            packet_sockets: vec![packet_socket.as_raw_fd()],
            reopen: manner == "reopen",
            syslog: Some(syslog.as_raw_fd()),
        });
    }
    if manner == "nobody" || manner == "reopen" {
        needs.user = Some(User::named("nobody").unwrap());
    }
    if manner != "none" {
        let state = confine(&needs);
        eprintln!(
            "state {} {:?} {}",
            state.level.as_str(),
            state.uid,
            serde_json::to_string(&state).unwrap()
        );
        assert!(state.level > Level::None, "{state}");
    }
    for (name, done) in needed(room, live.then_some((&web, &syslog))) {
        tell(name, done);
    }
    if live {
        let mut said = String::new();
        let lost = "/sys/class/net/lo/statistics/rx_missed_errors";
        tell("needed:device-statistics", fs::read_to_string(lost).is_ok());
        // Opening a device is needed only where it is opened again.
        let opening = if manner == "reopen" { "needed:open-device" } else { "open-device" };
        tell(opening, opens_a_device());
        tell("needed:visited", visitor.read_to_string(&mut said).is_ok() && said == "hello");
        tell("inject", packet_socket.send(b"x").is_ok());
        tell("inject-by-write", rustix::io::write(&packet_socket, b"x").is_ok());
        tell("inject-by-duplicate", packet_socket.try_clone().is_ok());
    }
    if live {
        tell("connect-another", packet_socket.connect(room.join("syslog")).is_ok());
    }
    for (name, done) in probes(room, address, child.id().cast_signed()) {
        tell(name, done);
    }
    if live {
        // Where the syslog's socket is connected again, nobody else's can be.
        let mut syslog = std::os::fd::OwnedFd::from(syslog);
        tell("replace-syslog", rustix::io::dup2(&listener, &mut syslog).is_ok());
    }
    // Where it was traced it stands still. Confined, it cannot be ended, and need not.
    let _ = child.kill();
    let _ = child.wait();
}

/// Lets a process of its own be confined, and hands back what it printed.
fn said_by(manner: &str) -> String {
    let room = tempfile::tempdir().unwrap();
    for directory in ["in", "out", "elsewhere", "scratch"] {
        fs::create_dir(room.path().join(directory)).unwrap();
    }
    for file in ["in/capture", "out/kept", "out/other", "elsewhere/secret", "elsewhere/old"] {
        fs::write(room.path().join(file), "x").unwrap();
    }
    if manner == "nobody" || manner == "reopen" {
        // What `live` does before: the output directory is handed over, and others may pass through.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let user = User::named("nobody").unwrap();
        for directory in ["out", "scratch"] {
            user.hand_over(&room.path().join(directory)).unwrap();
        }
        user.hand_over(room.path()).unwrap();
    }
    let _syslog = UnixDatagram::bind(room.path().join("syslog")).unwrap();
    // Anybody may speak to it, as to /dev/log.
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(room.path().join("syslog"), anybody).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CONFINED, "--nocapture", "--test-threads=1"])
        .env(ROOM, room.path())
        .env(MANNER, manner)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("probe ptrace"), "it did not get to the last probe:\n{said}");
    said
}

/// Probes of one kind, with what became of them.
fn told(said: &str, needed: bool) -> Vec<(&str, &str)> {
    let probes = said.lines().filter_map(|line| line.split_once("probe ")?.1.rsplit_once(' '));
    probes.filter(|(name, _)| name.starts_with("needed:") == needed).collect()
}

/// Nothing of this holds where the kernel lacks Landlock or filters: then the state says so, and there is nothing to test.
fn kernel_can(said: &str) -> bool {
    let can = !said.contains("files are not restricted") && !said.contains("system calls are not filtered");
    if !can {
        let why = "this kernel cannot confine: what it denies is not tested";
        assert!(std::env::var_os("PORTPROOF_REQUIRE_SHARED").is_none(), "{why}");
        eprintln!("{why}");
    }
    can
}

/// The test that is [`confined`] where it is started with a room.
const CONFINED: &str = "confining::every_probe_succeeds_where_nothing_is_confined";

#[test]
fn every_probe_succeeds_where_nothing_is_confined() {
    if let Some(room) = std::env::var_os(ROOM) {
        return confined(Path::new(&room));
    }
    let said = said_by("none");
    let probes = told(&said, false);
    assert!(probes.len() > 20, "{said}");
    let denied: Vec<_> =
        probes.iter().filter(|(_, became)| *became != "done").map(|(name, _)| *name).collect();
    // Only root may.
    let root = rustix::process::getuid().is_root();
    let without_root: &[&str] = if root { &[] } else { &["open-device", "read-shadow"] };
    assert_eq!(denied, without_root, "{said}");
}

fn denied_but_for_what_is_needed(manner: &str) -> Option<String> {
    let said = said_by(manner);
    if !kernel_can(&said) {
        return None;
    }
    for (name, became) in told(&said, false) {
        assert_eq!(became, "denied", "{manner}: {name}\n{said}");
    }
    let needed = told(&said, true);
    assert!(needed.len() >= 8, "{said}");
    for (name, became) in needed {
        assert_eq!(became, "done", "{manner}: {name}\n{said}");
    }
    // The test runs beside the main thread, which confinement does not reach, and which has to be said. Nothing else is.
    let state = said.lines().find_map(|line| line.split_once("state ")).unwrap().1;
    let kept = ",\"the capability CAP_NET_RAW and making packet sockets are kept, to open devices again\"";
    let kept = if manner == "reopen" { kept } else { "" };
    let missing = format!("\"missing\":[\"1 other threads run already, which stay as they are\"{kept}]");
    assert!(state.starts_with("partial") && state.contains(&missing), "{state}");
    Some(said)
}

#[test]
fn what_an_audit_does_not_need_is_denied_and_what_it_needs_is_not() {
    denied_but_for_what_is_needed("offline");
}

#[test]
fn live_nothing_can_be_sent_by_a_packet_socket_and_nobody_new_be_spoken_to() {
    if let Some(said) = denied_but_for_what_is_needed("live") {
        assert!(said.contains("probe inject-by-write denied"), "{said}");
    }
}

#[test]
fn root_becomes_the_user_that_was_named() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not root: that it becomes another user is not tested");
        return;
    }
    if let Some(said) = denied_but_for_what_is_needed("nobody") {
        let uid = User::named("nobody").unwrap().uid;
        assert!(said.contains(&format!("state partial Some({uid})")), "{said}");
    }
}

#[test]
fn a_device_that_is_to_be_opened_again_can_be_and_it_is_said() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not root: that a device can be opened again is not tested");
        return;
    }
    if let Some(said) = denied_but_for_what_is_needed("reopen") {
        // CAP_NET_RAW is bit 13.
        assert!(said.contains("\"capabilities\":8192"), "{said}");
    }
}

/// The program as it stands while it waits for a capture on a pipe, seen from outside.
#[test]
fn the_program_is_confined_before_it_reads_a_capture() {
    let room = tempfile::tempdir().unwrap();
    let pipe = room.path().join("capture.pcap");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    let capture = fs::read("captures/lab.pcap").unwrap();
    for (more, confined) in [(&[][..], true), (&["--no-sandbox"], false)] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .args(["extract", "--summary", "-", "--verbose"])
            .arg(&pipe)
            .args(more)
            .env("TMPDIR", room.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Opening waits for the program to open it: it is past its beginning then.
        let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
        writer.write_all(&capture).unwrap();
        drop(writer);
        let mut said = String::new();
        program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(program.wait().unwrap().code(), Some(0), "{said}");
        if confined && !kernel_can(&said) {
            return;
        }
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        assert_eq!(field("NoNewPrivs:") == "1", confined, "{status}");
        assert_eq!(field("Seccomp:") == "2", confined, "{status}");
        if confined {
            assert_eq!(field("CapEff:"), "0000000000000000", "{status}");
            assert_eq!(field("CapPrm:"), "0000000000000000", "{status}");
            assert!(said.contains("sandbox: full"), "{said}");
        } else {
            assert!(said.contains("sandbox: none: --no-sandbox was given"), "{said}");
        }
        // The directory for pieces that wait is gone again.
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
    }
}

/// Whoever runs it confined or not reads the same.
#[test]
fn confinement_changes_no_byte_of_a_report() {
    let room = tempfile::tempdir().unwrap();
    let linked = room.path().join("elsewhere");
    fs::create_dir_all(room.path().join("captures/one")).unwrap();
    fs::create_dir(&linked).unwrap();
    fs::copy("captures/lab.pcap", room.path().join("captures/one/lab.pcap")).unwrap();
    fs::copy("captures/mixed.pcapng", linked.join("mixed.pcapng")).unwrap();
    fs::copy("captures/matrix.pcap", room.path().join("matrix.pcap")).unwrap();
    // Links that lead out of the directory that was given: to a directory, to a file.
    std::os::unix::fs::symlink(&linked, room.path().join("captures/two")).unwrap();
    std::os::unix::fs::symlink("../matrix.pcap", room.path().join("captures/matrix.pcap")).unwrap();
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/site.toml");
    let audit = |captures: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_portproof"))
            .current_dir(room.path())
            .args(["audit", captures, "--format", "json", "--site"])
            .arg(&site)
            .args(more)
            .output()
            .unwrap();
        let quiet: Vec<String> = String::from_utf8_lossy(&output.stderr)
            .lines()
            .filter(|line| !line.contains("sandbox:"))
            .map(str::to_owned)
            .collect();
        assert_eq!(quiet, [""; 0], "{captures}");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for captures in ["captures", "captures/*", "captures/*/*", "*/*.pcap", "captures/matrix.pcap"] {
        let confined = audit(captures, &[]);
        assert!(confined.1.contains(".pcap"), "{captures}");
        assert!(confined == audit(captures, &["--no-sandbox"]), "{captures}");
    }
}
