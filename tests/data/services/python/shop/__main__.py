"""GET / greets, POST /echo gives the body back, GET /healthz says whether the shop is well."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shop import VERSION
from shop.prices import price


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/healthz":
            self.answer(200, b"well\n")
        elif self.path == "/":
            instance = os.environ.get("WINDLASS_INSTANCE", "none")
            greeting = os.environ.get("GREETING", "none")
            text = f"version {VERSION} instance {instance} greeting {greeting} price {price(3, 250)}\n"
            self.answer(200, text.encode())
        else:
            self.answer(404, b"no such page\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(200, body)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are not worth a line."""


class Server(ThreadingHTTPServer):
    request_queue_size = 512


if __name__ == "__main__":
    Server(("127.0.0.1", int(os.environ["PORT"])), Shop).serve_forever()
