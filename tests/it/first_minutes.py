#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a newcomer does in the first minutes: up, chat, status, a second up, down, up again."""

import json
import os
import time
import stat

from cloud import Cloud, require, script, wait_until, alive


def up_prints_what_scripts_need_and_keeps_the_admin_key_private():
    with Cloud() as cloud:
        ready = cloud.up()
        for field in ("url", "pid", "version", "api_key", "admin_key", "devices", "models"):
            require(field in ready, f"no {field} in {ready}")
        require(alive(ready["pid"]), "the pid is not the daemon's")
        require(ready["devices"][0]["count"] >= 1, "no device found")
        path = os.path.join(cloud.home, "admin.key")
        require(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "admin.key is not mode 0600")
        require(stat.S_IMODE(os.stat(cloud.home).st_mode) == 0o700, "the home is not mode 0700")


def the_default_model_answers_by_chat_and_its_tokens_are_billed():
    with Cloud() as cloud:
        ready = cloud.up()
        answer = cloud.json("chat", "--temperature", "0", "--max-tokens", "12", "What is water?")
        require(len(answer["content"]) > 0, f"no words: {answer}")
        require(answer["model"] == ready["models"][0], f"another model: {answer}")
        require(0 < answer["usage"]["completion_tokens"] <= 12, f"usage: {answer['usage']}")

        def billed():
            lines = cloud.json("usage")["lines"]
            return [x for x in lines if "completion" in x["SkuId"]]

        line = wait_until("the tokens are on the bill", billed)[0]
        require(
            float(line["ConsumedQuantity"]) * (1e6 if "illion" in line["ConsumedUnit"] else 1)
            - answer["usage"]["completion_tokens"]
            < 1e-6,
            f"{line} is not {answer['usage']}",
        )


def a_second_up_on_the_same_home_gets_one_clear_message():
    with Cloud(model=False) as cloud:
        cloud.up()
        second = cloud.run("up", "-d", "--listen", "127.0.0.1:0", check=False)
        require(second.returncode == 1, f"exit {second.returncode}")
        require("already runs" in second.stderr and "millrace down" in second.stderr, second.stderr)
        require(len(second.stderr.strip().splitlines()) == 1, second.stderr)


def two_homes_are_two_clouds():
    with Cloud(model=False) as one, Cloud(model=False) as two:
        one.up()
        two.up()
        wid = one.submit({"command": ["true"]})
        one.wait(wid)
        require(two.http("GET", "/api/workloads")[1]["workloads"] == [], "the other cloud sees it")
        require(
            two.http("GET", "/api/workloads", key=one.keys["admin"])[0] == 401,
            "a key of one cloud opens the other",
        )


def everything_is_there_after_down_and_up():
    with Cloud(model=False) as cloud:
        first = cloud.up()
        wid = cloud.submit({"run": "echo kept; exit 3"})
        before = cloud.wait(wid)
        cloud.down()
        require(not alive(first["pid"]), "the daemon is still there")
        second = cloud.up()
        require("api_key" not in second, "the keys are shown again")
        after = cloud.workload(wid)
        require(before == after, f"{before} became {after}")
        require(after["exit"]["code"] == 3, f"{after['exit']}")
        logs = cloud.run("logs", str(wid)).stdout
        require(logs == "kept\n", repr(logs))
        logs = json.loads(cloud.run("logs", str(wid), "--json").stdout)
        require(logs == {"id": wid, "rank": 0, "stream": "stdout", "text": "kept\n"}, str(logs))


def workers_outlive_the_daemon_and_are_found_again():
    with Cloud(model=False) as cloud:
        cloud.up()
        wid = cloud.submit(
            {"run": "echo $$ >> pids; while [ ! -e go ]; do sleep 0.05; done; echo end"}
        )
        cloud.wait(wid, {"running"})
        folder = os.path.join(cloud.home, "workloads", str(wid))
        wait_until("it has started", lambda: os.path.exists(os.path.join(folder, "pids")))
        cloud.down()
        cloud.up()
        cloud.wait(wid, {"running"})
        with open(os.path.join(folder, "go"), "w", encoding="utf-8"):
            pass
        w = cloud.wait(wid)
        require(w["state"] == "completed", str(w))
        with open(os.path.join(folder, "pids"), encoding="utf-8") as f:
            require(len(f.read().split()) == 1, "it was started twice")


def every_verb_that_looks_prints_one_json_document():
    with Cloud(model=False) as cloud:
        cloud.up()
        wid = cloud.submit({"command": ["true"]})
        cloud.wait(wid)
        for verb in (
            ["status"],
            ["queue"],
            ["queue", str(wid)],
            ["fleet"],
            ["usage"],
            ["why", str(wid)],
            ["doctor"],
            ["version"],
            ["bench"],
        ):
            out = cloud.run(*verb, "--json", check=False)
            json.loads(out.stdout)
        w = cloud.json("queue", str(wid))["workloads"][0]
        for field in (
            "id",
            "name",
            "kind",
            "tenant",
            "state",
            "reason",
            "tasks",
            "nodes",
            "submitted",
            "started",
            "ended",
            "exit",
        ):
            require(field in w, f"no {field} in {w}")


def day(days):
    """A day to come, as fleet files have it."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86400))


def a_ramp_is_expected_reserved_and_comes():
    with Cloud(model=False) as cloud:
        cloud.up()
        path = os.path.join(cloud.home, "ramp.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(
                f"name: ramp\nuntil: {day(400)}\nnodes:\n"
                f"  - {{type: u-p6e-gb200x72, count: 1, from: {day(10)}}}\n"
                f"  - {{type: u-p6e-gb200x72, count: 2, from: {day(20)}}}\n"
            )
        said = cloud.run("fleet", "expect", path).stdout.splitlines()
        require(len(said) == 2 and "nodes 2 to 19, from" in said[0], str(said))
        fleet = cloud.json("fleet")
        require([d["nodes"] for d in fleet["deliveries"]] == [18, 36], str(fleet["deliveries"]))
        states = [n["state"] for n in fleet["nodes"]]
        require(states == ["up"] + ["expected"] * 54, str(states))
        rack = ["--tasks", "18", "--accelerators", "GB200:4", "--topology", "domain"]
        early = cloud.run("reserve", "--from", "5d", "--for", "2d", *rack, check=False)
        require(early.returncode != 0 and f"from {day(10)}" in early.stderr, early.stderr)
        for _ in range(3):
            cloud.run("reserve", "--from", "21d", "--for", "2d", *rack)
        full = cloud.run("reserve", "--from", "21d", "--for", "2d", *rack, check=False)
        require(full.returncode != 0, "four racks of three")
        late = cloud.run("reserve", "--from", "399d", "--for", "30d", *rack, check=False)
        require(late.returncode != 0, "beyond the term")
        cloud.run("fleet", "node", "7", "up")
        cloud.run("fleet", "node", "8", "absent")
        nodes = {n["id"]: n["state"] for n in cloud.json("fleet")["nodes"]}
        require(nodes[7] == "up" and 8 not in nodes and nodes[9] == "expected", str(nodes))
        wrong = cloud.run("fleet", "node", "7", "gone", check=False)
        require("wants up, draining, down or absent" in wrong.stderr, wrong.stderr)


script(
    up_prints_what_scripts_need_and_keeps_the_admin_key_private,
    the_default_model_answers_by_chat_and_its_tokens_are_billed,
    a_second_up_on_the_same_home_gets_one_clear_message,
    two_homes_are_two_clouds,
    everything_is_there_after_down_and_up,
    workers_outlive_the_daemon_and_are_found_again,
    every_verb_that_looks_prints_one_json_document,
    a_ramp_is_expected_reserved_and_comes,
)
