#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon, and of workers, at random moments under mixed load, with real processes.

What is claimed afterwards: nothing acknowledged was lost, nothing ran twice, and the bill is what
was used. The seed is printed; MILLRACE_CHAOS_SEED repeats the draws (not the timing), and
MILLRACE_CHAOS_KILLS sets how often the daemon dies.
"""

import json
import os
import random
import signal
import threading
import time
import urllib.error

from cloud import Cloud, require, script, wait_until

SEED = int(os.environ.get("MILLRACE_CHAOS_SEED", str(random.SystemRandom().randrange(1 << 32))))
KILLS = int(os.environ.get("MILLRACE_CHAOS_KILLS", "50"))
print(f"# seed {SEED}, {KILLS} kills", flush=True)


class Load:
    """People who submit, look and chat, and who try again until they get an answer."""

    def __init__(self, cloud, model):
        self.cloud = cloud
        self.model = model
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.acked = {}  # workload id -> marker
        self.chats = []  # usage of each chat that was answered whole
        self.chats_cut = 0
        self.problems = []
        self.marks = os.path.join(cloud.home, "marks")
        os.mkdir(self.marks)

    def guard(self, body, rng):
        while not self.stop.is_set():
            try:
                body(rng)
            except (urllib.error.URLError, OSError, ValueError, TimeoutError):
                time.sleep(0.02)  # the daemon is away: that is the point
            except Exception as problem:  # anything else is a finding
                with self.lock:
                    self.problems.append(repr(problem))
                return

    def submit_one(self, rng):
        marker = f"{rng.getrandbits(64):016x}"
        path = os.path.join(self.marks, marker)
        pause = rng.choice(["0", "0", "0.05", "0.3"])
        code = rng.choice([0, 0, 0, 7])
        document = {
            "name": marker,
            "resources": {"cpus": 0.05, "memory": "16MiB"},
            "run": f"echo $MILLRACE_LEASE >> {path}; sleep {pause}; exit {code}",
        }
        if rng.random() < 0.15:
            document["resources"]["cpus"] = 0.1
            del document["run"]
            document["sandbox"] = {"command": ["sh", "-c", "exit 0"]}
        # One submission, however often the answer is lost on the way.
        while not self.stop.is_set():
            try:
                status, answer = self.cloud.http(
                    "POST",
                    "/api/workloads",
                    document,
                    headers={"Idempotency-Key": marker},
                    timeout=10,
                )
            except (urllib.error.URLError, OSError, ValueError, TimeoutError):
                time.sleep(0.02)
                continue
            if status in (429, 503, 507):
                time.sleep(0.05)
                continue
            require(status == 200, f"{status} {answer}")
            with self.lock:
                known = [w for w, m in self.acked.items() if m == marker]
                require(not known or known == [answer["id"]], "one key, two workloads")
                self.acked[answer["id"]] = marker if "run" in document else None
            break
        time.sleep(rng.random() * 0.1)

    def chat_one(self, rng):
        body = {
            "model": self.model,
            "max_tokens": rng.randrange(2, 24),
            "temperature": 0,
            "messages": [{"role": "user", "content": f"Say {rng.randrange(1000)}."}],
        }
        try:
            status, answer = self.cloud.http(
                "POST", "/v1/chat/completions", body, key="user", timeout=60
            )
        except (urllib.error.URLError, OSError, ValueError, TimeoutError):
            with self.lock:
                self.chats_cut += 1
            raise
        if status in (429, 503):
            time.sleep(0.05)
            return
        require(status == 200, f"chat: {status} {answer}")
        with self.lock:
            self.chats.append(answer["usage"])

    def look_one(self, rng):
        self.cloud.http(
            "GET",
            rng.choice(["/api/workloads?limit=20", "/api/usage", "/api/fleet", "/api/status"]),
            timeout=10,
        )
        time.sleep(0.05)

    def start(self):
        bodies = [self.submit_one, self.submit_one, self.chat_one, self.chat_one, self.look_one]
        self.threads = [
            threading.Thread(target=self.guard, args=(b, random.Random(SEED * 31 + i)))
            for i, b in enumerate(bodies)
        ]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(timeout=120)
        require(not any(t.is_alive() for t in self.threads), "a caller hangs")
        require(not self.problems, "; ".join(self.problems[:3]))


def token_sums(cloud):
    sums = {"prompt": 0, "cached": 0, "completion": 0}
    for line in cloud.json("usage")["lines"]:
        for kind in sums:
            if "token" in line["SkuId"] and kind in line["SkuId"]:
                scale = 1e6 if "illion" in line["ConsumedUnit"] else 1
                sums[kind] += round(float(line["ConsumedQuantity"]) * scale)
    return sums


def check_jobs(cloud, load):
    for wid, marker in sorted(load.acked.items()):
        w = cloud.wait(wid, seconds=180)
        require(w["state"] in ("completed", "failed"), f"{w}")
        if marker is None:
            continue
        with open(os.path.join(load.marks, marker), encoding="utf-8") as f:
            runs = f.read().splitlines()
        require(len(runs) == 1, f"workload {wid} ran {len(runs)} times: {runs}")
    unknown = set(os.listdir(load.marks)) - {m for m in load.acked.values() if m}
    # A submission whose answer never came may have run, but once.
    for marker in unknown:
        with open(os.path.join(load.marks, marker), encoding="utf-8") as f:
            require(len(f.read().splitlines()) == 1, f"{marker} ran twice")


def check_bill(cloud, load):
    ids = {str(wid) for wid, marker in load.acked.items() if marker}
    seen = {}
    for line in cloud.json("usage")["lines"]:
        if line["SkuId"].startswith("vcpu") and line["ResourceId"] in ids:
            seen[line["ResourceId"]] = seen.get(line["ResourceId"], 0) + float(
                line["ConsumedQuantity"]
            )
    require(set(seen) == ids, f"{len(ids - set(seen))} of {len(ids)} jobs are not billed")


def daemon_kills_lose_nothing_and_run_nothing_twice():
    rng = random.Random(SEED)
    with Cloud() as cloud:
        ready = cloud.up()
        cloud.http(
            "POST",
            "/v1/chat/completions",
            {
                "model": ready["models"][0],
                "max_tokens": 1,
                "messages": [{"role": "user", "content": "hi"}],
            },
            key="user",
        )
        first = token_sums_settled(cloud, {"completion": 1})
        load = Load(cloud, ready["models"][0])
        load.start()
        infer = cloud.processes("millrace-infer")
        for _ in range(KILLS):
            time.sleep(rng.expovariate(4.0))
            cloud.kill9()
            cloud.up()
        time.sleep(1)
        load.end()
        require(cloud.processes("millrace-infer") == infer, "the model's worker was started again")
        check_jobs(cloud, load)
        check_bill(cloud, load)
        answered = sum(u["completion_tokens"] for u in load.chats)
        require(load.chats, "no chat was answered between the kills")
        # A chat that was cut off has tokens on the bill that nobody read: their number is the
        # worker's
        # to say, and the simulator compares it token by token. What was read is on the bill, once.
        least = answered + first["completion"]
        billed = wait_until(
            "what was answered is on the bill",
            lambda: (lambda n: n if n >= least else 0)(token_sums(cloud)["completion"]),
            60,
        )
        most = least + 24 * load.chats_cut
        require(billed <= most, f"{billed} tokens are billed, at most {most} were decoded")
        print(
            f"# {len(load.acked)} workloads, {len(load.chats)} chats answered, "
            f"{load.chats_cut} cut off, {billed} tokens billed",
            flush=True,
        )


def token_sums_settled(cloud, least):
    return wait_until(
        "the first chat is on the bill",
        lambda: (lambda s: s if all(s[k] >= v for k, v in least.items()) else None)(
            token_sums(cloud)
        ),
        60,
    )


def killed_tasks_are_failures_with_a_reason_and_are_not_run_again():
    rng = random.Random(SEED + 1)
    with Cloud(model=False) as cloud:
        cloud.up()
        for _ in range(10):
            path = os.path.join(cloud.home, f"k{rng.getrandbits(32):x}")
            wid = cloud.submit(
                {
                    "run": f"echo x >> {path}; exec sleep 1000",
                    "resources": {"cpus": 0.1, "memory": "16MiB"},
                }
            )
            cloud.wait(wid, {"running"})
            wait_until("it has begun", lambda: os.path.exists(path))
            wait_until("it sleeps", lambda: task_pid(cloud, wid))
            os.kill(task_pid(cloud, wid), signal.SIGKILL)
            w = cloud.wait(wid)
            require(
                w["state"] == "failed" and w["exit"]["kind"] == "signal" and w["exit"]["code"] == 9,
                json.dumps(w),
            )
            with open(path, encoding="utf-8") as f:
                require(f.read() == "x\n", "it ran twice")


def a_job_that_ended_while_no_daemon_lived_is_billed_for_as_long_as_it_ran():
    with Cloud(model=False) as cloud:
        cloud.up()
        begun, ended = os.path.join(cloud.home, "begun"), os.path.join(cloud.home, "ended")
        wid = cloud.submit(
            {
                "run": f"date +%s.%N > {begun}; sleep 2; date +%s.%N > {ended}",
                "resources": {"cpus": 0.5, "memory": "16MiB"},
            }
        )
        wait_until("it has begun", lambda: os.path.exists(begun) and os.path.getsize(begun))
        cloud.kill9()
        wait_until("it has ended", lambda: os.path.exists(ended) and os.path.getsize(ended))
        away = time.time() + 4  # so long again that it shows on a bill that counts it
        wait_until("some time later", lambda: time.time() > away)
        cloud.up()
        cloud.wait(wid, {"completed"})
        with open(begun, encoding="utf-8") as f, open(ended, encoding="utf-8") as g:
            ran = -float(f.read()) + float(g.read())
        billed = 3600 / 0.5 * sum(
            float(line["ConsumedQuantity"])
            for line in cloud.json("usage")["lines"]
            if line["SkuId"].startswith("vcpu") and line["ResourceId"] == str(wid)
        )
        require(ran * 0.98 <= billed <= ran + 2, f"it ran for {ran} s, billed are {billed} s")


def task_pid(cloud, wid):
    for pid in cloud.processes(f"MILLRACE_WORKLOAD={wid}\0"):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                if f.read().strip() == "sleep":
                    return pid
        except OSError:
            pass
    return None


def a_killed_model_worker_is_replaced_and_what_it_decoded_is_billed():
    with Cloud() as cloud:
        ready = cloud.up()
        model = ready["models"][0]
        ask = {
            "model": model,
            "max_tokens": 4,
            "temperature": 0,
            "messages": [{"role": "user", "content": "hello"}],
        }
        usage = []
        for _ in range(3):
            status, answer = cloud.http("POST", "/v1/chat/completions", ask, key="user")
            require(status == 200, f"{answer}")
            usage.append(answer["usage"]["completion_tokens"])
            pids = cloud.processes("millrace-infer")
            for pid in pids:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                    if f.read().startswith("millrace-infer"):
                        os.kill(pid, signal.SIGKILL)
            wait_until("another worker", lambda: set(cloud.processes("millrace-infer")) - set(pids))
        status, answer = cloud.http("POST", "/v1/chat/completions", ask, key="user")
        require(status == 200, f"{answer}")
        total = sum(usage) + answer["usage"]["completion_tokens"]
        wait_until(
            "the bill is what was answered", lambda: token_sums(cloud)["completion"] == total, 60
        )


script(
    daemon_kills_lose_nothing_and_run_nothing_twice,
    killed_tasks_are_failures_with_a_reason_and_are_not_run_again,
    a_killed_model_worker_is_replaced_and_what_it_decoded_is_billed,
    a_job_that_ended_while_no_daemon_lived_is_billed_for_as_long_as_it_ran,
)
