"""A stand-in for a user's server: everything below ``--base-path``, from the standard library, in one process.

    GET  …                    JSON: name, method, target, path, query, headers, peer
    POST … (PUT, PATCH)       the same, with the body's length and SHA-256
    GET  …?header=Name:value  the answer (also of …/ws) has this header; any number of them, ?early= for a 103 before it
    GET  …/stream?n=5&every_ms=200     chunks over time
    GET  …/ws?push_ms=500     WebSocket that echoes, and pushes periodically if asked
    GET  …/api/kernels        [] or one busy kernel; PUT …/busy and DELETE …/busy toggle it
    GET  …/api/status         Jupyter's status, with the time of the last other request
    GET  …/exit               ends the process

Elsewhere 404. A pool's command that fits:

    exec echo-server --ip {ip} --port {port} --base-path {base_path} --token {token}

The token is taken (as ``?token=`` or ``Authorization: token``) only to answer 403 when it is wrong.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import signal
import struct
import time
from urllib.parse import parse_qs, urlsplit

LINE_MAX_BYTES = 128 * 1024
CHUNK_BYTES = 256 * 1024
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Request:
    """The head of one request, and its body still to be read."""

    def __init__(self, method, target, headers, reader, peer):
        self.method, self.target, self.headers, self.reader, self.peer = method, target, headers, reader, peer
        url = urlsplit(target)
        self.path = url.path
        values = parse_qs(url.query)
        self.query = {name: values[-1] for name, values in values.items()}
        self.answer_headers = "".join(f"{header}\r\n" for header in values.get("header", []))
        self.early_headers = "".join(f"{header}\r\n" for header in values.get("early", []))

    async def body(self):
        """Yield the body in pieces."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                yield await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
            return
        left = int(self.headers.get("content-length", 0))
        while left:
            piece = await self.reader.read(min(left, CHUNK_BYTES))
            if not piece:
                raise ConnectionResetError("body cut off")
            left -= len(piece)
            yield piece


class EchoServer:
    def __init__(self, options):
        self.name = options.name
        self.base_path = options.base_path
        self.token = options.token
        self.busy = False
        self.last_activity = time.time()

    async def serve(self, reader, writer):
        """One connection: requests one after the other until the client leaves."""
        try:
            while (request := await read_head(reader, writer)) is not None:
                if not await self.answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()

    async def answer(self, request, writer):
        """Answer one request; False: the connection is not to be used again."""
        size, digest = 0, hashlib.sha256()
        async for piece in request.body():
            size += len(piece)
            digest.update(piece)
        if not request.path.startswith(self.base_path):
            return await send_json(writer, 404, {"name": self.name, "error": "outside the base path"})
        if not self.allowed(request):
            return await send_json(writer, 403, {"name": self.name, "error": "wrong token"})
        below = request.path[len(self.base_path) :]
        if below == "api/kernels":
            return await send_json(writer, 200, [kernel()] if self.busy else [])
        if below == "api/status":
            return await send_json(writer, 200, self.status())
        self.last_activity = time.time()
        if below == "ws" and request.headers.get("upgrade", "").lower() == "websocket":
            return await websocket(request, writer)
        if below == "stream":
            return await stream(writer, int(request.query.get("n", 5)), int(request.query.get("every_ms", 200)))
        if below == "exit":
            os.kill(os.getpid(), signal.SIGTERM)
        if below == "busy":
            self.busy = request.method != "DELETE"
        echo = {
            "name": self.name,
            "method": request.method,
            "target": request.target,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "peer": request.peer,
            "body_bytes": size,
            "body_sha256": digest.hexdigest(),
        }
        if request.early_headers:
            writer.write(f"HTTP/1.1 103 Early Hints\r\n{request.early_headers}\r\n".encode("latin-1"))
        return await send_json(writer, int(request.query.get("status", 200)), echo, request.answer_headers)

    def allowed(self, request):
        given = request.query.get("token") or request.headers.get("authorization", "").removeprefix("token ")
        return not (self.token and given) or given == self.token

    def status(self):
        last = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.last_activity))
        return {"last_activity": last, "connections": 0, "kernels": int(self.busy), "started": last}


def kernel():
    return {"id": "0", "name": "python3", "execution_state": "busy", "connections": 0}


async def read_head(reader, writer):
    """The next request's head; None: the client has left."""
    line = await reader.readline()
    if not line.strip():
        return None
    method, target, _version = line.decode("latin-1").split(" ", 2)
    headers = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(method, target, headers, reader, writer.get_extra_info("peername")[0])


async def send_json(writer, status, value, headers=""):
    body = json.dumps(value).encode()
    head = (
        f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nServer: echo\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    writer.write(head.encode("latin-1") + body)
    await writer.drain()
    return True


async def stream(writer, count, every_ms):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(count):
        piece = f"chunk {i}\n".encode()
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(every_ms / 1000)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def websocket(request, writer):
    """Echo every message; answer pings; push ``push N`` every ``push_ms`` if asked."""
    key = request.headers["sec-websocket-key"] + WEBSOCKET_GUID
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{request.answer_headers}\r\n".encode("latin-1")
    )
    pusher = None
    if "push_ms" in request.query:
        pusher = asyncio.ensure_future(push(writer, int(request.query["push_ms"])))
    try:
        while True:
            kind, payload = await read_frame(request.reader)
            writer.write(frame(PONG if kind == PING else kind, payload))
            await writer.drain()
            if kind == CLOSE:
                return False
    finally:
        if pusher is not None:
            pusher.cancel()


async def push(writer, every_ms):
    number = 0
    while True:
        await asyncio.sleep(every_ms / 1000)
        writer.write(frame(TEXT, f"push {number}".encode()))
        await writer.drain()
        number += 1


async def read_frame(reader):
    """One frame of a client (always masked); continuation frames are echoed as they come."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(length)
    repeated = (mask * (length // 4 + 1))[:length]
    plain = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return first & 0x0F, plain.to_bytes(length, "big")


def frame(kind, payload):
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", 0x80 | kind, length)
    elif length < 65536:
        head = struct.pack(">BBH", 0x80 | kind, 126, length)
    else:
        head = struct.pack(">BBQ", 0x80 | kind, 127, length)
    return head + payload


async def run(options):
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    echo = EchoServer(options)
    server = await asyncio.start_server(echo.serve, options.ip, options.port, limit=LINE_MAX_BYTES, backlog=1024)
    print(f"serving {options.base_path} on {options.ip}:{options.port} as {options.name}", flush=True)
    await stopped.wait()
    server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ip", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--base-path", default="/")
    parser.add_argument("--name", default=os.uname().nodename)
    parser.add_argument("--token", default="")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
