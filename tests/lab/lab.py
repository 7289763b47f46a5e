#!/usr/bin/env python3
"""A network of namespaces with real servers and a real firewall: what happened there is known without looking at packets.

usage: lab.py OUT_DIR [--beside COMMAND ARGUMENT...]

Needs root; about 25 s. Records at the appliance's interface, lets clients try what the firewall accepts, drops and rejects,
over IPv4 and IPv6, and writes into OUT_DIR:

  lab.pcap     what tcpdump saw
  truth.json   for each attempt: who, whom, what the firewall did (by its own counters), what the client saw, which outcome
               and rules follow from that; and the counters
  site.toml    the site that it is to be judged by

    appliance 10.10.1.4 fd10::1:4, worker 10.10.2.5  ---  router (nftables)  ---  outside: resolver, servers, browser
              ^ tcpdump, and COMMAND (which is sent SIGINT at the end)

All of it lives in namespaces of this process alone (network, mounts, processes): whatever ends the process, even SIGKILL,
ends everything in them and leaves nothing behind. No packet leaves them: none has a link to this machine's network.
Addresses are those of documentation (RFC 5737, RFC 3849), of the demo's site, and Azure's platform addresses.
"""
import collections
import errno
import json
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

RESOLVER = "168.63.129.16"
APPLIANCE, APPLIANCE6, WORKER = "10.10.1.4", "fd10::1:4", "10.10.2.5"
PROGRAMS = ["ip", "nft", "sysctl", "mount", "unshare", "tcpdump", "dnsmasq", "openssl"]

# ---- what is tried --------------------------------------------------------------------------------------------------

Attempt = collections.namedtuple("Attempt", "name source port server family proto service to firewall verdict rules")


def attempt(name, service, to, firewall="accept", rules=(), verdict="documented", source=APPLIANCE, proto="tcp", server=None, _port=[41000]):
    """One connection. `to` is the name that the client asks for, `server` its address, `service` how they speak."""
    _port[0] += 1
    host, port = to
    family = 6 if ":" in (server or "") or ":" in source else 4
    return Attempt(name, source, _port[0], server, family, proto, service, (host, port), firewall, verdict, list(rules))


def plan():
    v6 = APPLIANCE6
    return [
        # What takes long comes first: all attempts run side by side, half a second apart.
        attempt("drop", "tls", ("packages.microsoft.com", 443), "drop", ["vbaz-08"], server="203.0.113.30"),
        attempt("drop-v6", "tls", ("azure.archive.example", 443), "drop", [], "undocumented", source=v6, server="2001:db8:3::30"),
        attempt("drop-answer", "tls", ("nginx.org", 443), "drop-answer", ["vbaz-15"], server="203.0.113.40"),
        attempt("udp-drop", "ntp", ("ntp.ubuntu.com", 123), "drop", ["plat-time"], "platform", proto="udp", server="203.0.113.123"),
        attempt("http", "http", ("security.ubuntu.com", 80), rules=["vbaz-05a"], server="203.0.113.10"),
        attempt("tls", "tls", ("repository.veeam.com", 443), rules=["vbaz-04"], server="198.51.100.10"),
        attempt("tls-refused", "tls12", ("apt.postgresql.org", 443), rules=["vbaz-06"], server="203.0.113.21"),
        attempt("smtp", "smtp", ("mail.contoso.example", 25), rules=["vbaz-09a"], server="10.20.0.25"),
        attempt("tds", "tds", ("mi1.contoso.example", 1433), rules=["vbaz-24a"], source=WORKER, server="10.10.8.5"),
        attempt("postgresql", "postgresql", ("c.contoso.example", 5432), verdict="undocumented", source=WORKER, server="198.51.100.77"),
        attempt("postgresql-cosmos", "postgresql", ("c.postgres.example", 5432), rules=["vbaz-25"], source=WORKER, server="4.149.114.5"),
        attempt("reset", "tls", ("postgresql.org", 443), "reset", ["vbaz-07"], server="203.0.113.20"),
        attempt("prohibited", "tls", ("apim-ratecard-v1.azure-api.net", 443), "prohibited", ["vbaz-16"], server="198.51.100.20"),
        attempt("cut", "tls", ("vbr.butler.veeam.com", 443), "cut", ["vbaz-17"], server="198.51.100.11"),
        attempt("unexpected", "tls", ("evil.example", 443), verdict="undocumented", server="198.51.100.66"),
        attempt("unexpected-reset", "http", ("evil.example", 8080), "reset", verdict="undocumented", server="198.51.100.66"),
        attempt("unexpected-unreachable", "http", ("evil.example", 8081), "unreachable", verdict="undocumented", server="198.51.100.66"),
        attempt("closed-port", "http", ("evil.example", 8082), verdict="undocumented", server="198.51.100.66"),
        attempt("tls-v6", "tls", ("repository.veeam.com", 443), rules=["vbaz-04"], source=v6, server="2001:db8:2::10"),
        attempt("reset-v6", "tls", ("postgresql.org", 443), "reset", ["vbaz-07"], source=v6, server="2001:db8:3::20"),
        attempt("prohibited-v6", "tls", ("apim-ratecard-v1.azure-api.net", 443), "prohibited", ["vbaz-16"], source=v6, server="2001:db8:2::20"),
        attempt("unexpected-unreachable-v6", "http", ("evil.example", 8081), "unreachable", verdict="undocumented", source=v6, server="2001:db8:2::66"),
        attempt("browser", "tls", ("appliance.contoso.example", 443), rules=["vbaz-01", "vbaz-02"], source="10.40.0.9", server=APPLIANCE),
        attempt("console-closed", "http", ("appliance.contoso.example", 22), verdict="undocumented", source="10.20.0.30", server=APPLIANCE),
        attempt("no-such-name", "http", ("archive.ubuntu.com", 80)),
    ]


# What the firewall did and what the client saw, to what somebody at the appliance's interface can tell (an outcome).
OUTCOMES = {
    ("accept", "ok"): "established",
    ("accept", "refused"): "refused",
    ("accept", "alert"): "tls-refused",
    ("drop", "timeout"): "filtered",
    ("drop-answer", "timeout"): "filtered",
    ("reset", "refused"): "refused",
    ("cut", "reset"): "cut",
    ("prohibited", "prohibited"): "prohibited",
    ("unreachable", "unreachable"): "unreachable",
}
UDP_OUTCOMES = {("accept", "ok"): "answered", ("drop", "timeout"): "unanswered"}

# Names that have an address only behind others: CNAME chains.
CHAINS = {
    "security.ubuntu.com": ["ubuntu-mirrors.fastly.example"],
    "repository.veeam.com": ["d1veeam.cloudfront.example"],
    "packages.microsoft.com": ["packages-msft.azurefd.example"],
    "vbr.butler.veeam.com": ["butler-prod.trafficmanager.example", "butler-weu.cloudapp.example"],
    "apim-ratecard-v1.azure-api.net": ["ratecard-weu.cloudapp.example"],
}

# ---- clients and servers of our own, where a real program would not do just one thing -----------------------------------

PRELOGIN = struct.pack(">BBHHBB", 0x12, 1, 8 + 12, 0, 0, 0) + bytes([0, 0, 6, 0, 6, 0xFF, 16, 0, 0, 0, 0, 0])
STARTUP = struct.pack(">II", 8 + 12, 196608) + b"user\0backup\0"


def converse(service, host, connection):
    """Speaks as a client. Raises what the socket raises."""
    if service in ("tls", "tls12"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if service == "tls12":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        with context.wrap_socket(connection, server_hostname=host) as channel:
            channel.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            while channel.recv(4096):
                pass
        return
    hello, expected = {
        "http": (f"GET /InRelease HTTP/1.0\r\nHost: {host}\r\n\r\n".encode(), b"HTTP/"),
        "smtp": (b"EHLO appliance.contoso.example\r\nQUIT\r\n", b"2"),
        "tds": (PRELOGIN, b"\x04"),
        "postgresql": (STARTUP, b"R"),
    }[service]
    if service == "smtp":
        assert connection.recv(512).startswith(b"220")
    connection.sendall(hello)
    answer = connection.recv(512)
    assert answer.startswith(expected), answer
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def client(service, family, source, source_port, host, port):
    """What a client sees, in one word."""
    family = socket.AF_INET6 if family == "6" else socket.AF_INET
    kind = socket.SOCK_DGRAM if service == "ntp" else socket.SOCK_STREAM
    try:
        address = socket.getaddrinfo(host, int(port), family, kind)[0][4]
    except socket.gaierror as error:
        return "no-name" if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else f"resolver: {error}"
    connection = socket.socket(family, kind)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.bind((source, int(source_port)))
    connection.settimeout(9)
    try:
        connection.connect(address)
        if service == "ntp":
            connection.send(b"\x23" + bytes(47))
            connection.settimeout(2)
            connection.recv(512)
        else:
            converse(service, host, connection)
        return "ok"
    except TimeoutError:
        return "timeout"
    except ssl.SSLError as error:
        return "alert" if "ALERT" in (error.reason or "") else f"tls: {error}"
    except OSError as error:
        seen = {
            errno.ECONNREFUSED: "refused",
            errno.ECONNRESET: "reset",
            errno.ETIMEDOUT: "timeout",
            # The system knows ICMPv6's word for it, and calls ICMP's "no route".
            errno.EACCES: "prohibited",
            errno.EHOSTUNREACH: "prohibited-or-unreachable",
            errno.ENETUNREACH: "unreachable",
        }
        return seen.get(error.errno, str(error))
    finally:
        connection.close()


class Dialogue(socketserver.BaseRequestHandler):
    """PostgreSQL's and TDS's first answers, and SMTP's."""

    def handle(self):
        port = self.server.server_address[1]
        if port == 25:
            self.request.sendall(b"220 mail.contoso.example ESMTP\r\n")
        self.request.recv(512)
        answer = {
            25: b"250 mail.contoso.example\r\n221 bye\r\n",
            1433: struct.pack(">BBHHBB", 0x04, 1, 8 + 12, 0, 0, 0) + PRELOGIN[8:],
            5432: b"R" + struct.pack(">II", 8, 0),
            80: b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        }[port]
        self.request.sendall(answer)


def serve(places):
    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    for place in places:
        address, port = place.rsplit("@", 1)
        threading.Thread(target=Server((address, int(port)), Dialogue).serve_forever).start()
    print("listening", flush=True)


# ---- the network ----------------------------------------------------------------------------------------------------


def run(*command, **more):
    return subprocess.run(command, check=True, text=True, **more)


def ip(*arguments):
    run("ip", *arguments)


def inside(namespace, *command, **more):
    return subprocess.Popen(["ip", "netns", "exec", namespace, *command], text=True, **more)


def address(where, text, device):
    more = ["nodad"] if ":" in text else []
    ip("-n", where, "address", "add", text, "dev", device, *more)


def build(work, attempts):
    # For these processes alone: the resolver's address.
    for name, text in [("resolv.conf", f"nameserver {RESOLVER}\noptions timeout:2 attempts:2\n"), ("nsswitch.conf", "hosts: files dns\n"), ("hosts", "127.0.0.1 localhost\n")]:
        (work / name).write_text(text)
        real = pathlib.Path("/etc", name)
        if real.is_symlink() and not real.exists():
            # It led into /run, which is another now.
            target = pathlib.Path(os.path.realpath(real))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        elif real.exists():
            run("mount", "--bind", str(work / name), str(real))
    for namespace in ["appliance", "outside"]:
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
    ip("link", "set", "lo", "up")
    for namespace, device, mac, here in [("appliance", "inner", "02:00:00:00:01", "eth0"), ("outside", "outer", "02:00:00:00:02", "eth0")]:
        ip("link", "add", device, "address", f"{mac}:01", "type", "veth", "peer", "name", here, "netns", namespace, "address", f"{mac}:04")
        ip("link", "set", device, "up")
        ip("-n", namespace, "link", "set", here, "up")
    for text in [f"{APPLIANCE}/24", f"{APPLIANCE6}/64", f"{WORKER}/24"]:
        address("appliance", text, "eth0")
    for device, text in [("inner", "10.10.1.1/24"), ("inner", "10.10.2.1/24"), ("inner", "fd10::1:1/64"), ("outer", "192.0.2.1/30"), ("outer", "fd20::1/64")]:
        ip("address", "add", text, "dev", device, *(["nodad"] if ":" in text else []))
    address("outside", "192.0.2.2/30", "eth0")
    address("outside", "fd20::2/64", "eth0")
    ip("-n", "appliance", "route", "add", "default", "via", "10.10.1.1")
    ip("-n", "appliance", "-6", "route", "add", "default", "via", "fd10::1:1")
    ip("-n", "outside", "route", "add", "default", "via", "192.0.2.1")
    ip("-n", "outside", "-6", "route", "add", "default", "via", "fd20::1")
    ip("route", "add", "default", "via", "192.0.2.2")
    ip("-6", "route", "add", "default", "via", "fd20::2")
    run("sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
    there = {RESOLVER} | {a.server for a in attempts if a.server and a.server != APPLIANCE}
    there |= {a.source for a in attempts if a.server == APPLIANCE}
    for text in sorted(there):
        address("outside", f"{text}/{128 if ':' in text else 32}", "lo")
    run("nft", "-f", "-", input=firewall(attempts))


def firewall(attempts):
    """Every attempt has its own client port, by which it is counted in both directions, and decided."""
    count, decide = [], []
    for a in attempts:
        if not a.server:
            continue
        ends = f"{'ip6' if a.family == 6 else 'ip'} saddr {a.source} {a.proto} sport {a.port}"
        back = f"{'ip6' if a.family == 6 else 'ip'} daddr {a.source} {a.proto} dport {a.port}"
        count += [f'{ends} counter comment "{a.name}/there"', f'{back} counter comment "{a.name}/back"']
        prohibited = "reject with icmpv6 type admin-prohibited" if a.family == 6 else "reject with icmp type admin-prohibited"
        unreachable = "reject with icmpv6 type no-route" if a.family == 6 else "reject with icmp type net-unreachable"
        what = {
            "drop": f"{ends} counter drop",
            "drop-answer": f"{back} counter drop",
            "reset": f"{ends} counter reject with tcp reset",
            "prohibited": f"{ends} counter {prohibited}",
            "unreachable": f"{ends} counter {unreachable}",
            # The handshake passes; what carries something does not.
            "cut": f"{ends} meta length > 100 counter reject with tcp reset",
        }
        if a.firewall != "accept":
            decide.append(f'{what[a.firewall]} comment "{a.name}/{a.firewall}"')
    count.append(f'ip daddr {RESOLVER} udp dport 53 counter comment "questions"')
    count.append(f'ip saddr {RESOLVER} udp sport 53 counter comment "answers"')
    newline = "\n        "
    return f"""table inet lab {{
    chain count {{
        type filter hook prerouting priority -300;
        {newline.join(count)}
    }}
    chain forward {{
        type filter hook forward priority 0; policy accept;
        {newline.join(decide)}
    }}
}}
"""


def counters():
    listed = json.loads(run("nft", "-j", "list", "ruleset", capture_output=True).stdout)["nftables"]
    found = {}
    for rule in (item["rule"] for item in listed if "rule" in item):
        counted = next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
        found[rule["comment"]] = counted
    return found


def start_servers(work, attempts):
    names = []
    for a in attempts:
        host = a.to[0]
        if a.server:
            names += [f"--host-record={(CHAINS.get(host) or [host])[-1]},{a.server}"]
    for host, chain in CHAINS.items():
        names += [f"--cname={alias},{target}" for alias, target in zip([host, *chain], chain)]
    # Several addresses of one name stand in several records of it.
    inside(
        "outside", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-resolv", "--no-hosts",
        f"--listen-address={RESOLVER}", "--bind-interfaces", "--cache-size=0", "--local-ttl=60",
        *[f"--local=/{top}/" for top in ["com", "org", "net", "example"]], *sorted(set(names)), stderr=open(work / "dnsmasq.log", "w"),
    )
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN=lab",
        "-keyout", str(work / "key.pem"), "-out", str(work / "cert.pem"), stderr=subprocess.DEVNULL)
    plain = []
    for server, port, service in sorted({(a.server, a.to[1], a.service) for a in attempts if a.server}):
        if service in ("tls", "tls12"):
            where = "appliance" if server == APPLIANCE else "outside"
            place = f"[{server}]:{port}" if ":" in server else f"{server}:{port}"
            inside(where, "openssl", "s_server", "-quiet", "-accept", place, "-cert", str(work / "cert.pem"), "-key", str(work / "key.pem"),
                   "-www", *(["-tls1_3"] if service == "tls12" else []), stdout=subprocess.DEVNULL, stderr=open(work / "tls.log", "a"))
        elif service != "ntp" and port < 8000 and port != 22:
            plain.append(f"{server}@{port}")
    ours = inside("outside", sys.executable, __file__, "--serve", *plain, stdout=subprocess.PIPE)
    assert ours.stdout.readline() == "listening\n", "our servers do not listen"
    wait_for(lambda: "168.63.129.16:53" in run("ip", "netns", "exec", "outside", "ss", "-Hlnu", capture_output=True).stdout, "dnsmasq")
    wanted = sum(1 for place in {(a.server, a.to[1]) for a in attempts if a.service.startswith("tls")})
    listening = lambda: sum(run("ip", "netns", "exec", n, "ss", "-Hlnt", "sport", "=", ":443", capture_output=True).stdout.count("LISTEN") for n in ["appliance", "outside"])
    wait_for(lambda: listening() == wanted, "openssl s_server")


def wait_for(is_so, what):
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until, f"{what} is not there after 20 s"
        time.sleep(0.1)


SITE = """[site]
name = "lab"
cloud = "public"
region = "westeurope"
storage_accounts = ["contosobackup01"]
resolvers = ["168.63.129.16"]
virtual_network = ["10.10.0.0/16"]
time_servers = ["203.0.113.123"]
aliases = false

[names]
veeam-update-repository = ["repository.veeam.com"]

[conditions]
private-environment = true

[roles]
backup-appliance = [["10.10.1.4", "fd10::1:4"]]
worker = ["10.10.2.0/24"]
backup-server = ["10.20.0.10"]
web-browser = ["10.40.0.0/16"]
console = ["10.20.0.30"]
smtp-server = ["mail.contoso.example", "10.20.0.25"]
sql-managed-instance = ["10.10.8.0/24"]
"""


def lab(out, beside):
    # In a file system of these processes alone, as the names of the namespaces are: nothing is left of either.
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    work = pathlib.Path(tempfile.mkdtemp(prefix="lab-", dir="/run"))
    attempts = plan()
    build(work, attempts)
    start_servers(work, attempts)
    recorder = inside("appliance", "tcpdump", "-i", "eth0", "-n", "-s", "0", "-U", "--immediate-mode", "-Z", "root", "-w", str(out / "lab.pcap"),
                      stderr=open(work / "tcpdump.log", "w"))
    wait_for(lambda: "listening on" in (work / "tcpdump.log").read_text(), "tcpdump")
    (out / "site.toml").write_text(SITE)
    watcher = inside("appliance", *beside) if beside else None
    time.sleep(2 if watcher else 0.2)
    clients = []
    for a in attempts:
        where = "outside" if a.server == APPLIANCE else "appliance"
        clients.append(inside(where, sys.executable, __file__, "--client", a.service, str(a.family), a.source, str(a.port), a.to[0], str(a.to[1]), stdout=subprocess.PIPE))
        time.sleep(0.4)
    saw = [c.communicate(timeout=60)[0].strip() for c in clients]
    time.sleep(1)
    for process in filter(None, [watcher, recorder]):
        # `ip netns exec` has become the program.
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    log = (work / "tcpdump.log").read_text()
    assert "\n0 packets dropped by kernel" in log, log
    counted = counters()
    truth = {"counters": counted, "beside": watcher and watcher.returncode, "attempts": [told(a, s, counted) for a, s in zip(attempts, saw)]}
    (out / "truth.json").write_text(json.dumps(truth, indent=1))
    problems = [f"{a['name']}: {a['problem']}" for a in truth["attempts"] if a["problem"]]
    if problems:
        sys.exit("lab.py: not as planned:\n" + "\n".join(problems))


def told(a, saw, counted):
    """What is true of an attempt: by the firewall's counters and the client's word alone."""
    there, back = counted.get(f"{a.name}/there", 0), counted.get(f"{a.name}/back", 0)
    hits = counted.get(f"{a.name}/{a.firewall}", 0)
    if saw == "prohibited-or-unreachable" or (saw == "prohibited" and a.family == 6):
        saw = "prohibited" if a.firewall == "prohibited" else "unreachable"
    problem = None
    if not a.server:
        outcome = None
        problem = None if saw == "no-name" else f"the client saw {saw}"
    else:
        outcome = (UDP_OUTCOMES if a.proto == "udp" else OUTCOMES).get((a.firewall, saw))
        if outcome is None:
            problem = f"the firewall's part was {a.firewall}, and the client saw {saw}"
        elif a.firewall != "accept" and hits == 0:
            problem = "the firewall's rule never met a packet"
    # What the interface shows: what the router forwarded to it, and the resets that the router made.
    shown_back = back - (hits if a.firewall == "drop-answer" else 0) + (hits if a.firewall in ("reset", "cut") else 0)
    return {
        "name": a.name, "initiator_ip": a.source, "initiator_port": a.port, "responder_ip": a.server, "responder_port": a.to[1], "proto": a.proto,
        "firewall": a.firewall, "client_saw": saw, "outcome": outcome, "verdict": a.verdict, "rules": a.rules,
        "packets_fwd": there, "packets_rev": shown_back, "problem": problem,
    }


def main(arguments):
    if arguments[:1] == ["--client"]:
        print(client(*arguments[1:]))
    elif arguments[:1] == ["--serve"]:
        serve(arguments[1:])
    elif arguments[:1] == ["--inside"]:
        beside = arguments[3:] if arguments[2:3] == ["--beside"] else []
        lab(pathlib.Path(arguments[1]), beside)
    elif not arguments or arguments[0].startswith("-"):
        sys.exit(__doc__)
    else:
        if os.geteuid() != 0:
            sys.exit("lab.py: needs root (namespaces); nothing was done")
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        if missing:
            sys.exit(f"lab.py: missing: {' '.join(missing)}; ./dev test installs them")
        out = os.path.abspath(arguments[0])
        os.makedirs(out, exist_ok=True)
        os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, os.path.abspath(__file__), "--inside", out, *arguments[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
