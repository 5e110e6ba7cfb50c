PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: install demo test e2e check bench docs measure clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

install: $(VENV)/installed

demo: install ## find directions for parts of a portrait, edit with them, show that only those parts changed
	$(BIN)/situ demo -o $(OUT)

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

e2e: install ## the pages in a real browser (make test has these tests too); screenshots in runs/e2e
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ echo "make e2e needs a Chromium: apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pytest tests/e2e --screenshot only-on-failure --output runs/e2e/failed

check: install ## lint, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_imports.py

bench: install ## speed of the searches and Jacobians against published loops
	$(BIN)/python -m situ.bench.lelsd_speed
	$(BIN)/python -m situ.bench.jacobian_speed

docs: install ## the documentation as a site in site/; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

measure: install ## the tables and pictures in docs/ that are measured, not written: hours
	$(BIN)/situ demo -o runs/demo
	cp runs/demo/sheet.png docs/demo.png
	$(BIN)/python docs/make_checkpoints_page.py
	$(BIN)/python docs/make_tour_pictures.py
	$(BIN)/python docs/make_subspaces_page.py
	$(BIN)/python docs/make_speed_page.py
	$(BIN)/python docs/make_jacobian_page.py
	$(BIN)/python docs/make_convergence_page.py
	$(BIN)/situ bench all -o runs/bench
	$(BIN)/python docs/make_bench_pages.py
	$(BIN)/python docs/make_method_pictures.py

clean:
	rm -rf $(VENV) build dist site src/*.egg-info
