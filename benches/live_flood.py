#!/usr/bin/env python3
"""Whether a live run tells a thousand real connections right in a flood of SYNs, within its memory limit.

usage: live_flood.py [options] PORTPROOF

Writes a flood of lone SYNs of distinct tuples (ten million by default) into `portproof live -i -`, and between them the frames
of a thousand connections that are made here, of six kinds in turn. The same frames alone are audited offline. Each of the
thousand must come out as its kind says, and with the same verdict and rules as without the flood. The run's peak of memory is
held against the limit, and no frame may be missing from its audit.

Takes some minutes (rows are read as JSON lines, to find the thousand among the millions) and, with 10 million, 2 GB of disk
for rows where Parquet is built in. Needs nothing but Python.
"""
import argparse
import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import time

SITE = """
[site]
name = "flood"
region = "westeurope"
resolvers = ["168.63.129.16"]
virtual_network = ["10.10.0.0/16"]
[roles]
backup-appliance = ["10.10.0.4"]
worker = ["10.10.16.0/20"]
backup-server = ["10.20.0.10"]
web-browser = ["10.30.0.0/16"]
"""
BEGAN = 1_780_000_000 * 1_000_000  # In microseconds.
SPAN = 60_000_000  # The flood's: a minute, and ten seconds of quiet, so that silence shows.
SYN, ACK, FIN, RST, PSH = 2, 16, 1, 4, 8

# Kind: initiator, responder, port, what is seen, outcome.
KINDS = [
    ("browser", "appliance", 443, "whole", "established"),
    ("browser", "appliance", 443, "refused", "refused"),
    ("browser", "appliance", 443, "silent", "filtered"),
    ("browser", "appliance", 8443, "whole", "established"),
    ("appliance", "worker", 22, "whole", "established"),
    ("appliance", "stranger", 25, "refused", "refused"),
]


def ip(text):
    return bytes(int(part) for part in text.split("."))


def tcp(source, target, ports, sequence, acknowledged, flags, payload=b""):
    """An Ethernet frame; checksums are left out, as on a sender with offloading."""
    segment = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 64240, 0, 0) + payload
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0) + source + target
    return b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0" + header + segment


def frames_of(number, count):
    """(microseconds, frame) of one connection, and its key, kind and outcome."""
    kind = KINDS[number % len(KINDS)]
    one, other, port, seen, outcome = kind
    # The kinds share a browser: that silence was one shows where the capture sees answers to the same host.
    host = number // len(KINDS)
    high, low = host >> 8, host & 255
    place = {"browser": f"10.30.{high}.{low}", "appliance": "10.10.0.4", "worker": f"10.10.{16 + high}.{low}",
             "stranger": f"203.0.{113 + high}.{low}"}
    a, b, local = ip(place[one]), ip(place[other]), 30_000 + number
    at = BEGAN + (SPAN // count) * number
    there = lambda flags, s, k, data=b"": tcp(a, b, (local, port), s, k, flags, data)
    back = lambda flags, s, k, data=b"": tcp(b, a, (port, local), s, k, flags, data)
    if seen == "silent":
        told = [(0, there(SYN, 100, 0)), (1_000_000, there(SYN, 100, 0)), (3_000_000, there(SYN, 100, 0))]
    elif seen == "refused":
        told = [(0, there(SYN, 100, 0)), (20_000, back(RST | ACK, 0, 101))]
    else:
        told = [
            (0, there(SYN, 100, 0)), (20_000, back(SYN | ACK, 500, 101)), (40_000, there(ACK, 101, 501)),
            (60_000, there(PSH | ACK, 101, 501, b"x" * 90)), (90_000, back(PSH | ACK, 501, 191, b"y" * 700)),
            (2_000_000, there(FIN | ACK, 191, 1201)), (2_020_000, back(FIN | ACK, 1201, 192)), (2_040_000, there(ACK, 192, 1202)),
        ]
    key = (place[one], local, place[other], port)
    return [(at + after, frame) for after, frame in told], key, outcome


def record(at, frame):
    return struct.pack("<IIII", at // 1_000_000, at % 1_000_000, len(frame), len(frame)) + frame


HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def flood(real, wanted, write):
    """The flood and the real frames, in the order of time."""
    write(HEADER)
    syn = tcp(ip("198.51.0.0"), ip("10.10.0.4"), (0, 443), 1, 0, SYN)
    before, after = syn[:26], syn[38:]
    to = syn[30:34]
    length = struct.pack("<II", len(syn), len(syn))
    waiting = iter(real)
    following = next(waiting, None)
    chunk, clock, tuples = [], struct.Struct("<II"), struct.Struct(">HH4sHH")
    for number in range(wanted):
        at = BEGAN + number * SPAN // wanted
        while following is not None and following[0] <= at:
            chunk.append(record(*following))
            following = next(waiting, None)
        # 10 million tuples: 65,536 addresses, 153 ports of each.
        chunk.append(clock.pack(at // 1_000_000, at % 1_000_000) + length + before
                     + tuples.pack(0xC633, number & 0xFFFF, to, 1024 + (number >> 16), 443) + after)
        if len(chunk) >= 20_000:
            write(b"".join(chunk))
            chunk.clear()
    while following is not None:
        chunk.append(record(*following))
        following = next(waiting, None)
    write(b"".join(chunk))


def rows(command, keys):
    """The rows of the connections that are looked for, among all that the command prints."""
    found = {}
    ends = tuple(f'"responder_port":{port}' .encode() for port in {key[3] for key in keys})
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    for line in reader.stdout:
        # The flood comes from 198.51.0.0/16: most lines need not be parsed.
        if b'"198.51.' in line or not any(end in line for end in ends):
            continue
        row = json.loads(line)
        key = tuple(row.get(field) for field in ("initiator_ip", "initiator_port", "responder_ip", "responder_port"))
        if key in keys:
            found.setdefault(key, []).append(row)
    if reader.wait() not in (0, 1, 3):
        sys.exit(f"live_flood.py: {command} ended with {reader.returncode}")
    return found


def windows(text):
    """A window's audit is one JSON document; where one takes too much memory, the next begins early."""
    audits, at, reader = [], 0, json.JSONDecoder()
    while text[at:].strip():
        audit, at = reader.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
        audits.append(audit)
    return audits


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("portproof", type=pathlib.Path)
    parser.add_argument("--flood", type=int, default=10_000_000, help="lone SYNs (10,000,000)")
    parser.add_argument("--connections", type=int, default=1_000, help="real connections among them (1,000)")
    parser.add_argument("--memory-limit", type=int, default=512, help="MiB (512)")
    options = parser.parse_args()
    portproof = options.portproof.resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        site, out = folder / "site.toml", folder / "out"
        site.write_text(SITE)
        made = [frames_of(number, options.connections) for number in range(options.connections)]
        real = sorted((frame for frames, _, _ in made for frame in frames), key=lambda frame: frame[0])
        # The last frame is the same with and without the flood, and late enough for silence to be one.
        further, _, _ = frames_of(options.connections, options.connections)
        real.append((BEGAN + SPAN + 10_000_000, further[0][1]))
        wanted = {key: outcome for _, key, outcome in made}
        (folder / "alone.pcap").write_bytes(HEADER + b"".join(record(*frame) for frame in real))
        alone = rows([portproof, "audit", folder / "alone.pcap", "--site", site, "--format", "jsonl"], wanted)

        began = time.monotonic()
        live = subprocess.Popen(
            [portproof, "live", "-i", "-", "--site", site, "--out", out, "--memory-limit", f"{options.memory_limit}MiB",
             "--events", folder / "events.jsonl", "--format", "json"],
            stdin=subprocess.PIPE, stdout=open(folder / "audit.json", "wb"))
        flood(real, options.flood, live.stdin.write)
        live.stdin.close()
        _, status, used = os.wait4(live.pid, 0)
        live.returncode = os.waitstatus_to_exitcode(status)
        took, peak = time.monotonic() - began, used.ru_maxrss / 1024
        if live.returncode not in (0, 1):
            sys.exit(f"live_flood.py: portproof live ended with {live.returncode}")
        audits = windows((folder / "audit.json").read_text())
        offered, seen = options.flood + len(real), sum(audit["totals"]["frames"] for audit in audits)
        within = {}
        for window in [*sorted(out.glob("window-*")), out]:
            for key, found in rows([portproof, "report", window, "--format", "jsonl"], wanted).items():
                within.setdefault(key, []).extend(found)

    wrong, cut = [], 0
    fields = ("outcome", "verdict", "rules", "grade")
    for key, outcome in wanted.items():
        [row] = alone[key]
        pieces = within.get(key, [])
        cut += len(pieces) > 1
        whole = {field: row[field] for field in fields}
        # The end of a window cuts a connection: one piece says how it went, and all say the same of rules.
        as_alone = any(all(piece[field] == whole[field] for field in fields) for piece in pieces)
        ruled = all(piece[field] == whole[field] for piece in pieces for field in fields[1:])
        if not (as_alone and ruled and row["outcome"] == outcome):
            wrong.append((key, outcome, whole, [{field: piece[field] for field in fields} for piece in pieces]))
    for line in wrong[:10]:
        print("WRONG", *line)
    print(f"{options.flood:,} lone SYNs, {options.connections:,} connections: {took:.1f} s with what made them, "
          f"{used.ru_utime + used.ru_stime:.1f} CPU s, peak {peak:.0f} MiB (limit {options.memory_limit})")
    print(f"frames: {offered:,} offered, {seen:,} in {len(audits)} windows' audits; flows "
          f"{sum(audit['totals']['flows'] for audit in audits):,}; cut by a window's end: {cut}; wrong: {len(wrong):,} of {len(wanted):,}")
    good = not wrong and seen == offered and peak <= options.memory_limit
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
