"""A client of the exercise in the dialect of its own programs: `cmd`, one send, one recv(4096), one JSON text.

    exercise_cmd_client.py HOST PORT USER STYLE

STYLE is `one` (one connection for all) or `each` (a connection for each request), then any of `+bytes` (a byte at a
time), `+nul` (each request ends in NUL bytes, as programs in C send their buffers) and `+heartbeat` (a second thread
sends heartbeats on the same connection, in turn with the first; only with `one`).
"""

import json
import socket
import sys
import threading

FILES = [
    {"name": "video.mp4", "size": 1024000, "hash": "abc123"},
    {"name": "foto de verão.jpg", "size": 50000, "hash": "def456"},
]


class Client:
    def __init__(self, host, port, style):
        self.address = (host, port)
        self.style = style
        self.lock = threading.Lock()
        self.socket = None

    def ask(self, request):
        with self.lock:
            if self.socket is None or "each" in self.style:
                self.socket = socket.create_connection(self.address, timeout=60)
            data = json.dumps(request).encode() + (b"\0" * 100 if "nul" in self.style else b"")
            if "bytes" in self.style:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(data)):
                    self.socket.sendall(data[at : at + 1])
            else:
                self.socket.sendall(data)
            reply = self.socket.recv(4096)
            assert len(reply) < 4096, reply
            if "each" in self.style:
                self.socket.close()
            return json.loads(reply.decode())

    def ok(self, **request):
        reply = self.ask(request)
        assert reply["status"] == "OK", (request, reply)
        assert request["cmd"] == "LIST_PEERS" or reply["msg"], (request, reply)
        return reply

    def error(self, **request):
        reply = self.ask(request)
        assert reply["status"] == "ERROR" and reply["msg"], (request, reply)


def beat(client, user, done, beats):
    while not done.is_set():
        reply = client.ask({"cmd": "HEARTBEAT", "user": user})
        assert reply == {"status": "OK", "msg": "Heartbeat recebido"}, reply
        beats.append(reply)


def visit(client, user, style):
    """What a user does from the menu; the second time the account is there."""
    reply = client.ask({"cmd": "REGISTER", "user": user, "password": "12345"})
    assert reply["status"] in ("OK", "ERROR") and reply["msg"], reply
    client.error(cmd="LOGIN", user=user, password="errada", porta=5001)
    client.ok(cmd="LOGIN", user=user, password="12345", porta=5001)
    done, beats = threading.Event(), []
    thread = threading.Thread(target=beat, args=(client, user, done, beats))
    if "heartbeat" in style:
        thread.start()
    client.ok(cmd="REGISTER_FILES", user=user, files=FILES)
    for _ in range(5 if "heartbeat" in style else 1):
        me = client.ok(cmd="LIST_PEERS")["peers"][user]
        assert me["connection"]["ip"] == "127.0.0.1" and me["connection"]["porta"] == 5001, me
        assert "T" in me["connection"]["login_time"], me
        assert len(me["files"]) == 2 or me["file_count"] == 2, me
    for cmd in ("CREATE_ROOM", "JOIN_ROOM"):
        client.error(cmd=cmd, room="sala", user=user, senha="")
    client.error(cmd="LIST_ROOMS")
    client.error(cmd="GET_ROOM_MEMBERS", room="sala")
    client.error(cmd="KICK_MEMBER", room="sala", admin=user, member="x")
    if "heartbeat" in style:
        while not beats:
            assert thread.is_alive(), "the heartbeats ended"
        done.set()
        thread.join()
    client.ok(cmd="LOGOUT", user=user)
    assert user not in client.ok(cmd="LIST_PEERS")["peers"]


def main():
    host, port, user, style = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].split("+")
    client = Client(host, port, style)
    for _ in range(2):
        visit(client, user, style)
    print("all of it, twice")


if __name__ == "__main__":
    main()
