#!/usr/bin/env python3
"""The lab's mail server: takes one message a connection and throws it away.

usage: smtp.py ADDRESS PORT

Just enough of RFC 5321 for a real client (curl) to hand over a message.
"""
import socketserver
import sys


class Dialogue(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode("ascii") + b"\r\n")

    def handle(self):
        self.say("220 mail.contoso.example ESMTP")
        for line in self.rfile:
            verb = line.strip().upper().split(b" ")[0]
            if verb == b"EHLO":
                self.say("250-mail.contoso.example")
                self.say("250 8BITMIME")
            elif verb == b"DATA":
                self.say("354 end with a line that holds only a dot")
                while self.rfile.readline().rstrip(b"\r\n") != b".":
                    pass
                self.say("250 taken")
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Server((sys.argv[1], int(sys.argv[2])), Dialogue).serve_forever()
