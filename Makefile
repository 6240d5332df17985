# Everything starts here; `make` alone lists it. Targets can be run again and do no work twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL: # cargo uses every core by itself, and the quick checks are to fail before the slow ones start
.PHONY: help run build test check fmt typos shellcheck clippy doc lint-extra deny notices docs grpcurl findings bench bench-enroll bench-graph bench-onnx bench-spans \
	fuzz soak promises chart libtorch

BINARY := $(or $(CARGO_TARGET_DIR),target)/release/semblance

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build, then serve on 127.0.0.1:8080 (REST) and :50051 (gRPC) with the data in ./data; ARGS="--flags of serve"
	@SEMBLANCE_ALLOW_LOOPBACK=$${SEMBLANCE_ALLOW_LOOPBACK:-true} exec $(BINARY) serve $(ARGS)

build: libtorch ## build target/release/semblance
	cargo build --release --bin semblance

test: libtorch ## run all tests, with a PostgreSQL of their own; ARGS="a test's name"
	tools/postgres.sh run tools/test.sh $(ARGS)

check: fmt typos shellcheck docs clippy doc test ## what CI runs: formatting, spelling, the book, lints, docs, tests

fmt: ## fail on code that cargo fmt would change
	cargo fmt --all --check

typos: ## fail on a misspelt word
	@tools/install.sh typos
	target/tools/bin/typos

shellcheck: ## fail on any flaw of the shell scripts, where shellcheck is installed
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run $$(git ls-files '*.sh'); else \
		echo "shell scripts were NOT checked: shellcheck is not installed" >&2; fi

clippy: libtorch ## fail on any lint
	cargo clippy --release --workspace --all-targets -- -D warnings

doc: libtorch ## fail on any flaw of the docs
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# Not in `check`: the tool takes minutes to build, and its database of advisories is on a host that not everyone reaches.
lint-extra: deny ## what the workflows run beside `check`

deny: ## check licences, sources and bans of the dependencies, and advisories where their database can be fetched
	@tools/deny.sh

NOTICES := target/notices/THIRD_PARTY.md
notices: libtorch ## write the licences of everything of others in the program to target/notices
	@tools/notices.sh $(NOTICES)

# The documentation's test uses it; a machine without Go does without, and the test reports the blocks that it did not run.
test: grpcurl
grpcurl:
	@if command -v go >/dev/null; then tools/install.sh grpcurl; fi

docs: ## build the book of docs/ into target/book
	@tools/install.sh mdbook
	target/tools/bin/mdbook build

findings: ## run the programs that show what surprised us in libraries of others
	@findings/run.sh $(ARGS)

bench: libtorch ## run the benchmarks; ARGS="a benchmark's name"
	cargo bench $(ARGS)

bench-enroll: libtorch ## durable enrolls beside one-row commits of pgbench, on a PostgreSQL of their own
	tools/postgres.sh durable cargo bench --bench enroll

GRAPH_VENV := target/graph-venv
bench-graph: libtorch ## the gallery's graphs beside hnswlib and faiss on the same vectors (Python packages into target/); ARGS="--templates N"
	test -x $(GRAPH_VENV)/bin/python || python3 -m venv $(GRAPH_VENV)
	$(GRAPH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check faiss-cpu hnswlib numpy
	cargo bench --bench graph --no-run
	OMP_NUM_THREADS=1 $(GRAPH_VENV)/bin/python benches/graph/compare.py --ours "cargo bench --quiet --bench graph --" $(ARGS)

# Both take turns on one core, so that what else the machine does falls on both.
ONNX_VENV := target/onnx-venv
bench-onnx: build ## the encoders beside ONNX Runtime on the same weights, as ratios (Python packages into target/); ARGS="--only NAME"
	test -x $(ONNX_VENV)/bin/python || python3 -m venv $(ONNX_VENV)
	$(ONNX_VENV)/bin/python -m pip install --quiet --disable-pip-version-check onnx onnxruntime numpy safetensors
	for name in face-mobilefacenet person-osnet-x0-25 gait-graph; do $(BINARY) models pull $$name; done
	cargo bench --bench onnx --no-run
	$(ONNX_VENV)/bin/python benches/onnx/compare.py --ours "cargo bench --quiet --bench onnx" \
		--models "$${SEMBLANCE_MODELS_DIR:-data/models}" $(ARGS)

bench-spans: build ## CPU time per request without spans, with the default and with all; ARGS="--rounds 25"
	python3 benches/spans/compare.py --program $(BINARY) $(ARGS)

fuzz: libtorch ## feed made-up bytes to each reader of bytes of others, FUZZ_SECONDS (60) each; ARGS="picture"
	@tools/fuzz.sh $(ARGS)

soak: libtorch ## mixed load for SOAK_SECONDS (240) while servers, databases and disks fail, with a check of every answer
	cargo bench --quiet --bench soak

promises: libtorch ## realised error rates beside their targets, on the real embeddings of the test data
	SEMBLANCE_TEST_DRAWS=6 cargo test --release --workspace --lib -- --ignored --nocapture realised_error_rates three_way_rates verify_rates ratios_are_calibrated

chart: ## lint and render the Helm chart, where helm is installed
	@tools/chart.sh

# A machine that brings its own libtorch says so in LIBTORCH; any other gets one beside the sources, once.
libtorch:
	@if [ -z "$${LIBTORCH:-}" ]; then tools/libtorch.sh; fi
