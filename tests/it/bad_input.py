#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What people get wrong: each mistake gets one clear message that says what to do, and the right
exit
code; the cloud goes on as before."""

import json
import os
import socket
import subprocess
import tempfile

from cloud import Cloud, Skip, require, script, wait_until


def expect(result, code, *words):
    text = result.stderr
    require(result.returncode == code, f"exit {result.returncode}, not {code}: {text}")
    for word in words:
        require(word.lower() in text.lower(), f"no '{word}' in: {text}")
    require("internal error" not in text and "Traceback" not in text, text)


def write(cloud, name, text):
    path = os.path.join(cloud.home, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def wrong_usage_is_exit_2():
    with Cloud() as cloud:
        expect(cloud.run("nonsense", check=False), 2, "no verb", "help")
        expect(cloud.run("queu", check=False), 2, "did you mean", "queue")
        expect(cloud.run("queue", "--frobnicate", check=False), 2, "no option", "usage")
        expect(cloud.run("queue", "seven", check=False), 2, "no workload id")
        expect(cloud.run("finetune", check=False), 2, "one file")


def without_a_daemon_it_is_exit_3():
    with Cloud() as cloud:
        for verb in (["status"], ["queue"], ["chat", "hi"], ["submit", "--", "true"]):
            expect(cloud.run(*verb, check=False), 3, "millrace up")
        expect(
            cloud.run("status", check=False, env={"MILLRACE_URL": "http://127.0.0.1:9"}),
            3,
            "nothing answers",
        )


def wrong_and_missing_keys_are_exit_4():
    with Cloud(model=False) as cloud:
        cloud.up()
        expect(cloud.run("queue", check=False, env={"MILLRACE_API_KEY": "mr-wrong"}), 4, "key")
        user = {"MILLRACE_API_KEY": cloud.keys["user"]}
        expect(cloud.run("key", check=False, env=user), 4, "admin")
        require(cloud.http("GET", "/api/workloads", key=None)[0] == 401, "no key was needed")
        require(cloud.http("GET", "/metrics", key=None)[0] == 401, "no key was needed for metrics")


def bad_yaml_names_the_line():
    with Cloud(model=False) as cloud:
        cloud.up()
        expect(
            cloud.run("submit", write(cloud, "a.yaml", "name: x\n  run: [\n"), check=False),
            1,
            "a.yaml",
            "line",
        )
        expect(
            cloud.run("submit", write(cloud, "b.yaml", "run: echo\nnum_taks: 2\n"), check=False),
            1,
            "num_taks",
            "num_tasks",
        )
        expect(
            cloud.run(
                "submit",
                write(cloud, "c.yaml", "run: echo\nresources: {memory: lots}\n"),
                check=False,
            ),
            1,
            "resources.memory",
            "lots",
        )
        expect(
            cloud.run("submit", write(cloud, "d.yaml", "name: nothing\n"), check=False), 1, "run"
        )
        expect(
            cloud.run("submit", os.path.join(cloud.home, "none.yaml"), check=False), 1, "no file"
        )
        expect(
            cloud.run(
                "submit",
                write(cloud, "e.sbatch", "#!/bin/sh\n#SBATCH --frob=1\ntrue\n"),
                check=False,
            ),
            1,
            "line 2",
            "frob",
        )
        require(cloud.json("queue")["workloads"] == [], "something was submitted")


def an_impossible_shape_is_refused_with_what_there_is():
    with Cloud(model=False) as cloud:
        cloud.up()
        expect(cloud.run("submit", "--cpus", "5000", "--", "true", check=False), 1, "5000")
        expect(
            cloud.run("submit", "--accelerators", "H100:8", "--", "true", check=False), 1, "H100"
        )
        expect(cloud.run("submit", "--memory", "900TiB", "--", "true", check=False), 1)


def an_unknown_model_is_named_with_those_that_are_there():
    with Cloud() as cloud:
        cloud.up()
        expect(cloud.run("chat", "--model", "gpt-9", "hi", check=False), 1, "gpt-9", "SmolLM2")


def a_model_file_that_is_missing_or_no_gguf_is_said_before_anything_starts():
    with Cloud() as cloud:
        expect(
            cloud.run(
                "up", "-d", "--listen", "127.0.0.1:0", "--model", "/nowhere.gguf", check=False
            ),
            1,
            "/nowhere.gguf",
            "make up",
        )
        junk = write(cloud, "junk.gguf", "this is no model")
        expect(
            cloud.run("up", "-d", "--listen", "127.0.0.1:0", "--model", junk, check=False),
            1,
            "not a GGUF",
        )
        torn = os.path.join(cloud.home, "torn.gguf")
        with open(torn, "wb") as f:
            f.write(b"GGUF" + bytes(64))
        cloud.up("--no-model")
        served = cloud.run("serve", "--model", torn, "--name", "torn", "--json", check=False)
        require(served.returncode == 0, served.stderr)
        wid = json.loads(served.stdout)["id"]

        def tells():
            return "torn.gguf" in cloud.run("logs", str(wid), "--stderr", check=False).stdout

        wait_until("the log names the file", tells, 60)


def a_port_in_use_is_said():
    with Cloud(model=False) as cloud, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        expect(
            cloud.run("up", "-d", "--listen", f"127.0.0.1:{port}", check=False),
            1,
            str(port),
            "taken",
        )
        expect(cloud.run("up", "-d", "--listen", "nonsense", check=False), 1, "nonsense")


def a_home_that_cannot_be_written_is_said():
    with Cloud(model=False) as cloud:
        file = write(cloud, "file", "")
        expect(
            cloud.run("up", "-d", check=False, env={"MILLRACE_HOME": os.path.join(file, "home")}),
            1,
            "MILLRACE_HOME",
        )


def a_full_disk_refuses_and_loses_nothing():
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small tmpfs")
    folder = tempfile.mkdtemp(prefix="millrace-full-")
    if (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], stderr=subprocess.DEVNULL
        ).returncode
        != 0
    ):
        os.rmdir(folder)
        raise Skip("no tmpfs can be mounted here")
    try:
        full_disk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        os.rmdir(folder)


def full_disk(folder):
    cloud = Cloud(model=False)
    os.rmdir(cloud.home)
    cloud.home = os.path.join(folder, "home")
    cloud.env["MILLRACE_HOME"] = cloud.home
    with cloud:
        cloud.up()
        kept = cloud.submit({"command": ["true"]})
        cloud.wait(kept)
        filler = os.path.join(folder, "filler")
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(65536))
            except OSError:
                pass
        accepted, refused = [kept], None
        for _ in range(2000):
            status, answer = cloud.http(
                "POST", "/api/workloads", {"command": ["true"], "envs": {"A": "x" * 4000}}
            )
            if status == 200:
                accepted.append(answer["id"])
                continue
            refused = (status, answer)
            break
        require(refused is not None, "a full disk took everything")
        require(refused[0] in (507, 503), f"{refused}")
        require("space" in refused[1]["error"]["message"], f"{refused}")
        os.unlink(filler)
        cloud.submit({"command": ["true"]})
        cloud.down()
        cloud.up()
        for wid in accepted:
            cloud.workload(wid)


script(
    wrong_usage_is_exit_2,
    without_a_daemon_it_is_exit_3,
    wrong_and_missing_keys_are_exit_4,
    bad_yaml_names_the_line,
    an_impossible_shape_is_refused_with_what_there_is,
    an_unknown_model_is_named_with_those_that_are_there,
    a_model_file_that_is_missing_or_no_gguf_is_said_before_anything_starts,
    a_port_in_use_is_said,
    a_home_that_cannot_be_written_is_said,
    a_full_disk_refuses_and_loses_nothing,
)
