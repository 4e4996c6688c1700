#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch with peft makes of the same training: the peer of `millrace bench train`.

tools/peer_torch.py [--seconds N] [--quick] [--only NAME]: the shape of
SmolLM2-135M with random weights, LoRA rank 8
on all seven linear layers, 128 tokens a sequence, one thread. A step is forward, backward and
AdamW.
Prints one JSON document: tokens per second of a core's CPU time for each way, the median of its
steps.
Runs in the environment that `tools/setup torch` makes.
"""
import argparse
import json
import os
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402 (the number of threads is read at import)
import transformers  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402

TOKENS = 128
RANK = 8
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def model_new(dtype):
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        rms_norm_eps=1e-5, tie_word_embeddings=True, use_cache=False)
    model = transformers.LlamaForCausalLM(config).to(dtype)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LINEARS, task_type="CAUSAL_LM")
    return get_peft_model(model, lora).train()


def cpu_seconds():
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def measure(name, dtype, batch, compiled, seconds):
    model = model_new(dtype)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    run = torch.compile(model) if compiled else model
    ids = torch.randint(0, 49152, (batch, TOKENS), generator=torch.Generator().manual_seed(1))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    for _ in range(2):
        step()  # warms up, compiles
    times = []
    end = time.monotonic() + seconds
    while len(times) < 3 or (time.monotonic() < end and len(times) < 200):
        start = cpu_seconds()
        step()
        times.append(cpu_seconds() - start)
    tokens = batch * TOKENS
    return {"name": name, "batch": batch, "steps": len(times),
            "tokens_per_core_s": tokens / statistics.median(times),
            "tokens_per_core_s_best": tokens / min(times),
            "tokens_per_core_s_worst": tokens / max(times)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--quick", action="store_true", help="only eager fp32, batch 1")
    parser.add_argument("--only", help="ways whose name starts with this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = [("eager fp32", torch.float32, 1, False), ("eager fp32", torch.float32, 4, False),
            ("eager bf16", torch.bfloat16, 1, False), ("eager bf16", torch.bfloat16, 4, False),
            ("compile fp32", torch.float32, 1, True), ("compile fp32", torch.float32, 4, True),
            ("compile bf16", torch.bfloat16, 1, True), ("compile bf16", torch.bfloat16, 4, True)]
    if options.only:
        ways = [way for way in ways if way[0].startswith(options.only)]
    results, failures = [], []
    for name, dtype, batch, compiled in ways[:1] if options.quick else ways:
        try:
            results.append(measure(name, dtype, batch, compiled, options.seconds))
            print(f"{name} batch {batch}: {results[-1]['tokens_per_core_s']:.1f} tokens/s",
                  file=sys.stderr, flush=True)
        except Exception as error:  # one way that does not run must not hide the others
            failures.append({"name": name, "batch": batch, "why": str(error).splitlines()[0][:200]})
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__,
                      "results": results, "failures": failures}))
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
