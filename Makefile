# Two commands on a fresh machine: `make demo`, then `make test`.
PYTHON ?= python3
GUARDIAN_DATA ?= ../shared/data
DATA ?= $(GUARDIAN_DATA)
export GUARDIAN_DATA

BASE := .venv
DEV := .venv-dev
TFLITE := .venv-tflite
PEER := .venv-peer
LOCK := .venv-lock
PIP := -m pip --disable-pip-version-check --quiet

.PHONY: help demo test test-hub quick lint bundle evaluate bench bench-engine bench-live bench-train torture soak table peer wheel deb matrix lock audit sbom fuzz-bundles clean base dev tflite tools

help:
	@echo "make demo      simulate a home with one infected device and watch it being found"
	@echo "               (BROKER=HOST shows it to a hub, too, until Enter)"
	@echo "make test      set up all that the tests need, and run them"
	@echo "make quick     the fast tests alone (under a minute)"
	@echo "make lint      format, rules, types, import rules"
	@echo "make bundle    train the shipped bundle anew (DATA=$(DATA))"
	@echo "make evaluate  judge the shipped bundle: docs/detection.md, README (DATA=$(DATA))"
	@echo "make bench     what a stage costs, and the engine beside nfstream, argus and nfpcapd"
	@echo "               (these two where installed: argus-server, argus-client, nfdump)"
	@echo "make bench-live  where drops begin on a live interface (root)"
	@echo "make torture   200 kills under load, power cuts, bad brokers, floods, three simulated weeks"
	@echo "make bench-train  fitting beside plain Keras, for docs/BENCHMARKS.md"
	@echo "make table     every model on every data set, for docs/models-by-set.md (goes on if killed)"
	@echo "make test-hub  a real Home Assistant beside a running daemon (root; Debian packages, PyPI)"
	@echo "make wheel     build the wheel"
	@echo "make deb       build a package for Debian bookworm and trixie (ARCH=arm64: for a Pi)"
	@echo "make lock      choose dependencies anew and write their hashes to requirements/"
	@echo "make audit     ask whether what is locked has known holes (skipped where nobody answers)"
	@echo "make sbom      install what is locked, by its hashes, and list it: dist/sbom.cdx.json"
	@echo "make fuzz-bundles  300 broken models, each met by a child process"
	@echo "make matrix    try wheel and package in fresh Debian roots (root; ten minutes)"

# The base install is what a gateway gets: no tensorflow, no pandas.
base: $(BASE)/.done
$(BASE)/.done: pyproject.toml
	@echo "setting up $(BASE) (base install)"
	@$(PYTHON) -m venv $(BASE)
	@$(BASE)/bin/python $(PIP) install -e .
	@touch $@

dev: $(DEV)/.done
$(DEV)/.done: pyproject.toml
	@echo "setting up $(DEV) (tests and the workstation; this takes a few minutes)"
	@$(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python $(PIP) install -e '.[dev,train]'
	@touch $@

# The other runtime, on numpy 1. Its last release ends at Python 3.11: elsewhere its tests skip.
tflite:
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
		$(MAKE) --no-print-directory $(TFLITE)/.done; \
	fi
$(TFLITE)/.done: pyproject.toml
	@echo "setting up $(TFLITE) (the second TFLite runtime)"
	@$(PYTHON) -m venv $(TFLITE)
	@$(TFLITE)/bin/python $(PIP) install 'tflite-runtime==2.14.0' 'numpy<2' 'click>=8.1' \
		'paho-mqtt>=2.0' 'scapy>=2.6' 'sqlite-utils>=3.36' "tomli>=2.0; python_version < '3.11'"
	@$(TFLITE)/bin/python $(PIP) install --no-deps -e .
	@touch $@

# Programs that the tests talk to: a broker, a second capture, namespaces, a TLS server.
tools:
	@sh tests/tools.sh

demo: base
	@$(BASE)/bin/guardian demo $(if $(BROKER),--broker $(BROKER))

test: base dev tflite tools
	$(DEV)/bin/python -m pytest

quick: dev
	$(DEV)/bin/python -m pytest -m "not slow and not train and not net"

lint: dev
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy

bundle: dev
	$(DEV)/bin/python -m trainer.bundle --data $(DATA) --out models/default

# The protocol of docs/detection.md with the shipped bundle; WHY= stands in its log.
WHY ?=
evaluate: dev
	$(DEV)/bin/guardian evaluate --data $(DATA) -o docs --why "$(WHY)"
	$(DEV)/bin/python -m trainer.readme

table: dev tflite
	$(DEV)/bin/python -m trainer.table --data $(GUARDIAN_DATA) -o docs/models-by-set.md

# Beside other readers of the same captures. What cannot be had is left out: nfstream from PyPI, and
# argus and nfpcapd (`apt-get install argus-server argus-client nfdump`). As root it also measures an
# idle daemon. It takes a quarter of an hour, 2 GB of disk for a while and 3 GB of memory for the
# million connections; `make bench-engine PARTS="mixed scan"` does a part.
PARTS ?=
bench: dev base peer
	$(DEV)/bin/python -m tests.bench
	$(DEV)/bin/python -m tests.bench_home
	$(DEV)/bin/python -m tests.bench_engine
	$(DEV)/bin/python -m tests.fuzz --packets 1000000

# Where drops begin on a live interface, beside tcpdump and argus; root, four minutes.
bench-live: dev
	$(DEV)/bin/python -m tests.bench_live

# The figures of docs/reliability.md: 25 minutes of one core. Short forms are among the tests.
torture: dev
	$(DEV)/bin/python -m tests.torture.kills --kills 200 --cuts 10
	$(DEV)/bin/python -m pytest tests/torture tests/test_shedding.py tests/test_thinning.py
	TORTURE_RATE=10000 $(DEV)/bin/python -m pytest --timeout 900 tests/torture/test_load.py
	$(DEV)/bin/python -m tests.torture.soak --days 21 --hours 24

soak: dev
	$(DEV)/bin/python -m tests.torture.soak --days 21 --hours 24

bench-engine: dev peer
	$(DEV)/bin/python -m tests.bench_engine $(PARTS)

peer:
	@test -e $(PEER)/.done || { $(PYTHON) -m venv $(PEER) && \
		$(PEER)/bin/python $(PIP) install nfstream && touch $(PEER)/.done; } || rm -rf $(PEER)

bench-train: dev
	$(DEV)/bin/python -m tests.bench_training

# Home Assistant itself, in GUARDIAN_HUB_CACHE (~/.cache/guardian-hub, 2 GB): ten minutes the first
# time, five afterwards. It writes the lists of entities into docs/hub.md.
test-hub: dev tools
	@sh tests/hub/install.sh
	$(DEV)/bin/python -m tests.hub.real --write docs/hub.md

# What is installed is chosen here and nowhere else: versions with the hash of every file.
lock: $(LOCK)/.done
	@for part in gateway workstation; do \
		$(LOCK)/bin/uv pip compile pyproject.toml --universal --python-version 3.10 --upgrade \
			--generate-hashes --no-header --quiet --constraint requirements/constraints.in \
			$$(test $$part = gateway || echo --extra train) -o requirements/$$part.txt || exit 1; \
	done

audit: $(LOCK)/.done
	@$(LOCK)/bin/python -m tests.audit $(LOCK)/bin/pip-audit requirements/gateway.txt \
		requirements/workstation.txt

sbom: $(LOCK)/.done
	@mkdir -p dist
	@$(PYTHON) -m venv --clear $(LOCK)/gateway
	@$(LOCK)/gateway/bin/python $(PIP) install --require-hashes -r requirements/gateway.txt
	@$(LOCK)/gateway/bin/python $(PIP) uninstall --yes setuptools
	@$(LOCK)/bin/cyclonedx-py environment --pyproject pyproject.toml --spec-version 1.6 \
		--output-reproducible -o dist/sbom.cdx.json $(LOCK)/gateway/bin/python
	@echo "dist/sbom.cdx.json"

$(LOCK)/.done:
	@$(PYTHON) -m venv $(LOCK)
	@$(LOCK)/bin/python $(PIP) install uv pip-audit cyclonedx-bom
	@touch $@

fuzz-bundles: dev
	GUARDIAN_FUZZ_BUNDLES=300 $(DEV)/bin/python -m pytest -s --timeout 1200 \
		tests/test_hostile_bundles.py -k crash

# build/lib keeps what an earlier tree held, which must not travel; build/matrix has roots that stay.
wheel: base
	@rm -rf build/lib build/bdist.* dist/guardian_home-*.whl
	$(BASE)/bin/python $(PIP) wheel --no-deps -w dist .

# It carries all wheels it needs, so that installing it asks no index.
deb: wheel
	@PYTHON=$(abspath $(BASE))/bin/python sh packaging/deb.sh

matrix: deb
	@sh tests/matrix.sh

clean:
	rm -rf $(BASE) $(DEV) $(TFLITE) $(PEER) $(LOCK) build dist demo-out *.egg-info
