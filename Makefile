# SPDX-License-Identifier: Apache-2.0
# A short list of verbs over Meson. `make help` says what each does.
BUILD ?= build
.DEFAULT_GOAL := help
.PHONY: help setup build up test demo bench fuzz asan tsan tidy format clean

help: ## what each verb does
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile | expand -t 12

setup:
	@tools/setup build

build: setup ## build/millrace and its workers, release build
	@[ -f $(BUILD)/build.ninja ] || meson setup $(BUILD) . >/dev/null
	@ninja --quiet -C $(BUILD)

up: build ## install what is missing, build, fetch the model, start Millrace here
	@tools/setup model
	@$(BUILD)/millrace up

test: ## build and run every test
	@tools/setup test
	@tools/test

demo: build ## one or two minutes of the real thing, narrated
	@tools/setup model
	@$(BUILD)/millrace demo

bench: build ## every bench, beside its peer where one can be installed
	@tools/setup model
	@$(BUILD)/millrace bench all

fuzz: ## hunt with libFuzzer: make fuzz RUNS=1000000 NAME=base_codec
	@tools/setup test
	@tools/fuzz $(RUNS) $(NAME)

asan: ## the unit, fuzz-replay and simulator tests under ASan and UBSan
	@tools/setup test
	@tools/test asan

tsan: ## the threaded tests under TSan
	@tools/setup test
	@tools/test tsan

tidy: ## layers, grades, headers, names, bans, limits
	@tools/setup test
	@tools/test tidy

format: ## clang-format over all of our sources
	@git ls-files '*.c' '*.h' | xargs clang-format-19 -i

clean: ## remove the build folders
	@rm -rf build build-*
