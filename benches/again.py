#!/usr/bin/env python3
"""again.py TIMES IN.pcap OUT.pcap: the records of a capture, time and again, each time later than the time before.

What `./dev release` runs the program on to see where its time goes: captures/ as they are would be over before start-up is
forgotten. Classic pcap of either byte order, microseconds or nanoseconds.
"""

import struct
import sys

# Long enough for every conversation to have ended.
PAUSE_SECONDS = 600
ORDERS = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    times, source, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with open(source, "rb") as file:
        capture = file.read()
    order = ORDERS.get(capture[:4])
    if order is None:
        sys.exit(f"{source}: no classic pcap")
    records, at = [], 24
    while at + 16 <= len(capture):
        seconds, _, captured, _ = struct.unpack_from(order + "4I", capture, at)
        end = at + 16 + captured
        records.append((seconds, capture[at + 4 : end]))
        at = end
    if at != len(capture) or not records:
        sys.exit(f"{source}: ends within a record, or has none")
    first, last = min(seconds for seconds, _ in records), max(seconds for seconds, _ in records)
    with open(target, "wb") as file:
        file.write(capture[:24])
        for turn in range(times):
            later = turn * (last - first + PAUSE_SECONDS)
            for seconds, rest in records:
                file.write(struct.pack(order + "I", (seconds + later) & 0xFFFFFFFF) + rest)


main()
