"""Measures whole runs of portproof beside the floor and beside other tools. `./dev bench` calls it; benches/README.md tells
how the figures are meant.

Every comparison is made of pairs: A, B, A, B, ..., each pair gives one ratio, the median of the ratios is shown with the
least and the largest. CPU is user + system of the process and its children, as the kernel accounts for them.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
QUICK_PACKETS = 400_000
SLOW_PEER_PACKETS = 500_000  # for those that need microseconds, not nanoseconds, a packet
BUSY_LOAD = 1.3
BUSY_CORES = 0.2  # what other programs may take of the machine before figures are called disturbed


@dataclasses.dataclass(frozen=True)
class Workload:
    key: str
    title: str
    packets: int
    options: str
    size: int
    sha256: str


# Same options and seed, same bytes: the digests say that these are the files that the limits were set on.
WORKLOADS = [
    Workload("w1", "W1 bulk", 2_667_990, "--profile bulk --flows 60000 --packets 52", 2_129_424_886,
             "e62f605485c8fb8681b668dd816fe593147b7edd5ed1b8a1160afae4d4b621cb"),
    Workload("w2", "W2 small", 9_205_868, "--profile small --flows 1000000 --packets 9.8", 1_219_856_814,
             "000fba4ba663c6fee7a38fa4e1c9ce46835d91c9c0704faa64ec551e929d90bc"),
    Workload("w3", "W3 dns", 1_232_761, "--profile dns --flows 550000", 206_926_866,
             "27a41e2dc516c16ad56d72c3270eade872cd494b2a205584a673ee65c5e890c0"),
    Workload("w4", "W4 syn flood", 5_000_000, "--profile synflood", 466_045_984,
             "0c3469688dbcfe8bafc6e70e6586375cf6c4f75af1d396972ac9666f1fa714ce"),
]
TITLES = {workload.key: workload.title for workload in WORKLOADS}
DOUBLED_W1 = "--profile bulk --flows 120000 --packets 52 --duration 7200"  # same rate and concurrency, twice as long

# At most this many times the CPU of ...
FLOOR_LIMITS = {"w1": 2.5, "w2": 15, "w3": 35, "w4": 45}
FLOOR_STRETCH = {"w1": 2, "w2": 11, "w3": 20, "w4": 32}
THREAD_LIMITS = {"w1": 0.6, "w2": 0.65, "w3": 0.7, "w4": 0.75, "set": 0.6}
THREAD_CPU_LIMIT = 1.25
W1_PEAK_MIB = 96
W2_BYTES_A_FLOW = 300
DOUBLED_PEAK = 1.10
W4_LIMIT_MIB = 512
DOUBLING_LIMIT = 2.2


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    shown: str  # the command as a person would type it
    command: list  # {file}, {out} and {port} are filled in
    program: str
    version: list
    version_pattern: str
    limits: dict
    package: str
    inverse: bool = True  # a limit of 1/8 reads better than 0.125
    head: bool = False  # measured on the first packets only


NFSTREAM = ("import sys; from nfstream import NFStreamer; "
            "print(sum(1 for _ in NFStreamer(source=sys.argv[1], n_dissections=20, statistical_analysis=False)))")
PEERS = [
    Peer("tcpdump", "tcpdump -r F -w /dev/null", ["tcpdump", "-r", "{file}", "-w", "/dev/null"], "tcpdump",
         ["tcpdump", "--version"], r"tcpdump version (\S+)", {"w1": 0.7, "w2": 2.5, "w3": 5, "w4": 4}, "tcpdump",
         inverse=False),
    Peer("capinfos", "capinfos -c F", ["capinfos", "-c", "{file}"], "capinfos", ["capinfos", "--version"],
         r"Capinfos \(Wireshark\) (\S+)", {"w1": 1.5, "w2": 3, "w3": 6, "w4": 5}, "wireshark-common", inverse=False),
    Peer("nfpcapd", "nfpcapd -r F -w DIR -t 3600", ["nfpcapd", "-r", "{file}", "-w", "{out}", "-t", "3600"], "nfpcapd",
         ["nfpcapd", "-V"], r"Version: ([\d.]+)", {"w1": 1 / 3, "w2": 1 / 4, "w4": 1 / 9}, "nfdump"),
    Peer("argus", "argus -X -r F -w OUT", ["argus", "-X", "-r", "{file}", "-w", "{out}/argus"], "argus",
         ["argus", "-h"], r"Argus Version (\S+)", {"w1": 1 / 6, "w2": 1 / 4, "w3": 1 / 2.5, "w4": 1 / 40},
         "argus-server"),
    # Without a control socket: 1.1.0 may wait for someone to connect there before it reads a file (seen with long paths).
    Peer("softflowd", "softflowd -r F -n 127.0.0.1:PORT -v 9 -m 8000000 -d -c none",
         ["softflowd", "-r", "{file}", "-n", "127.0.0.1:{port}", "-v", "9", "-m", "8000000", "-d",
          "-p", "{out}/pid", "-c", "none"], "softflowd",
         ["softflowd", "-h"], r"softflowd version ([\d.]+\d)", {}, "softflowd"),
    Peer("tshark", "tshark -nr F -q -z conv,tcp", ["tshark", "-nr", "{file}", "-q", "-z", "conv,tcp"], "tshark",
         ["tshark", "--version"], r"TShark \(Wireshark\) (\S+)", {"w1": 1 / 15, "w2": 1 / 20}, "tshark", head=True),
    Peer("suricata", "suricata -c MINIMAL -S /dev/null -r F -l DIR --runmode single -k none",
         ["suricata", "-c", "{out}/suricata.yaml", "-S", "/dev/null", "-r", "{file}", "-l", "{out}",
          "--runmode", "single", "-k", "none"], "suricata",
         ["suricata", "-V"], r"version (\S+)", {"w1": 1 / 8, "w2": 1 / 12, "w3": 1 / 15}, "suricata"),
    Peer("ndpiReader", "ndpiReader -i F -q", ["ndpiReader", "-i", "{file}", "-q"], "ndpiReader",
         ["dpkg-query", "-W", "-f", "libndpi-bin ${{Version}}", "libndpi-bin"], r"libndpi-bin (\S+)",
         {"w1": 1 / 7, "w2": 1 / 10, "w3": 1 / 15}, "libndpi-bin"),
    Peer("nfstream", "NFStreamer(F, n_dissections=20, statistical_analysis=False)",
         ["{python}", "-c", NFSTREAM, "{file}"], "{python}",
         ["{python}", "-c", "from importlib.metadata import version; print('nfstream', version('nfstream'))"],
         r"nfstream (\S+)", {"w1": 1 / 18, "w2": 1 / 50, "w3": 1 / 15}, "nfstream from PyPI: --peers all", head=True),
]
NFSTREAM_VERSION = "6.6.0"
# Flows, names and server names as events, no rules, nothing else.
SURICATA_YAML = """%YAML 1.1
---
vars:
  address-groups: {HOME_NET: "any", EXTERNAL_NET: "any"}
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types: [dns, tls, flow]
app-layer:
  protocols:
    tls: {enabled: yes, detection-ports: {dp: 443}}
    http: {enabled: yes}
    dns:
      tcp: {enabled: yes, detection-ports: {dp: 53}}
      udp: {enabled: yes, detection-ports: {dp: 53}}
flow: {memcap: 4gb, hash-size: 1048576, prealloc: 10000}
stream: {memcap: 4gb, checksum-validation: no, reassembly: {memcap: 4gb}}
"""

SECTIONS = ["peers", "threads", "memory", "growth", "stages"]


def say(text):
    print(text, file=sys.stderr, flush=True)


class Missing(Exception):
    """What a measurement needs is not there. The bench says so and goes on."""


# ---- one run of one program


@dataclasses.dataclass(frozen=True)
class Run:
    cpu: float
    wall: float
    peak: int  # bytes
    finished: bool
    digest: str = ""


def run(command, good=(0,), timeout=180.0, stdout=subprocess.DEVNULL, environment=None, digest=False):
    """Runs `command` to its end, or kills it and all it started after `timeout` seconds."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            stdout=subprocess.PIPE if digest else stdout, env={**os.environ, **(environment or {})})
        over = threading.Event()

        def stop():
            over.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, stop)
        timer.start()
        hashed = hashlib.sha256()
        if digest:
            while block := process.stdout.read(MIB):
                hashed.update(block)
            process.stdout.close()
        # Without reaping: until the timer is off, the number must stay this process's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - start
        timer.cancel()
        timer.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if not over.is_set() and process.returncode not in good:
            errors.seek(0)
            last = errors.read()[-400:].decode(errors="replace").strip().splitlines()
            raise Missing(f"{Path(str(command[0])).name} ended with {process.returncode}: {last[-1] if last else ''}")
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024, not over.is_set(), hashed.hexdigest())


@dataclasses.dataclass
class Pairs:
    """Runs of A and B in turn."""

    a: list
    b: list

    def ratios(self, what):
        return [getattr(a, what) / max(getattr(b, what), 1e-6) for a, b in zip(self.a, self.b)]

    def median(self, what):
        return statistics.median(self.ratios(what))


def alternate(a, b, pairs, most_seconds=float("inf")):
    """A, B, A, B, ...: fewer pairs where they take longer than `most_seconds` in all, but one at least."""
    result = Pairs([], [])
    start = time.perf_counter()
    for _ in range(pairs):
        result.a.append(a())
        result.b.append(b())
        if not (result.a[-1].finished and result.b[-1].finished) or time.perf_counter() - start > most_seconds:
            break
    return result


# ---- how figures are written


def times(value, inverse=False):
    if inverse and value < 0.7:
        return f"1/{1 / value:.1f}" if value else "1/inf"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def bound(value, inverse=False):
    return f"1/{1 / value:g}" if inverse else f"{value:g}"


def spread(values, inverse=False):
    middle = times(statistics.median(values), inverse)
    return f"**{middle}** ({times(min(values), inverse)}..{times(max(values), inverse)})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def mib(size):
    return f"{size / MIB:.0f}"


# ---- what else the machine does


def busy_seconds():
    """CPU seconds that all processors spent busy since boot, those that a host took from a guest included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    return sum(usage.ru_utime + usage.ru_stime for usage in
               (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))


class Watch:
    """How loaded the machine was during a section, and how much of that was not ours."""

    def __init__(self):
        self.load = os.getloadavg()[0]
        self.busy, self.own, self.start = busy_seconds(), own_seconds(), time.perf_counter()

    def line(self):
        wall = time.perf_counter() - self.start
        others = max(0.0, (busy_seconds() - self.busy) - (own_seconds() - self.own)) / wall
        disturbed = self.load > BUSY_LOAD or others > BUSY_CORES
        return (f"Load average {self.load:.2f} before, {os.getloadavg()[0]:.2f} after (own runs included); other programs "
                f"kept {others:.2f} processors busy; {wall:.0f} s."
                + (" **The machine was not idle: CPU ratios are rough, wall figures say little.**" if disturbed else ""))


# ---- captures


def head_of(source, packets, target):
    """The first `packets` packets of a pcap file of this machine's byte order, as genload writes them."""
    if target.exists():
        return target
    say(f"cutting {target.name}")
    cut(source, [packets], [target])
    return target


def cut(source, counts, targets):
    """Cuts a pcap file at record boundaries: counts[i] packets into targets[i]; None: all that is left."""
    record = struct.Struct("<IIII")
    with open(source, "rb", buffering=MIB) as capture:
        head = capture.read(24)
        if head[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
            raise Missing(f"{source} is no little-endian pcap file")
        for count, target in zip(counts, targets):
            partial = target.with_suffix(".part")
            with open(partial, "wb", buffering=MIB) as out:
                out.write(head)
                done = 0
                while (count is None or done < count) and (fields := capture.read(16)):
                    out.write(fields)
                    out.write(capture.read(record.unpack(fields)[2]))
                    done += 1
            partial.rename(target)


class Captures:
    """Workloads, generated or cut on first use, kept in target/bench."""

    def __init__(self, folder, shared, quick):
        self.folder, self.shared, self.quick = folder, shared, quick
        self.generator = None

    def site(self):
        kept = self.folder / "site.toml"
        there = self.shared / "workload" / "site.toml"
        if there.exists():
            shutil.copyfile(there, kept)
        if not kept.exists():
            raise Missing(f"the workload's site file: {there}")
        return kept

    def generate(self, name, options):
        target = self.folder / name
        if target.exists():
            return target
        manifest = self.shared / "workload" / "Cargo.toml"
        if not manifest.exists():
            raise Missing(f"{name}, and the generator that makes it: {manifest.parent}")
        if self.generator is None:
            build = self.folder / "genload"
            say("building the generator of workloads")
            cargo(["build", "--quiet", "--locked", "--release", "--manifest-path", manifest, "--target-dir", build])
            self.generator = build / "release" / "genload"
        say(f"generating {name}")
        partial = target.with_suffix(".part")
        run([self.generator, *options.split(), "--out", partial], timeout=600)
        partial.rename(target)
        return target

    def whole(self, key):
        workload = next(each for each in WORKLOADS if each.key == key)
        path = self.generate(f"{key}.pcap", workload.options)
        self.check(workload, path)
        return path

    def check(self, workload, path):
        """Once for each file as it is: size, then SHA-256."""
        seal = path.with_suffix(".checked")
        stamp = f"{path.stat().st_size} {path.stat().st_mtime_ns} {workload.sha256}"
        if seal.exists() and seal.read_text() == stamp:
            return
        say(f"checking {path.name}")
        digest = hashlib.sha256()
        with open(path, "rb") as capture:
            while block := capture.read(MIB):
                digest.update(block)
        if path.stat().st_size != workload.size or digest.hexdigest() != workload.sha256:
            say(f"WARNING: {path.name} is not the file that the limits were set on; to make it anew, delete it")
            return
        seal.write_text(stamp)

    def measured(self, key):
        """The file that stands for a workload: whole, or with --quick its head."""
        return self.head(key, QUICK_PACKETS) if self.quick else self.whole(key)

    def head(self, key, packets):
        path = self.folder / f"{key}-{packets}.pcap"
        return path if path.exists() else head_of(self.whole(key), packets, path)

    def quartered_w1(self):
        packets = QUICK_PACKETS if self.quick else WORKLOADS[0].packets
        parts = [self.folder / f"w1-{packets}-part{part}.pcap" for part in range(1, 5)]
        if not all(part.exists() for part in parts):
            say("cutting W1 into four files")
            cut(self.measured("w1"), [packets // 4] * 3 + [None], parts)
        return parts


def cargo(arguments):
    subprocess.run(["cargo", *map(str, arguments)], cwd=ROOT, check=True, stdout=sys.stderr)


# ---- the bench


class Bench:
    def __init__(self, options):
        self.options = options
        target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        self.target = target if target.is_absolute() else ROOT / target
        self.folder = self.target / "bench"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.captures = Captures(self.folder, options.shared, options.quick)
        self.keys = options.workloads
        self.report = []
        self.limits = []  # (what, met)
        self.unmeasured = []
        self.binary = self.floor = self.site = None

    # -- set-up

    def build(self):
        if self.options.portproof:
            self.binary = self.options.portproof.resolve()
            if not self.binary.is_file():
                raise Missing(str(self.binary))
        else:
            say("building portproof: cargo build --release --locked --no-default-features")
            cargo(["build", "--release", "--locked", "--no-default-features"])
            self.binary = self.target / "release" / "portproof"
        self.floor = self.folder / "floor"
        subprocess.run(["rustc", "--edition", "2024", "-C", "opt-level=3", "benches/floor.rs", "-o", self.floor],
                       cwd=ROOT, check=True, stdout=sys.stderr)
        self.site = self.captures.site()
        if self.options.peers == "all":
            self.install_nfstream()

    def python(self):
        return self.folder / "venv" / "bin" / "python"

    def install_nfstream(self):
        if self.python().exists():
            return
        say(f"installing nfstream {NFSTREAM_VERSION}")
        try:
            subprocess.run([sys.executable, "-m", "venv", self.folder / "venv"], check=True, stdout=sys.stderr)
            subprocess.run([self.python(), "-m", "pip", "install", "--quiet", f"nfstream=={NFSTREAM_VERSION}"],
                           check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            say(f"nfstream is left out: {error}")
            shutil.rmtree(self.folder / "venv", ignore_errors=True)

    # -- what is run

    def audit(self, captures, jobs=1, more=(), digest=False, stdout=subprocess.DEVNULL):
        captures = captures if isinstance(captures, list) else [captures]
        command = [self.binary, "audit", *captures, "--site", self.site, "--jobs", jobs, *more]
        # 1: there are findings; 3: the evidence is incomplete. Both are whole runs.
        return run(command, good=(0, 1, 3), timeout=self.options.timeout, digest=digest, stdout=stdout)

    def totals(self, captures, more=()):
        """Frames and flows as the terminal summary counts them. Its run is not measured: it warms the page cache."""
        with tempfile.TemporaryFile() as out:
            ended = self.audit(captures, more=more, stdout=out)
            if not ended.finished:
                raise Missing(f"portproof did not finish within {self.options.timeout:.0f} s")
            out.seek(0, os.SEEK_END)
            out.seek(max(0, out.tell() - MIB))
            text = out.read().decode(errors="replace")
        found = [re.search(rf"^\s*{what}: ([\d,]+)", text, re.MULTILINE) for what in ("Frames", "Flows")]
        if not all(found):
            raise Missing("the totals in portproof's summary: has its form changed?")
        return tuple(int(match[1].replace(",", "")) for match in found)

    def peer(self, peer, path):
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        # softflowd sends what it finds. Someone is there to receive it, and leaves it unread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            if peer.name == "suricata":
                (out / "suricata.yaml").write_text(SURICATA_YAML)
            filled = self.filled(peer.command, file=path, out=out, port=receiver.getsockname()[1])
            environment = {"PATH": search_path()}
            try:
                return run(filled, timeout=self.options.timeout, environment=environment)
            finally:
                shutil.rmtree(out, ignore_errors=True)

    def filled(self, words, **values):
        return [word.format(python=self.python(), **values) for word in words]

    def version(self, peer):
        """None: not installed."""
        if self.options.peers == "none" or not shutil.which(*self.filled([peer.program]), path=search_path()):
            return None
        try:
            told = subprocess.run(self.filled(peer.version), env={**os.environ, "PATH": search_path()}, text=True,
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return "version unknown"
        found = re.search(peer.version_pattern, told.stdout + told.stderr)
        return found[1] if found else "version unknown"

    # -- what is held against a limit

    def held(self, what, met):
        """The word for it. Limits are for whole workloads: of heads, nothing is said."""
        if met is None or self.options.quick:
            return ""
        self.limits.append((what, met))
        return "met" if met else "**MISSED**"

    def limited(self, what, pairs, which, limit, inverse=False):
        values = pairs.ratios(which)
        cell = spread(values, inverse)
        if limit is not None:
            verdict = self.held(what, statistics.median(values) <= limit)
            cell += f"; limit {bound(limit, inverse)}" + (f", {verdict}" if verdict else "")
        return cell

    def left_out(self, what, why):
        say(f"{what}: left out. {why}")
        self.unmeasured.append(f"{what} ({why})")

    def section(self, title, *parts):
        text = "\n\n".join([f"### {title}", *parts])
        self.report.append(text)
        say("\n" + text + "\n")

    # -- sections

    def peers(self):
        watch = Watch()
        versions = {peer.name: self.version(peer) for peer in PEERS}
        present = [peer for peer in PEERS if versions[peer.name]]
        ratios = {name: {} for name in ["floor"] + [peer.name for peer in present]}
        raw = []
        heads = set()
        for key in self.keys:
            try:
                path = self.captures.measured(key)
                frames, flows = self.totals(path)
            except Missing as missing:
                self.left_out(f"peers, {key}", missing)
                continue
            say(f"{TITLES[key]}: {frames:,} frames, {flows:,} flows")
            raw.append((f"**{TITLES[key]}**", f"{path.stat().st_size:,} bytes, {frames:,} frames, {flows:,} flows", *[""] * 6))
            pairs = alternate(lambda: self.audit(path), lambda: run([self.floor, path]), self.options.pairs)
            ratios["floor"][key] = self.limited(f"floor, {key}", pairs, "cpu", FLOOR_LIMITS[key])
            ratios["floor"][key] += f" (stretch {FLOOR_STRETCH[key]})"
            raw.append(raw_row("portproof", pairs.a, frames))
            raw.append(raw_row("floor", pairs.b, frames))
            for peer in present:
                say(f"  {peer.name}")
                measured, count = path, frames
                if peer.head and not self.options.quick:
                    if key not in ("w1", "w2"):
                        continue
                    measured, count = self.captures.head(key, SLOW_PEER_PACKETS), SLOW_PEER_PACKETS
                    heads.add(measured.name)
                limit = peer.limits.get(key)
                try:
                    pairs = alternate(lambda: self.audit(measured), lambda: self.peer(peer, measured),
                                      self.options.pairs, self.options.timeout)
                except Missing as missing:
                    ratios[peer.name][key] = f"failed: {missing}"
                    continue
                what = f"{peer.name}, {key}"
                name = peer.name + (f" ({measured.name})" if measured != path else "")
                if pairs.b[-1].finished:
                    ratios[peer.name][key] = self.limited(what, pairs, "cpu", limit, peer.inverse)
                    raw.append(raw_row(name, pairs.b, count))
                    continue
                if pairs.b[-1].cpu < pairs.b[-1].wall / 100:
                    # It waited for something. Time that it never worked says nothing about what its work costs.
                    ratios[peer.name][key] = f"stood still for {self.options.timeout:.0f} s, not measured"
                    continue
                # It was stopped, so it needs more than this: the ratio is below what was seen, and that may be enough.
                most = pairs.median("cpu")
                cell = f"below **{times(most, peer.inverse)}** (stopped after {self.options.timeout:.0f} s)"
                if limit is not None:
                    verdict = self.held(what, True if most <= limit else None)
                    cell += f"; limit {bound(limit, peer.inverse)}, {verdict or 'open'}"
                ratios[peer.name][key] = cell
                raw.append((name, "stopped", *raw_row(name, pairs.b, count)[2:]))
        if not raw:
            return
        rows = [("floor", *[ratios["floor"].get(key, "-") for key in self.keys])]
        for peer in present:
            rows.append((f"`{peer.shown}`", *[ratios[peer.name].get(key, "-") for key in self.keys]))
        missing = [f"{peer.name} ({peer.package})" for peer in PEERS if not versions[peer.name]]
        notes = ["Versions: " + ", ".join(f"{peer.name} {versions[peer.name]}" for peer in present) + "."] if present else []
        if heads:
            notes.append(f"Measured on the first {SLOW_PEER_PACKETS:,} packets, portproof likewise: {', '.join(sorted(heads))}.")
        if self.options.peers == "none":
            notes.append("Other tools were left out (`--peers none`).")
        elif missing:
            notes.append("Not installed, so not measured: " + ", ".join(missing) + ".")
        self.section(
            f"One thread: CPU of portproof over CPU of the other{self.note()}",
            "Median of paired ratios (least..largest); 1/6 means that portproof took a sixth of the other's CPU time.",
            table(["against", *[TITLES[key] for key in self.keys]], rows), "\n".join([*notes, watch.line()]))
        self.section(
            f"The same runs in seconds{self.note()}",
            table(["program", "pairs", "CPU s (least..largest)", "wall s", "CPU ns a frame", "frames a CPU s", "peak MiB",
                   "wall / CPU"], raw),
            f"Peaks below {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB cannot be told from the script's "
            "own: the kernel counts the moment before a program is started.")

    def threads(self):
        watch = Watch()
        if (os.cpu_count() or 1) < 2:
            self.left_out("threads", "there is one processor")
            return
        rows = []
        cases = [(key, TITLES[key]) for key in self.keys]
        if "w1" in self.keys:
            cases.append(("set", "W1 as four files"))
        for key, title in cases:
            try:
                paths = self.captures.quartered_w1() if key == "set" else [self.captures.measured(key)]
                self.totals(paths)
                say(f"threads, {title}")
                pairs = alternate(lambda: self.audit(paths, jobs=2), lambda: self.audit(paths), self.options.pairs)
                digests = [self.audit(paths, jobs=jobs, more=["--format", "json"], digest=True) for jobs in (2, 1)]
            except Missing as missing:
                self.left_out(f"threads, {title}", missing)
                continue
            if not all(each.finished for each in [*pairs.a, *pairs.b]):
                self.left_out(f"threads, {title}", f"did not finish within {self.options.timeout:.0f} s")
                continue
            if not all(each.finished for each in digests):
                same = f"not compared: over {self.options.timeout:.0f} s"
                self.left_out(f"bytes for any --jobs, {title}", same)
            else:
                same = digests[0].digest == digests[1].digest
                self.limits.append((f"same bytes for any --jobs, {key}", same))
                same = "equal" if same else "**DIFFERENT**"
            rows.append((
                title, self.limited(f"two threads, wall, {key}", pairs, "wall", THREAD_LIMITS[key]),
                self.limited(f"two threads, CPU, {key}", pairs, "cpu", THREAD_CPU_LIMIT),
                f"{statistics.median(each.wall for each in pairs.b):.2f}, {statistics.median(each.wall for each in pairs.a):.2f}",
                f"{mib(max(each.peak for each in pairs.b))}, {mib(max(each.peak for each in pairs.a))}", same))
        if rows:
            self.section(
                f"Two threads over one{self.note()}",
                table(["captures", "wall of `--jobs 2` / `--jobs 1`", "CPU", "wall s (1, 2)", "peak MiB (1, 2)",
                       "bytes of `--format json`"], rows), watch.line())

    def memory(self):
        watch = Watch()
        rows = []
        peaks = {}

        def peak(key, title, path, judge, more=()):
            try:
                frames, flows = self.totals(path, more)
                runs = [self.audit(path, more=more) for _ in range(min(3, self.options.pairs))]
            except Missing as missing:
                self.left_out(f"memory, {title}", missing)
                return
            if not all(each.finished for each in runs):
                self.left_out(f"memory, {title}", f"did not finish within {self.options.timeout:.0f} s")
                return
            most = max(each.peak for each in runs)
            peaks[key] = (most, flows)
            say(f"memory, {title}: {mib(most)} MiB")
            figure, limit, met = judge(most, flows) if judge else ("", "", None)
            verdict = self.held(f"memory, {title}", met)
            rows.append((title, f"{frames:,}", f"{flows:,}", mib(most), figure, f"{limit}{', ' if verdict else ''}{verdict}"))

        def a_flow(most, flows):
            bytes_a_flow = max(0, most - W1_PEAK_MIB * MIB) / flows
            return (f"{bytes_a_flow:.0f} bytes a flow above {W1_PEAK_MIB} MiB", f"{W2_BYTES_A_FLOW} bytes",
                    bytes_a_flow <= W2_BYTES_A_FLOW)

        def grown(most, _flows):
            if "w1" not in peaks:
                return "", "", None
            growth = most / peaks["w1"][0]
            return f"{growth:.3f} of W1's", f"{DOUBLED_PEAK:g}", growth <= DOUBLED_PEAK

        def kept(most, flows):
            whole = peaks.get("w4", (0, flows))[1] == flows
            told = f"all {flows:,} flows" if whole else f"**{flows:,} flows instead of {peaks['w4'][1]:,}**"
            return told, f"{W4_LIMIT_MIB} MiB, same count", most <= W4_LIMIT_MIB * MIB and whole

        judges = {"w1": lambda most, _: ("", f"{W1_PEAK_MIB} MiB", most <= W1_PEAK_MIB * MIB), "w2": a_flow}
        for key in self.keys:
            try:
                peak(key, TITLES[key], self.captures.measured(key), judges.get(key))
                if key == "w1":
                    if self.options.quick:
                        doubled = self.captures.head("w1", 2 * QUICK_PACKETS)
                    else:
                        doubled = self.captures.generate("w1-doubled.pcap", DOUBLED_W1)
                    peak("doubled", "W1, twice as long, as many connections at a time", doubled, grown)
                if key == "w4":
                    limit = f"{W4_LIMIT_MIB}MiB"
                    usage = subprocess.run([self.binary, "audit", "--help"], capture_output=True, text=True).stdout
                    if "--memory-limit" in usage:
                        path = self.captures.measured(key)
                        peak("limited", f"W4 with `--memory-limit {limit}`", path, kept, ["--memory-limit", limit])
                    else:
                        rows.append((f"W4 with `--memory-limit {limit}`", *["-"] * 3, "there is no such option", ""))
                        self.held("memory, W4 with --memory-limit", False)
            except Missing as missing:
                self.left_out(f"memory, {key}", missing)
        if rows:
            self.section(
                f"Memory: peak of resident memory, one thread{self.note()}",
                table(["capture", "frames", "flows", "peak MiB (largest of the runs)", "", "limit"], rows), watch.line())

    def growth(self):
        watch = Watch()
        scale = 5 if self.options.quick else 1
        rows = []

        def made(name, options):
            return self.captures.generate(f"growth-{name}-{scale}.pcap", options)

        def packets():
            flows = 10_000 // scale
            return [[made(f"packets{mean}", f"--profile bulk --flows {flows} --packets {mean}")] for mean in (50, 100)]

        def w2():
            return [[self.captures.head("w2", count // scale)] for count in (1_000_000, 2_000_000)]

        def flood():
            return [[made(f"flows{count}", f"--profile synflood --flows {count // scale}")] for count in (500_000, 1_000_000)]

        def lookups():
            return [[made(f"names{count}", f"--profile dns --flows {count // scale} --accounts {count // 5 // scale}")]
                    for count in (100_000, 200_000)]

        def rules():
            pack = (ROOT / "rules" / "veeam" / "vbazure-ports.toml").read_text()
            files = []
            for copies in (1, 100):
                file = self.folder / f"rules-{copies}.toml"
                file.write_text(copied_rules(pack, copies))
                files.append([w2()[0][0], "--rules", file])
            return files

        def prefixes():
            few = ROOT / "rules" / "service-tags" / "ServiceTags_Public_cn363_seed_subset.json"
            many = self.captures.shared / "reference" / "ServiceTags_Public_cn363.json"
            if not many.exists():
                raise Missing(str(many))
            return [[w2()[0][0], "--service-tags", f"{file}@2025-07-22"] for file in (few, many)]

        cases = [
            ("packets of as many connections, 50 -> 100 on average", 2, packets),
            (f"packets, flows and names: the first {1_000_000 // scale:,} -> {2_000_000 // scale:,} packets of W2", 2, w2),
            (f"flows: {500_000 // scale:,} -> {1_000_000 // scale:,} single SYNs", 2, flood),
            (f"names and accounts: {100_000 // scale:,} -> {200_000 // scale:,} lookups", 2, lookups),
            ("rules: 41 -> 4,100 (head of W2)", 100, rules),
            ("service tag prefixes: 6,174 -> 90,493 (head of W2)", 90_493 / 6_174, prefixes),
        ]
        for title, factor, prepare in cases:
            try:
                (small, *small_more), (large, *large_more) = prepare()
                for path in {small, large}:
                    self.totals(path)
                say(f"growth, {title}")
                pairs = alternate(lambda: self.audit(large, more=large_more), lambda: self.audit(small, more=small_more),
                                  self.options.pairs)
                if not all(each.finished for each in [*pairs.a, *pairs.b]):
                    raise Missing(f"did not finish within {self.options.timeout:.0f} s")
            except Missing as missing:
                self.left_out(f"growth, {title}", missing)
                continue
            whole = pairs.ratios("cpu")
            doubled = statistics.median(whole) ** (1 / math.log2(factor))
            verdict = self.held(f"growth, {title}", doubled <= DOUBLING_LIMIT)
            seconds = [statistics.median(each.cpu for each in side) for side in (pairs.b, pairs.a)]
            rows.append((title, spread(whole), f"{doubled:.2f}",
                         f"{DOUBLING_LIMIT}{', ' if verdict else ''}{verdict}", f"{seconds[0]:.3f} -> {seconds[1]:.3f}"))
        self.section(
            "Growth: CPU of the larger over the smaller" + (" (QUICK: a fifth of the sizes)" if self.options.quick else ""),
            table(["what grows", "CPU ratio", "for one doubling", "limit", "CPU s"], rows), watch.line())

    def stages(self):
        watch = Watch()
        rows = []
        for key in self.keys:
            try:
                path = self.captures.head(key, QUICK_PACKETS)
            except Missing as missing:
                self.left_out(f"stages, {key}", missing)
                continue
            say(f"stages, {TITLES[key]}")
            told = subprocess.run(
                ["cargo", "bench", "--quiet", "--locked", "--no-default-features", "--bench", "stages", "--", path, self.site],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
            before = 0.0
            if told.returncode != 0:
                self.left_out(f"stages, {key}", "cargo bench failed")
            for line in told.stdout.splitlines():
                found = re.match(r"(.*?)\s+([\d.]+) ns/frame\s+([\d.]+) allocations/frame\s+([\d.]+) bytes/frame", line)
                if found:
                    stage, cost = found[1], float(found[2])
                    rows.append((TITLES[key], stage, f"{cost:.1f}", f"{cost - before:+.1f}", found[3], found[4]))
                    before = cost
        if rows:
            self.section(
                f"Stages: the first {QUICK_PACKETS:,} packets of each",
                table(["capture", "stages up to and with", "ns a frame", "over the line before", "allocations a frame",
                       "bytes allocated a frame"], rows),
                "Least of three runs, in one process, with allocations counted (so a little dearer than the whole runs above). "
                + watch.line())

    def note(self):
        return f" (QUICK: the first {QUICK_PACKETS:,} packets only; limits are for whole workloads)" if self.options.quick else ""

    # -- the whole

    def heading(self):
        processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / MIB
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        commit = output_of(["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"])
        built = "given with --portproof, not built by this run" if self.options.portproof else \
            "cargo build --release --locked --no-default-features (without polars)"
        return "\n".join([
            f"Measured {time.strftime('%d %b %Y')} at commit {commit} on {os.cpu_count()} processors "
            f"({processor[1] if processor else platform.machine()}), {memory:.0f} GiB, {system}, Linux {platform.release()}, "
            f"{output_of(['rustc', '--version'])}.",
            f"Command: `./dev bench{''.join(' ' + word for word in shown_arguments())}`. portproof: {built}. "
            f"{self.options.pairs} pairs, warm page cache, `--jobs 1` where nothing else is said, standard output to /dev/null."])

    def go(self):
        if os.getloadavg()[0] > BUSY_LOAD:
            say(f"WARNING: load average {os.getloadavg()[0]:.2f}. Figures for a document need an idle machine.")
        try:
            self.build()
        except Missing as missing:
            self.left_out("everything", f"missing: {missing}")
            return
        except (OSError, subprocess.CalledProcessError) as error:
            self.left_out("everything", error)
            return
        self.report.append(self.heading())
        for name in SECTIONS:
            if name in self.options.only:
                say(f"== {name}")
                getattr(self, name)()
        missed = [what for what, met in self.limits if not met]
        summary = f"{len(self.limits)} limits checked, {len(missed)} missed" + (": " + "; ".join(missed) if missed else "")
        if self.unmeasured:
            summary += ". Not measured: " + "; ".join(self.unmeasured)
        self.report.append(summary + ".")
        text = "\n\n".join(self.report) + "\n"
        print(text)
        if self.options.markdown:
            self.options.markdown.write_text(text)
            say(f"written to {self.options.markdown}")


def raw_row(name, runs, frames):
    cpu = [each.cpu for each in runs]
    middle, wall = statistics.median(cpu), statistics.median(each.wall for each in runs)
    return (name, len(runs), f"{middle:.3f} ({min(cpu):.3f}..{max(cpu):.3f})", f"{wall:.3f}", f"{middle * 1e9 / frames:.0f}",
            f"{frames / max(middle, 1e-6) / 1e6:.2f} M", mib(max(each.peak for each in runs)), f"{wall / max(middle, 1e-6):.2f}")


def copied_rules(pack, copies):
    """The pack with each of its rules as often as asked, each copy with an identifier of its own."""
    start = pack.index("[[rule]]")
    end = re.search(r"^\[\[(?!rule\]\])", pack[start:], re.MULTILINE)
    end = start + end.start() if end else len(pack)
    block = pack[start:end]
    more = [re.sub(r'^id = "([^"]+)"', rf'id = "\1-copy{copy}"', block, flags=re.MULTILINE) for copy in range(1, copies)]
    text = pack[:end] + "\n" + "\n".join(more) + pack[end:]
    rules = len(tomllib.loads(text)["rule"])
    expected = len(tomllib.loads(pack)["rule"]) * copies
    assert rules == expected, f"{rules} rules instead of {expected}"
    return text


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def output_of(command):
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def shown_arguments():
    """As given, but for where things lie on this machine."""
    words = []
    skip = False
    for word in sys.argv[1:]:
        if skip:
            skip = False
            continue
        name = word.split("=", 1)[0]
        if name in ("--markdown", "--portproof", "--shared"):
            skip = "=" not in word
            continue
        words.append(word)
    return words


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure whole runs of portproof beside other tools.")
    parser.add_argument("--quick", action="store_true",
                        help=f"the first {QUICK_PACKETS:,} packets of each workload: to see that all runs, not to quote")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="alternating runs for each ratio [default: 5]")
    parser.add_argument("--peers", choices=["none", "installed", "cheap", "all"], default="cheap",
                        help="other tools: none; those installed already; those and what apt has (default); nfstream from "
                             "PyPI besides")
    parser.add_argument("--only", type=words_of(SECTIONS), default=SECTIONS, metavar="SECTION,...",
                        help="of " + ", ".join(SECTIONS))
    parser.add_argument("--workloads", type=words_of(list(TITLES)), default=list(TITLES), metavar="W,...",
                        help="of " + ", ".join(TITLES))
    parser.add_argument("--timeout", type=float, default=180, metavar="SECONDS",
                        help="stop a single run after so long, and a peer's pairs on one workload [default: 180]")
    parser.add_argument("--portproof", type=Path, metavar="PROGRAM", help="measure this instead of building")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", metavar="DIR",
                        help="where workload/ and reference/ are [default: ../shared]")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, ready to paste")
    parser.add_argument("--check", action="store_true", help="exit 1 if a limit is missed or could not be measured (peers apart); without it, exit 0 whatever is seen")
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error("--pairs: one at least")
    if options.check and options.quick:
        parser.error("--check needs the whole workloads: limits say nothing about --quick")
    bench = Bench(options)
    bench.go()
    if options.check and (bench.unmeasured or not all(met for _, met in bench.limits)):
        sys.exit(1)


def words_of(known):
    def parse(text):
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"`{word}` is none of {', '.join(known)}")
        return [word for word in known if word in words]
    return parse


if __name__ == "__main__":
    main()
