"""Traced calls in Python: what is recorded of them, and that what is traced does not notice. What weave records of the same: test_weave_sdk.py."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from daemon import Daemon, started
from msgpack_lite import unpack
from process import BUILD, FORK_IS_SAFE, Process, clean_env
from tap import Box, Skip, main, test
from trainer import trainer

WEAVE = """
    import wbx.weave as weave
    run = wbx.init(project="p", id="r", console="off")
"""


class Calls:
    """What a store has of traced calls, put together: by op name, in the order of their starts."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.records = [row.body for row in daemon.store.rows(kind="call")]
        self.by_id: dict[str, dict[str, Any]] = {}
        for body in self.records:
            call = self.by_id.setdefault(body["id"], {"phases": []})
            call["phases"].append(body["phase"])
            call.update({k: v for k, v in body.items() if k not in ("phase", "t")})
        self.all = sorted(self.by_id.values(), key=lambda c: c.get("started_at", 0))

    def of(self, op: str) -> list[dict[str, Any]]:
        return [c for c in self.all if c.get("op") == op]

    def one(self, op: str) -> dict[str, Any]:
        [call] = self.of(op)
        return call

    def blob(self, value: Any) -> Any:
        """The value itself, where it stands apart."""
        assert isinstance(value, dict) and "blob" in value, value
        path = self.daemon.store.blob_files().get(value["blob"].hex())
        data = path.read_bytes() if path else next(d for h, _, _, d in self.daemon.store.blobs() if h == value["blob"].hex())
        assert data is not None and len(data) == value["size"]
        return data.decode() if value["_type"] == "text" else unpack(data)


def traced(box: Box, code: str, *, exit_code: int = 0, **env: str) -> tuple[Calls, list[str]]:
    """Runs a program, which ends itself; what it recorded and what it said."""
    daemon = started(box)
    t = trainer(box, WEAVE + code + """
    run.finish()
    say("bye")
    """, socket=daemon.socket, **env)
    said = []
    while (line := t.read_line()) != "bye":
        assert line or t.process.poll() is None, "\n".join(box.show_logs())
        said.append(line)
    assert t.wait() == exit_code
    assert daemon.store.tally() == {}, daemon.store.tally()
    return Calls(daemon), said


@test
def a_reward_function_scores_a_group_with_judges_in_parallel(box: Box) -> None:
    calls, said = traced(box, """
    class State:
        global_step = 41
        log_history = [{}] * 1000
    @weave.op
    def ask_model(prompt):
        return {"choices": ["ok"], "model": "judge-7b", "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}}
    @weave.op(name="get_score")
    def judge(prompt, completion, model="judge-7b"):
        answer = ask_model(f"{prompt} {completion}")
        return {"score": 0.25, "reason": answer["choices"][0]}
    @weave.op
    def reward(prompts, completions, trainer_state=None, **columns):
        with weave.attributes({"group_id": "g7"}), weave.ThreadPoolExecutor(max_workers=4) as pool:
            return [s["score"] for s in pool.map(judge, prompts, completions)]
    say(reward(["p0", "p1", "p2"], ["c0", "c1", "c2"], trainer_state=State(), log_metric=say))
    """)
    assert said == ["[0.25, 0.25, 0.25]"]
    root = calls.one("reward")
    assert root["phases"] == ["start", "end"] and "parent_id" not in root and root["step"] == 42
    assert root["inputs"]["prompts"] == ["p0", "p1", "p2"] and root["inputs"]["columns"] == {"log_metric": "<function say>"}
    assert root["inputs"]["trainer_state"] == {"_class": "State", "global_step": 41, "max_steps": None, "epoch": None}
    judges = calls.of("get_score")
    assert len(judges) == 3 and {j["parent_id"] for j in judges} == {root["id"]} and {j["inputs"]["completion"] for j in judges} == {"c0", "c1", "c2"}
    assert all(j["trace_id"] == root["trace_id"] and j["step"] == 42 and j["attributes"] == {"group_id": "g7"} for j in judges)
    assert [sorted(j["inputs"]) for j in judges] == [["completion", "model", "prompt"]] * 3
    asked = calls.of("ask_model")
    assert {a["parent_id"] for a in asked} == {j["id"] for j in judges} and all(a["phases"] == ["complete"] for a in asked)
    assert asked[0]["summary"] == {"usage": {"judge-7b": {"requests": 1, "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}}}
    assert "def ask_model" in next(a["source"] for a in asked if "source" in a) and sum("source" in a for a in asked) == 1
    assert len({a["source_sha256"] for a in asked}) == 1
    assert all(c["ended_at"] >= c["started_at"] for c in calls.all) and len(calls.all) == 7


@test
def results_and_exceptions_pass_through_whatever_is_recorded(box: Box) -> None:
    calls, said = traced(box, """
    class Hostile:
        __slots__ = ()
        def __getattr__(self, name): raise RuntimeError("no " + name)
        def __repr__(self): raise RuntimeError("no text")
        __str__ = __hash__ = __repr__
        __eq__ = None
    thing = Hostile()
    @weave.op(postprocess_inputs=lambda i: 1 / 0, postprocess_output=lambda o: 1 / 0)
    def same(value): return value
    @weave.op(postprocess_output=lambda o: 1 / 0)
    def shown(value): return value
    say(same(thing) is thing, shown(thing) is thing)
    error = ValueError("no \\ud800 way")
    @weave.op
    def fails(why): raise why
    for e in (error, KeyboardInterrupt(), SystemExit(3), StopIteration(1)):
        try:
            fails(e)
        except BaseException as caught:
            say(caught is e, type(e).__name__)
    for wrong in (lambda: fails(), lambda: fails(1, 2), lambda: fails(nothing=1)):
        try:
            wrong()
        except TypeError as e:
            say("TypeError", "fails()" in str(e))
    """)
    assert said[:5] == ["True True", "True ValueError", "True KeyboardInterrupt", "True SystemExit", "True StopIteration"], said
    assert said[5:] == ["TypeError True"] * 3, said
    assert calls.of("same") == [] and calls.one("shown")["inputs"] == {"value": "<class '__main__.Hostile'>"}
    exception = json.loads(calls.of("fails")[0]["exception"])
    assert exception["type"] == "ValueError" and exception["message"] == "no \ud800 way", exception
    assert [f["function_name"] for f in exception["traceback"]] == ["<module>", "fails"] or exception["traceback"][-1]["function_name"] == "fails"


@test
def values_of_any_kind_become_something_short(box: Box) -> None:
    calls, _ = traced(box, """
    import dataclasses, datetime, enum, pathlib
    class Color(enum.Enum):
        RED = "red"
    @dataclasses.dataclass
    class Point:
        x: int
        y: object
    class Model:
        api_key = "secret"
        def __repr__(self): return self.api_key
        def judge(self): pass
    class Array:
        shape, dtype = (512, 1024), "float32"
        def tolist(self): raise MemoryError
    class Frozen:
        def __float__(self): raise RuntimeError
    circle = {"a": [1]}
    circle["a"].append(circle)
    twice = []
    twice += [twice, twice]
    deep = "end"
    for _ in range(100):
        deep = [deep]
    wide = []
    for _ in range(40):
        wide = [wide, wide]
    values = {"nan": float("nan"), "inf": float("-inf"), "surrogate": "a\\ud83d", "nul": "a\\0b", "big": 2**70, "bytes": b"text", "binary": b"\\xff\\x00",
              "enum": Color.RED, "path": pathlib.Path("/x"), "day": datetime.date(2026, 1, 2), "point": Point(1, Color.RED), "model": Model(),
              "method": Model().judge, "function": len, "kind": Model, "array": Array(), "circle": circle, "twice": twice, "deep": deep, "frozen": Frozen(),
              "error": ValueError("x"), "set": {1}, "keys": {1: "one", (2, 3): "two", "k" * 5000: "long"}, "wide": wide, "module": sys}
    @weave.op
    def take(**values): return 1
    take(**values)
    """)
    took = calls.blob(calls.one("take")["inputs"])["values"]  # wide is
    assert math.isnan(took["nan"]) and took["inf"] == -math.inf and took["nul"] == "a\0b" and took["big"] == 2.0**70
    assert took["surrogate"].encode("utf-8", "surrogateescape") == b"a\xed\xa0\xbd"
    assert took["bytes"] == "text" and took["binary"] == "data:application/octet-stream;base64,/wA="
    assert (took["enum"], took["path"], took["day"], took["error"], took["set"]) == ("red", "/x", "2026-01-02", "ValueError: x", [1])
    assert took["point"] == {"_class": "Point", "x": 1, "y": "red"}
    assert took["model"] == "<__main__.Model object>" and took["method"] == "<bound method Model.judge of Model>" and took["kind"] == "<type Model>"
    assert took["array"] == "<Array float32 512x1024>" and took["function"] == "<builtin_function_or_method len>" and took["module"] == "<module sys>"
    assert took["circle"] == {"a": [1, "<contains itself>"]} and took["twice"] == ["<contains itself>"] * 2
    assert "nested too deep" in str(took["deep"]) and took["frozen"] == "<__main__.Frozen object>"
    assert took["keys"]["1"] == "one" and took["keys"]["(2, 3)"] == "two" and max(map(len, took["keys"])) == 1024


@test
def what_is_large_stands_apart_and_is_whole(box: Box) -> None:
    calls, said = traced(box, """
    @weave.op
    def long(prompt, rows): return "y" * (30 << 20)
    rows = [{"id": i, "text": "t%d" % i * 100} for i in range(2000)]
    say(len(long("p" * 100_000, rows)))
    """)
    call = calls.one("long")
    output = call["output"]
    assert said == [str(30 << 20)] and output["_type"] == "text" and output["head"] == "y" * 1024
    assert calls.blob(output) == "y" * (30 << 20)
    inputs = calls.blob(call["inputs"])
    assert inputs["rows"][1999] == {"id": 1999, "text": "t1999" * 100}
    assert calls.blob(inputs["prompt"]) == "p" * 100_000 and len(call["blobs"]) == 3


@test
def async_functions_generators_and_methods_are_traced(box: Box) -> None:
    calls, said = traced(box, """
    import asyncio, inspect
    @weave.op
    async def ask(n):
        await asyncio.sleep(0)
        return n
    @weave.op
    async def group(n):
        return await asyncio.gather(*(ask(i) for i in range(n)))
    @weave.op
    def count(n):
        got = None
        for i in range(n):
            got = yield weave.get_current_call().op_name
        return got
    @weave.op(accumulator=lambda sum, item: (sum or 0) + item)
    async def acount(n):
        for i in range(n):
            await ask(100 + i)
            yield i
    class Judge:
        @weave.op
        def score(self, x): return x + 1
        @weave.op
        @staticmethod
        def fixed(x): return x
        @classmethod
        @weave.op
        def made(cls, x): return x
    async def all_of_it():
        say(await group(3), [i async for i in acount(4)])
        broken = acount(10)
        async for i in broken:
            if i == 1:
                break
        await broken.aclose()
    asyncio.run(all_of_it())
    say(list(count(2)), weave.get_current_call())
    half = count(5)
    next(half)
    half.close()
    say(Judge().score(1), Judge.fixed(2), Judge.made(3))
    say(inspect.iscoroutinefunction(ask), inspect.isgeneratorfunction(count), inspect.isasyncgenfunction(acount), ask.__name__)
    result, call = Judge.score.call(Judge(), 5)
    call.feedback.add_note("fine")
    call.set_score("truth", 0.5, reason="why")
    say(result, call.inputs["x"], call.output)
    result, call = count.call(1)
    """)
    assert said == ["[0, 1, 2] [0, 1, 2, 3]", "['count', 'count'] None", "2 2 3", "True True True ask", "6 5 6"], said
    [group] = calls.of("group")
    asked = calls.of("ask")
    assert [a["output"] for a in asked if a.get("parent_id") == group["id"]] == [0, 1, 2]
    [whole, broken] = calls.of("acount")
    assert whole["output"] == 6 and broken["output"] == 1
    assert {a["parent_id"] for a in asked if a["output"] >= 100} == {whole["id"], broken["id"]}
    assert [c["output"] for c in calls.of("count")[:2]] == [["count", "count"], ["count"]]
    assert calls.of("Judge.score")[0]["inputs"] == {"self": "<__main__.Judge object>", "x": 1}
    assert calls.one("Judge.fixed")["inputs"] == {"x": 2} and calls.one("Judge.made")["inputs"]["cls"] == "<type Judge>"
    notes = [row.body for row in calls.daemon.store.rows(kind="feedback")]
    scored = calls.of("Judge.score")[1]
    assert [(n["call_id"], n["type"], n["payload"]) for n in notes] == [
        (scored["id"], "wandb.note.1", {"note": "fine"}), (scored["id"], "wandb.runnable.truth", {"output": {"score": 0.5, "reason": "why"}})], notes


@test
def names_threads_attributes_and_samples_are_as_they_are_asked_for(box: Box) -> None:
    calls, said = traced(box, """
    import random
    random.seed(1)
    @weave.op(call_display_name=lambda call: "say " + call.inputs["x"], attributes={"level": 1}, kind="tool")
    def named(x):
        weave.get_current_call().summary["tokens"] = 3
    with weave.attributes({"level": 2, "step": 9}):
        named("hi")
    @weave.op
    def inside(x): return x
    @weave.op(tracing_sample_rate=0.25)
    def sampled(x): return inside(x)
    for i in range(200):
        assert sampled(i) == i
    @weave.op(tracing_sample_rate=0)
    def never(x): return inside(x)
    never(-1)
    @weave.op
    def turn(x): return inside("turn")
    with weave.thread("talk") as t:
        turn(1)
        turn(2)
    thread = weave.Thread(target=turn, args=(3,))
    with weave.tracing_disabled():
        turn(4)
    thread.start()
    thread.join()
    """)
    named = calls.one("named")
    assert named["display_name"] == "say hi" and named["step"] == 9 and named["summary"] == {"tokens": 3}
    assert named["attributes"] == {"level": 2, "step": 9, "weave": {"kind": "tool"}}
    sampled = calls.of("sampled")
    inside = [c for c in calls.of("inside") if isinstance(c["output"], int)]
    assert 20 < len(sampled) < 90 and {c["parent_id"] for c in inside} == {c["id"] for c in sampled} and len(inside) == len(sampled)
    turns = calls.of("turn")
    assert [c.get("thread_id") for c in turns] == ["talk", "talk", None] and [c.get("turn_id") for c in turns] == [turns[0]["id"], turns[1]["id"], None]
    assert [c.get("turn_id") for c in calls.of("inside") if c["output"] == "turn"] == [turns[0]["id"], turns[1]["id"], None]


@test
def a_thousand_threads_and_ten_thousand_children_nest_where_they_belong(box: Box) -> None:
    calls, said = traced(box, """
    import threading
    threading.stack_size(256 << 10)
    @weave.op
    def leaf(n): return n
    @weave.op
    def thread(n):
        gate.wait()
        return leaf(n)
    @weave.op
    def many(count):
        for n in range(count):
            leaf(-1 - n)
    gate = threading.Barrier(1000)
    @weave.op
    def root():
        threads = [weave.Thread(target=thread, args=(n,)) for n in range(1000)]
        for t in threads: t.start()
        for t in threads: t.join()
        many(10_000)
    root()
    """)
    root = calls.one("root")
    threads = {c["id"]: c["inputs"]["n"] for c in calls.of("thread")}
    assert len(threads) == 1000 and {c["parent_id"] for c in calls.of("thread")} == {root["id"]}
    many = calls.one("many")
    under = [c for c in calls.of("leaf") if c["parent_id"] == many["id"]]
    assert sorted(-1 - c["output"] for c in under) == list(range(10_000)) and all(c["trace_id"] == root["trace_id"] for c in calls.all)
    others = [c for c in calls.of("leaf") if c["parent_id"] != many["id"]]
    assert len(others) == 1000 and all(threads[c["parent_id"]] == c["output"] for c in others)


@test
def a_fork_inside_of_a_call_leaves_its_end_to_the_parent(box: Box) -> None:
    if not FORK_IS_SAFE:
        raise Skip("threads and fork under this sanitizer")
    calls, said = traced(box, """
    @weave.op
    def leaf(who): return who
    @weave.op
    def forks():
        leaf("before")
        pid = os.fork()
        leaf("child" if pid == 0 else "parent")
        if pid == 0:
            return "child"
        say(os.waitpid(pid, 0)[1])
        return "parent"
    if forks() == "child":
        run.flush(20)
        os._exit(0)
    """)
    assert said == ["0"]
    root = calls.one("forks")
    assert root["output"] == "parent" and root["phases"] == ["start", "end"]
    assert sorted(c["output"] for c in calls.of("leaf")) == ["before", "child", "parent"]
    assert {c["parent_id"] for c in calls.of("leaf")} == {root["id"]}
    assert len({row.producer for row in calls.daemon.store.rows(kind="call")}) == 2


@test
def a_call_that_never_ends_has_a_start(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, WEAVE + """
    @weave.op
    def hangs(n):
        say("hangs")
        hear()
    hangs(1)
    """, socket=daemon.socket)
    t.expect_line("hangs")
    [row] = daemon.await_rows(1, kind="call")
    assert row.body["phase"] == "start" and row.body["inputs"] == {"n": 1}
    t.kill9()
    t = trainer(box, WEAVE + """
    client = weave.get_client()
    call = client.create_call("by_hand", {"n": 2})
    del call
    weave.trace.context.call_context.call_attributes.get()
    say("bye")
    """, socket=daemon.socket, name="second")
    t.expect_line("bye")
    assert t.wait() == 0
    [start] = Calls(daemon).of("by_hand")
    assert start["phases"] == ["start"] and start["inputs"] == {"n": 2}


@test
def a_call_under_way_when_its_run_is_finished_has_begun(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, WEAVE + """
    @weave.op
    def hangs(n):
        say("hangs")
        gate.wait()
        return n
    gate = threading.Event()
    thread = threading.Thread(target=hangs, args=(5,))
    thread.start()
    say(hear())
    run.finish()
    gate.set()
    thread.join()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("hangs")
    t.tell("go")
    t.expect_line("go")
    t.expect_line("bye")
    assert t.wait() == 0
    [row] = daemon.store.rows(kind="call")
    assert (row.body["phase"], row.body["inputs"]) == ("start", {"n": 5})


@test
def calls_without_a_run_go_to_a_project(box: Box) -> None:
    daemon = started(box)
    t = trainer(box, """
    import wbx.weave as weave
    @weave.op
    def f(x): return x
    f(0)
    client = weave.init("ent/proj")
    call = client.create_call("my.op", {"a": 1}, attributes={"step": 3})
    f(1)
    client.finish_call(call, output=5)
    bad = client.create_call("bad", {})
    client.fail_call(bad, ValueError("no"))
    f(2)
    evaluation = weave.EvaluationLogger(name="ev", model="m", dataset=[{"q": 1}])
    evaluation.log_example({"q": 1}, "a", {"truth": True, "grade": 0.5})
    with evaluation.log_prediction({"q": 2}) as p:
        f(3)
        p.output = "z"
        with p.log_score("deep") as score:
            score.value = {"n": 1.0}
    evaluation.log_summary({"total": 2})
    ref = weave.publish(weave.MessagesPrompt([{"role": "system", "content": "Grade {x}"}]), name="grade it!")
    client.add_cost("qwen", 1e-7, 2e-7)
    client.flush()
    weave.finish()
    f(4)
    say(ref.uri())
    """, socket=daemon.socket)
    t.expect_line("weave:///ent/proj/object/grade-it:latest")
    assert t.wait() == 0
    assert daemon.store.query("SELECT name, entity, project FROM run") == [("", "ent", "proj")]
    calls = Calls(daemon)
    mine, bad = calls.one("my.op"), calls.one("bad")
    assert mine["output"] == 5 and mine["step"] == 3 and json.loads(bad["exception"])["message"] == "no" and "parent_id" not in bad
    assert [(c["output"], c.get("parent_id")) for c in calls.of("f")[:2]] == [(1, mine["id"]), (2, None)] and len(calls.of("f")) == 3
    evaluate = calls.one("Evaluation.evaluate")
    assert evaluate["display_name"] == "ev" and evaluate["output"] == {"truth": {"true_count": 1, "true_fraction": 1.0}, "grade": {"mean": 0.5},
                                                                        "deep": {"n": {"mean": 1.0}}, "output": {"total": 2}}
    assert [c["output"] for c in calls.of("Model.predict")] == ["a", "z"] and calls.of("f")[2]["parent_id"] == calls.of("Model.predict")[1]["id"]
    assert [c["output"]["scores"] for c in calls.of("Evaluation.predict_and_score")] == [{"truth": True, "grade": 0.5}, {"deep": {"n": 1.0}}]
    assert {row.body["type"] for row in daemon.store.rows(kind="feedback")} == {"wandb.runnable.truth", "wandb.runnable.grade", "wandb.runnable.deep"}
    assert [(r.body["name"], r.body["type"]) for r in daemon.store.rows(kind="object")] == [("ev-dataset", "Dataset"), ("grade-it", "MessagesPrompt")]
    [price] = daemon.store.rows(kind="cost")
    assert (price.body["model"], price.body["prompt_token_cost"]) == ("qwen", 1e-7)


# What the client openai looks like from outside, without it.
OPENAI = {
    "__init__.py": "from . import _streaming\n",
    "_streaming.py": """
class Stream:
    def __init__(self, items): self._iterator = self.__stream__(items)
    def __stream__(self, items): yield from items
    def __iter__(self):
        for item in self._iterator: yield item
    def __next__(self): return self._iterator.__next__()
    def __enter__(self): return self
    def __exit__(self, *_): self.close()
    def close(self): pass
class AsyncStream:
    def __init__(self, items): self._iterator = self.__stream__(items)
    async def __stream__(self, items):
        for item in items: yield item
    async def __aiter__(self):
        async for item in self._iterator: yield item
    async def close(self): pass
""",
    "resources/__init__.py": "",
    "resources/chat/__init__.py": "",
    "resources/chat/completions/__init__.py": "",
    "resources/chat/completions/completions.py": """
from types import SimpleNamespace as N
from ...._streaming import Stream, AsyncStream
class Omit: pass
class Response:
    model = "m-1"
    usage = N(prompt_tokens=5, completion_tokens=2, total_tokens=7, prompt_tokens_details=N(cached_tokens=4))
    def __init__(self, text): self.text = text
    def model_dump(self, **_):
        return {"model": self.model, "choices": [{"message": {"content": self.text}}], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 4}}}
def chunks():
    def delta(finish=None, **d): return N(id="c", model="m-1", usage=None, choices=[N(index=0, finish_reason=finish, delta=N(**d))])
    def tool(index, id=None, name=None, arguments=None):
        return delta(content=None, tool_calls=[N(index=index, id=id, function=N(name=name, arguments=arguments))])
    return [delta(role="assistant", content="Hel"), delta(content="lo"), tool(0, "t0", "find", '{"a"'), tool(0, arguments=": 1}"), tool(1, "t1", "go", "{}"),
            delta("tool_calls"), N(id="c", model="m-1", choices=[], usage=Response.usage)]
def answer(kind, messages, model, stream, **more):
    if model == "broken": raise ConnectionError("down")
    return kind(chunks()) if stream else Response(messages[-1]["content"])
class Completions:
    api_key = "sk-secret"
    def create(self, *, messages, model, stream=False, temperature=Omit(), extra_headers=None):
        return answer(Stream, messages, model, stream)
class AsyncCompletions:
    async def create(self, *, messages, model, stream=False, temperature=Omit(), extra_headers=None):
        return answer(AsyncStream, messages, model, stream)
""",
}


@test
def the_openai_client_is_traced_by_itself(box: Box) -> None:
    root = box.dir / "site" / "openai"
    for name, text in OPENAI.items():
        path: Path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    calls, said = traced(box, f"""
    sys.path.insert(0, {str(root.parent)!r})
    import asyncio
    @weave.op
    def judge(x):
        return client.create(messages=[{{"role": "user", "content": x}}], model="m", temperature=0.5, extra_headers={{"Authorization": "Bearer sk-1"}}).text
    from openai.resources.chat.completions.completions import Completions, AsyncCompletions
    client, ask = Completions(), [{{"role": "user", "content": "q"}}]
    say(judge("hi"))
    stream = client.create(messages=ask, model="m", stream=True)
    say(type(stream).__name__, len(list(stream)))
    with client.create(messages=ask, model="m", stream=True) as stream:
        next(stream)
    try:
        client.create(messages=ask, model="broken")
    except ConnectionError as e:
        say(e)
    async def both():
        say((await AsyncCompletions().create(messages=ask, model="m")).text)
        say(len([c async for c in await AsyncCompletions().create(messages=ask, model="m", stream=True)]))
    asyncio.run(both())
    """)
    assert said == ["hi", "Stream 7", "down", "q", "7"], said
    asked = calls.of("openai.chat.completions.create")
    assert len(asked) == 6 and asked[0]["parent_id"] == calls.one("judge")["id"]
    assert asked[0]["inputs"] == {"messages": [{"role": "user", "content": "hi"}], "model": "m", "stream": False, "temperature": 0.5}
    assert all("sk-" not in str(c["inputs"]) for c in asked)
    counts = {"requests": 1, "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cache_read_input_tokens": 4}
    assert asked[0]["summary"] == {"usage": {"m-1": counts}} and asked[0]["attributes"] == {"weave": {"kind": "llm"}}
    message = {"role": "assistant", "content": "Hello", "tool_calls": [
        {"index": 0, "id": "t0", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}},
        {"index": 1, "id": "t1", "type": "function", "function": {"name": "go", "arguments": "{}"}}]}
    for streamed in (asked[1], asked[5]):
        assert streamed["output"]["choices"] == [{"index": 0, "finish_reason": "tool_calls", "message": message}], streamed["output"]
        assert streamed["summary"] == {"usage": {"m-1": counts}}
    assert asked[2]["output"]["choices"][0]["message"]["content"] == "Hel" and "exception" not in asked[2]
    assert json.loads(asked[3]["exception"])["type"] == "ConnectionError" and asked[4]["output"]["choices"]


@test
def the_c_library_traces_calls(box: Box) -> None:
    daemon = started(box)
    program = Process(box, [BUILD / "client/example-trace"], env=clean_env(WBX_SOCKET=str(daemon.socket)), log=box.log_file("trace.err"))
    assert program.wait() == 0
    calls = Calls(daemon)
    root = calls.one("reward")
    assert root["phases"] == ["start", "end"] and root["step"] == 7 and "output" not in root
    judged = calls.of("judge")
    assert [(j["parent_id"], j["trace_id"], j["inputs"]["completion"], j["output"]) for j in judged] == [
        (root["id"], root["trace_id"], c, 0.5) for c in ("4", "four", "5")]
    scores = [row.body for row in daemon.store.rows(kind="feedback")]
    assert [(s["call_id"], s["type"], s["payload"]) for s in scores] == [(j["id"], "wandb.runnable.judge", {"output": 0.5}) for j in judged]


@test
def code_written_for_weave_finds_what_it_imports(box: Box) -> None:
    calls, said = traced(box, """
    weave.install()
    import asyncio, gc, pickle
    import weave as again
    from weave.trace.context import call_context, weave_client_context
    from weave.trace.context.call_context import call_attributes
    say(again is weave, weave_client_context.get_weave_client() is not None)
    # as verl does it
    tracer = again.init("ent/proj")
    with again.attributes({"sample_index": 3, "step": 8}):
        call = tracer.create_call(op="agent.loop", inputs={"x": 1}, attributes={**call_context.call_attributes.get()})
        tracer.finish_call(call, output="done")
    # as TRL's WeaveCallback does it
    evaluation = again.EvaluationLogger(model="policy", dataset="eval", eval_attributes={"training_step": 4})
    prediction = evaluation.log_prediction(inputs={"prompt": "p"}, output="c")
    prediction.log_score(scorer="reward", score=0.5)
    prediction.finish()
    evaluation.log_summary()
    @weave.op
    async def hangs():
        await asyncio.Future()
    # a coroutine that somebody else closes, elsewhere
    import contextvars
    coroutine = hangs()
    contextvars.copy_context().run(coroutine.send, None)
    coroutine.close()
    state = hangs.op.__getstate__()
    say(hangs.op.told is not None, state["told"])
    """)
    assert said == ["True True", "True None"], said
    loop = calls.one("agent.loop")
    assert loop["step"] == 8 and loop["attributes"]["sample_index"] == 3 and loop["output"] == "done" and loop["run"] == "r"
    assert calls.one("Evaluation.evaluate")["output"] == {"reward": {"mean": 0.5}}
    assert json.loads(calls.one("hangs")["exception"])["type"] == "GeneratorExit"


@test
def other_ranks_trace_into_the_run_of_rank_0(box: Box) -> None:
    daemon = started(box)
    runtime = box.dir / "runtime"
    runtime.mkdir(mode=0o700)
    judge = """
    import wbx.weave as weave
    @weave.op
    def judge(n): return n
    """
    env = {"WORLD_SIZE": "2", "XDG_RUNTIME_DIR": str(runtime)}
    other = trainer(box, judge + """
    from wbx import _trace_ranks
    _trace_ranks.LOOK_S = 0  # not once a second
    judge(0)
    say("waits")
    hear()
    judge(1)
    say("bye", wbx.run)
    """, socket=daemon.socket, name="rank1", RANK="1", **env)
    other.expect_line("waits")
    first = trainer(box, judge + """
    run = wbx.init(project="p", id="r", console="off")
    judge(2)
    say("open")
    hear()
    run.finish()
    say("bye")
    """, socket=daemon.socket, name="rank0", RANK="0", **env)
    first.expect_line("open")
    [note] = (runtime / "wbx").iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    other.tell("go")
    other.expect_line("bye None")
    assert other.wait() == 0
    first.tell("go")
    first.expect_line("bye")
    assert first.wait() == 0
    assert not list((runtime / "wbx").iterdir())
    calls = {row.body["output"]: row for row in daemon.store.rows(kind="call")}
    assert sorted(calls) == [1, 2] and {row.body["run"] for row in calls.values()} == {"r"} and calls[1].producer != calls[2].producer
    assert daemon.store.query("SELECT name FROM run") == [("r",)]
    assert len(daemon.store.rows(kind="finish")) == 2


@test
def arguments_are_not_kept_alive(box: Box) -> None:
    _, said = traced(box, """
    import gc, weakref
    class Big(dict): pass
    @weave.op
    def inner(): return gone() is None
    @weave.op
    def takes(box):
        box.clear()
        gc.collect()
        return inner()
    box = [Big(a=1)]
    gone = weakref.ref(box[0])
    say(takes(box))
    """)
    assert said == ["True"]


if __name__ == "__main__":
    main()
