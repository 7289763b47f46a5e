#!/usr/bin/env python3
"""How many frames a live run loses beside dumpcap, at several rates.

usage: live_load.py [options] PORTPROOF SITE.toml CAPTURE

Replays CAPTURE (shared/workload's genload makes ones) with tcpreplay over a pair of virtual devices, at several rates and as
fast as the generator can, and lets dumpcap (`-B 64`) and `portproof live` watch, one after the other and in turn (A B A B).
A run's drops are what was sent less what the watcher says that it got: its own word about drops is shown beside, and the
two have to agree. Needs root, tcpreplay and dumpcap; about (rates x runs x 2) x (seconds + 4) of time.

All of it lives in namespaces of this process alone, which end with it, however it ends. All three programs share the machine's
processors, as on the appliance itself: what a rate costs the generator is part of it.
"""
import argparse
import calendar
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

LIMIT = 0.001  # Of what was offered: that much more than dumpcap may portproof drop.


def run(*command, **more):
    return subprocess.run(command, check=True, text=True, capture_output=True, **more)


def in_namespaces():
    """Starts this script again where it has a network, mounts and processes of its own."""
    if os.environ.get("LIVE_LOAD_INSIDE"):
        return
    if os.geteuid() != 0:
        sys.exit("live_load.py: needs root (namespaces)")
    missing = [program for program in ["ip", "unshare", "tcpreplay", "dumpcap"] if not shutil.which(program)]
    if missing:
        sys.exit(f"live_load.py: missing: {' '.join(missing)} (Debian: iproute2, util-linux, tcpreplay, wireshark-common)")
    os.environ["LIVE_LOAD_INSIDE"] = "1"
    own = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *own])


def devices():
    """`gen` sends to `tap`; nothing else is there to speak on either."""
    run("mount", "--make-rprivate", "/")
    # The statistics of devices that it shows are those of the namespace that it was mounted in.
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("ip", "link", "add", "gen", "mtu", "9000", "type", "veth", "peer", "name", "tap", "mtu", "9000")
    for device in ["gen", "tap"]:
        for protocol in ["4", "6"]:
            base = f"/proc/sys/net/ipv{protocol}/conf/{device}"
            for key, value in [("disable_ipv6", "1"), ("arp_ignore", "8")]:
                if os.path.exists(f"{base}/{key}"):
                    pathlib.Path(base, key).write_text(value)
        run("ip", "link", "set", device, "arp", "off", "promisc", "on", "up")


def received():
    """Frames that came to `tap`, by the kernel's counter."""
    return int(pathlib.Path("/sys/class/net/tap/statistics/rx_packets").read_text())


def head(source, frames, target):
    """The first so many frames of a pcap file: what a run replays, again and again."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        header = reader.read(24)
        order = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}.get(header[:4])
        if order is None:
            sys.exit(f"{source}: not a pcap file (pcapng is not read here)")
        writer.write(header)
        for done in range(frames):
            record = reader.read(16)
            if len(record) < 16:
                return done
            writer.write(record)
            writer.write(reader.read(struct.unpack(order + "I", record[8:12])[0]))
    return frames


class Watcher:
    """A program that watches `tap`, until it is interrupted."""

    def __init__(self, name, command, ready):
        self.name, self.command, self.ready = name, command, ready

    def during(self, work, folder):
        """(frames got, drops told, CPU seconds, peak of resident memory in MiB) of one run; and what `work` gave."""
        log = folder / f"{self.name}.log"
        with open(log, "w") as errors, open(folder / f"{self.name}.out", "w") as out:
            process = subprocess.Popen([part.format(folder=folder) for part in self.command], stdout=out, stderr=errors)
            until = time.monotonic() + 20
            while not self.ready(folder, log):
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit(f"{self.name} does not watch:\n{log.read_text()}")
                time.sleep(0.1)
            time.sleep(0.5)
            done = work()
            # What waits in rings is still to be read.
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 1, 3):
            sys.exit(f"{self.name} ended with {os.waitstatus_to_exitcode(status)}:\n{log.read_text()}")
        return done, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def dumpcap(buffer):
    command = ["dumpcap", "-q", "-i", "tap", "-B", str(buffer), "-w", "{folder}/dumpcap.pcapng"]
    return Watcher("dumpcap", command, lambda folder, log: "File: " in log.read_text())


def dumpcap_told(folder):
    # Packets received/dropped on interface 'tap': 1000/0 (pcap:0/dumpcap:0/flushed:0/ps_ifdrop:0) (100.0%)
    told = re.search(r"received/dropped on interface '[^']*': (\d+)/(\d+)", (folder / "dumpcap.log").read_text())
    return int(told[1]), int(told[2])


def portproof(program, site, buffer, more):
    command = [program, "live", "-i", "tap", "-B", str(buffer), "--site", site, "--out", "{folder}/live", "--events", "{folder}/events.jsonl", "--format", "json", *more]
    began = lambda folder, log: (folder / "events.jsonl").exists() and (folder / "events.jsonl").stat().st_size > 0
    return Watcher("portproof", command, began)


def portproof_told(folder):
    audit = json.loads((folder / "portproof.out").read_text())
    inputs = audit["inputs"]
    return sum(i["frames"] for i in inputs), sum(i["drops"] or 0 for i in inputs)


# What is true only once nothing came for some seconds (SEMANTICS sections 2 and 3): its event cannot come sooner.
SILENT = {"filtered", "unanswered"}


def latencies(folder):
    """Seconds from the last frame of a finding to the event by which it appeared, of findings of one flow: of those that frames
    show, and of those that silence shows; and how often a conversation came too fast to be followed."""
    def seconds(text):
        day, _, fraction = text.rstrip("Z").partition(".")
        return calendar.timegm(time.strptime(day, "%Y-%m-%dT%H:%M:%S")) + float("0." + (fraction or "0"))

    shown, silent, unfollowed = [], [], 0
    for event in map(json.loads, (folder / "events.jsonl").read_text().splitlines()):
        if event["event"] == "unfollowed":
            unfollowed += event["conversations"]
        if event["event"] != "appeared" or event["finding"]["count"] != 1 or not event["finding"]["last_ts"]:
            continue
        finding = event["finding"]
        by_silence = finding["code"] == "name-blocked" or SILENT.intersection(finding["outcomes"])
        (silent if by_silence else shown).append(seconds(event["at"]) - seconds(finding["last_ts"]))
    return sorted(shown), sorted(silent), unfollowed


def replay(capture, rate, seconds):
    """Sends for so long; hands back how many frames came to the other side, and how many a second."""
    speed = ["--topspeed"] if rate is None else [f"--pps={rate}"]
    before, began = received(), time.monotonic()
    # Loops without end, cut by time: tcpreplay itself counts what it was to send, not what was taken.
    run("tcpreplay", "-q", "-i", "gen", "--preload-pcap", "--loop=100000000", f"--duration={seconds}", *speed, str(capture))
    took = time.monotonic() - began
    return received() - before, took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portproof", help="the program, built with --release")
    parser.add_argument("site", help="site file that fits the capture")
    parser.add_argument("capture", help="pcap file to replay")
    parser.add_argument("--rates", default="50000,100000,200000,top", help="frames a second; `top` is what the generator can [default: %(default)s]")
    parser.add_argument("--runs", type=int, default=5, help="of each program at each rate [default: %(default)s]")
    parser.add_argument("--seconds", type=int, default=20, help="of sending [default: %(default)s]")
    parser.add_argument("--frames", type=int, default=400_000, help="of the capture, sent over and over [default: %(default)s]")
    parser.add_argument("--buffer", type=int, default=64, help="ring of both programs, MiB [default: %(default)s]")
    parser.add_argument("--check", action="store_true", help="exit with 1 where portproof's median of drops is beyond the limit")
    parser.add_argument("--live", default="", help="more options of `portproof live`, such as `--save`")
    parser.add_argument("--latency", action="store_true", help="also tell how long findings of one flow take to appear")
    parser.add_argument("--only", choices=["dumpcap", "portproof"], help="one of the programs, to try this script")
    options = parser.parse_args()
    in_namespaces()
    devices()
    told = {"dumpcap": dumpcap_told, "portproof": portproof_told}
    watchers = [dumpcap(options.buffer), portproof(os.path.abspath(options.portproof), os.path.abspath(options.site), options.buffer, options.live.split())]
    watchers = [w for w in watchers if options.only in (None, w.name)]
    missed = []
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {options.runs} runs in turn, {options.seconds} s each, rings of {options.buffer} MiB\n")
    print("| wanted, frames/s | program | offered, median | frames/s | dropped, each run, ppm | median, ppm | drops told | CPU s | memory MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="live-load-") as place:
        place = pathlib.Path(place)
        frames = head(options.capture, options.frames, place / "replayed.pcap")
        if frames < options.frames:
            print(f"(the capture has only {frames} frames)", file=sys.stderr)
        for word in options.rates.split(","):
            rate = None if word == "top" else int(word)
            rows = {watcher.name: [] for watcher in watchers}
            for number in range(options.runs):
                for watcher in watchers:
                    folder = place / f"{word}-{watcher.name}-{number}"
                    folder.mkdir()
                    (offered, took), cpu, memory = watcher.during(lambda: replay(place / "replayed.pcap", rate, options.seconds), folder)
                    got, dropped = told[watcher.name](folder)
                    if options.latency and watcher.name == "portproof":
                        shown, silent, unfollowed = latencies(folder)
                        for what, took_each in [("frames", shown), ("silence", silent)]:
                            at = lambda share: took_each[min(int(share * len(took_each)), len(took_each) - 1)]
                            if took_each:
                                print(f"{word}: {len(took_each)} findings that {what} show appeared within {at(0.5):.2f} s (median), {at(0.99):.2f} (99 %), {at(1):.2f} (all)", file=sys.stderr)
                        print(f"{word}: {unfollowed} times a conversation came too fast to be followed", file=sys.stderr)
                    rows[watcher.name].append((offered, offered / took, 1e6 * (offered - got) / max(offered, 1), dropped - (offered - got), dropped, cpu, memory))
                    shutil.rmtree(folder)
            medians = {}
            for name, runs in rows.items():
                middle = [statistics.median(run[column] for run in runs) for column in range(7)]
                medians[name] = middle[2]
                each = ", ".join(f"{run[2]:.0f}" for run in runs)
                # Where a program's own word and the difference disagree, somebody lost frames in silence.
                silent = [run[3] for run in runs if run[3]]
                print(f"| {word} | {name} | {middle[0]:.0f} | {middle[1]:.0f} | {each} | {middle[2]:.0f} | {middle[4]:.0f}{' (silent: ' + str(silent) + ')' if silent else ''} | {middle[5]:.1f} | {middle[6]:.0f} |", flush=True)
            if len(medians) == 2 and medians["portproof"] > medians["dumpcap"] + 1e6 * LIMIT:
                missed.append(word)
    if missed:
        print(f"\nbeyond dumpcap's drops plus {100 * LIMIT} % of what was offered: {', '.join(missed)}")
    if missed and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
