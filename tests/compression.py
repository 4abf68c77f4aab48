"""Publishes JSON of many sizes in a room and checks that each comes back as it was; `websockets` unpacks and packs it.

Arguments: the URL of the multi-room endpoint. Prints a JSON array for each way to offer permessage-deflate: what the server
answered, how many messages were checked, and how many of them came compressed."""

import json
import random
import sys

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.sync.client import connect

OFFERS = [
    {},
    {"server_max_window_bits": 9, "client_max_window_bits": 9},
    {"server_max_window_bits": 12, "client_no_context_takeover": True, "server_no_context_takeover": True},
    {"client_max_window_bits": 15},
    {"server_max_window_bits": 15},
]
compressed = 0


def counted(decode):
    def count(self, frame, **how):
        global compressed
        compressed += frame.rsv1
        return decode(self, frame, **how)

    return count


PerMessageDeflate.decode = counted(PerMessageDeflate.decode)


def text(length):
    """JSON that is a little longer than that: words, noise that gets no smaller, signs of several bytes."""
    kind = random.randrange(4)
    if kind == 0:
        return "".join(random.choice("0123456789abcdef") for _ in range(length))
    if kind == 1:
        return "".join(chr(random.choice([0x20AC, 0x1F600, 0xE9, 0x61])) for _ in range(length // 4))
    if kind == 2:
        return "a" * length
    words = ["room", "member", "message", "the", "of", '"', "\\", "\n", "viewer", str(random.random())]
    return " ".join(random.choice(words) for _ in range(length // 6))


def check(url, offer):
    global compressed
    compressed = 0
    random.seed(18)
    offers = [ClientPerMessageDeflateFactory(**offer)]
    with connect(url, compression=None, extensions=offers, max_size=None, proxy=None) as socket:
        answer = socket.response.headers.get("Sec-WebSocket-Extensions")
        socket.send(json.dumps({"type": "join", "room": "post:42"}))
        lengths = [0, 1, 255, 256, 257, 511, 512, 513, 4095, 4096, 4097, 32_767, 32_769, 48_000]
        lengths += [random.randrange(20_000) for _ in range(60)]
        for number, length in enumerate(lengths):
            data = {"number": number, "text": text(length)}
            said = json.dumps({"type": "publish", "room": "post:42", "data": data}, ensure_ascii=number % 2 == 0)
            # Some in fragments.
            socket.send([said[: length // 2], said[length // 2 :]] if number % 3 == 0 else said)
            while True:
                event = json.loads(socket.recv(timeout=30))
                if event["type"] == "error":
                    sys.exit(f"{number}: {event}")
                if event["type"] == "message":
                    break
            if event["data"] != data:
                sys.exit(f"message {number} of {offer} came back as another")
        print(json.dumps([answer, len(lengths), compressed]))


for offer in OFFERS:
    check(sys.argv[1], offer)
