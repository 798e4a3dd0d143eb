"""The least that answers the exercise's requests: a thread a connection, a dictionary, json in and out."""
import json
import socketserver
import ssl
import sys
import time

peers = {
    f"peer{number:05}": {
        "ip": "10.0.0.1",
        "port": 40000,
        "files": [{"name": f"folder {number}/file {i}.dat", "size": 1000 * i, "hash": "0" * 64} for i in range(10)],
    }
    for number in range(int(sys.argv[2]))
}
last_heard = {}


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            request = json.loads(data)
            reply = {"status": "ok"}
            if request["action"] == "LIST_PEERS":
                reply["peers"] = [{"user": user, **peer} for user, peer in peers.items()]
            elif request["action"] == "HEARTBEAT":
                last_heard[request["user"]] = time.monotonic()
                reply["ttl_s"] = 90
            elif request["action"] == "WHOIS":
                reply |= {"user": request["user"], "fingerprint": "0" * 64, "online": request["user"] in peers}
            self.request.sendall(json.dumps(reply).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128

    def get_request(self):
        stream, address = super().get_request()
        return (tls.wrap_socket(stream, server_side=True) if tls else stream), address


tls = None
if sys.argv[3:]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*sys.argv[3:])

with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
