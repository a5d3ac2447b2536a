"""The web server: counts its visitors."""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from store import ask

STORE, PORT = sys.argv[1], int(sys.argv[2])
GREETING = os.environ.get("GREETING", "visitor")


class Handler(BaseHTTPRequestHandler):
    """Answers ``/`` with the number of the visitor, and ``/health``."""

    def do_GET(self) -> None:
        """Answer."""
        if ask(STORE, "GET", "schema") != "2":
            self.send_error(503, "the migration has not run")
            return
        text = "fine" if self.path == "/health" else f"{GREETING} {ask(STORE, 'INCR', 'visitors')}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
