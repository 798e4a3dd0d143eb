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


def meet(client, user):
    """The menu of rooms; the second time the room is there."""
    room = "sala-" + user
    reply = client.ask({"cmd": "CREATE_ROOM", "room": room, "user": user, "senha": "segredo"})
    assert reply["msg"], reply
    assert (reply["status"], reply.get("members")) in (("OK", [user]), ("ERROR", None)), reply
    client.ok(cmd="JOIN_ROOM", room=room, user=user, senha="segredo")
    assert room in client.ok(cmd="LIST_ROOMS")["rooms"]
    assert client.ok(cmd="GET_ROOM_MEMBERS", room=room)["members"] == [user]
    for senha in ("", None):
        client.ask({"cmd": "CREATE_ROOM", "room": "sala", "user": user, "senha": senha})
        client.ok(cmd="JOIN_ROOM", room="sala", user=user, senha=senha)
    members = client.ok(cmd="GET_ROOM_MEMBERS", room="sala")["members"]
    assert user in members and len(members) == len(set(members)), members
    client.error(cmd="KICK_MEMBER", room=room, admin=user, member="x")
    client.error(cmd="KICK_MEMBER", room=room, admin=user, member=user)
    client.error(cmd="JOIN_ROOM", room="nenhuma", user=user, senha="")


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
    meet(client, user)
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
