"""What the tests share that is no fixture: starting the program, making pictures, asking over HTTP."""

import http.client
import json
import os
import re
import select
import signal
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from random import Random

PROGRAM = os.environ.get("SMALLVIT", "target/release/smallvit")


def run(*arguments):
    """Runs the program to its end."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Server:
    """The program while it serves a page, on a free port."""

    def __init__(self, *arguments):
        self.complaints = tempfile.TemporaryFile("w+")
        command = [PROGRAM, *map(str, arguments), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.complaints, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline() if ready else ""
        found = re.search(r" at (http://127\.0\.0\.1:(\d+)/)$", line.strip())
        if not found:
            self.kill()
            raise AssertionError(f"the server said {line!r}, and {self.said()!r}")
        self.url, self.port = found[1], int(found[2])

    def said(self):
        self.complaints.seek(0)
        return self.complaints.read()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds=15):
        """Ends it as a service manager would; its exit status."""
        self.terminate()
        return self.process.wait(seconds)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


# ---- Pictures ----


def png(size=32, seed=1):
    """A picture of coloured noise."""
    noise = Random(seed).randbytes
    rows = b"".join(b"\0" + noise(3 * size) for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# ---- HTTP ----


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """What a refusal is called."""
        return self.json["error"]["code"]


def ask(server, method, path, body=None, **headers):
    """Asks once. Headers are given as keywords: content_type="image/png"."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        try:
            connection.request(method, path, body, named)
        except BrokenPipeError:
            pass  # It may have answered before it has all of a body.
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def predict(server, body, model="vit", **headers):
    return ask(server, "POST", f"/v1/predict?model={model}", body, **headers)
