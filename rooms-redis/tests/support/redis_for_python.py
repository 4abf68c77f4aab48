"""As much of the client `redis` as the page on histories uses, for a test on a machine that may not have it."""

import socket
from urllib.parse import urlsplit


class Redis:
    def __init__(self, host, port):
        self.stream = socket.create_connection((host, port)).makefile("rwb")

    @classmethod
    def from_url(cls, url):
        parts = urlsplit(url)
        return cls(parts.hostname, parts.port)

    def eval(self, script, numkeys, *keys_and_args):
        return self.command("EVAL", script, numkeys, *keys_and_args)

    def publish(self, channel, message):
        return self.command("PUBLISH", channel, message)

    def command(self, *parts):
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        self.stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self.stream.flush()
        return self.answer()

    def answer(self):
        line = self.stream.readline().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        text = self.stream.read(int(rest) + 2)
        return text[:-2]
