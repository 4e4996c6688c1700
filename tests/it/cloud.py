# SPDX-License-Identifier: Apache-2.0
"""A cloud of its own for a test: a home in a temporary folder, any free port, nothing left behind.

A test file is a list of functions whose names are claims; `main(...)` runs them in order and prints
TAP ("ok 1 - claim"), which tools/test counts. Standard library only.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("MILLRACE_BUILD", os.path.join(ROOT, "build"))
MILLRACE = os.path.join(BUILD, "millrace")
CACHE = os.environ.get("MILLRACE_CACHE", os.path.expanduser("~/.cache/millrace"))
MODEL = os.path.join(CACHE, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")


class Skip(Exception):
    """Why a case cannot run here."""


def require(condition, text="the claim does not hold"):
    if not condition:
        raise AssertionError(text)


def wait_until(what, condition, seconds=60.0):
    """Polls until condition() is true. A generous limit: it ends a hang, it measures nothing."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Cloud:
    def __init__(self, *up_args, model=True):
        self.home = tempfile.mkdtemp(prefix="millrace-it-")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
        self.env["MILLRACE_HOME"] = self.home
        self.env["MILLRACE_CACHE"] = CACHE
        self.up_args = list(up_args) + ([] if model else ["--no-model"])
        self.keys = {}
        self.url = None
        self.pid = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.run("down", "--all", check=False, timeout=90)
        finally:
            self.kill_leftovers()
            shutil.rmtree(self.home, ignore_errors=True)

    def kill_leftovers(self):
        """Only processes that carry this home in their environment: ours."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def processes(self, needle=None):
        """Pids of live processes of this cloud whose environment or command holds `needle`."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as f:
                    text = f.read()
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    text += b"\0" + f.read()
            except OSError:
                continue
            if self.home.encode() in text and (needle is None or needle.encode() in text):
                found.append(int(name))
        return found

    def run(self, *args, check=True, timeout=120, stdin=None, env=None):
        result = subprocess.run(
            [MILLRACE, *args],
            env={**self.env, **(env or {})},
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=timeout,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"millrace {' '.join(args)}: exit {result.returncode}\n"
                f"{result.stdout}{result.stderr}{self.log()}"
            )
        return result

    def log(self):
        try:
            with open(
                os.path.join(self.home, "daemon.log"), encoding="utf-8", errors="replace"
            ) as f:
                return f.read()[-4000:]
        except OSError:
            return ""

    def up(self, *args):
        out = self.run("up", "-d", "--json", "--listen", "127.0.0.1:0", *self.up_args, *args)
        ready = json.loads(out.stdout)
        self.url, self.pid = ready["url"], ready["pid"]
        if "api_key" in ready:
            self.keys = {"user": ready["api_key"], "admin": ready["admin_key"]}
        return ready

    def down(self, *args):
        return self.run("down", *args)

    def kill9(self):
        os.kill(self.pid, signal.SIGKILL)
        wait_until("the daemon's process is gone", lambda: not alive(self.pid))

    def json(self, *args, **kw):
        return json.loads(self.run(*args, "--json", **kw).stdout)

    def http(self, method, path, body=None, key="admin", headers=None, timeout=120, raw=False):
        """(status, parsed body). Errors are answers too."""
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if key is not None:
            request.add_header("Authorization", "Bearer " + self.keys.get(key, key))
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                text = answer.read()
                status = answer.status
        except urllib.error.HTTPError as error:
            text = error.read()
            status = error.code
        return status, text if raw else (json.loads(text) if text else None)

    def submit(self, document, key="admin", **headers):
        status, answer = self.http("POST", "/api/workloads", document, key=key, headers=headers)
        require(status == 200, f"submit: {status} {answer}")
        return answer["id"]

    def workload(self, wid, key="admin"):
        status, answer = self.http("GET", f"/api/workloads/{wid}", key=key)
        require(status == 200, f"workload {wid}: {status} {answer}")
        return answer["workloads"][0]

    def wait(self, wid, states=None, seconds=120):
        final = {
            "completed",
            "failed",
            "cancelled",
            "timeout",
            "preempted",
            "node_fail",
            "out_of_memory",
        }
        wanted = set(states) if states else final

        def look():
            w = self.workload(wid)
            return w if w["state"] in wanted else None

        return wait_until(f"workload {wid} is in {sorted(wanted)}", look, seconds)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main(*cases):
    failed = 0
    if not os.access(MILLRACE, os.X_OK):
        print(f"1..0 # skip no {MILLRACE}: `make build` first")
        return 77
    print(f"1..{len(cases)}", flush=True)
    for number, case in enumerate(cases, 1):
        claim = case.__name__
        started = time.monotonic()
        try:
            case()
            print(f"ok {number} - {claim} # {time.monotonic() - started:.1f} s", flush=True)
        except Skip as why:
            print(f"ok {number} - {claim} # SKIP {why}", flush=True)
        except Exception:  # a test's failure, whatever it is, is a line of the report
            failed += 1
            print(f"not ok {number} - {claim}", flush=True)
            for line in traceback.format_exc().splitlines():
                print("# " + line, flush=True)
    return 1 if failed else 0


def script(*cases):
    sys.exit(main(*cases))
