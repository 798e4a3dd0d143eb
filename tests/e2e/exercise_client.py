"""A client of the original exercise, in nothing but the standard library.

Runs REGISTER, LOGIN, REGISTER_FILES, LIST_PEERS, LOGOUT, LIST_PEERS against a tracker and checks what each answers.

    exercise_client.py HOST PORT USER STYLE

STYLE is `one` (one connection for all), `each` (a connection for each request), or `pipelined` (all at once), then any
of `+newline` (each request ends in one), `+pretty` (JSON over several lines), `+bytes` (a byte at a time) and
`+shutdown` (the writing side is closed before the reply is read; only with `each`).
"""

import json
import socket
import sys


class Connection:
    """Reads one JSON object after another, however they are cut."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=60)
        self.buffer = ""
        self.decoder = json.JSONDecoder()

    def send(self, data, by_bytes):
        if by_bytes:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(data)):
                self.socket.sendall(data[at : at + 1])
        else:
            self.socket.sendall(data)

    def receive(self):
        while True:
            text = self.buffer.lstrip()
            try:
                reply, end = self.decoder.raw_decode(text)
            except json.JSONDecodeError:
                data = self.socket.recv(4096)
                assert data, "the tracker closed the connection: %r" % self.buffer
                self.buffer += data.decode()
                continue
            self.buffer = text[end:]
            return reply

    def at_end(self):
        return self.buffer.strip() == "" and self.socket.recv(4096) == b""


def requests(user):
    files = [
        {"name": "notes.txt", "size": 12, "hash": "d41d8cd98f00b204e9800998ecf8427e"},
        {"name": "Ein schöner Tag.mp3", "size": 4000000, "hash": "x"},
    ]
    return [
        {"action": "REGISTER", "user": user, "password": "geheim"},
        {"action": "LOGIN", "user": user, "password": "geheim", "port": 4321},
        {"action": "REGISTER_FILES", "user": user, "files": files},
        {"action": "LIST_PEERS"},
        {"action": "LOGOUT", "user": user},
        {"action": "LIST_PEERS"},
    ]


def encode(request, style):
    text = json.dumps(request, indent=4 if "pretty" in style else None, ensure_ascii="pretty" in style)
    return (text + ("\n" if "newline" in style else "")).encode()


def talk(host, port, messages, style):
    by_bytes = "bytes" in style
    if "pipelined" in style:
        connection = Connection(host, port)
        connection.send(b"".join(messages), by_bytes)
        return [connection.receive() for _ in messages]
    replies = []
    connection = None
    for message in messages:
        if connection is None or "each" in style:
            connection = Connection(host, port)
        connection.send(message, by_bytes)
        if "shutdown" in style:
            connection.socket.shutdown(socket.SHUT_WR)
        replies.append(connection.receive())
        if "shutdown" in style:
            assert connection.at_end(), "more than one reply"
        if "each" in style:
            connection.socket.close()
    return replies


def main():
    host, port, user, style = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].split("+")
    replies = talk(host, port, [encode(request, style) for request in requests(user)], style)
    for reply in replies:
        assert reply["status"] == "ok", reply
        assert isinstance(reply["code"], str) and isinstance(reply["message"], str), reply
    _, login, registered, listed, _, after = replies
    assert len(login["token"]) == 64 and login["observed_ip"] == "127.0.0.1", login
    assert registered["count"] == 2, registered
    mine = [peer for peer in listed["peers"] if peer["user"] == user]
    assert len(mine) == 1, listed
    assert (mine[0]["ip"], mine[0]["port"]) == ("127.0.0.1", 4321), mine
    assert None not in mine[0].values() and "fingerprint" not in mine[0], mine
    assert sorted(file["name"] for file in mine[0]["files"]) == ["Ein schöner Tag.mp3", "notes.txt"], mine
    assert not [peer for peer in after["peers"] if peer["user"] == user], after
    print("all six answered")


if __name__ == "__main__":
    main()
