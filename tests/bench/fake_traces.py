#!/usr/bin/env python3
"""W&B's trace service as far as the weave SDK has to see it, for ./dev bench traces: takes every call and counts their ids.

fake_traces.py [STATUS]: with a status, that is the answer to calls. Says its port. GET /__count: how many ended calls it has; GET /__calls: all that was
said of each call, if KEEP stands behind the status.
"""
from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
GRAPHQL = {"data": {"viewer": {"id": "u", "username": "bench", "entity": "acme", "defaultEntity": {"name": "acme"}, "teams": {"edges": []}},
                    "project": {"id": "p", "name": "bench", "entityName": "acme"}, "upsertModel": {"project": {"id": "p", "name": "bench", "entityName": "acme"},
                    "model": {"id": "p", "name": "bench", "entityName": "acme"}, "inserted": False}}}
KEEP = "KEEP" in sys.argv
ended: set[str] = set()
calls: dict[str, dict[str, Any]] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/__count":
            self.answer({"count": len(ended)})
        elif self.path == "/__calls":
            self.answer(list(calls.values()))
        else:
            self.answer({"min_required_weave_python_version": "0.50.0", "trace_server_version": "0.53.12"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/graphql"):
            self.answer(GRAPHQL)
        elif "call" in self.path:
            self.take_calls(json.loads(body))
        else:
            self.answer({"digest": "x" * 43, "object_id": "o", "version_index": 0, "row_digests": []})

    def take_calls(self, body: dict[str, Any]) -> None:
        if STATUS != 200:
            self.answer({"reason": "no"}, STATUS)
            return
        for item in body.get("batch", [body]):
            call = item.get("req", {}).get("end") or item.get("end") or (item if "ended_at" in item else {})
            if "id" in call:
                ended.add(call["id"])
            for part in (item.get("start"), item.get("end"), item.get("req", {}).get("start"), item.get("req", {}).get("end"), item) if KEEP else ():
                if part and "id" in part:
                    calls.setdefault(part["id"], {}).update(part)
        self.answer({"res": []})

    def answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
