# make run    everything, in the foreground, until Ctrl-C        (PORT, HOST, SANDBOX_STATE_DIR, SANDBOX_RUNTIME, DATABASE_URL)
# make doctor what this host enforces, what it cannot, and how to mend it (ARGS=--strict)
# make test   everything that can run on this machine            (ARGS="-k files", REQUIRE=docker,postgres,bubblewrap)

.PHONY: run doctor test lint format openapi drills probe gvisor bench chaos scale screenshots
VENV := .venv
SOURCES := pyproject.toml uv.lock

run: $(VENV)/.ready-to-run
	@deploy/install host-tools
	@exec $(VENV)/bin/python manage.py up

doctor: $(VENV)/.ready-to-run
	@$(VENV)/bin/python manage.py doctor $(ARGS)

test: $(VENV)/.ready-to-test
	@deploy/install host-tools
	@$(VENV)/bin/python -m tests $(ARGS)

lint: $(VENV)/.ready-to-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .

format: $(VENV)/.ready-to-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

openapi: $(VENV)/.ready-to-run
	env -u DATABASE_URL $(VENV)/bin/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

$(VENV)/.ready-to-run: $(SOURCES)
	@deploy/install run

$(VENV)/.ready-to-test: $(SOURCES)
	@deploy/install test

# Faults of a real Docker engine of its own: killed, hung, without the image, full. Needs root and dockerd.
drills: $(VENV)/.ready-to-test
	@DRILLS=1 $(VENV)/bin/pytest tests/drills $(ARGS)

# Every case about containment from inside real sandboxes and a plain `docker run`: prints the matrix, writes docs/containment.md.
probe: $(VENV)/.ready-to-test
	@$(VENV)/bin/python -m tests.containment

# The drivers' contract with gVisor, on an engine of its own that has runsc.
gvisor: $(VENV)/.ready-to-test
	@$(VENV)/bin/python -m tests.gvisor $(ARGS)

# Docker driver, PostgreSQL, and the peers in the same run: ARGS="--quick" to see that it works.
bench: $(VENV)/.ready-to-test
	@$(VENV)/bin/uv sync --frozen --quiet --group bench
	@$(VENV)/bin/python -m bench $(ARGS)

# kill -9 of everything at each named step while hundreds of runs go through, on both databases. What came out stands in docs/reliability.md.
chaos: $(VENV)/.ready-to-test
	@deploy/install host-tools
	@CHAOS_RUNS=$${CHAOS_RUNS:-300} $(VENV)/bin/python -m tests -n 0 -s tests/e2e/test_crash.py $(ARGS)

# A million executions and a hundred thousand sessions in PostgreSQL: what the console's pages take then.
scale: $(VENV)/.ready-to-test
	SCALE=1000000 $(VENV)/bin/python -m tests tests/scale -s -n 0

# The pictures of docs/screenshots, taken anew while axe looks at the pages.
screenshots: $(VENV)/.ready-to-test
	SCREENSHOTS=docs/screenshots $(VENV)/bin/pytest tests/browser
