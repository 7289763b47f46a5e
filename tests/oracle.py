#!/usr/bin/env python3
"""Holds `portproof extract` against captures whose truth another program wrote down, and looks for crashes.

usage: oracle.py PORTPROOF SHARED_CAPTURES SITE.toml CAPTURES

1. Extracts every capture of SHARED_CAPTURES/normal, turns the rows into the comparer's form (adapt.py) and prints the
   comparer's score (compare.py) question by question. Below THRESHOLD_PERCENT in any: failure.
2. Runs `extract` and `audit` over every capture of normal and hostile. A panic, another exit code than the four that
   are documented, more than SECONDS, or more than MEMORY_MIB resident: failure.
3. Counts the frames of all of them, and of CAPTURES, with capinfos. Another count than ours: failure, unless FRAMES says
   why capinfos counts otherwise.
"""
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

THRESHOLD_PERCENT = 90
SECONDS = 10
MEMORY_MIB = 512
EXIT_CODES = {0, 1, 2, 3}
# As the comparer names them; each must have been compared at all.
QUESTIONS = ("tcp flows", "udp flows", "direction", "outcome", "dns", "sni", "quic sni", "http", "files")
# Encapsulations whose inner conversations the comparison leaves out.
UNSUPPORTED = "gtp,erspan,wlan,l2tp,ipcomp,teredo,capwap"

# Captures that capinfos counts otherwise, and why that is no mistake here.
FRAMES = {}


def capinfos(capture):
    """How many frames capinfos counts; None where it does not read the file to its end."""
    said = subprocess.run(["capinfos", "-c", "-M", "-T", "-r", str(capture)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    fields = said.stdout.rstrip("\n").split("\t")
    return int(fields[-1]) if said.returncode == 0 and fields[-1].isdigit() else None


def count_frames(capture, summary):
    """Holds our count of a capture against that of capinfos: ("equal" | "capinfos refuses" | "explained", complaint)."""
    theirs = capinfos(capture)
    if theirs is None:
        return "capinfos refuses", None
    ours = None
    if summary.exists() and summary.stat().st_size:
        with open(summary, encoding="utf8") as lines:
            ours = json.loads(lines.readline())["frames"]
    if ours == theirs:
        return "equal", None
    if capture.name in FRAMES:
        return "explained", None
    return "different", f"capinfos {capture.name}: {theirs} frames, here {ours}"


def run(arguments, log):
    """Runs a command; returns what is wrong with how it ended, or None."""
    with open(log, "wb") as stderr:
        child = subprocess.Popen(["timeout", "--kill-after=1", str(SECONDS), *arguments],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(child.pid, 0)  # usage includes the program that `timeout` waited for
        child.returncode = code = os.waitstatus_to_exitcode(status)
    mebibytes = usage.ru_maxrss // 1024
    if code in (124, 137):
        return f"still running after {SECONDS} s"
    if code not in EXIT_CODES:
        with open(log, encoding="utf8", errors="replace") as text:
            last = [line.strip() for line in text if line.strip()][-4:]
        return f"exit code {code}: {' | '.join(last)}"
    if mebibytes > MEMORY_MIB:
        return f"{mebibytes} MiB resident, more than {MEMORY_MIB}"
    return None


def examine(portproof, site, capture, work):
    """Both commands over one capture. Returns complaints; leaves the extracted rows in `work`."""
    path = {what: work / f"{capture.name}.raw-{what}.jsonl" for what in ("flows", "names", "summary")}
    extract = [portproof, "extract", "--keep-duplicates", str(capture)]
    for what, file in path.items():
        extract += [f"--{what}", str(file)]
    audit = [portproof, "audit", str(capture), "--site", site, "--format", "json"]
    complaints = []
    for command in (extract, audit):
        problem = run(command, work / f"{capture.name}.{command[1]}.log")
        if problem:
            complaints.append(f"{command[1]} {capture.parent.name}/{capture.name}: {problem}")
    return complaints


def adapt(script, capture, work):
    """Rows to the comparer's form. Returns complaints."""
    complaints = []
    for what, suffix in (("flows", "flows.jsonl"), ("names", "dns.jsonl"), ("summary", "summary.json")):
        raw = work / f"{capture.name}.raw-{what}.jsonl"
        # An empty summary has no row to adapt; no row means no capture could be read.
        if raw.exists() and (what != "summary" or raw.stat().st_size):
            done = subprocess.run([sys.executable, script, what, raw, work / f"{capture.name}.{suffix}"], stderr=subprocess.PIPE)
            if done.returncode:
                complaints.append(f"adapt.py {what} {capture.name}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return complaints


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    portproof, shared, site = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]), os.path.abspath(sys.argv[3])
    own = sorted(f for f in pathlib.Path(sys.argv[4]).iterdir() if f.suffix in (".pcap", ".pcapng"))

    def captures(folder):
        return sorted(f for f in (shared / folder).iterdir() if f.is_file() and not f.name.endswith(".oracle.jsonl"))

    normal, hostile = captures("normal"), captures("hostile")
    with tempfile.TemporaryDirectory(prefix="portproof-oracle-") as folder:
        rows, rest = pathlib.Path(folder, "normal"), pathlib.Path(folder, "hostile")
        rows.mkdir()
        rest.mkdir()
        jobs = [(capture, rows) for capture in normal] + [(capture, rest) for capture in hostile + own]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            complaints = sum(pool.map(lambda job: examine(portproof, site, *job), jobs), [])
            complaints += sum(pool.map(lambda capture: adapt(shared / "adapt.py", capture, rows), normal), [])
            counted = list(pool.map(lambda job: count_frames(job[0], job[1] / f"{job[0].name}.raw-summary.jsonl"), jobs))
        complaints += [complaint for _, complaint in counted if complaint]
        comparer = [sys.executable, str(shared / "compare.py"), "--batch", str(shared / "normal"), str(rows),
                    "--unreliable", str(shared / "unreliable.json"), "--unsupported", UNSUPPORTED]
        compared = subprocess.run(comparer, stdout=subprocess.PIPE, text=True).stdout

    lines = compared.splitlines()
    if not lines:
        sys.exit("oracle.py: the comparer printed nothing")
    for line in lines:
        if not line.startswith("=="):  # mismatches; the score of each capture stays unsaid
            print(line)
    print()
    score = {name.strip(): (int(right), int(asked))
             for name, right, asked in re.findall(r"([a-z ]+) (\d+)/(\d+)", lines[-1].split(";")[0])}
    failed = bool(complaints)
    for question in QUESTIONS:
        right, asked = score.get(question, (0, 0))
        percent = 100 * right / asked if asked else 0.0  # a question that compared nothing proves nothing
        low = percent < THRESHOLD_PERCENT
        failed |= low
        print(f"{question:10} {percent:6.2f} %  ({right} of {asked}){f'  BELOW {THRESHOLD_PERCENT} %' if low else ''}")
    counts = collections.Counter(how for how, _ in counted)
    print(f"\nframes, by capinfos: {counts['equal']} of {len(counted)} captures equal, {counts['explained']} explained, "
          f"{counts['different']} different; {counts['capinfos refuses']} that capinfos does not read to the end")
    for (capture, _), (how, _) in zip(jobs, counted):
        if how == "explained":
            print(f"  {capture.name}: {FRAMES[capture.name]}")
    print(f"{len(normal)} normal and {len(hostile)} hostile captures, and {len(own)} of our own, through extract and audit: "
          f"{len(complaints)} complaints (panics, hangs, memory, frame counts, unreadable rows)")
    for complaint in complaints:
        print(f"  {complaint}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
