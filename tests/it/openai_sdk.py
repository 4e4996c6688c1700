#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The openai npm package, unmodified, against a real model: lists, chats, streams, errors."""

import json
import os
import shutil
import subprocess

from cloud import CACHE, Cloud, Skip, require, script

VERSION = "6.49.0"
HERE = os.path.dirname(os.path.abspath(__file__))
ANSWERS = {}


def package():
    folder = os.path.join(CACHE, f"npm-openai-{VERSION}")
    if os.path.exists(os.path.join(folder, "node_modules", "openai", "package.json")):
        return folder
    if shutil.which("npm") is None:
        raise Skip("no npm")
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, f"openai@{VERSION}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    require(done.returncode == 0, f"npm install openai@{VERSION}: {done.stdout[-600:]}")
    return folder


def run_client():
    """One cloud and one node process for all cases: its answers by name."""
    if ANSWERS:
        return ANSWERS
    folder = package()
    with Cloud() as cloud:
        cloud.up()
        env = {
            **cloud.env,
            "OPENAI_BASE_URL": cloud.url + "/v1",
            "OPENAI_API_KEY": cloud.keys["user"],
            "NODE_PATH": os.path.join(folder, "node_modules"),
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            ["node", os.path.join(HERE, "openai_client.cjs")],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=300,
        )
        require(done.returncode == 0, done.stdout + done.stderr + cloud.log())
        ANSWERS.update(json.loads(done.stdout))
    return ANSWERS


def the_sdk_lists_and_retrieves_models():
    a = run_client()
    require(a["models"] == ["SmolLM2-135M-Instruct"], str(a["models"]))
    require(a["model"]["object"] == "model", str(a["model"]))


def the_sdk_chats():
    chat = run_client()["chat"]
    require(
        chat["object"] == "chat.completion" and chat["choices"][0]["message"]["content"], str(chat)
    )
    usage = chat["usage"]
    require(
        usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], str(usage)
    )


def streamed_text_and_usage_equal_the_unstreamed():
    a = run_client()
    require(
        a["stream"]["text"] == a["chat"]["choices"][0]["message"]["content"],
        f"{a['stream']['text']!r} is not {a['chat']['choices'][0]['message']['content']!r}",
    )
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        require(a["stream"]["usage"][field] == a["chat"]["usage"][field], str(a["stream"]["usage"]))
    require(a["stream"]["chunks"] > 3, "it did not stream")
    require(a["stream"]["finish"] == a["chat"]["choices"][0]["finish_reason"], str(a["stream"]))


def the_stream_helper_of_the_sdk_is_content():
    a = run_client()
    require(a["helper"]["text"] == a["stream"]["text"], str(a["helper"]))


def seeds_repeat_and_stops_stop():
    a = run_client()
    require(a["seeded"][0] == a["seeded"][1], str(a["seeded"]))
    require(a["limited"]["usage"]["completion_tokens"] == 5, str(a["limited"]))
    require(a["limited"]["choices"][0]["finish_reason"] == "length", str(a["limited"]))
    require(
        a["stopped"]["finish"] == "stop" and a["stopped"]["needle"] not in a["stopped"]["text"],
        str(a["stopped"]),
    )


def errors_arrive_as_the_sdks_own_classes():
    errors = run_client()["errors"]
    require(
        errors["key"]["name"] == "AuthenticationError" and errors["key"]["status"] == 401,
        str(errors),
    )
    require(
        errors["model"]["name"] == "NotFoundError" and "SmolLM2" in errors["model"]["message"],
        str(errors),
    )
    require(
        errors["param"]["name"] == "BadRequestError" and errors["param"]["param"] == "temperature",
        str(errors),
    )


def a_client_that_goes_away_is_not_served_on():
    require(run_client()["aborted"] is True, "the abort did not end the stream")


script(
    the_sdk_lists_and_retrieves_models,
    the_sdk_chats,
    streamed_text_and_usage_equal_the_unstreamed,
    the_stream_helper_of_the_sdk_is_content,
    seeds_repeat_and_stops_stop,
    errors_arrive_as_the_sdks_own_classes,
    a_client_that_goes_away_is_not_served_on,
)
