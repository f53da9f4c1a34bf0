"""What Python traces, as the trace server gets it: both ends together."""
from __future__ import annotations

import json
from typing import Any

from tap import Box, main, test, until
from trainer import trainer
from wandb import ENTITY
from weave import tracing


def op_of(call: dict[str, Any]) -> str:
    name = call["op_name"]
    return name.rpartition("/op/")[2].partition(":")[0] if name.startswith("weave:///") else name


@test
def a_program_s_traces_arrive_with_all_that_belongs_to_them(box: Box) -> None:
    fake, weave, daemon = tracing(box)
    t = trainer(box, f"""
    import wbx.weave as weave
    run = wbx.init(project="p", id="r", entity={ENTITY!r}, console="off")
    class State:
        global_step, log_history = 6, []
    @weave.op(kind="llm")
    def ask(prompt):
        return {{"model": "m", "text": "because", "usage": {{"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}}}}
    @weave.op
    def judge(prompt, score):
        ask(prompt)
        if score > 1:
            raise ValueError("above one")
        return {{"score": score, "reason": "because"}}
    @weave.op
    def reward(prompts, trainer_state=None):
        out = []
        with weave.attributes({{"group_id": "g1"}}):
            for i, prompt in enumerate(prompts):
                try:
                    out.append(judge(prompt, i)["score"])
                except ValueError:
                    out.append(float("nan"))
        return out
    reward(["short", "p" * 100_000, "last"], trainer_state=State())
    result, call = judge.call("noted", 0.5)
    call.feedback.add_note("fine")
    call.set_score("truth", 0.25, reason="checked")
    weave.publish(weave.StringPrompt("Grade {{x}}"), name="grade")
    weave.publish([{{"q": 1}}, {{"q": 2}}], name="questions")
    weave.get_client().add_cost("m", 1e-7, 2e-7)
    run.finish()
    say("bye")
    """, socket=daemon.socket)
    t.expect_line("bye")
    assert t.wait() == 0
    calls = weave.await_calls(9)
    by_op: dict[str, list[dict]] = {}
    for call in sorted(calls.values(), key=lambda c: c["started_at"]):
        by_op.setdefault(op_of(call), []).append(call)
    [root] = by_op["reward"]
    judged, asked = by_op["judge"], by_op["ask"]
    assert root["wb_run_id"] == f"{ENTITY}/p/r" and root["wb_run_step"] == 7 and root["output"] == [0, 1, None]
    assert [j["parent_id"] for j in judged[:3]] == [root["id"]] * 3 and all(j["wb_run_step"] == 7 and j["attributes"]["group_id"] == "g1" for j in judged[:3])
    assert judged[1]["inputs"]["prompt"] == "p" * 100_000 and asked[1]["inputs"]["prompt"] == "p" * 100_000, "what stands apart is put back"
    exception = json.loads(judged[2]["exception"])
    assert exception["type"] == "ValueError" and exception["message"] == "above one" and exception["traceback"][-1]["function_name"] == "judge"
    assert root["summary"]["status_counts"] == {"success": 6, "error": 1} and root["summary"]["usage"]["m"]["total_tokens"] == 45
    assert asked[0]["attributes"]["weave"]["kind"] == "llm" and judged[0]["op_name"].startswith(f"weave:///{ENTITY}/p/op/judge:")

    def all_there() -> dict | None:
        state = weave.ask("/__state")
        names = {o["object_id"] for o in state["objects"]}
        return state if len(state["feedback"]) == 2 and state["costs"] and {"grade", "questions", "judge", "ask", "reward"} <= names else None

    state = until(all_there, "feedback, objects and costs")
    notes = {f["feedback_type"]: f for f in state["feedback"]}
    assert notes["wandb.note.1"]["payload"] == {"note": "fine"} and notes["wandb.note.1"]["weave_ref"].endswith(judged[3]["id"])
    assert notes["wandb.runnable.truth"]["payload"] == {"output": {"score": 0.25, "reason": "checked"}}
    weave.check(final=False)


if __name__ == "__main__":
    main()
