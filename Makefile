# Everything here is a thin cover over cargo: after `make setup`, plain `cargo run --release -p step01` does.
#
#   make run                          the highest step, with its defaults
#   make run STEP=step01 ARGS="--steps 20 --sample 0"

steps := $(sort $(notdir $(patsubst %/Cargo.toml,%,$(wildcard steps/step*/Cargo.toml))))
STEP ?= $(firstword $(subst -, ,$(lastword $(steps))))
ARGS ?=
PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: setup run test test-gpu book serve bench doctor fmt clippy ci clean help

setup: ## fetch libtorch into .libtorch (whatever needs it does so by itself)
	@shared/setup/setup.sh

run: setup ## train with the highest step there is: make run [STEP=step01] [ARGS="--steps 20"]
	cargo run --release -p $(STEP) -- $(ARGS)

test: setup ## run all tests
	cargo test --release --workspace

test-gpu: setup ## run all tests on a machine with an NVIDIA GPU; says so and stops where there is none
	@if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep '^GPU '; then \
		cargo test --release --workspace; \
	else \
		echo 'skipped: no NVIDIA GPU here (nvidia-smi -L lists none)'; \
	fi

book: ## build the book into book/out
	cargo run --release -p book

serve: ## build the book and open it in a browser: make serve [PORT=3000]
	cargo run --release -p book -- serve $(PORT)

bench: setup ## measure collectives, and model speed beside transformers' Llama
	@tests/bench/run.sh

doctor: ## check this machine, one line each
	@shared/setup/doctor.sh

fmt: ## format the code
	cargo fmt --all

clippy: setup ## lint the code as CI does
	cargo clippy --release --workspace --all-targets -- -D warnings

ci: ## everything that CI runs
	@.ci/run

clean: ## remove what was built (libtorch stays)
	cargo clean
	rm -rf book/out

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
