#!/usr/bin/env python3
"""fake_wandb.py - a W&B Models backend for tests: strict enough to judge a client, real enough for wandb 0.31.

It speaks what a run writer needs: POST /graphql (executed with graphql-core over a schema, so every
operation is validated), POST /files/<entity>/<project>/<run>/file_stream, signed upload URLs
(PUT /storage/...), artifacts, alerts, reports (upsertView). Everything is kept in memory (large
uploads on disk), every exchange is recorded, and faults can be injected.

  needs:   python >= 3.9, graphql-core >= 3.2  (pip install graphql-core)
  run:     python fake_wandb.py --port 8900 [--record log.jsonl] [--state-dump state.json]
  client:  WANDB_BASE_URL=http://127.0.0.1:8900 WANDB_API_KEY=<40 hex chars> WANDB_ERROR_REPORTING=false

  control (never logged, never faulted):
    GET  /__state [?entity=&project=&run=]   all runs, artifacts, views, alerts, anomalies as JSON
    GET  /__check [?final=1]                 verdict: {"ok":bool,"errors":[..],"warnings":[..]} (see ANOMALIES); final=1 judges
                                             unfinished runs like complete ones
    GET  /__rows?run=E/P/R                   the history as it stands: parsed rows by offset (shared writers' rows after them, in order
                                             of arrival); [&offsets=1] [{"offset","client","foreign","row"}]
    GET  /__summary?run=..                   the last summary line, parsed
    GET  /__config?run=..                    {key: value} without _wandb; [&raw=1] as it was sent
    GET  /__tables?run=..                    every table in the history: [{"key","step","offset","type","path","columns","data","nrows","source",
                                             "artifact_agrees"}]: from the run file, or else from the artifact ("source"); "error" if unreadable
    GET  /__log [?since=N][&bodies=0]        recorded exchanges, oldest first (with seq numbers)
    GET  /__file?run=E/P/R&path=P            bytes of a run file    GET /__blob?md5=<hex> bytes of any upload
    GET  /__fault   list with hit counts     DELETE /__fault  remove all
    POST /__fault   one fault or a list (below); answers {"ids":[..]}
    POST /__run     {"run":"E/P/R", then any of: "stopped":true, "seed":{"historyLineCount":N,...}, "forget_heartbeat":true,
                     "foreign_rows":[{..},..]  another writer appends these history rows: the client's next offset is taken,
                     "tags":[..]               someone edits the tags in the UI: a client that drops them is warned of,
                     "config":.., "summaryMetrics":..  JSON text: someone edits those,
                     "create":true             makes the run first}
    POST /__feature {"NAME": true|false}     server feature flags        POST /__reset  forget everything

  fault = {"match": {"kind":"graphql|filestream|storage|any", "op":"UpsertBucket", "path":"regex", "run":"name",
                     "body":"regex on the raw body"}, "skip":0, "count":1 (-1 = for ever), "then": ACTION}
  ACTION (a dict with one or more of these keys, applied in this order):
    "delay": s              wait before doing anything
    "slow_in": bytes/s      read the request body at this speed ("slow_out": send the response at this speed)
    "reset": "before"       reset (RST) the connection without processing   (request lost)
    "reset": "after"        process, then reset instead of answering        (acknowledgement lost)
    "reset": "mid_body"     reset after half of the request body was read
    "status": 429           answer this status without processing; with "retry_after": s or "HTTP-date", "body": any,
                            "headers": {..}; with "process": true the request is processed first
    "truncate": n           process, send the full Content-Length but only n bytes of the body, then close
    "garbage": true         process, answer 200 with a body that is not JSON
    "gql_errors": [..]      answer 200 {"errors":[..],"data":null} without processing
    "headers": {..}         add these headers to the normal response (e.g. RateLimit-Remaining / RateLimit-Reset)
    "stopped": true         file_stream only: normal processing, but the answer says "stopped": true
    "hang": s               process, then keep the connection open without answering for s seconds

  ANOMALIES (the judge): severity "error" means a client that does this would lose, duplicate or corrupt data or be
  refused by the real service; "warning" means legal but suspicious. Each is in /__check and /__state.
  Besides syntax, offsets, sizes, digests and signatures it judges:
    at once     the same row (equal JSON) at two offsets: error; of two writers in shared mode: warning
                rows after `complete` with no upsert in between: error (other writers of a shared run, console and summary: warning;
                a repeated request that brings nothing new is no anomaly)
                a row of another writer (foreign_rows) replaced: error; tags edited on the server dropped: warning
                an API key or an Authorization header in a body, an upload, a URL, or sent to storage: error. Keys are those of
                --api-key, --account and of every Authorization header seen; gzip uploads are looked into
                a live run silent for more than --heartbeat-gap s (default 60; 0 = off): warning. After a failed request the wait may
                be twice as long (a backoff of 60 s with jitter is allowed), after Retry-After longer by that time
    /__check    _step that repeats or goes back from one offset to the next: error; next to a row of another writer, or when a
                finished run is opened again: warning (the SDK itself starts again at _step 0 without resume). Not in shared mode
    complete    (or final=1) history values that name a run file (table-file, image-file, html-file, images/separated, ...) that
                was never received, or whose sha256 or size differ: error; a table file that is not {"columns","data"}: error;
                wandb-client-artifact://<clientID>/<path> and <sequenceClientID>:<alias>/<path> that no committed artifact answers: error

Own work for conformance tests; it contains no wandb code.
"""
import argparse, base64, binascii, gzip, hashlib, json, math, os, re, socket, ssl, struct, sys, tempfile, threading, time, zlib
from email.utils import parsedate_to_datetime, formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit, parse_qs, unquote, quote

try:
    from graphql import build_schema, parse as gql_parse, validate as gql_validate, execute_sync, GraphQLError
    from graphql.language import OperationDefinitionNode, FieldNode
except ImportError:  # pragma: no cover
    sys.exit("fake_wandb.py needs graphql-core: pip install graphql-core")

HERE = os.path.dirname(os.path.abspath(__file__))
MAX_LINE = (10 << 20) - (100 << 10)          # the limit wandb-core itself keeps per jsonl line
MEM_BLOB = 1 << 20                           # larger uploads are spooled to disk
MIN_SECRET = 16                              # shorter keys are not searched for: they would match by chance
ARTIFACT_URL = "wandb-client-artifact://"
STREAM_FILES = {"wandb-history.jsonl": "history", "wandb-events.jsonl": "events", "wandb-summary.json": "summary", "output.log": "console"}

# The features a server announces. wandb-core 0.31 acts on these; an absent name means "off".
DEFAULT_FEATURES = {
    "LARGE_FILENAMES": True, "ARTIFACT_TAGS": True, "CLIENT_IDS": True, "ARTIFACT_REGISTRY_SEARCH": True,
    "STRUCTURED_CONSOLE_LOGS": True, "ARTIFACT_COLLECTION_MEMBERSHIP_FILES": True,
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION": True, "MARK_RUN_FILES_UPLOADED": True,
    "FILESTREAM_GZIP": False, "ARTIFACT_DIGEST_ALGORITHM": False,
}


def b64(s):
    return base64.b64encode(s.encode() if isinstance(s, str) else s).decode()


def now():
    return time.time()


def iso(t):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + ".%03dZ" % int((t % 1) * 1000)


def jdump(x):
    return json.dumps(x, ensure_ascii=False, separators=(",", ":"))


def maybe_json(t):
    try:
        return json.loads(t) if t else None
    except ValueError:
        return t


def credentials(header):
    """(user, key) of an Authorization header; key is None when there is none to be read"""
    if header.startswith("Bearer "):
        return "", header[7:].strip()
    m = re.match(r"Basic (.+)", header)
    try:
        user, key = base64.b64decode(m[1], validate=True).decode().split(":", 1)
        return user, key
    except (ValueError, TypeError):
        return "", None


def media(value, key=""):
    """Yields (key, object) for every logged object (a dictionary with _type) in a row, nested keys joined with dots."""
    if isinstance(value, dict):
        if isinstance(value.get("_type"), str):
            yield key, value
        for k, v in value.items():
            yield from media(v, key + "." + k if key else k)
    elif isinstance(value, list):
        for v in value:
            yield from media(v, key)


def named_files(obj):
    """(path, sha256, size) of every run file a logged object names"""
    if isinstance(obj.get("path"), str) and (obj["_type"].endswith("-file") or "sha256" in obj):
        yield obj["path"], obj.get("sha256"), obj.get("size")
    for f in obj["filenames"] if isinstance(obj.get("filenames"), list) else []:
        yield f, None, None


def artifact_urls(obj):
    earlier = obj.get("previous_increments_paths")
    urls = [obj.get("artifact_path"), obj.get("_latest_artifact_path")] + (earlier if isinstance(earlier, list) else [])
    return [u for u in urls if isinstance(u, str) and u.startswith(ARTIFACT_URL)]


def account(text):
    """KEY=NAME:ENTITY,ENTITY... of --account"""
    key, _, rest = text.partition("=")
    name, _, entities = rest.partition(":")
    return key, {"name": name, "entities": entities.split(",")}


class Secrets:
    """The keys seen so far, and the search for them where they do not belong."""
    HEADER = re.compile(rb"""uthorization[\\"'\s]*[:=][\\"'\s]*(?:Basic|Bearer)\s+[A-Za-z0-9+/._~-]{8}""")

    def __init__(self):
        self.known = []

    def learn(self, key, user="api"):
        for k in (key or "", b64("%s:%s" % (user, key)) if key else ""):
            if len(key or "") >= MIN_SECRET and k.encode() not in self.known:
                self.known.append(k.encode())

    def found(self, data):
        """what of it is in `data` (bytes), or None"""
        if b"\\/" in data:
            data = data.replace(b"\\/", b"/")
        if any(k in data for k in self.known):
            return "API key"
        if b"uthorization" in data and self.HEADER.search(data):
            return "Authorization header"
        return None


class Blob:
    """Uploaded bytes with their digests; in memory when small, otherwise in the spool directory."""

    def __init__(self, spool, secrets=None):
        self.secrets, self.tail, self.leak = secrets, b"", None
        self.h_md5, self.h_sha = hashlib.md5(), hashlib.sha256()
        self.size, self.data, self.path, self._f, self.spool = 0, bytearray(), None, None, spool

    def write(self, b):
        if self.secrets and not self.leak:
            self.leak, self.tail = self.secrets.found(self.tail + b), (self.tail + b)[-512:]
        self.h_md5.update(b); self.h_sha.update(b); self.size += len(b)
        if self._f is None and self.size > MEM_BLOB:
            self._f = tempfile.NamedTemporaryFile(dir=self.spool, prefix="blob-", delete=False)
            self.path = self._f.name
            self._f.write(self.data); self.data = None
        (self._f.write(b) if self._f else self.data.extend(b))

    def close(self):
        if self._f:
            self._f.close(); self._f = None
        if self.secrets and not self.leak and self.size < (64 << 20) and self.head(2) == b"\x1f\x8b":
            try:
                self.leak = self.secrets.found(zlib.decompressobj(31).decompress(self.bytes(), 64 << 20))
            except zlib.error:
                pass
        return self

    def bytes(self):
        if self.path:
            with open(self.path, "rb") as f:
                return f.read()
        return bytes(self.data)

    def head(self, n=512):
        if self.path:
            with open(self.path, "rb") as f:
                return f.read(n)
        return bytes(self.data[:n])

    md5 = property(lambda s: s.h_md5.hexdigest())
    md5b64 = property(lambda s: base64.b64encode(s.h_md5.digest()).decode())
    sha256 = property(lambda s: s.h_sha.hexdigest())

    def describe(self):
        d = {"size": self.size, "md5": self.md5, "md5_b64": self.md5b64, "sha256": self.sha256}
        if self.size <= 65536:
            try:
                d["text"] = self.bytes().decode("utf-8")
            except UnicodeDecodeError:
                pass
        return d


def parse_blob(data, spool):
    b = Blob(spool); b.write(data); return b.close()


class State:
    def __init__(self, opts):
        self.opts = opts
        self.lock = threading.RLock()
        self.accounts = dict(account(text) for text in opts.account)
        self.who = threading.local()                 # .account: whose key the request of this thread has
        self.spool = tempfile.mkdtemp(prefix="fake_wandb-")
        self.reset()

    def reset(self):
        self.t0 = now()
        self.runs, self.projects = {}, {}            # (entity, project, name) -> run;  (entity, project) -> project
        self.artifacts, self.sequences = {}, {}      # id -> artifact;  (entity, project, type, name) -> sequence
        self.client_ids, self.uploads, self.blobs = {}, {}, {}
        self.seq_client_ids = {}                     # sequenceClientID -> key of its sequence
        self.secrets = Secrets()
        for key in (self.opts.api_key, *self.accounts):
            self.secrets.learn(key)
        self.views, self.alerts, self.charts = {}, [], []
        self.faults, self.log, self.anomalies = [], [], []
        self.seq = self.next_id = 0
        self.features = dict(DEFAULT_FEATURES)

    def viewer(self):
        """(user name, default entity) of the request's key"""
        a = getattr(self.who, "account", None)
        return (a["name"], a["entities"][0]) if a else (self.opts.username, self.opts.entity)

    def may_write(self, entity):
        a = getattr(self.who, "account", None)
        return entity not in self.opts.forbid_entity and (a is None or entity in a["entities"])

    def new_id(self):
        self.next_id += 1
        return self.next_id

    def anomaly(self, severity, kind, once=False, **info):
        with self.lock:
            a = {"severity": severity, "kind": kind, "t": round(now() - self.t0, 3), "seq": self.seq, **info}
            # the same complaint about the same object (with `once`: about the same run) is counted, not repeated
            for o in self.anomalies:
                if o["kind"] == kind and o.get("run") == info.get("run") and (once or o.get("what") == info.get("what")):
                    o["times"] = o.get("times", 1) + 1
                    return
            self.anomalies.append(a)

    # -- projects and runs -----------------------------------------------------------------
    def project(self, entity, name):
        k = (entity, name)
        if k not in self.projects:
            self.projects[k] = {"id": b64("Project:v1:%s:%s" % (name, entity)), "n": self.new_id(), "name": name, "entity": entity}
        return self.projects[k]

    def upsert_run(self, i, headers):
        run = None
        if i.get("id"):
            run = next((r for r in self.runs.values() if r["id"] == i["id"]), None)
            if run is None and not i.get("name"):
                raise HTTPFault(404, {"errors": [{"message": "run not found", "path": ["upsertBucket"]}], "data": {"upsertBucket": None}})
        entity = i.get("entityName") or self.viewer()[1]
        project = i.get("modelName") or "uncategorized"
        if not self.may_write(entity):
            raise HTTPFault(403, {"errors": [{"message": "permission denied", "path": ["upsertBucket"], "extensions": {"code": "PERMISSION_ERROR"}}], "data": {"upsertBucket": None}})
        name = i.get("name") or hashlib.md5(os.urandom(8)).hexdigest()[:8]
        inserted = False
        if run is None:
            run = self.runs.get((entity, project, name))
        if run is None:
            inserted = True
            self.project(entity, project)
            run = {
                "id": b64("Run:v1:%s:%s:%s" % (name, project, entity)), "entity": entity, "project": project, "name": name,
                "created": now(), "displayName": None, "config": None, "summaryMetrics": None, "tags": [], "notes": None,
                "groupName": None, "jobType": None, "host": None, "commit": None, "jobProgram": None, "jobRepo": None, "sweep": None,
                "state": "running", "exitcode": None, "complete": False, "preempting": False, "heartbeat": now(), "stopped": False,
                "history": {}, "events": {}, "summary": {}, "console": {},      # offset -> line (the authoritative stream files)
                "arrivals": [],                                                 # (file, client, offset, line) in arrival order
                "clients": {}, "files": {}, "uploaded": [], "requests": 0, "heartbeats": 0, "upserts": 0,
                "overwrites_same": 0, "overwrites_diff": 0,
                "steps": {}, "life": {}, "lives": 0, "logged": {},              # of each history row: _step, life of the run, media objects
                "row_at": {}, "foreign": set(), "server_tags": set(),           # digest of a row -> where; offsets of other writers; tags edited here
                "closed": None, "contact": now(), "deadline": now() + self.opts.heartbeat_gap, "in_flight": 0,
            }
            self.runs[(entity, project, name)] = run
        run["upserts"] += 1
        self.contact(run)
        if run["closed"] is not None:                        # a finished run is opened again
            run["closed"], run["lives"] = None, run["lives"] + 1
        for k in ("displayName", "notes", "groupName", "jobType", "host", "commit", "jobProgram", "jobRepo", "sweep", "config", "summaryMetrics", "description"):
            if i.get(k) is not None:
                if k in ("config", "summaryMetrics"):
                    try:
                        v = json.loads(i[k])
                        if not isinstance(v, dict):
                            raise ValueError("not an object")
                        if k == "config":
                            bad = [n for n, x in v.items() if not (isinstance(x, dict) and "value" in x)]
                            if bad:
                                self.anomaly("error", "config entry is not {\"value\":..}", run=name, what=str(bad[:5]))
                    except ValueError as e:
                        self.anomaly("error", "%s is not a JSON object" % k, run=name, what=str(e))
                        raise HTTPFault(400, {"errors": [{"message": "invalid %s: %s" % (k, e)}]})
                run[k] = i[k]
        if i.get("tags") is not None:
            lost = sorted(run["server_tags"] - set(i["tags"]))
            if lost:
                self.anomaly("warning", "tags dropped that were set on the server", run=name, what=str(lost[:5]))
                run["server_tags"].clear()
            run["tags"] = list(i["tags"])
        if i.get("state"):
            run["state"] = i["state"]
        if run["complete"] and not inserted and i.get("config") is not None and not i.get("state"):
            # a resumed run becomes running again with its first upsert / heartbeat
            run["complete"], run["exitcode"], run["state"] = False, None, "running"
        run["heartbeat"] = now()
        if not run["displayName"]:
            run["displayName"] = "fake-run-%d" % (len(self.runs))
        return run, inserted

    def run_state(self, r):
        if r["complete"]:
            return "finished" if not r["exitcode"] else "failed"
        if r["preempting"]:
            return "preempting"
        if now() - r["heartbeat"] > self.opts.crash_after:
            return "crashed"
        return r["state"]

    def contact(self, run):
        """A request for a run arrives: was the run silent for too long?"""
        if self.silent(run):
            self.anomaly("warning", "no request of a live run (heartbeat) for longer than %g s" % self.opts.heartbeat_gap, run=run["name"], gap=round(now() - run["contact"], 1))
        self.expect(run)

    def expect(self, run, failed=False, wait=0.0):
        """The silence begins; when must the next request be there?"""
        run["contact"] = now()
        run["deadline"] = max(run["deadline"], now() + self.opts.heartbeat_gap * (1 + failed) + wait)

    def silent(self, run):
        return self.opts.heartbeat_gap and not (run["complete"] or run["preempting"] or run["in_flight"]) and now() > run["deadline"]

    # -- file_stream -----------------------------------------------------------------------
    def file_stream(self, entity, project, name, body, headers):
        run = self.runs.get((entity, project, name))
        if run is None:
            raise HTTPFault(404, {"error": "run %s/%s/%s not found" % (entity, project, name)})
        if not self.may_write(entity):
            raise HTTPFault(403, {"error": "permission denied"})
        run["requests"] += 1
        run["heartbeat"] = now()
        asynch = headers.get("x-wandb-use-async-filestream", "").lower() == "true"
        client = headers.get("x-wandb-async-client-id", "") if asynch else ""
        if client:
            run["clients"].setdefault(client, {"history": 0, "events": 0, "console": 0, "summary": 0, "requests": 0})["requests"] += 1
        if run["complete"] and body:
            self.after_complete(run, body, client, asynch)
        if not body:
            run["heartbeats"] += 1
        unknown = set(body) - {"files", "uploaded", "preempting", "complete", "exitcode", "dropped"}
        if unknown:
            self.anomaly("warning", "unknown file_stream keys", run=name, what=",".join(sorted(unknown)))
        for fname, chunk in (body.get("files") or {}).items():
            if not isinstance(chunk, dict) or not isinstance(chunk.get("offset"), int) or not isinstance(chunk.get("content"), list):
                self.anomaly("error", "file_stream file is not {offset:int, content:[str]}", run=name, what=fname)
                raise HTTPFault(400, {"error": "bad chunk for %s" % fname})
            if fname not in STREAM_FILES:
                self.anomaly("warning", "unknown stream file", run=name, what=fname)
                continue
            kind = STREAM_FILES[fname]
            for n, line in enumerate(chunk["content"]):
                off = chunk["offset"] + n
                if not isinstance(line, str):
                    self.anomaly("error", "stream line is not a string", run=name, what="%s@%d" % (fname, off)); continue
                if "\n" in line and kind != "console":
                    self.anomaly("error", "newline inside a jsonl line", run=name, what="%s@%d" % (fname, off))
                if len(line.encode()) > MAX_LINE:
                    self.anomaly("error", "line longer than the backend accepts", run=name, what="%s@%d %d bytes" % (fname, off, len(line)))
                row = self.check_line(run, kind, off, line) if kind in ("history", "events", "summary") else self.check_console(run, off, line)
                if row and kind == "history":
                    self.judge_row(run, (client, off) if asynch else off, row)
                self.put_line(run, kind, off, line, client, asynch)
        if body.get("uploaded"):
            run["uploaded"].extend(body["uploaded"])
        if body.get("preempting"):
            run["preempting"] = True
        elif body:
            run["preempting"] = False
        if body.get("complete"):
            run["complete"], run["exitcode"], run["closed"] = True, body.get("exitcode"), client
            if body.get("exitcode") is None:
                self.anomaly("warning", "complete without exitcode", run=name)
            run["finished"] = now()
        return {"exitcode": run["exitcode"], "limits": {}, "stopped": bool(run["stopped"])}

    def after_complete(self, run, body, client, asynch):
        """What a request may still bring to a finished run: nothing new (a repeat after a lost answer), or `uploaded`."""
        new = set()
        for fname, chunk in (body.get("files") or {}).items():
            if fname in STREAM_FILES and isinstance(chunk, dict) and isinstance(chunk.get("offset"), int):
                for n, line in enumerate(chunk.get("content") or []):
                    off = chunk["offset"] + n
                    if run[STREAM_FILES[fname]].get((client, off) if asynch else off) != line:
                        new.add(fname)
        rows = new & {"wandb-history.jsonl", "wandb-events.jsonl"}
        if rows and run["closed"] is not None and client == run["closed"]:
            self.anomaly("error", "rows after complete without an upsert in between", run=run["name"], what=",".join(sorted(rows)))
        elif new or body.get("preempting") or body.get("complete") and body.get("exitcode") != run["exitcode"]:
            self.anomaly("warning", "file_stream after complete", run=run["name"], what=",".join(sorted(body)))
        if new:
            run["complete"], run["exitcode"] = False, None

    def judge_row(self, run, key, row):
        """Keeps of a history row what the checks need; `key` is its offset, in shared mode (client, offset)."""
        digest = hashlib.md5(json.dumps(row, sort_keys=True).encode()).digest()
        first = run["row_at"].setdefault(digest, key)
        if first != key:
            other = isinstance(first, tuple) != isinstance(key, tuple) or isinstance(key, tuple) and first[0] != key[0]
            self.anomaly("warning" if other else "error", "the same history row from two writers" if other else "the same history row at two offsets (delivered twice)",
                         once=True, run=run["name"], what="@%s and @%s: %.80s" % (first, key, json.dumps(row)))
        run["steps"][key] = row.get("_step")
        run["life"].setdefault(key, run["lives"])
        run["logged"][key] = list(media(row))

    def check_line(self, run, kind, off, line):
        name = run["name"]
        try:
            v = json.loads(line)
            if not isinstance(v, dict):
                raise ValueError("not an object")
        except ValueError as e:
            self.anomaly("error", "%s line is not a JSON object" % kind, run=name, what="@%d %s: %.60r" % (off, e, line)); return None
        if kind == "history":
            if not isinstance(v.get("_step"), int) or isinstance(v.get("_step"), bool):
                self.anomaly("error", "history line without integer _step", run=name, what="@%d" % off)
            for k in ("_timestamp", "_runtime"):
                if not isinstance(v.get(k), (int, float)):
                    self.anomaly("warning", "history line without %s" % k, run=name, what="")
            flat = [k for k in v if "." in k]
            if flat:
                self.anomaly("warning", "literal dot in a history key (ambiguous with nesting)", run=name, what=flat[0])
        if kind == "events" and not isinstance(v.get("_timestamp"), (int, float)):
            self.anomaly("warning", "event line without _timestamp", run=name, what="")
        return v

    def check_console(self, run, off, line):
        """A console line is JSON exactly when the feature is on."""
        ts = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}"
        if self.features.get("STRUCTURED_CONSOLE_LOGS"):
            v = maybe_json(line)
            ok = isinstance(v, dict) and isinstance(v.get("content"), str) and re.fullmatch(ts, str(v.get("ts"))) and v.get("level", "error") == "error" \
                and set(v) <= {"level", "ts", "label", "content"}
        else:
            ok = re.match(r"(ERROR )?" + ts + " ", line)
        if not ok:
            self.anomaly("error", "console line is not as the server announced it", run=run["name"], what="@%d %.80r" % (off, line))

    def put_line(self, run, kind, off, line, client, asynch):
        store = run[kind]
        run["arrivals"].append((kind, client, off, line))
        if client:
            run["clients"][client][kind] += 1
        if asynch:
            # Shared mode: offsets are per writer; the server merges. Key by (client, offset).
            key = (client, off)
            old = store.get(key)
            if old is not None and old != line and kind in ("history", "events"):
                self.anomaly("error", "history/event line rewritten with different content", run=run["name"], what="%s %s@%d" % (kind, client, off))
            store[key] = line
            return
        if kind == "summary":
            store[off] = line; return
        old = store.get(off)
        if old is None:
            if off > 0 and (off - 1) not in store and off > self.line_count(run, kind):
                self.anomaly("error", "gap: line written beyond the end of the stream", run=run["name"], what="%s@%d have %d" % (kind, off, self.line_count(run, kind)))
            store[off] = line
        elif old == line:
            run["overwrites_same"] += 1                     # a retry after a lost acknowledgement: harmless
        else:
            run["overwrites_diff"] += 1
            if kind == "history" and off in run["foreign"]:
                self.anomaly("error", "row of another writer replaced (the offset was taken)", run=run["name"], what="%s@%d" % (kind, off))
                run["foreign"].discard(off)
            elif kind != "console":                         # console lines are rewritten by terminal emulation
                self.anomaly("error", "history/event line rewritten with different content", run=run["name"], what="%s@%d" % (kind, off))
            store[off] = line

    def line_count(self, run, kind):
        ks = [k for k in run[kind] if isinstance(k, int)]
        base = run.get("seed", {}).get(kind + "LineCount", 0)
        n = max([base - 1] + ks) + 1
        return n + sum(1 for k in run[kind] if not isinstance(k, int))

    def keys(self, run, kind):
        """where the lines of a stream are, in order: offsets, then (client, offset) in order of arrival"""
        d = run[kind]
        ints = sorted(k for k in d if isinstance(k, int))
        return ints + list(dict.fromkeys((client, off) for knd, client, off, _ in run["arrivals"] if knd == kind and (client, off) in d))

    def lines(self, run, kind):
        return [run[kind][k] for k in self.keys(run, kind)]

    def foreign_rows(self, run, rows):
        """Another writer appends rows; in shared mode it is a client of its own."""
        shared = bool(run["clients"])
        if shared:
            run["clients"].setdefault("foreign", {"history": 0, "events": 0, "console": 0, "summary": 0, "requests": 0})
        for row in rows:
            line = row if isinstance(row, str) else jdump(row)
            off = run["clients"]["foreign"]["history"] if shared else self.line_count(run, "history")
            key = ("foreign", off) if shared else off
            self.put_line(run, "history", off, line, "foreign" if shared else "", shared)
            run["foreign"].add(key)
            parsed = maybe_json(line)
            run["steps"][key] = parsed.get("_step") if isinstance(parsed, dict) else None
            run["life"].setdefault(key, run["lives"])

    def resolve(self, url):
        """The committed artifact files (blobs) a wandb-client-artifact URL may mean; None where the manifest has a reference. [] = dangling."""
        who, _, path = url[len(ARTIFACT_URL):].partition("/")
        client, _, alias = who.partition(":")
        if alias:
            arts = [a for a in self.artifacts.values() if a["seqkey"] == self.seq_client_ids.get(client)]
            if not any(alias in a["aliases"] + ["v%s" % a["version"]] for a in arts):
                return []
        else:
            arts = [self.artifacts[self.client_ids[client]]] if client in self.client_ids else []
        found = []
        for a in arts:
            if a["state"] == "COMMITTED" and path in a.get("entries", {}):
                birth = self.artifacts.get(a["entries"][path].get("birthArtifactID"), a)
                found.append((a["files"].get(path) or birth["files"].get(path) or {}).get("blob"))
        return found

    def summary(self, run):
        s = self.lines(run, "summary")
        return s[-1] if s else run["summaryMetrics"]

    # -- uploads ---------------------------------------------------------------------------
    def signed_url(self, kind, key, headers, **info):
        """A URL that takes exactly one kind of PUT. `headers` are part of the signature: the client must send them as given."""
        tok = hashlib.sha256(("%s|%s|%d" % (kind, key, self.new_id())).encode()).hexdigest()[:32]
        self.uploads[tok] = {"kind": kind, "key": key, "headers": headers, "expires": now() + self.opts.url_ttl, "puts": 0, **info}
        return "%s/storage/%s?X-Fake-Expires=%d&X-Fake-Signature=%s" % (
            self.opts.public_url, quote(key if isinstance(key, str) else "/".join(key)), int(now() + self.opts.url_ttl), tok)


class HTTPFault(Exception):
    def __init__(self, status, body, headers=None):
        Exception.__init__(self, status)
        self.status, self.body, self.headers = status, body, headers or {}


# ------------------------------------------------------------------------------------------ graphql
class Gql:
    """Executes a document over the schema; the root value is a dict of callables."""

    def __init__(self, state, schema_text):
        self.s = state
        self.schema = build_schema(schema_text)

    def handle(self, payload, headers):
        s = self.s
        if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
            raise HTTPFault(400, {"errors": [{"message": "no query in request"}]})
        try:
            doc = gql_parse(payload["query"])
        except GraphQLError as e:
            s.anomaly("error", "graphql syntax error", what=e.message)
            raise HTTPFault(400, {"errors": [{"message": e.message}]})
        ops = [d for d in doc.definitions if isinstance(d, OperationDefinitionNode)]
        want = payload.get("operationName") or None          # some clients send ""
        op = next((o for o in ops if o.name and o.name.value == want), None) if want else (ops[0] if len(ops) == 1 else None)
        if op is None:
            s.anomaly("error", "operationName does not name one operation", what=str(want))
            raise HTTPFault(400, {"errors": [{"message": "unknown operationName"}]})
        name = op.name.value if op.name else "+".join(f.name.value for f in op.selection_set.selections if isinstance(f, FieldNode))
        errs = gql_validate(self.schema, doc)
        info = {"op": name, "type": op.operation.value, "root": [f.name.value for f in op.selection_set.selections if isinstance(f, FieldNode)]}
        if errs:
            info["validation_errors"] = [e.message for e in errs]
            s.anomaly("error", "graphql validation failed", what="%s: %s" % (name, errs[0].message))
            return 400, {"errors": [{"message": e.message} for e in errs]}, info
        self.headers = headers
        with s.lock:
            res = execute_sync(self.schema, doc, root_value=self.root(headers), variable_values=payload.get("variables") or {}, operation_name=want)
        if res.errors:
            orig = next((e.original_error for e in res.errors if isinstance(e.original_error, HTTPFault)), None)
            if orig:
                return orig.status, orig.body, info
            info["execution_errors"] = [e.message for e in res.errors]
            for e in res.errors:
                s.anomaly("error", "graphql execution error", what="%s: %s" % (name, e.message))
            # wrong variables are a client error: HTTP 400, as for validation
            return (400 if res.data is None else 200), {"errors": [e.formatted for e in res.errors], "data": res.data}, info
        return 200, {"data": res.data}, info

    def root(self, headers):
        q = {n[2:]: getattr(self, n) for n in dir(self) if n.startswith("q_")}
        q.update({n[2:]: (lambda f: lambda info, input: f(input))(getattr(self, n)) for n in dir(self) if n.startswith("m_")})
        return q

    # -- object views ------------------------------------------------------------------------
    def entity_obj(self, name):
        s = self.s
        return {"id": b64("Entity:%s" % name), "name": name, "isTeam": name != s.opts.username,
                "organization": lambda info: {"id": b64("Organization:1"), "name": s.opts.org, "orgEntity": {"id": b64("Entity:org"), "name": s.opts.org + "-org"}, "coreWeaveOrganizationId": None, "featureFlags": lambda info, rampIDType: []},
                "xxhashDigestsEnabled": s.features.get("ARTIFACT_DIGEST_ALGORITHM", False)}

    def project_obj(self, entity, name):
        s = self.s
        p = s.projects.get((entity, name))
        if p is None:
            return None

        def run(info, name=None, missingOk=None):
            r = s.runs.get((entity, p["name"], name))
            return self.run_obj(r) if r else None

        def collection(type_name):
            def f(info, name):
                seq = s.sequences.get((entity, p["name"], type_name, name))
                return self.seq_obj(seq) if seq else None
            return f

        def atype(info, name):
            if not any(k[:3] == (entity, p["name"], name) for k in s.sequences):
                return None
            return {"id": b64("ArtifactType:" + name), "name": name, "artifactCollection": collection(name)}
        runs = lambda info, **kw: {"edges": [{"cursor": r["name"], "node": self.run_obj(r)} for k, r in s.runs.items() if k[:2] == (entity, p["name"])],
                                   "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}, "totalCount": sum(1 for k in s.runs if k[:2] == (entity, p["name"]))}
        def artifact(info, name):
            coll, _, alias = name.partition(":")
            for a in s.artifacts.values():
                if (a["entity"], a["project"], a["name"]) == (entity, p["name"], coll) and a["state"] == "COMMITTED" \
                        and (alias or "latest") in a["aliases"] + ["v%d" % a["version"], a["digest"]]:
                    return self.art_obj(a)
            return None
        return {"id": p["id"], "artifact": artifact, "internalId": b64("ProjectInternalId:%d" % p["n"]), "name": p["name"], "entity": lambda info: self.entity_obj(entity),
                "entityName": entity, "createdAt": iso(s.t0), "isBenchmark": False, "user": lambda info: self.user_obj(), "bucket": run, "run": run, "runs": runs, "artifactType": atype}

    def run_obj(self, r):
        s = self.s

        def tail(kind):
            return json.dumps(s.lines(r, kind)[-1:])

        def wandb_config(info, keys=None):
            try:
                c = (json.loads(r["config"]) if r["config"] else {}).get("_wandb", {}).get("value", {})
            except ValueError:
                c = {}
            return json.dumps({k: v for k, v in c.items() if not keys or k in keys})

        def log_lines(info, first=None, last=None, after=None, useImprovedPagination=None):
            ls = list(enumerate(s.lines(r, "console")))
            if last:
                ls = ls[-last:]
            if after:
                ls = [x for x in ls if x[0] > int(after)]
            more = bool(first) and len(ls) > first
            if first:
                ls = ls[:first]
            return {"edges": [{"node": {"number": n, "line": l}} for n, l in ls], "pageInfo": {"hasNextPage": more, "hasPreviousPage": False, "endCursor": str(ls[-1][0]) if ls else None}}

        def hist(info, minStep=None, maxStep=None, samples=None):
            out = []
            for l in s.lines(r, "history"):
                st = json.loads(l).get("_step", 0)
                if (minStep is None or st >= int(minStep)) and (maxStep is None or st < int(maxStep)):
                    out.append(l)
            return out[:samples] if samples else out
        return {"id": r["id"], "name": r["name"], "displayName": r["displayName"], "description": r.get("description"), "notes": r["notes"],
                "config": r["config"] or "{}", "wandbConfig": wandb_config, "summaryMetrics": lambda info, keys=None: s.summary(r) or "{}",
                "sweepName": r["sweep"], "state": s.run_state(r), "group": r["groupName"], "jobType": r["jobType"], "commit": r["commit"], "host": r["host"],
                "tags": r["tags"], "stopped": r["stopped"], "createdAt": iso(r["created"]), "heartbeatAt": iso(r["heartbeat"]),
                "historyLineCount": s.line_count(r, "history"), "eventsLineCount": s.line_count(r, "events"), "logLineCount": s.line_count(r, "console"),
                "historyTail": tail("history"), "eventsTail": tail("events"), "history": hist, "logLines": log_lines,
                "sampledHistory": lambda info, specs: [[json.loads(l) for l in s.lines(r, "history")] for _ in specs],
                "parquetHistory": lambda info, liveKeys: {"parquetUrls": [], "liveData": []},
                "project": lambda info: self.project_obj(r["entity"], r["project"]), "user": lambda info: self.user_obj()}

    def user_obj(self):
        name, entity = self.s.viewer()
        return {"id": b64("User:1"), "name": name, "username": name, "email": name + "@example.invalid", "entity": entity, "admin": False, "flags": "{}", "deletedAt": None, "apiKeys": {"edges": []},
                "teams": {"edges": [{"cursor": "1", "node": self.entity_obj(entity)}]}}

    def seq_obj(self, q):
        s = self.s
        return {"__typename": "ArtifactSequence", "id": q["id"], "name": q["name"], "digestAlgorithm": q["digestAlgorithm"], "createdAt": iso(s.t0),
                "project": lambda info: self.project_obj(q["key"][0], q["key"][1]),
                "latestArtifact": lambda info: self.art_obj(s.artifacts[q["latest"]]) if q["latest"] else None}

    def art_obj(self, a):
        s = self.s
        return {"id": a["id"], "state": a["state"], "digest": a["digest"], "description": a["description"], "metadata": a["metadata"], "versionIndex": a["version"],
                "size": sum(f["blob"].size for f in a["files"].values() if f.get("blob")), "fileCount": len(a["files"]), "createdAt": iso(a["created"]),
                "aliases": lambda info: [{"id": b64("Alias:" + x), "alias": x, "artifactCollectionName": a["name"], "artifactCollection": self.seq_obj(s.sequences[a["seqkey"]])} for x in a["aliases"]],
                "tags": [{"id": b64("Tag:" + t), "name": t} for t in a["tags"]], "ttlDurationSeconds": a["ttl"] or -1, "ttlIsInherited": True, "historyStep": a["historyStep"],
                "digestAlgorithm": s.sequences[a["seqkey"]]["digestAlgorithm"], "commitHash": a["id"][-8:], "updatedAt": iso(a["created"]), "labels": a["labels"],
                "artifactType": lambda info: {"id": b64("ArtifactType:" + a["type"]), "name": a["type"]},
                "artifactSequence": lambda info: self.seq_obj(s.sequences[a["seqkey"]]),
                "currentManifest": lambda info: a["manifest"] and {"id": a["manifest"]["id"], "digest": a["manifest"]["digest"] or "", "type": a["manifest"]["type"], "file": {"id": a["manifest"]["id"], "name": a["manifest"]["name"], "directUrl": s.opts.public_url + "/__blob?md5=" + (a["manifest"]["blob"].md5 if a["manifest"].get("blob") else ""), "uploadHeaders": []}},
                "files": lambda info, **kw: {"edges": [{"cursor": n, "node": self.file_obj(a, n, f)} for n, f in sorted(a["files"].items())], "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}},
                "filesByManifestEntries": lambda info, entries=None, **kw: {"edges": [{"cursor": e["name"], "node": self.file_obj(a, e["name"], a["files"].get(e["name"], {}))} for e in entries or []], "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}}}

    def file_obj(self, a, name, f):
        s = self.s
        md5hex = f["blob"].md5 if f.get("blob") else ""
        return {"id": b64("File:%s:%s" % (a["id"], name)), "name": name, "displayName": name, "directUrl": s.opts.public_url + "/__blob?md5=" + md5hex,
                "sizeBytes": f["blob"].size if f.get("blob") else 0, "md5": f.get("md5"), "storagePath": f.get("storagePath"), "uploadUrl": None, "uploadHeaders": [], "artifact": lambda info: self.art_obj(a)}

    # -- queries -------------------------------------------------------------------------------
    def q_viewer(self, info, **kw):
        return self.user_obj()

    def q_serverInfo(self, info):
        return {"cliVersionInfo": {"max_cli_version": "0.31.0", "min_cli_version": "0.8.0"}, "latestLocalVersionInfo": {"outOfDate": False, "latestVersionString": "0.80.0", "versionOnThisInstanceString": "0.80.0"},
                "features": [{"name": n, "isEnabled": v} for n, v in sorted(self.s.features.items())]}

    def q_entity(self, info, name=None, login=None):
        return self.entity_obj(name or self.s.opts.entity)

    def q_organization(self, info, id=None, name=None):
        return self.entity_obj(self.s.opts.entity)["organization"](info)

    def q_project(self, info, name=None, entityName=None):
        return self.project_obj(entityName or self.s.opts.entity, name or "uncategorized")
    q_model = q_project

    def q_models(self, info, entityName=None, **kw):
        return {"edges": [{"cursor": k[1], "node": self.project_obj(*k)} for k in self.s.projects if k[0] == (entityName or self.s.opts.entity)],
                "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}}

    def q_artifact(self, info, id):
        a = self.s.artifacts.get(id)
        return self.art_obj(a) if a else None

    def q_clientIDMapping(self, info, clientID):
        a = self.s.client_ids.get(clientID)
        return {"serverID": a} if a else None

    def q_view(self, info, id, type=None):
        return self.view_obj(self.s.views[id]) if id in self.s.views else None

    # -- run mutations -----------------------------------------------------------------------------
    def m_upsertModel(self, i):
        p = self.s.project(i.get("entityName") or self.s.opts.entity, i.get("name") or "uncategorized")
        o = self.project_obj(p["entity"], p["name"])
        return {"project": o, "model": o, "inserted": True}

    def m_upsertBucket(self, i):
        run, ins = self.s.upsert_run(i, self.headers)
        return {"bucket": self.run_obj(run), "inserted": ins}

    def m_rewindRun(self, i):
        raise HTTPFault(400, {"errors": [{"message": "rewind is not available on this fake"}]})

    def m_stopRun(self, i):
        for r in self.s.runs.values():
            if r["id"] == i["id"]:
                r["stopped"] = True
                return {"success": True}
        return {"success": False}

    def need_run(self, i):
        r = self.s.runs.get((i["entityName"], i["projectName"], i["runName"]))
        if r is None:
            raise HTTPFault(404, {"errors": [{"message": "run not found"}], "data": None})
        return r

    def m_createRunFiles(self, i):
        r, s = self.need_run(i), self.s
        if not i["files"]:
            s.anomaly("warning", "createRunFiles with no files", run=r["name"])
        files = []
        for f in i["files"]:
            if f.startswith("/") or "\\" in f or ".." in f.split("/"):
                s.anomaly("error", "run file path is not a clean relative path", run=r["name"], what=f)
            url = s.signed_url("runfile", "%s/%s/%s/%s" % (r["entity"], r["project"], r["name"], f), [], run=(r["entity"], r["project"], r["name"]), path=f)
            files.append({"name": f, "uploadUrl": url})
        return {"runID": r["id"], "uploadHeaders": [], "files": files}

    def m_markRunFilesUploaded(self, i):
        r = self.need_run(i)
        r["uploaded"].extend(i["files"])
        return {"success": True}

    def m_notifyScriptableRunAlert(self, i):
        self.need_run(i)
        self.s.alerts.append({k: i.get(k) for k in ("entityName", "projectName", "runName", "title", "text", "severity", "waitDuration")})
        return {"success": True}

    def m_createCustomChart(self, i):
        self.s.charts.append(dict(i))
        return {"chart": {"id": b64("Chart:%d" % self.s.new_id())}}

    # -- artifact mutations ------------------------------------------------------------------------
    def m_createArtifact(self, i):
        s = self.s
        name = i.get("artifactCollectionName") or (i.get("artifactCollectionNames") or [None])[0]
        if not name:
            raise HTTPFault(400, {"errors": [{"message": "no artifact collection name"}]})
        if not re.fullmatch(r"[-\w. ]{1,128}", name):
            s.anomaly("error", "artifact name outside [-A-Za-z0-9_. ]{1,128}", what=name)
            raise HTTPFault(400, {"errors": [{"message": "invalid artifact name"}]})
        key = (i["entityName"], i["projectName"], i["artifactTypeName"], name)
        other = next((k for k in s.sequences if (k[0], k[1], k[3]) == (key[0], key[1], name) and k[2] != key[2]), None)
        if other:
            s.anomaly("error", "artifact name already used with another type", what="%s: %s then %s" % (name, other[2], key[2]))
            raise HTTPFault(409, {"errors": [{"message": "artifact collection %s already exists with type %s" % (name, other[2])}]})
        seq = s.sequences.setdefault(key, {"id": b64("ArtifactSequence:%d" % s.new_id()), "name": name, "key": key, "latest": None, "versions": 0, "digestAlgorithm": i["digestAlgorithm"]})
        aliases = [a["alias"] for a in i.get("aliases") or []]
        if i.get("sequenceClientID"):
            s.seq_client_ids[i["sequenceClientID"]] = key
        if i.get("metadata") is not None:
            try:
                json.loads(i["metadata"])
            except ValueError:
                s.anomaly("error", "artifact metadata is not JSON", what=name)
        if i.get("runName") and (i["entityName"], i["projectName"], i["runName"]) not in s.runs:
            s.anomaly("error", "artifact names a run that does not exist", what=i["runName"])
            raise HTTPFault(404, {"errors": [{"message": "run not found"}]})
        if i.get("enableDigestDeduplication"):
            for a in s.artifacts.values():
                if a["seqkey"] == key and a["digest"] == i["digest"] and a["state"] == "COMMITTED":
                    self.take_aliases(a, aliases)
                    a["dedup_hits"] += 1
                    s.client_ids[i.get("clientID") or a["id"]] = a["id"]
                    return {"artifact": self.art_obj(a)}
        if i.get("clientID") and i["clientID"] in s.client_ids:          # the same create repeated (lost acknowledgement)
            a = s.artifacts[s.client_ids[i["clientID"]]]
            if a["seqkey"] == key and a["digest"] == i["digest"]:
                a["creates"] += 1
                return {"artifact": self.art_obj(a)}
            s.anomaly("error", "clientID reused for a different artifact", what=name)
        aid = b64("Artifact:%d" % s.new_id())
        a = {"id": aid, "seqkey": key, "entity": key[0], "project": key[1], "type": key[2], "name": name, "state": "PENDING", "digest": i["digest"],
             "description": i.get("description"), "metadata": i.get("metadata"), "labels": i.get("labels"), "version": None, "aliases": [], "want_aliases": aliases,
             "tags": [t["tagName"] for t in i.get("tags") or []], "run": i.get("runName"), "historyStep": i.get("historyStep"), "created": now(), "ttl": i.get("ttlDurationSeconds"),
             "clientID": i.get("clientID"), "sequenceClientID": i.get("sequenceClientID"), "manifest": None, "manifests": {}, "files": {}, "used_by": [], "dedup_hits": 0, "creates": 1}
        s.artifacts[aid] = a
        if i.get("clientID"):
            s.client_ids[i["clientID"]] = aid
        return {"artifact": self.art_obj(a)}

    def take_aliases(self, a, aliases):
        for x in aliases:
            for o in self.s.artifacts.values():
                if o["seqkey"] == a["seqkey"] and x in o["aliases"]:
                    o["aliases"].remove(x)
            a["aliases"].append(x)

    def need_art(self, aid):
        a = self.s.artifacts.get(aid)
        if a is None:
            raise HTTPFault(404, {"errors": [{"message": "artifact not found"}], "data": None})
        return a

    def manifest_file(self, m, a):
        s = self.s
        hdr = ["Content-Type:application/json"] + (["Content-MD5:" + m["digest"]] if m["digest"] else [])

        def url(info):
            return s.signed_url("manifest", "manifests/%s/%s" % (a["name"], m["name"]), hdr, artifact=a["id"], manifest=m["id"], md5b64=m["digest"])
        return {"id": m["id"], "digest": m["digest"] or "", "type": m["type"], "file": {"id": m["id"], "name": m["name"], "directUrl": "", "uploadUrl": url, "uploadHeaders": hdr}}

    def m_createArtifactManifest(self, i):
        s, a = self.s, self.need_art(i["artifactID"])
        if a["state"] == "COMMITTED":
            s.anomaly("error", "manifest created on a committed artifact", what=a["name"])
        # the same artifact keeps one manifest per name; a second create with a digest replaces the first (that is what wandb-core does)
        m = a["manifests"].setdefault(i["name"], {"id": b64("ArtifactManifest:%d" % s.new_id()), "name": i["name"], "type": i["type"], "blob": None})
        m["digest"], m["base"] = i["digest"], i.get("baseArtifactID")
        a["manifest"] = m
        return {"artifactManifest": self.manifest_file(m, a)}

    def m_updateArtifactManifest(self, i):
        for a in self.s.artifacts.values():
            for m in a["manifests"].values():
                if m["id"] == i["artifactManifestID"]:
                    if i.get("digest") is not None:
                        m["digest"] = i["digest"]
                    a["manifest"] = m
                    return {"artifactManifest": self.manifest_file(m, a)}
        raise HTTPFault(404, {"errors": [{"message": "manifest not found"}]})

    def m_createArtifactFiles(self, i):
        s = self.s
        edges = []
        for spec in i["artifactFiles"]:
            a = self.need_art(spec["artifactID"])
            if a["state"] == "COMMITTED":
                s.anomaly("error", "file created on a committed artifact", what="%s/%s" % (a["name"], spec["name"]))
            md5b = spec.get("digest") if i.get("digestAlgorithm") == "MANIFEST_XXH128" and spec.get("digest") else spec["md5"]
            try:
                md5hex = binascii.hexlify(base64.b64decode(spec["md5"], validate=True)).decode()
                if spec["md5"] and len(md5hex) != 32:
                    raise ValueError
            except ValueError:
                s.anomaly("error", "artifact file md5 is not base64 of 16 bytes", what=spec["md5"])
                raise HTTPFault(400, {"errors": [{"message": "invalid md5"}]})
            path = "wandb_artifacts/%s/%s" % (a["entity"], md5hex)
            f = a["files"].setdefault(spec["name"], {"md5": spec["md5"], "storagePath": path})
            known = s.blobs.get(("artifact", path))
            node = {"id": b64("File:%s" % spec["name"]), "name": spec["name"], "directUrl": "", "storagePath": path, "uploadHeaders": [], "uploadUrl": None,
                    "artifact": (lambda x: lambda info: self.art_obj(x))(s.artifacts[known["artifact"]] if known else a)}
            if known:
                f["blob"] = known["blob"]                                    # the server already has these bytes: no upload wanted
            else:
                hdr = ["Content-MD5:" + spec["md5"], "Content-Type:" + (spec.get("mimetype") or "application/octet-stream")]
                parts = spec.get("uploadPartsInput")
                if parts:
                    uid = "upload-%d" % s.new_id()
                    s.uploads[uid] = {"kind": "multipart", "artifact": a["id"], "name": spec["name"], "path": path, "parts": {}, "md5": {int(p["partNumber"]): p["hexMD5"] for p in parts}, "puts": 0}
                    node["uploadUrl"] = s.signed_url("artifact", path, hdr, artifact=a["id"], name=spec["name"], md5b64=spec["md5"])
                    node["uploadHeaders"] = hdr
                    node["uploadMultipartUrls"] = {"uploadID": uid, "uploadUrlParts": [
                        {"partNumber": int(p["partNumber"]), "uploadUrl": s.signed_url("part", "%s/%s" % (path, p["partNumber"]), [], upload=uid, part=int(p["partNumber"]), md5hex=p["hexMD5"])} for p in parts]}
                else:
                    node["uploadUrl"] = s.signed_url("artifact", path, hdr, artifact=a["id"], name=spec["name"], md5b64=spec["md5"])
                    node["uploadHeaders"] = hdr
            edges.append({"cursor": spec["name"], "node": node})
        return {"files": {"edges": edges, "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}}}

    def m_completeMultipartUploadArtifact(self, i):
        s = self.s
        u = s.uploads.get(i["uploadID"])
        if u is None:
            raise HTTPFault(404, {"errors": [{"message": "no such upload"}]})
        whole = Blob(s.spool)
        for p in sorted(i["completedParts"], key=lambda p: int(p["partNumber"])):
            b = u["parts"].get(int(p["partNumber"]))
            if b is None or p["hexMD5"].strip('"') != b.md5:
                s.anomaly("error", "multipart completion does not match the uploaded parts", what="%s part %s" % (u["name"], p["partNumber"]))
                raise HTTPFault(400, {"errors": [{"message": "part mismatch"}]})
            whole.write(b.bytes())
        if len(i["completedParts"]) != len(u["md5"]):
            s.anomaly("error", "multipart completion lacks parts", what=u["name"])
        whole.close()
        a = s.artifacts[u["artifact"]]
        a["files"][u["name"]]["blob"] = whole
        a["files"][u["name"]]["parts"] = len(i["completedParts"])
        s.blobs[("artifact", u["path"])] = {"blob": whole, "artifact": a["id"]}
        return {"digest": whole.md5b64}

    def m_commitArtifact(self, i):
        s, a = self.s, self.need_art(i["artifactID"])
        if a["state"] == "COMMITTED":
            return {"artifact": self.art_obj(a)}
        m = a["manifest"]
        if not m or not m.get("blob"):
            s.anomaly("error", "artifact committed without an uploaded manifest", what=a["name"])
            raise HTTPFault(400, {"errors": [{"message": "no manifest"}]})
        try:
            doc = json.loads(m["blob"].bytes())
            h = hashlib.md5(b"wandb-artifact-manifest-v1\n")
            for p in sorted(doc["contents"]):
                e = doc["contents"][p]
                h.update(("%s:%s\n" % (p, e["digest"])).encode())
                if not e.get("ref"):
                    f = a["files"].get(p)
                    if not e.get("birthArtifactID"):
                        s.anomaly("error", "manifest entry without birthArtifactID", what=p)
                    elif e["birthArtifactID"] != a["id"]:
                        continue
                    if not f or not f.get("blob"):
                        s.anomaly("error", "artifact committed but a file was never uploaded", what="%s/%s" % (a["name"], p))
                    elif f["blob"].md5b64 != e["digest"] or f["blob"].size != e.get("size"):
                        s.anomaly("error", "manifest entry does not match the uploaded bytes", what="%s/%s" % (a["name"], p))
            a["entries"] = doc["contents"]
            a["digest_checked"] = h.hexdigest() == a["digest"]
            if not a["digest_checked"]:
                s.anomaly("error", "artifact digest does not match its manifest", what="%s: declared %s, computed %s" % (a["name"], a["digest"], h.hexdigest()))
            if m["digest"] and m["blob"].md5b64 != m["digest"]:
                s.anomaly("error", "manifest digest does not match the manifest bytes", what=a["name"])
        except (ValueError, KeyError, TypeError) as e:
            s.anomaly("error", "manifest is not readable", what="%s: %s" % (a["name"], e))
            raise HTTPFault(400, {"errors": [{"message": "bad manifest"}]})
        seq = s.sequences[a["seqkey"]]
        a["state"], a["version"] = "COMMITTED", seq["versions"]
        seq["versions"] += 1
        seq["latest"] = a["id"]
        self.take_aliases(a, a["want_aliases"])
        return {"artifact": self.art_obj(a)}

    def m_updateArtifact(self, i):
        a = self.need_art(i["artifactID"])
        for k in ("description", "metadata", "labels"):
            if i.get(k) is not None:
                a[k] = i[k]
        if i.get("aliases") is not None:
            self.take_aliases(a, [x["alias"] for x in i["aliases"] if x["alias"] not in a["aliases"]])
        return {"artifact": self.art_obj(a)}

    def m_addAliases(self, i):
        self.take_aliases(self.need_art(i["artifactID"]), [x["alias"] for x in i["aliases"]])
        return {"success": True}

    def m_useArtifact(self, i):
        a = self.need_art(i["artifactID"])
        a["used_by"].append(i["runName"])
        return {"artifact": self.art_obj(a)}

    def m_linkArtifact(self, i):
        return {"versionIndex": 0}

    # -- reports -------------------------------------------------------------------------------------
    def view_obj(self, v):
        e, p = v.get("entityName") or self.s.opts.entity, v.get("projectName") or ""
        return {"id": v["id"], "type": v.get("type"), "name": v.get("name"), "displayName": v.get("displayName"), "description": v.get("description"), "spec": v.get("spec"),
                "previewUrl": v.get("previewUrl"), "coverUrl": v.get("coverUrl"), "createdAt": iso(v["created"]), "updatedAt": iso(v["updated"]), "createdUsing": v.get("createdUsing") or "WANDB_SDK",
                "locked": bool(v.get("locked")), "viewCount": 0, "entityName": e, "projectName": p, "parentId": v.get("parentId"), "project": lambda info: self.project_obj(e, p),
                "user": lambda info: self.user_obj(), "children": {"edges": [], "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}, "totalCount": 0}}

    def m_upsertView(self, i):
        s = self.s
        v = s.views.get(i.get("id"))
        inserted = v is None
        if inserted:
            v = {"id": i.get("id") or b64("View:%d" % s.new_id()), "created": now()}
            s.views[v["id"]] = v
            if i.get("projectName"):
                s.project(i.get("entityName") or s.opts.entity, i["projectName"])
        v.update({k: x for k, x in i.items() if x is not None and k != "id"})
        v["updated"] = now()
        if v.get("spec"):
            try:
                json.loads(v["spec"])
            except ValueError:
                s.anomaly("error", "view spec is not JSON", what=str(v.get("displayName")))
        return {"view": self.view_obj(v), "inserted": inserted}

    def m_deleteView(self, i):
        return {"success": self.s.views.pop(i.get("id"), None) is not None, "pendingDrafts": False}


# ------------------------------------------------------------------------------------------ http
class Reset(Exception):
    pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-wandb/1"
    state = gql = opts = None

    def setup(self):
        BaseHTTPRequestHandler.setup(self)
        try:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass

    def log_message(self, fmt, *a):
        if self.opts.verbose:
            sys.stderr.write("%s %s\n" % (time.strftime("%H:%M:%S"), fmt % a))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = lambda self: self.go()

    # -- plumbing --------------------------------------------------------------------------------
    def read_body(self, sink=None, rate=None, stop_at=None):
        """Reads the body into bytes, or into `sink`; at most `rate` bytes/s; Reset after stop_at of it."""
        out = sink if sink is not None else bytearray()
        put = out.write if sink is not None else out.extend
        chunked = "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()
        step = 65536 if not rate else max(1, min(65536, int(rate / 10)))
        total = 0

        def pull(n):
            nonlocal total
            left = n
            while left:
                b = self.rfile.read(min(step, left))
                if not b:
                    raise Reset("client closed in the middle of the body (%d of %d)" % (n - left, n))
                put(b)
                left -= len(b); total += len(b)
                if rate:
                    time.sleep(len(b) / rate)
                if stop_at is not None and total >= stop_at:
                    raise Reset("fault: mid_body")
        if chunked:
            while True:
                n = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
                if n == 0:
                    while self.rfile.readline().strip():
                        pass
                    break
                pull(n)
                self.rfile.readline()
        else:
            pull(int(self.headers.get("Content-Length") or 0))
        return out

    def reset_conn(self):
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close_connection = True
        try:
            self.connection.close()
        except OSError:
            pass

    def answer(self, status, body, headers=None, rate=None, truncate=None):
        data = body if isinstance(body, (bytes, bytearray)) else (body.encode() if isinstance(body, str) else jdump(body).encode())
        self.send_response(status)
        h = {"Content-Type": "application/json"}
        h.update(headers or {})
        h["Content-Length"] = str(len(data))
        for k, v in h.items():
            self.send_header(k, str(v))
        self.end_headers()
        if self.command == "HEAD":
            return
        if truncate is not None:
            self.wfile.write(data[:truncate]); self.wfile.flush()
            self.reset_conn()
            return
        if rate:
            step = max(1, int(rate / 10))
            for n in range(0, len(data), step):
                self.wfile.write(data[n:n + step]); self.wfile.flush(); time.sleep(0.1)
        else:
            self.wfile.write(data)

    def find_fault(self, kind, path, raw, op, run):
        for f in self.state.faults:
            m = f.get("match") or {}
            if m.get("kind", "any") not in ("any", kind) or (m.get("op") and m["op"] != op) or (m.get("run") and m["run"] != run):
                continue
            if m.get("path") and not re.search(m["path"], path):
                continue
            if m.get("body") and not re.search(m["body"].encode(), raw or b""):
                continue
            f["seen"] = f.get("seen", 0) + 1
            if f["seen"] <= f.get("skip", 0) or f.get("left", 1) == 0:
                continue
            if f["left"] > 0:
                f["left"] -= 1
            f["hits"] = f.get("hits", 0) + 1
            return f
        return None

    # -- requests ----------------------------------------------------------------------------------
    def go(self):
        u = urlsplit(self.path)
        if u.path.startswith("/__"):
            return self.control(u)
        s, t0 = self.state, now()
        kind = "graphql" if u.path == "/graphql" else "storage" if u.path.startswith("/storage/") else "filestream" if u.path.endswith("/file_stream") else "other"
        rec = {"seq": None, "t": round(t0 - s.t0, 4), "kind": kind, "method": self.command, "path": self.path,
               "headers": {k: (self.mask(v) if k.lower() == "authorization" else v) for k, v in self.headers.items()}}
        with s.lock:
            s.seq += 1
            rec["seq"] = s.seq
            s.log.append(rec)
            user, key = credentials(self.headers.get("Authorization") or "")
            s.secrets.learn(key, user)
            self.look_for_secrets("URL of %s" % kind, self.path.encode())
            for k, v in self.headers.items():
                if k.lower() != "authorization":
                    self.look_for_secrets("header %s to %s" % (k, kind), v.encode("utf-8", "replace"))
            run = self.run_of(u.path, kind)
            if run:
                s.contact(run)
                run["in_flight"] += 1
        try:
            self.serve(u, kind, rec)
        except Reset as e:
            rec["reset"] = str(e)
            self.reset_conn()
        except (BrokenPipeError, ConnectionResetError) as e:
            rec["client_gone"] = str(e)
            self.close_connection = True
        finally:
            rec["ms"] = round((now() - t0) * 1000, 1)
            if run:
                with s.lock:
                    run["in_flight"] -= 1
                    s.expect(run, "fault" in rec or not 200 <= rec.get("status", 0) < 300, self.told_to_wait(rec))
            if self.opts.record:
                with s.lock, open(self.opts.record, "a") as f:
                    f.write(jdump(rec) + "\n")

    def run_of(self, path, kind):
        parts = [unquote(x) for x in path.split("/")]
        return self.state.runs.get(tuple(parts[2:5])) if kind == "filestream" and len(parts) == 6 else None

    @staticmethod
    def told_to_wait(rec):
        v = str((rec.get("fault") or {}).get("retry_after") or (rec.get("response_headers") or {}).get("Retry-After") or 0)
        try:
            return float(v)
        except ValueError:
            try:
                return max(0.0, parsedate_to_datetime(v).timestamp() - now())
            except (ValueError, TypeError):
                return 0.0

    def look_for_secrets(self, where, data):
        leak = self.state.secrets.found(data)
        if leak:
            self.state.anomaly("error", "%s where it does not belong" % leak, what=where)

    def serve(self, u, kind, rec):
        s = self.state
        clen = self.headers.get("Content-Length")
        blob, raw, pre = None, b"", None
        # A fault on the body itself must be chosen before the body is read, by path only.
        with s.lock:
            for f in s.faults:
                m, th = f.get("match") or {}, f["then"]
                if (th.get("slow_in") or th.get("reset") == "mid_body") and not m.get("op") and not m.get("body") and f.get("left", 1) != 0 \
                        and m.get("kind", "any") in ("any", kind) and (not m.get("path") or re.search(m["path"], u.path)):
                    f["seen"] = f.get("seen", 0) + 1
                    if f["seen"] <= f.get("skip", 0):
                        continue
                    if f["left"] > 0:
                        f["left"] -= 1
                    f["hits"] = f.get("hits", 0) + 1
                    pre = f
                    break
        th = dict(pre["then"]) if pre else {}
        stop = max(1, int(clen or 2) // 2) if th.get("reset") == "mid_body" else None
        if th.get("delay"):
            time.sleep(th["delay"])
        if kind == "storage" and self.command == "PUT":
            blob = Blob(s.spool, s.secrets)
            self.read_body(blob, th.get("slow_in"), stop)
            blob.close()
            if blob.leak:
                up = s.uploads.get((parse_qs(u.query).get("X-Fake-Signature") or [""])[0], {})
                s.anomaly("error", "%s where it does not belong" % blob.leak, what="upload %s" % (up.get("path") or up.get("name") or u.path))
            rec["body"] = {"binary": True, **blob.describe()}
        else:
            raw = bytes(self.read_body(None, th.get("slow_in"), stop))
            enc = (self.headers.get("Content-Encoding") or "").lower()
            rec["raw_bytes"] = len(raw)
            if enc == "gzip":
                try:
                    raw = gzip.decompress(raw)
                except (OSError, EOFError):
                    s.anomaly("error", "bad gzip body", what=u.path)
                    rec["status"] = 400
                    return self.answer(400, {"error": "bad gzip"})
            elif enc not in ("", "identity"):
                s.anomaly("error", "unknown Content-Encoding", what=enc)
            self.look_for_secrets("body of %s" % u.path, raw)
        payload, op, run = None, None, None
        if kind in ("graphql", "filestream"):
            try:
                payload = json.loads(raw) if raw else None
                rec["body"] = payload
            except ValueError as e:
                rec["body"] = {"not_json": raw[:2000].decode("utf-8", "replace")}
                s.anomaly("error", "request body is not JSON", what="%s: %s" % (u.path, e))
            if isinstance(payload, dict) and kind == "graphql":
                op = payload.get("operationName") or (re.search(r"(?:query|mutation)\s+(\w+)", payload.get("query") or "") or [None, None])[1]
                rec["op"] = op
            if kind == "filestream":
                run = unquote(u.path).split("/")[-2]
        fault = pre
        if not fault:
            with s.lock:
                fault = self.find_fault(kind, u.path, raw, op, run)
            th = dict(fault["then"]) if fault else {}
            if th.get("delay"):
                time.sleep(th["delay"])
        if fault:
            rec["fault"] = {"id": fault["id"], **fault["then"]}
        if th.get("reset") == "before":
            raise Reset("fault: before processing")
        hdr = dict(th.get("headers") or {})
        if th.get("retry_after") is not None:
            hdr["Retry-After"] = th["retry_after"]
        if th.get("status") and not th.get("process"):
            body = th.get("body", {"error": "injected fault %d" % th["status"]})
            rec["status"], rec["response"] = th["status"], body
            return self.answer(th["status"], body, hdr, th.get("slow_out"))
        if th.get("gql_errors"):
            body = {"errors": th["gql_errors"], "data": None}
            rec["status"], rec["response"] = 200, body
            return self.answer(200, body, hdr)
        try:
            status, body, extra, more = self.route(u, kind, payload, blob, rec)
        except HTTPFault as e:
            status, body, extra, more = e.status, e.body, e.headers, {}
        rec.update(more)
        extra.update(hdr)
        if kind == "filestream" and th.get("stopped") and isinstance(body, dict):
            body["stopped"] = True
        if th.get("status"):
            status, body = th["status"], th.get("body", {"error": "injected fault %d after processing" % th["status"]})
        if th.get("garbage"):
            body = "<html>gateway</html>"
        rec["status"] = status
        rec["response"] = body if not isinstance(body, (bytes, bytearray)) else {"binary": True, "size": len(body)}
        if extra:
            rec["response_headers"] = extra
        if th.get("hang"):
            time.sleep(th["hang"])
        if th.get("reset") == "after":
            raise Reset("fault: after processing")
        self.answer(status, body, extra, th.get("slow_out"), th.get("truncate"))

    def mask(self, v):
        if v.startswith("Basic "):
            user, key = credentials(v)
            return "Basic base64(%s:<key of %d chars>)" % (user, len(key)) if key is not None else "Basic <undecodable>"
        return v.split(" ")[0] + " <%d chars>" % len(v)

    def authenticate(self, rec):
        _, key = credentials(self.headers.get("Authorization") or "")
        accounts = self.state.accounts
        self.state.who.account = accounts.get(key)
        rec["user"] = self.state.viewer()[0]
        if not key or (key not in accounts and (accounts or self.opts.api_key) and key != self.opts.api_key):
            self.state.anomaly("warning", "request without valid credentials", what=rec["path"].split("?")[0])
            raise HTTPFault(401, {"errors": [{"message": "user is not logged in", "extensions": {"code": "UNAUTHENTICATED"}}], "data": None} if rec["kind"] == "graphql" else {"error": "user is not logged in"})

    def route(self, u, kind, payload, blob, rec):
        s = self.state
        if kind == "storage":
            return self.storage(u, blob, rec)
        if kind == "other":
            if self.command in ("GET", "HEAD") and u.path in ("/", "/healthz", "/ready"):
                return 200, {"ok": True}, {}, {}
            m = re.match(r"/oidc/token$", u.path)
            if m:
                return 200, {"access_token": "fake-access-token", "expires_in": 3600}, {}, {}
            s.anomaly("warning", "unknown path", what="%s %s" % (self.command, u.path))
            return 404, {"error": "not found"}, {}, {}
        if self.opts.max_body and rec["raw_bytes"] > self.opts.max_body:
            s.anomaly("error", "request body over the limit", what="%s %d bytes" % (u.path, rec["raw_bytes"]))
            return 413, {"error": "request too large"}, {}, {}
        self.authenticate(rec)
        if self.command != "POST":
            return 405, {"error": "method not allowed"}, {}, {}
        if "json" not in (self.headers.get("Content-Type") or ""):
            s.anomaly("warning", "POST without Content-Type: application/json", what=u.path)
        h = {k.lower(): v for k, v in self.headers.items()}
        if kind == "graphql":
            if payload is None:
                raise HTTPFault(400, {"errors": [{"message": "invalid JSON"}]})
            status, body, info = self.gql.handle(payload, h)
            return status, body, {}, {"graphql": info}
        if not isinstance(payload, dict):
            raise HTTPFault(400, {"error": "invalid JSON"})
        parts = [unquote(p) for p in u.path.split("/")]          # "", files, entity, project, run, file_stream
        if len(parts) != 6 or parts[1] != "files":
            raise HTTPFault(404, {"error": "not found"})
        extra = {}
        if self.opts.fs_rate:
            extra = self.rate_limit(parts[4])
        with s.lock:
            body = s.file_stream(parts[2], parts[3], parts[4], payload, h)
        return 200, body, extra, {}

    rate_windows = {}

    def rate_limit(self, run):
        """At most fs_rate file_stream requests per fs_window seconds per run; standard RateLimit-* headers, 429 above it."""
        w, lim = self.opts.fs_window, self.opts.fs_rate
        with self.state.lock:
            t = now()
            start, n = self.rate_windows.get(run, (t, 0))
            if t - start >= w:
                start, n = t, 0
            n += 1
            self.rate_windows[run] = (start, n)
            reset = max(0, w - (t - start))
            h = {"RateLimit-Limit": str(lim), "RateLimit-Remaining": str(max(0, lim - n)), "RateLimit-Reset": str(int(math.ceil(reset)))}
            if n > lim:
                self.state.anomaly("warning", "filestream rate limit exceeded", run=run)
                raise HTTPFault(429, {"error": "rate limit exceeded"}, {**h, "Retry-After": str(int(math.ceil(reset)))})
            return h

    def storage(self, u, blob, rec):
        s = self.state
        q = parse_qs(u.query)
        tok = (q.get("X-Fake-Signature") or [""])[0]
        with s.lock:
            up = s.uploads.get(tok)
            if self.headers.get("Authorization"):
                s.anomaly("error", "Authorization header sent to object storage (leaks the API key; S3 answers 400)", what=up["kind"] if up else u.path)
                return 400, "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>", {"Content-Type": "application/xml"}, {}
            if up is None or self.command != "PUT":
                s.anomaly("error", "upload with a URL that was never signed", what=u.path)
                return 403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", {"Content-Type": "application/xml"}, {}
            if now() > up["expires"]:
                s.anomaly("warning", "upload with an expired URL", what=u.path)
                return 400, "<Error><Code>ExpiredToken</Code></Error>", {"Content-Type": "application/xml"}, {}
            if self.headers.get("Content-Length") is None:
                s.anomaly("error", "upload without Content-Length (chunked uploads are refused by object storage)", what=up["kind"])
                return 411, "<Error><Code>MissingContentLength</Code></Error>", {"Content-Type": "application/xml"}, {}
            for h in up["headers"]:
                k, v = h.split(":", 1)
                if (self.headers.get(k) or "") != v:
                    s.anomaly("error", "upload lacks a signed header", what="%s: want %s, got %s" % (k, v, self.headers.get(k)))
                    return 403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", {"Content-Type": "application/xml"}, {}
            cm = self.headers.get("Content-MD5")
            if cm and cm != blob.md5b64:
                s.anomaly("error", "Content-MD5 does not match the body", what=up["kind"])
                return 400, "<Error><Code>BadDigest</Code></Error>", {"Content-Type": "application/xml"}, {}
            up["puts"] += 1
            s.blobs[("md5", blob.md5)] = {"blob": blob}
            more = {"upload": {"kind": up["kind"], "key": up["key"]}}
            if up["kind"] == "runfile":
                r = s.runs[up["run"]]
                f = r["files"].setdefault(up["path"], {"puts": 0})
                f["blob"], f["puts"], f["t"] = blob, f["puts"] + 1, now()
            elif up["kind"] == "artifact":
                if up["md5b64"] and blob.md5b64 != up["md5b64"]:
                    s.anomaly("error", "uploaded bytes differ from the declared md5", what=up["name"])
                    return 400, "<Error><Code>BadDigest</Code></Error>", {"Content-Type": "application/xml"}, {}
                s.artifacts[up["artifact"]]["files"][up["name"]]["blob"] = blob
                s.blobs[("artifact", up["key"])] = {"blob": blob, "artifact": up["artifact"]}
            elif up["kind"] == "part":
                if blob.md5 != up["md5hex"]:
                    s.anomaly("error", "part bytes differ from the declared md5", what=str(up["part"]))
                    return 400, "<Error><Code>BadDigest</Code></Error>", {"Content-Type": "application/xml"}, {}
                s.uploads[up["upload"]]["parts"][up["part"]] = blob
            elif up["kind"] == "manifest":
                for m in s.artifacts[up["artifact"]]["manifests"].values():
                    if m["id"] == up["manifest"]:
                        m["blob"] = blob
            return 200, b"", {"ETag": '"%s"' % blob.md5 if up["kind"] != "part" else blob.md5}, more

    # -- control -----------------------------------------------------------------------------------
    def control(self, u):
        s, q = self.state, {k: v[0] for k, v in parse_qs(u.query).items()}
        raw = bytes(self.read_body())
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return self.answer(400, {"error": "bad JSON"})
        with s.lock:
            p, m = u.path, self.command
            if p == "/__state":
                return self.answer(200, json.dumps(dump_state(s, q), ensure_ascii=False, indent=1))
            if p == "/__check":
                return self.answer(200, json.dumps(check(s, q.get("final") == "1"), ensure_ascii=False, indent=1))
            if p in VIEWS:
                r = s.runs.get(tuple(q.get("run", "").split("/")))
                return self.answer(200, json.dumps(VIEWS[p](s, r, q), ensure_ascii=False)) if r else self.answer(404, {"error": "no such run"})
            if p == "/__log":
                since = int(q.get("since", 0))
                out = [r for r in s.log if r["seq"] > since]
                if q.get("bodies") == "0":
                    out = [{k: v for k, v in r.items() if k not in ("body", "response", "headers")} for r in out]
                return self.answer(200, json.dumps(out, ensure_ascii=False, indent=1))
            if p == "/__file":
                r = s.runs.get(tuple(q["run"].split("/")))
                f = r and r["files"].get(q["path"])
                return self.answer(200, f["blob"].bytes(), {"Content-Type": "application/octet-stream"}) if f else self.answer(404, {"error": "no such file"})
            if p == "/__blob":
                b = s.blobs.get(("md5", q.get("md5", "")))
                return self.answer(200, b["blob"].bytes(), {"Content-Type": "application/octet-stream"}) if b else self.answer(404, {"error": "no such blob"})
            if p == "/__fault" and m == "POST":
                ids = []
                for f in (body if isinstance(body, list) else [body]):
                    if not isinstance(f.get("then"), dict):
                        return self.answer(400, {"error": "a fault needs \"then\""})
                    ids.append(add_fault(s, f))
                return self.answer(200, {"ids": ids})
            if p == "/__fault" and m == "DELETE":
                s.faults.clear()
                return self.answer(200, {"ok": True})
            if p == "/__fault":
                return self.answer(200, s.faults)
            if p == "/__run":
                r = s.runs.get(tuple(body["run"].split("/")))
                if r is None and body.get("create"):
                    e, pr, n = body["run"].split("/")
                    r, _ = s.upsert_run({"entityName": e, "modelName": pr, "name": n}, {})
                if r is None:
                    return self.answer(404, {"error": "no such run"})
                if "tags" in body:
                    r["server_tags"] = set(body["tags"]) - (set(r["tags"]) - r["server_tags"])
                for k in ("stopped", "config", "summaryMetrics", "tags"):
                    if k in body:
                        r[k] = body[k]
                for key in s.keys(r, "summary")[-1:] if "summaryMetrics" in body else ():
                    r["summary"][key] = body["summaryMetrics"]        # what a client sent last is what somebody edits
                s.foreign_rows(r, body.get("foreign_rows") or [])
                if "seed" in body:                                    # pretend that N lines exist already
                    r["seed"] = {{"historyLineCount": "historyLineCount", "eventsLineCount": "eventsLineCount", "logLineCount": "consoleLineCount"}[k]: v for k, v in body["seed"].items()}
                if body.get("forget_heartbeat"):
                    r["heartbeat"] = 0
                return self.answer(200, {"ok": True})
            if p == "/__feature":
                s.features.update(body)
                return self.answer(200, s.features)
            if p == "/__reset":
                s.reset()
                return self.answer(200, {"ok": True})
        return self.answer(404, {"error": "unknown control path"})


def add_fault(s, f):
    f = dict(f)
    f["id"] = s.new_id()
    f["left"] = f.get("count", 1)
    s.faults.append(f)
    return f["id"]


def view_rows(s, r, q):
    rows = [(k, maybe_json(r["history"][k])) for k in s.keys(r, "history")]
    if q.get("offsets") != "1":
        return [row for _, row in rows]
    return [{"offset": k[1] if isinstance(k, tuple) else k, "client": k[0] if isinstance(k, tuple) else None, "foreign": k in r["foreign"], "row": row} for k, row in rows]


def view_summary(s, r, q):
    return maybe_json(s.summary(r)) or {}


def view_config(s, r, q):
    c = maybe_json(r["config"]) or {}
    return c if q.get("raw") == "1" else {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in c.items() if k != "_wandb"}


def view_tables(s, r, q):
    out = []
    for k in s.keys(r, "history"):
        for key, obj in r["logged"].get(k, []):
            if not obj["_type"].endswith("table-file"):
                continue
            t = {"key": key, "step": r["steps"][k], "offset": k[1] if isinstance(k, tuple) else k, "type": obj["_type"], "path": obj.get("path"), "nrows": obj.get("nrows"),
                 "columns": None, "data": None, "source": None, "artifact_agrees": None}
            f = r["files"].get(str(obj.get("path")), {}).get("blob")
            blobs = s.resolve(obj["artifact_path"]) if str(obj.get("artifact_path")).startswith(ARTIFACT_URL) else []
            full = next((b for b in blobs if b), None)
            try:
                if f or full:
                    got = read_table(f or full)
                    t.update(columns=got["columns"], data=got["data"], source="file" if f else "artifact")
                if f and full:                               # the run file holds the first 10 000 rows of the artifact's table
                    a = read_table(full)
                    t["artifact_agrees"] = jdump([a["columns"], a["data"][:len(got["data"])]]) == jdump([got["columns"], got["data"]])
            except ValueError as e:
                t["error"] = str(e)
            if t["data"] is None:
                t.setdefault("error", "no such file, and no artifact")
            out.append(t)
    return out


VIEWS = {"/__rows": view_rows, "/__summary": view_summary, "/__config": view_config, "/__tables": view_tables}


def read_table(blob):
    t = json.loads(blob.bytes())
    if not isinstance(t, dict) or not isinstance(t.get("columns"), list) or not isinstance(t.get("data"), list):
        raise ValueError("not {columns, data}")
    bad = next((n for n, row in enumerate(t["data"]) if not isinstance(row, list) or len(row) != len(t["columns"])), None)
    if bad is not None:
        raise ValueError("row %d does not have %d cells" % (bad, len(t["columns"])))
    return t


def check_steps(r, complain):
    """_step must rise from one offset to the next; shared writers count for themselves and are left out."""
    offs = sorted(k for k in r["steps"] if isinstance(k, int))
    for a, b in zip(offs, offs[1:]):
        x, y = r["steps"][a], r["steps"][b]
        if isinstance(x, int) and isinstance(y, int) and y <= x:
            what = "@%d _step %d, @%d _step %d" % (a, x, b, y)
            if {a, b} & r["foreign"]:
                complain("warning", "history _step does not rise next to a row of another writer", what)
            elif r["life"][a] != r["life"][b]:
                complain("warning", "history _step starts again in a finished run that was opened again", what)
            else:
                complain("error", "history _step %s" % ("repeats" if x == y else "goes back"), what)


def check_media(s, r, complain):
    """Everything the history names must be there."""
    for k in sorted(r["logged"], key=str):
        for key, obj in r["logged"][k]:
            for path, sha, size in named_files(obj):
                what, blob = "%s@%s %s" % (key, k, path), r["files"].get(path, {}).get("blob")
                if blob is None:
                    complain("error", "history names a run file that was never received", what)
                    continue
                if sha is not None and sha != blob.sha256 or size is not None and size != blob.size:
                    complain("error", "run file differs from the sha256 or size in the history", "%s: has %d bytes, sha256 %s" % (what, blob.size, blob.sha256))
                if obj["_type"].endswith("table-file"):
                    try:
                        read_table(blob)
                    except ValueError as e:
                        complain("error", "table file is not readable", "%s: %s" % (what, e))
            if obj["_type"].endswith("-file") and not list(named_files(obj)) and not artifact_urls(obj):
                complain("error", "logged file object names no file", "%s@%s" % (key, k))
            for url in artifact_urls(obj):
                if not s.resolve(url):
                    complain("error", "history names an artifact file that no committed artifact has", "%s@%s %s" % (key, k, url))


def check(s, final=False):
    errors = [a for a in s.anomalies if a["severity"] == "error"]
    warnings = [a for a in s.anomalies if a["severity"] != "error"]
    for k, r in s.runs.items():
        found = {}

        def complain(severity, kind, what):                  # one entry per kind and run: the first case and how often
            a = found.setdefault(kind, {"severity": severity, "kind": kind, "run": k[2], "what": what, "times": 0})
            a["times"] += 1
        for kind in ("history", "events", "console"):
            ks = sorted(x for x in r[kind] if isinstance(x, int))
            if ks and ks != list(range(ks[0], ks[0] + len(ks))):
                complain("error", "stream has holes", "%s: %d lines, offsets %d..%d" % (kind, len(ks), ks[0], ks[-1]))
        check_steps(r, complain)
        if r["complete"] or final:
            check_media(s, r, complain)
        miss = [f for f in r["uploaded"] if f not in r["files"]]
        if miss:
            complain("warning", "file announced as uploaded but never received", str(miss[:5]))
        if s.silent(r):
            complain("warning", "live run is silent", "for %d s" % (now() - r["contact"]))
        for a in found.values():
            (errors if a["severity"] == "error" else warnings).append(a)
    for a in s.artifacts.values():
        if a["state"] == "PENDING":
            warnings.append({"severity": "warning", "kind": "artifact never committed", "what": a["name"]})
    return {"ok": not errors, "errors": errors, "warnings": warnings, "requests": s.seq,
            "runs": {"/".join(k): {"state": s.run_state(r), "history": s.line_count(r, "history"), "events": s.line_count(r, "events"), "console": s.line_count(r, "console"),
                                   "requests": r["requests"], "heartbeats": r["heartbeats"], "upserts": r["upserts"], "resent_lines": r["overwrites_same"], "files": len(r["files"])} for k, r in s.runs.items()}}


def dump_state(s, q):
    runs = {}
    for (e, p, n), r in s.runs.items():
        if (q.get("entity") and q["entity"] != e) or (q.get("project") and q["project"] != p) or (q.get("run") and q["run"] != n):
            continue
        d = {k: r[k] for k in ("id", "entity", "project", "name", "displayName", "notes", "tags", "groupName", "jobType", "host", "commit", "jobProgram", "jobRepo", "sweep", "exitcode", "complete", "preempting",
                               "stopped", "requests", "heartbeats", "upserts", "overwrites_same", "overwrites_diff", "uploaded", "clients")}
        d["state"] = s.run_state(r)
        d["config"] = maybe_json(r["config"])
        d["summary"] = maybe_json(s.summary(r))
        for kind in ("history", "events"):
            d[kind] = [{"offset": k if isinstance(k, int) else {"client": k[0], "offset": k[1]}, "line": maybe_json(v)} for k, v in sorted(r[kind].items(), key=lambda kv: (not isinstance(kv[0], int), str(kv[0]) if not isinstance(kv[0], int) else "", kv[0] if isinstance(kv[0], int) else 0))]
        d["summary_lines"] = {str(k): len(v) for k, v in r["summary"].items()}
        d["console"] = s.lines(r, "console")
        d["files"] = {f: {"puts": x["puts"], **x["blob"].describe()} for f, x in sorted(r["files"].items())}
        runs["%s/%s/%s" % (e, p, n)] = d
    arts = []
    for a in s.artifacts.values():
        d = {k: a.get(k) for k in ("id", "entity", "project", "type", "name", "state", "version", "aliases", "tags", "digest", "digest_checked", "description", "run", "historyStep", "clientID", "sequenceClientID", "dedup_hits", "used_by", "creates")}
        d["metadata"] = maybe_json(a["metadata"])
        d["manifest"] = maybe_json(a["manifest"]["blob"].bytes()) if a["manifest"] and a["manifest"].get("blob") else None
        d["files"] = {n: {"md5_b64": f.get("md5"), "parts": f.get("parts"), **(f["blob"].describe() if f.get("blob") else {"missing": True})} for n, f in a["files"].items()}
        arts.append(d)
    return {"runs": runs, "artifacts": arts, "alerts": s.alerts, "views": list(s.views.values()), "charts": s.charts, "anomalies": s.anomalies, "features": s.features, "requests": s.seq}


def main():
    ap = argparse.ArgumentParser(description="fake W&B Models backend for tests", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=__doc__)
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=8900, help="0 = any free port; the port is printed")
    ap.add_argument("--schema", default=os.path.join(HERE, "wandb_schema.graphql"))
    ap.add_argument("--entity", default="wbx-team", help="default entity of the viewer")
    ap.add_argument("--username", default="wbx-user")
    ap.add_argument("--org", default="wbx-org")
    ap.add_argument("--api-key", default=None, help="accept only this key (default: any)")
    ap.add_argument("--account", action="append", default=[], metavar="KEY=NAME:ENTITY,...",
                    help="a key, whose it is, and where it may write (the first is its default); with any, other keys but --api-key are refused")
    ap.add_argument("--forbid-entity", action="append", default=[], help="403 for upserts into this entity")
    ap.add_argument("--crash-after", type=float, default=300.0, help="seconds without heartbeat until a run counts as crashed")
    ap.add_argument("--heartbeat-gap", type=float, default=60.0, help="warn when a live run is silent for longer (0 = never)")
    ap.add_argument("--url-ttl", type=float, default=3600.0, help="life of a signed URL in seconds")
    ap.add_argument("--max-body", type=int, default=0, help="413 above this many bytes (0 = no limit)")
    ap.add_argument("--fs-rate", type=int, default=0, help="file_stream requests per window per run (0 = no limit)")
    ap.add_argument("--fs-window", type=float, default=60.0)
    ap.add_argument("--feature", action="append", default=[], help="NAME or NAME=0")
    ap.add_argument("--fault", action="append", default=[], help="JSON, as for POST /__fault")
    ap.add_argument("--record", help="append every exchange to this JSON-lines file")
    ap.add_argument("--state-dump", help="write the final state here on SIGTERM/SIGINT")
    ap.add_argument("--tls-cert"); ap.add_argument("--tls-key")
    ap.add_argument("-v", "--verbose", action="store_true")
    o = ap.parse_args()
    state = State(o)
    for f in o.feature:
        n, _, v = f.partition("=")
        state.features[n] = v not in ("0", "false")
    for f in o.fault:
        f = json.loads(f)
        for x in (f if isinstance(f, list) else [f]):
            add_fault(state, x)
    Handler.state, Handler.opts = state, o
    Handler.gql = Gql(state, open(o.schema).read())

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request, client_address):
            e = sys.exc_info()[1]
            if not isinstance(e, (ConnectionError, ssl.SSLError, ValueError)):   # ValueError: I/O on the socket we reset on purpose
                ThreadingHTTPServer.handle_error(self, request, client_address)
                state.anomaly("error", "internal error of the fake", what=repr(e))
    srv = Server((o.host, o.port), Handler)
    scheme = "http"
    if o.tls_cert:
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(o.tls_cert, o.tls_key)
        srv.socket = ctx.wrap_socket(srv.socket, server_side=True)
        scheme = "https"
    o.public_url = "%s://%s:%d" % (scheme, o.host, srv.server_address[1])
    print("fake_wandb listening on %s" % o.public_url, flush=True)

    import signal

    def stop(*_):
        threading.Thread(target=srv.shutdown, daemon=True).start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        srv.serve_forever(poll_interval=0.1)
    finally:
        if o.state_dump:
            with open(o.state_dump, "w") as f:
                json.dump(dump_state(state, {}), f, ensure_ascii=False, indent=1)
        import shutil
        shutil.rmtree(state.spool, ignore_errors=True)


if __name__ == "__main__":
    main()
