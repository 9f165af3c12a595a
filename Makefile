# Everything here is a thin cover over cargo: after `make setup`, plain `cargo run -p step01` does.
#
#   make run                          the highest step, with its defaults
#   make run STEP=step01 ARGS="--steps 20 --sample 0"

steps := $(sort $(notdir $(patsubst %/Cargo.toml,%,$(wildcard steps/step*/Cargo.toml))))
# What was asked for: a lesson is never guessed.
lesson := $(STEP)
STEP ?= $(firstword $(subst -, ,$(lastword $(steps))))
ARGS ?=
PORT ?= 3000

.DEFAULT_GOAL := help
COURSE = cargo run --quiet --package course --

.PHONY: setup run learn check solution grade prepare test test-gpu book serve bench bench-gpu doctor fmt clippy ci clean help

setup: ## fetch libtorch into .libtorch (whatever needs it does so by itself); CUDA=1: for GPUs elsewhere
	@shared/setup/setup.sh $(if $(CUDA),--cuda)

run: setup ## train with the highest step there is: make run [STEP=step01] [ARGS="--steps 20"]
	cargo run -p $(STEP) -- $(ARGS)

learn: ## hand out a step to write yourself: make learn STEP=step03 [AGAIN=1]
	@$(COURSE) learn $(lesson) $(if $(AGAIN),--again)

check: setup ## test what you wrote, the easiest first: make check STEP=step03 [HINT=1] [FUNCTION=NAME]
	@$(COURSE) check $(lesson) $(if $(HINT),--hint '$(HINT)') $(if $(FUNCTION),--function '$(FUNCTION)') \
		$(if $(SECONDS),--seconds '$(SECONDS)')

solution: ## bring a step back, and see yours beside ours: make solution STEP=step03
	@$(COURSE) solution $(lesson)

grade: setup ## grade what was handed in: make grade SUBMISSION=FILE|DIR, or SUBMISSIONS=DIR [STEP=step03] [OUT=DIR]
	@$(COURSE) grade '$(or $(SUBMISSIONS),$(SUBMISSION))' $(if $(SUBMISSIONS),--each) \
		$(if $(lesson),--step '$(lesson)') $(if $(OUT),--out '$(OUT)') $(if $(SECONDS),--seconds '$(SECONDS)') \
		$(if $(filter no,$(SUITE)),--no-suite)

prepare: setup ## compile what the chapters use, so that none begins with a wait
	cargo build -p 'step*'
	cargo test -p parity -p comm --no-run

test: setup ## run all tests
	cargo test --workspace

test-gpu: setup ## run the GPU tests: on NVIDIA GPUs (one is enough), elsewhere on a stand-in for one
	cargo test -p gpu -p autograd -- --nocapture
	cargo test -p parity --test gpu --test stand_in --test recorder -- --nocapture --test-threads 1

book: ## build the book into book/out
	cargo run -p book

serve: ## build the book and open it in a browser: make serve [PORT=3000]
	cargo run -p book -- serve $(PORT)

bench: setup ## measure collectives, and model speed beside transformers' Llama
	@tests/bench/run.sh

bench-gpu: setup ## the same on an NVIDIA GPU: SmolLM-1.7B in bf16, and NCCL's all-reduce, beside PyTorch
	@tests/bench/run.sh --gpu

doctor: ## check this machine, one line each
	@shared/setup/doctor.sh

fmt: ## format the code
	cargo fmt --all

clippy: setup ## lint the code as CI does
	cargo clippy --workspace --all-targets -- -D warnings

ci: ## everything that CI runs
	@.ci/run

clean: ## remove what was built (libtorch stays)
	cargo clean
	rm -rf book/out

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
