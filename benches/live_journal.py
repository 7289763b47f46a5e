#!/usr/bin/env python3
"""What the journal of a live run writes for long busy conversations.

usage: live_journal.py [options] PORTPROOF

Feeds `portproof live -i - --out` in real time with conversations that each begin with as many bytes of payload a side as asked
for, and then send a packet a second; tells what the program wrote a second (all of it, by /proc/PID/io) and how long the journal
got. Nothing else is written meanwhile: the segment does not end.
"""
import argparse
import os
import pathlib
import re
import struct
import subprocess
import tempfile
import time

SITE = pathlib.Path(__file__).resolve().parent.parent / "captures" / "site.toml"
SYN, ACK, PUSH = 0x02, 0x10, 0x08
STEPS = 20  # Parts of a second.


def packet(number, answer, flags, seq, ack, payload=b""):
    """A record of a capture but for its time: of the appliance's conversation of this number."""
    appliance, other = bytes([10, 10, 1, 4]), struct.pack(">I", 0xC6120000 + number // 16384)
    ends = [(appliance, 20000 + number % 16384), (other, 8443)]
    (source, sport), (target, dport) = reversed(ends) if answer else ends
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0) + source + target
    tcp = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 1024, 0, 0)
    frame = bytes([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]) + ip + tcp + payload
    return struct.pack("<II", len(frame), len(frame)) + frame


def feed(pipe, packets, seconds):
    """Writes packets evenly over a time, each with the time at which it is written."""
    began = time.time()
    step = max(1, len(packets) // STEPS)
    for start in range(0, len(packets), step):
        now = time.time()
        head = struct.pack("<II", int(now), int(now % 1 * 1e6))
        pipe.write(b"".join(head + one for one in packets[start : start + step]))
        pipe.flush()
        time.sleep(max(0, began + seconds * (start + step) / len(packets) - time.time()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portproof")
    parser.add_argument("--conversations", type=int, default=20000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--first-bytes", type=int, default=1400, help="payload with which each side begins")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory, "out")
        command = [args.portproof, "live", "-i", "-", "--site", SITE, "--out", out, "--format", "json"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        run = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet)
        run.stdin.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        first = os.urandom(args.first_bytes)
        parts = [(at, first[at : at + 1400]) for at in range(0, len(first), 1400)]
        for start in range(0, args.conversations, 2000):
            some = range(start, min(start + 2000, args.conversations))
            begin = [one for number in some for one in (packet(number, False, SYN, 99, 0), packet(number, True, SYN | ACK, 699, 100))]
            for at, part in parts:
                begin += [packet(number, False, ACK | PUSH, 100 + at, 700, part) for number in some]
                begin += [packet(number, True, ACK | PUSH, 700 + at, 100, part) for number in some]
            feed(run.stdin, begin, 0)
        time.sleep(2)

        def written():
            return int(re.search(r"^wchar: (\d+)", pathlib.Path(f"/proc/{run.pid}/io").read_text(), re.M)[1])

        before, began, longest = written(), time.time(), 0
        for second in range(args.seconds):
            answer = second % 2 == 1
            seq = (700 if answer else 100) + len(first) + 100 * (second // 2)
            feed(run.stdin, [packet(n, answer, ACK, seq, 5, b"x" * 100) for n in range(args.conversations)], 1)
            journals = out.joinpath("segments").glob(".journal-*")
            longest = max([longest, *(journal.stat().st_size for journal in journals)])
        rate = (written() - before) / (time.time() - began)
        run.stdin.close()
        run.wait()
        print(
            f"{args.conversations} conversations, {args.first_bytes} first bytes a side: {rate / 1e6:.1f} MB/s written, "
            f"the journal at most {longest / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
