"""What a learner runs who controls everything in their server: each path answers what they said it should.

Runs inside the container, from the standard library. Beside the learner's paths there are, for whoever reaches the
container directly:

    PUT  /_own/answers   {path below the server: {"status", "headers": [[name, value], …], "body"} or {"raw": bytes}}
    GET  /_own/heard     all requests so far: method, path, headers, body
    GET  /_own/secret    what files/secret.txt, api/contents and secret.js hold

An upgrade to a WebSocket is told the secret, and every message is noted.
"""

import argparse
import base64
import hashlib
import json
import secrets
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = secrets.token_hex(16)
# Of one request at once.
BODY_MAX = 1 << 16
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
PAGE = "<!doctype html><title>A learner's server</title><h1>A learner's server</h1>"

answers: dict[str, dict[str, Any]] = {
    "files/secret.txt": {"body": SECRET, "headers": [["Content-Type", "text/plain"]]},
    "api/contents": {"body": json.dumps({"content": SECRET}), "headers": [["Content-Type", "application/json"]]},
    "secret.js": {"body": f"window.stolen = '{SECRET}'", "headers": [["Content-Type", "text/javascript"]]},
    # One pixel of a GIF: what an <img> can show.
    "secret.gif": {
        "raw": "HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: 43\r\n\r\n"
        "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,"
        "\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
    },
}
heard: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    base_path = "/"

    def answer(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), BODY_MAX)).decode("latin-1")
        if self.path.startswith("/_own/"):
            self.control(body)
            return
        heard.append({"method": self.command, "path": self.path, "headers": list(self.headers.items()), "body": body})
        below = self.path.partition("?")[0].removeprefix(self.base_path)
        said = answers.get(below, {"body": PAGE})
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.websocket(said)
        elif "raw" in said:
            self.wfile.write(str(said["raw"]).encode("latin-1"))
        else:
            self.say(said)

    def __getattr__(self, name: str) -> object:
        """Every method is answered alike."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def control(self, body: str) -> None:
        if self.command == "PUT":
            answers.update(json.loads(body))
        what = {"/_own/heard": heard, "/_own/secret": SECRET}.get(self.path)
        self.say({"body": json.dumps(what), "headers": [["Content-Type", "application/json"]]})

    def say(self, said: dict[str, Any]) -> None:
        body = str(said.get("body", "")).encode()
        headers = list(said.get("headers", []))
        self.send_response(int(said.get("status", 200)))
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(["Content-Type", "text/html; charset=utf-8"])
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def websocket(self, said: dict[str, Any]) -> None:
        key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET_GUID
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        for name, value in said.get("headers", []):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(bytes([0x81, len(SECRET)]) + SECRET.encode())
        self.close_connection = True
        while head := self.rfile.read(2):
            length = head[1] & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.rfile.read(2))
            mask, payload = self.rfile.read(4), self.rfile.read(length)
            text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)).decode("latin-1")
            heard.append({"method": "message", "path": self.path, "headers": [], "body": text})

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # whoever asked has left


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ip")
    parser.add_argument("--port", type=int)
    parser.add_argument("--base-path")
    options = parser.parse_args()
    Handler.base_path = options.base_path
    server = ThreadingHTTPServer((options.ip, options.port), Handler)
    server.daemon_threads = True
    print(f"serving {options.base_path}", file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
