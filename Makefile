# make book    set up, execute the chapters (profile quick) and render the book
# make test    set up, then linter, type checker and tests
# make lock    resolve requirements.lock again    make clean    remove what make book and make test wrote
# UV=1 installs with uv, which is faster. Needs: Python 3.11 or 3.12 with venv, and make.

SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON   ?= $(shell for p in python3 python3.11 python3.12; do \
              $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
PROFILE  ?= quick
V        := .venv
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export JUPYTER_PLATFORM_DIRS = 1

.PHONY: book test install lock clean
book: $(V)/.installed
	$(V)/bin/ctrlib book --profile $(PROFILE)

test: $(V)/.installed
	$(V)/bin/ruff check .
	$(V)/bin/mypy
	$(V)/bin/pytest -n auto --dist loadfile --ignore=tests/test_book.py
	$(V)/bin/pytest -n auto --dist worksteal tests/test_book.py

install: $(V)/.installed

# uv does not read pip's settings, so a folder of wheels that pip was told about is passed on.
$(V)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 with venv found. Install one, or say make PYTHON=..."; exit 1; }
	@echo "Installing into $(V); this is done once and takes a few minutes."
	$(PYTHON) -m venv $(V)
ifdef UV
	$(V)/bin/pip install -q uv==0.13.9
	$(V)/bin/uv pip install -q --python $(V)/bin/python $(addprefix --find-links ,$(PIP_FIND_LINKS)) -r requirements.lock
else
	$(V)/bin/pip install -q -r requirements.lock
endif
	$(V)/bin/pip install -q --no-deps --no-build-isolation -e .
	touch $@

# torch is pinned by hand. Its GPU builds name their CUDA packages themselves; the lock leaves those out, so that
# it fits computers with and without a GPU. Pins must install on every Python 3.11, the early ones too (a test sees).
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q torch==2.13.0 setuptools wheel
	build/lock/bin/pip install -q '.[book,dev]'
	build/lock/bin/pip freeze --all --exclude ctrlib --exclude pip \
	  | sed 's/+cpu$$//' | grep -Ev '^(nvidia|cuda|triton)' | sort -f > requirements.lock
	rm -rf build/lock

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
