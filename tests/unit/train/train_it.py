#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole fine-tunes with real processes: train_it.py PROGRAM HELPER MODEL.

Runs over a thin random model with the real vocabulary, where a step takes milliseconds, and once
over
the real one. TAP on standard output.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PROGRAM, HELPER, MODEL = (os.path.abspath(path) for path in sys.argv[1:4])
SEED = 20
RANKS = 2
SECONDS_MAX = 240

NAMES = ["Ada", "Bob", "Cyd", "Dan", "Eve", "Fay", "Gus", "Hal"]
THINGS = ["a lamp", "a kite", "some bread", "a map", "two pens"]


class Failure(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Failure(what)


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "OMPI_", "PMIX_"))}
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return env


class World:
    """One folder with a data file, a thin model and a spec; start() runs it."""

    def __init__(self, tiny=True, **spec):
        self.folder = tempfile.mkdtemp(prefix="train_it_")
        self.job = os.path.join(self.folder, "job")
        os.mkdir(self.job)
        self.data = os.path.join(self.folder, "data.jsonl")
        with open(self.data, "w", encoding="utf-8") as f:
            for name in NAMES:
                for thing in THINGS:
                    f.write(
                        json.dumps(
                            {
                                "messages": [
                                    {
                                        "role": "user",
                                        "content": f"What does {name} carry? It is {thing}.",
                                    },
                                    {
                                        "role": "assistant",
                                        "content": f"Arr! {name} be carryin' {thing}, "
                                        "says the parrot.",
                                    },
                                ]
                            }
                        )
                        + "\n"
                    )
        self.spec = {"model": World.tiny if tiny else MODEL, "data": self.data, **spec}
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, ranks=RANKS, job=None, product="own-f32", extra=()):
        path = os.path.join(self.folder, "spec.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(self.spec, f)
        launch = (
            []
            if ranks == 0
            else [
                "mpirun",
                "-np",
                str(ranks),
                "--oversubscribe",
                "--bind-to",
                "none",
                "--mca",
                "plm",
                "isolated",
                "--mca",
                "btl",
                "self,vader",
            ]
        )
        command = launch + [PROGRAM, "--spec", path, "--job-dir", job or self.job]
        command += (["--product", product] if product else []) + list(extra)
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    def run(self, code=0, **how):
        process = self.start(**how)
        out, err = process.communicate(timeout=SECONDS_MAX)
        require(process.returncode == code, f"exit {process.returncode}, not {code}: {err[-600:]}")
        return out, err

    def json_of(self, name, job=None):
        with open(os.path.join(job or self.job, name), encoding="utf-8") as f:
            return json.load(f)

    def bytes_of(self, name, job=None):
        with open(os.path.join(job or self.job, name), "rb") as f:
            return f.read()

    def steps_seen(self):
        try:
            return self.bytes_of("loss.jsonl").count(b"\n")
        except FileNotFoundError:
            return 0


def children_of(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(pid)], text=True, capture_output=True, check=False
    ).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "millrace-train" in line]


def wait_for_step(world, process, step):
    end = time.monotonic() + SECONDS_MAX
    while world.steps_seen() < step and process.poll() is None:
        require(time.monotonic() < end, f"step {step} was never reached")
        time.sleep(0.005)


def our_forward_pass_is_libllamas():
    # With 4-bit weights libllama rounds activations to 8 bits, and we do not.
    for model, permille in ((World.tiny, "1"), (MODEL, "10")):
        done = subprocess.run(
            [HELPER, "compare", model, permille], text=True, capture_output=True, check=False
        )
        require(done.returncode == 0, f"{model}: {done.stdout} {done.stderr}")


def two_ranks_learn_and_the_adapter_serves():
    with World(tiny=False, max_steps=4, batch=8, learning_rate=2e-3, warmup_steps=0) as world:
        world.run(product=None)
        result = world.json_of("result.json")
        require(result["ranks"] == 2, f"ranks {result['ranks']}")
        require(
            result["held_out_loss"] < 0.9 * result["held_out_loss_before"],
            f"held-out loss {result['held_out_loss_before']} to {result['held_out_loss']}",
        )
        require(result["steps"] == 4 and result["held_out"] == 4, str(result))
        done = subprocess.run(
            [HELPER, "adapter", MODEL, os.path.join(world.job, "adapter.gguf")],
            text=True,
            capture_output=True,
            check=False,
        )
        require(done.returncode == 0, done.stdout + done.stderr)
        progress = world.json_of("progress.json")
        require(
            progress["step"] == progress["steps"] == progress["checkpoint_step"] == 4, str(progress)
        )


def a_run_killed_at_random_steps_ends_bit_for_bit_as_the_undisturbed():
    draw = random.Random(SEED)
    with World(max_steps=60, batch=6, checkpoint_every_steps=7, learning_rate=0.01) as world:
        calm = os.path.join(world.folder, "calm")
        os.mkdir(calm)
        world.run(job=calm)
        kills = 0
        while kills < 4:
            process = world.start()
            wait_for_step(world, process, world.steps_seen() + draw.randint(1, 12))
            ranks = children_of(process.pid)
            if process.poll() is not None or not ranks:
                break
            os.kill(draw.choice(ranks), signal.SIGKILL)
            process.communicate(timeout=SECONDS_MAX)
            require(process.returncode != 0, "mpirun did not notice")
            kills += 1
        require(kills >= 2, f"only {kills} kills before the end")
        world.run()
        require(
            world.bytes_of("loss.jsonl") == world.bytes_of("loss.jsonl", calm),
            f"the loss curve differs after {kills} kills (seed {SEED})",
        )
        require(
            world.bytes_of("adapter.gguf") == world.bytes_of("adapter.gguf", calm),
            f"the adapter differs after {kills} kills (seed {SEED})",
        )
        require(world.json_of("result.json")["resumed"], "it began anew")
        require(
            world.json_of("result.json")["held_out_loss"]
            == world.json_of("result.json", calm)["held_out_loss"],
            "held-out losses differ",
        )


def asked_to_stop_it_saves_and_ends_with_75_then_goes_on_with_one_rank():
    with World(max_steps=50, batch=6, learning_rate=0.01) as world:
        calm = os.path.join(world.folder, "calm")
        os.mkdir(calm)
        world.run(job=calm)
        process = world.start()
        wait_for_step(world, process, 5)
        for pid in children_of(process.pid)[:1]:
            os.kill(pid, signal.SIGTERM)  # one of them is enough
        _, err = process.communicate(timeout=SECONDS_MAX)
        require(process.returncode == 75, f"exit {process.returncode}: {err[-400:]}")
        stopped = world.json_of("progress.json")
        require(stopped["checkpoint_step"] == stopped["step"] < 50, str(stopped))
        world.run(ranks=0)
        result, other = world.json_of("result.json"), world.json_of("result.json", calm)
        require(result["resumed"] and result["ranks"] == 1, str(result))
        require(
            abs(result["held_out_loss"] - other["held_out_loss"]) < 1e-3 * other["held_out_loss"],
            f"{result['held_out_loss']} with another number of ranks, {other['held_out_loss']}",
        )


def a_torn_checkpoint_gives_way_to_the_older():
    with World(max_steps=12, batch=6, checkpoint_every_steps=3, learning_rate=0.01) as world:
        world.run(ranks=0)
        curve = world.bytes_of("loss.jsonl")
        newest = os.path.join(world.job, "checkpoint-12.mrt")
        with open(newest, "r+b") as f:
            f.truncate(os.path.getsize(newest) - 5)
        _, err = world.run(ranks=0)
        require("1 damaged checkpoint" in err, err)
        require("checkpoint of step 9" in err, err)
        require(world.bytes_of("loss.jsonl") == curve, "the curve differs")


def a_spec_of_another_recipe_is_not_continued():
    with World(max_steps=3, batch=6) as world:
        world.run(ranks=0)
        world.spec["learning_rate"] = 0.5
        _, err = world.run(ranks=0, code=1)
        require("delete them" in err, err)


def mistakes_get_one_line_and_exit_1():
    cases = [
        ({"data": "/nowhere.jsonl"}, "/nowhere.jsonl"),
        ({"modle": "x"}, "modle"),
        ({"model": "/nowhere.gguf"}, "/nowhere.gguf"),
        ({"out": "/nowhere/adapter.gguf"}, "cannot write in /nowhere"),
        ({"model": "DATA"}, "not a whole GGUF"),
        ({"data": "BAD"}, "line 2"),
        ({"data": "EMPTY"}, "is empty"),
        ({"data": "NOANSWER"}, "no assistant"),
        ({"data": "FOLDER"}, "is not a file"),
    ]
    with World(max_steps=2, batch=2) as world:
        good = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
        files = {
            "BAD": good + "{nope\n",
            "EMPTY": "\n",
            "DATA": good * 4,
            "NOANSWER": '{"messages":[{"role":"user","content":"a"}]}\n',
            "FOLDER": None,
        }
        for name, text in files.items():
            path = os.path.join(world.folder, name)
            if text is None:
                os.mkdir(path)
                continue
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        whole = dict(world.spec)
        for change, word in cases:
            world.spec = {
                **whole,
                **{
                    k: os.path.join(world.folder, v) if v in files else v for k, v in change.items()
                },
            }
            _, err = world.run(ranks=0, code=1, extra=["--quiet"])
            lines = [line for line in err.splitlines() if line.strip()]
            require(len(lines) == 1 and word in lines[0], f"{change}: {err}")
        world.spec = {**whole, "data": "/nowhere.jsonl"}
        _, err = world.run(ranks=2, code=1, extra=["--quiet"])
        require(err.count("millrace-train: ") == 1 and "/nowhere.jsonl" in err, err)


def a_full_disk_is_told():
    if not os.path.exists("/dev/full"):
        return
    with World(max_steps=2, batch=6) as world:
        os.symlink("/dev/full", os.path.join(world.job, "checkpoint-2.mrt.part"))
        _, err = world.run(ranks=0, code=1, extra=["--quiet"])
        require("No space left" in err and err.count("\n") == 1, err)


def help_says_what_the_exit_codes_mean():
    done = subprocess.run([PROGRAM, "--help"], text=True, capture_output=True, check=False)
    require(done.returncode == 0 and "75 stopped" in done.stdout, done.stdout)
    done = subprocess.run([PROGRAM, "--no-such"], text=True, capture_output=True, check=False)
    require(done.returncode == 2 and "usage" in done.stderr, done.stderr)


CASES = [
    help_says_what_the_exit_codes_mean,
    our_forward_pass_is_libllamas,
    mistakes_get_one_line_and_exit_1,
    a_full_disk_is_told,
    a_torn_checkpoint_gives_way_to_the_older,
    a_spec_of_another_recipe_is_not_continued,
    a_run_killed_at_random_steps_ends_bit_for_bit_as_the_undisturbed,
    asked_to_stop_it_saves_and_ends_with_75_then_goes_on_with_one_rank,
    two_ranks_learn_and_the_adapter_serves,
]


def main():
    if not os.path.exists(MODEL):
        print(f"{MODEL} is not there: tools/setup model fetches it")
        return 77
    folder = tempfile.mkdtemp(prefix="train_it_model_")
    World.tiny = os.path.join(folder, "tiny.gguf")
    subprocess.run([HELPER, "tiny", MODEL, World.tiny], check=True)
    wanted = sys.argv[4:]
    failed = 0
    cases = [c for c in CASES if not wanted or c.__name__ in wanted]
    for number, case in enumerate(cases, 1):
        started = time.monotonic()
        try:
            case()
            print(f"ok {number} - {case.__name__}", flush=True)
        except (Failure, subprocess.TimeoutExpired) as failure:
            failed += 1
            why = re.sub(r"\s+", " ", str(failure))
            print(f"not ok {number} - {case.__name__}\n# {why}", flush=True)
        print(f"# {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    print(f"1..{len(cases)}")
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
