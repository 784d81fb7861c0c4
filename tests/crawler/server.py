"""A site on the loopback interface that holds dumps, and what can go wrong with it."""

import contextlib
import email.utils
import http.server
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        if "ko-ConvBERT" not in self.headers["User-Agent"] or "(" not in self.headers["User-Agent"]:
            return status(403)(self)
        queue = self.server.faults.get(self.path, [])
        return (queue.pop(0) if queue else serve)(self)

    def log_message(self, *_):
        pass

    def reply(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


def serve(handler, ranges=True, upto=None, length=True):
    """The file asked for, or the range of it; cut off after `upto` bytes, announced by its length
    or not."""
    data = handler.server.files.get(handler.path)
    if data is None:
        return handler.reply(404)
    wanted, begin, code, headers = handler.headers["Range"], 0, 200, {}
    if wanted and ranges:
        begin, code = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        if begin >= len(data):
            return handler.reply(416, Content_Range=f"bytes */{len(data)}")
        headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
    body = data[begin:]
    return handler.reply(code, body[:upto], Content_Length=len(body) if length else None, **headers)


def status(code, **headers):
    return lambda handler: handler.reply(code, **headers)


def cut(upto, length=True):
    return lambda handler: serve(handler, upto=upto, length=length)


def in_a_while(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


NAME = "kowiki-20261001-pages-articles.xml.bz2"
AT = f"/kowiki/20261001/{NAME}"


def asked_for(server, path):
    return [headers for asked, headers in server.asked if asked == path]
