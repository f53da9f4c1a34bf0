#!/usr/bin/env python3
"""A strict fake of W&B's trace server on loopback, with the rules that the real one showed when it was tried: what it refuses (and
that nothing of a refused batch is stored), that a call is known by its id and started_at for ever, and what it would show.

  /__state     {"calls": {id: {...}}, "feedback": [...], "objects": [...], "files": {...}, "costs": [...], "tables": {...}}
  /__check     {"errors": [...], "warnings": [...]}
  /__log       requests: method, path, status, items, bytes
  /__fault     POST {"path": regex, "count": n, "skip": m, "kind": status|reset|commit_reset|commit_status|poison|max_body, ...}; DELETE
"""
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
OP = re.compile(r"weave:///[^/]+/[^/]+/op/([\w.-]{1,128}):(\w{43})")
PROJECT = re.compile(r"/v2/([^/]+)/([^/]+)(/.*)")
START = ("project_id", "id", "trace_id", "op_name", "started_at", "attributes", "inputs")
END = ("project_id", "id", "ended_at", "summary")


class Refused(Exception):
    def __init__(self, status: int, body: dict) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def bad_item(index: int, field: str, text: str) -> Refused:
    return Refused(422, {"detail": [{"type": "value_error", "loc": ["batch", index, field], "msg": text}]})


def digest(data: bytes) -> str:
    text = base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return text.replace("+", "X").replace("/", "Y")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


class World:
    def __init__(self, old: bool, max_body: int) -> None:
        self.old = old
        self.max_body = max_body
        self.lock = threading.RLock()
        self.calls: dict[str, dict] = {}
        self.feedback: dict[str, dict] = {}
        self.objects: list[dict] = []
        self.files: dict[str, str] = {}
        self.tables: dict[str, list] = {}
        self.costs: list[dict] = []
        self.log: list[dict] = []
        self.faults: list[dict] = []
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.legacy: set[str] = set()
        self.complete: set[str] = set()

    # -- rules

    def start_rules(self, c: dict, index: int) -> None:
        for field in START:
            if field not in c:
                raise bad_item(index, field, "Field required")
        for field, digits in (("id", 16), ("trace_id", 32), ("parent_id", 16)):
            value = c.get(field)
            if value is not None and not UUID.fullmatch(value) and not re.fullmatch(f"[0-9a-z]{{{digits}}}", value):
                raise Refused(400, {"reason": f"Invalid UUID: {value}"})
        if c["op_name"].startswith("weave:") and not OP.fullmatch(c["op_name"]):
            raise Refused(400, {"reason": "Invalid ref"})
        if len(c["op_name"]) > 128 and not OP.fullmatch(c["op_name"]):
            raise Refused(400, {"reason": "op_name is too long"})
        if len(c.get("display_name") or "") > 1024:
            raise Refused(400, {"reason": "display_name is too long"})
        if not isinstance(c["inputs"], dict) or not isinstance(c["attributes"], dict):
            raise bad_item(index, "inputs", "Input should be a valid dictionary")
        run = c.get("wb_run_id")
        if run is not None and len(run.split("/")) != 3:
            raise Refused(400, {"reason": "Invalid run id"})
        if run is not None and not run.startswith(c["project_id"] + "/"):
            self.errors.append(f"call {c['id']}: its run {run} is of another project")
        if c.get("wb_run_step", 0) < 0:
            raise bad_item(index, "wb_run_step", "Input should be greater than or equal to 0")
        if not TIME.fullmatch(c["started_at"]):
            self.errors.append(f"call {c['id']}: started_at {c['started_at']} has no microseconds in UTC")
        if UUID.fullmatch(c["id"]) and c["id"][14] != "7":
            self.warnings.append(f"call {c['id']}: no UUID of version 7")

    def end_rules(self, c: dict, index: int) -> None:
        for field in END:
            if field not in c:
                raise bad_item(index, field, "Field required")
        if not isinstance(c["summary"], dict):
            raise bad_item(index, "summary", "Input should be a valid dictionary")
        for model, usage in c["summary"].get("usage", {}).items():
            if not all(isinstance(n, int) for n in usage.values()):
                raise bad_item(index, "summary", f"usage of {model} is no integer")
        if not TIME.fullmatch(c["ended_at"]):
            self.errors.append(f"call {c['id']}: ended_at {c['ended_at']} has no microseconds in UTC")

    def keep(self, kind: str, c: dict) -> None:
        call = self.calls.setdefault(c["id"], {"writes": []})
        if kind in ("start", "complete"):
            if "started_at" in call and call["started_at"] != c["started_at"]:
                self.errors.append(f"call {c['id']}: sent again with another started_at, which makes two for ever")
            call.update(c)
        if kind == "end":
            if "op_name" not in call and not self.old:
                raise Refused(404, {"reason": f"Cannot end call {c['id']}: no start found"})
            if c.get("started_at", call.get("started_at")) != call.get("started_at"):
                self.errors.append(f"call {c['id']}: its end names another started_at")
            call.pop("exception", None)
            call.update({k: v for k, v in c.items() if k != "started_at"})
        call["writes"].append(kind)

    # -- routes

    def calls_complete(self, body: dict, project: str) -> dict:
        for index, c in enumerate(body["batch"]):
            self.start_rules(c, index)
            self.end_rules(c, index)
            if c["project_id"] != project:
                self.errors.append(f"call {c['id']}: the path names {project}, the call {c['project_id']}")
        for c in body["batch"]:
            self.keep("complete", c)
        self.complete.add(project)
        return {}

    def call_start(self, body: dict, project: str) -> dict:
        self.start_rules(body["start"], 0)
        self.keep("start", body["start"])
        self.complete.add(project)
        return {"id": body["start"]["id"], "trace_id": body["start"]["trace_id"]}

    def call_end(self, body: dict, _project: str) -> dict:
        self.end_rules(body["end"], 0)
        self.keep("end", body["end"])
        return {}

    def upsert_batch(self, body: dict) -> dict:
        for index, item in enumerate(body["batch"]):
            c = item["req"][item["mode"]]
            if c["project_id"] in self.complete:
                raise Refused(400, {"reason": "this project wants v2", "error_code": "CALLS_COMPLETE_MODE_REQUIRED"})
            (self.start_rules if item["mode"] == "start" else self.end_rules)(c, index)
        for item in body["batch"]:
            self.keep(item["mode"], item["req"][item["mode"]])
        return {"res": [{} for _ in body["batch"]]}

    def add_feedback(self, items: list[dict]) -> dict:
        for index, f in enumerate(items):
            if f["feedback_type"].startswith("wandb.runnable.") and "runnable_ref" not in f:
                raise Refused(400, {"reason": "runnable_ref is required"})
            if "/op/" in f.get("runnable_ref", "") and "call_ref" not in f:
                raise Refused(400, {"reason": "call_ref is required for runnable feedback on ops"})
            if f["feedback_type"] == "wandb.note.1" and not 1 <= len(f["payload"]["note"]) <= 1024:
                raise bad_item(index, "payload", "a note has 1 to 1024 characters")
        for f in items:
            f["writes"] = self.feedback.get(f["id"], {"writes": 0})["writes"] + 1
            self.feedback[f["id"]] = f
        return {"res": [{"id": f["id"]} for f in items]}

    def add_object(self, obj: dict) -> dict:
        if not re.fullmatch(r"[\w.-]{1,128}", obj["object_id"]):
            raise Refused(422, {"detail": [{"loc": ["obj", "object_id"], "msg": "Invalid object name"}]})
        for file in obj["val"].get("files", {}).values():
            if file not in self.files:
                self.errors.append(f"object {obj['object_id']}: its file {file} was never uploaded")
        own = digest(canonical(obj["val"]))
        self.objects.append({"object_id": obj["object_id"], "digest": own, "val": obj["val"], "project_id": obj["project_id"]})
        return {"digest": own, "object_id": obj["object_id"]}

    def add_table(self, table: dict) -> dict:
        rows = [digest(canonical(row)) for row in table["rows"]]
        own = hashlib.sha256("".join(rows).encode()).hexdigest()
        self.tables[own] = table["rows"]
        return {"digest": own, "row_digests": rows}

    def add_file(self, raw: bytes, content_type: str) -> dict:
        boundary = re.search(r"boundary=(\S+)", content_type)
        if not content_type.startswith("multipart/form-data") or boundary is None:
            raise Refused(422, {"detail": [{"loc": ["body", "file"], "msg": "Field required"}]})
        fields = {}
        for part in raw.split(b"--" + boundary[1].encode())[1:-1]:
            head, _, value = part[2:-2].partition(b"\r\n\r\n")
            fields[re.search(rb'name="(\w+)"', head)[1].decode()] = value  # type: ignore[index]
        self.files[digest(fields["file"])] = fields["file"].decode()
        return {"digest": digest(fields["file"])}

    def route(self, path: str, raw: bytes, content_type: str) -> dict:
        if path == "/file/create":
            return self.add_file(raw, content_type)
        body = json.loads(raw)
        v2 = PROJECT.fullmatch(path)
        if v2 and not self.old:
            project = f"{unquote(v2[1])}/{unquote(v2[2])}"
            routes: dict[str, Any] = {"/calls/complete": self.calls_complete, "/call/start": self.call_start, "/call/end": self.call_end}
            if v2[3] in routes:
                return routes[v2[3]](body, project)
        elif path == "/call/upsert_batch":
            return self.upsert_batch(body)
        elif path == "/feedback/batch/create" and not self.old:
            return self.add_feedback(body["batch"])
        elif path == "/feedback/create":
            return self.add_feedback([body])
        elif path == "/obj/create":
            return self.add_object(body["obj"])
        elif path == "/table/create":
            return self.add_table(body["table"])
        elif path == "/cost/create":
            self.costs.append(body)
            return {}
        raise Refused(404, {"detail": "Not Found"})

    # -- verdict

    def check(self) -> dict:
        errors, warnings = list(self.errors), list(self.warnings)
        ops = {(o["object_id"], o["digest"]) for o in self.objects}
        for name, c in self.calls.items():
            if "op_name" not in c:
                errors.append(f"call {name}: an end without a start")
                continue
            if "ended_at" not in c:
                warnings.append(f"call {name}: open")
            elif c["ended_at"] < c["started_at"]:
                errors.append(f"call {name}: it ended before it began")
            parent = c.get("parent_id")
            if parent is not None and "op_name" not in self.calls.get(parent, {}):
                warnings.append(f"call {name}: its parent {parent} never came")
            elif parent is not None and self.calls[parent]["trace_id"] != c["trace_id"]:
                errors.append(f"call {name}: another trace than its parent's")
            op = OP.fullmatch(c["op_name"])
            if op is None or (op[1], op[2]) not in ops:
                warnings.append(f"call {name}: its op {c['op_name']} was not published")
            if max(c["writes"].count("complete"), c["writes"].count("end"), c["writes"].count("start")) > 1:
                warnings.append(f"call {name}: written {c['writes']}")
        warnings += [f"feedback {i}: written {f['writes']} times" for i, f in self.feedback.items() if f["writes"] > 1]
        return {"errors": errors, "warnings": warnings}

    def state(self) -> dict:
        return {"calls": self.calls, "feedback": list(self.feedback.values()), "objects": self.objects, "files": self.files,
                "tables": self.tables, "costs": self.costs}

    def fault(self, path: str, raw: bytes) -> dict | None:
        for f in self.faults:
            if f["count"] == 0 or not re.search(f.get("path", ""), path):
                continue
            if f["kind"] == "poison" and f["match"].encode() not in raw:
                continue
            if f["kind"] == "max_body" and len(raw) <= f["limit"]:
                continue
            if f["skip"] > 0:
                f["skip"] -= 1
                continue
            f["count"] -= f["count"] > 0
            f["hits"] += 1
            return f
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    world: World

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any, headers: dict | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def control(self, raw: bytes) -> None:
        w = self.world
        with w.lock:
            if self.path == "/__state":
                self.answer(200, w.state())
            elif self.path == "/__check":
                self.answer(200, w.check())
            elif self.path == "/__log":
                self.answer(200, w.log)
            elif self.path == "/__fault" and self.command == "DELETE":
                w.faults.clear()
                self.answer(200, {})
            elif self.path == "/__fault" and self.command == "POST":
                w.faults.append({"count": 1, "skip": 0, "hits": 0, **json.loads(raw)})
                self.answer(200, {"id": len(w.faults) - 1})
            else:
                self.answer(200, w.faults)

    def judged(self, raw: bytes) -> tuple[int, dict]:
        w = self.world
        kind, _, key = (self.headers.get("Authorization") or "").partition(" ")
        if kind != "Basic" or not base64.b64decode(key).startswith(b"api:"):
            return 401, {"detail": "Unauthorized"}
        if len(raw) > w.max_body:
            return 413, {"reason": "Request too large"}
        try:
            return 200, w.route(self.path, raw, self.headers.get("Content-Type") or "")
        except Refused as refused:
            return refused.status, refused.body
        except (ValueError, KeyError, TypeError) as error:
            return 400, {"reason": f"{type(error).__name__}: {error}"}

    def serve(self) -> None:
        w = self.world
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/__"):
            self.control(raw)
            return
        with w.lock:
            fault = w.fault(self.path, raw)
            kind = fault["kind"] if fault else ""
            status, body = 0, {}
            if kind in ("", "commit_reset", "commit_status"):
                status, body = self.judged(raw)
            if fault is not None and kind in ("status", "commit_status"):
                status, body = fault["status"], fault.get("body", {"reason": "as the test wants"})
            if kind == "poison":
                status, body = fault["status"] if "status" in fault else 400, {"reason": "poison"}  # type: ignore[index,operator]
            if kind == "max_body":
                status, body = 413, {"reason": "Request too large"}
            batch = re.findall(rb'"trace_id"', raw)
            w.log.append({"path": self.path, "status": status, "bytes": len(raw), "calls": len(batch), "fault": kind})
        if kind in ("reset", "commit_reset"):
            self.reset()
        else:
            self.answer(status, body, (fault or {}).get("headers"))

    do_GET = do_POST = do_DELETE = serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--old", action="store_true", help="as servers before v2")
    parser.add_argument("--max-body", type=int, default=32 << 20)
    args = parser.parse_args()
    Handler.world = World(args.old, args.max_body)
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    server.daemon_threads = True
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
