#!/usr/bin/env python3
"""Holds `portproof extract` against captures whose truth another program wrote down, and looks for crashes.

usage: oracle.py PORTPROOF SHARED_CAPTURES SITE.toml

1. Extracts every capture of SHARED_CAPTURES/normal, turns the rows into the comparer's form (adapt.py) and prints the
   comparer's score (compare.py) question by question. Below THRESHOLD_PERCENT in any: failure.
2. Runs `extract` and `audit` over every capture of normal and hostile. A panic, another exit code than the four that
   are documented, more than SECONDS, or more than MEMORY_MIB resident: failure.
"""
import concurrent.futures
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
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    portproof, shared, site = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]), os.path.abspath(sys.argv[3])

    def captures(folder):
        return sorted(f for f in (shared / folder).iterdir() if f.is_file() and not f.name.endswith(".oracle.jsonl"))

    normal, hostile = captures("normal"), captures("hostile")
    with tempfile.TemporaryDirectory(prefix="portproof-oracle-") as folder:
        rows, rest = pathlib.Path(folder, "normal"), pathlib.Path(folder, "hostile")
        rows.mkdir()
        rest.mkdir()
        jobs = [(capture, rows) for capture in normal] + [(capture, rest) for capture in hostile]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            complaints = sum(pool.map(lambda job: examine(portproof, site, *job), jobs), [])
            complaints += sum(pool.map(lambda capture: adapt(shared / "adapt.py", capture, rows), normal), [])
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
    print(f"\n{len(normal)} normal and {len(hostile)} hostile captures through extract and audit: "
          f"{len(complaints)} complaints (panics, hangs, memory, unreadable rows)")
    for complaint in complaints:
        print(f"  {complaint}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
