# The one place that says what a bare machine needs: Python 3.11 to 3.13 with its venv module, and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
CACHE   = .cache
# Tests start the command hundreds of times: it is compiled once, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE :=
# What is installed is compiled when it is first imported: most of it never is.

.PHONY: demo test lint typecheck test-slow benchmarks clean

$(VENV)/demo.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "edge-sdk needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[graph,tflite,vision-headless]' 'scikit-learn>=1.5'
	touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[dev]'
	touch $@

# Trains a small network on handwritten digits, then reads digits it has never seen through the installed command.
demo: $(VENV)/demo.stamp
	$(BIN)/python examples/digits/train.py --out $(CACHE)/digits
	$(BIN)/edge-sdk device
	$(BIN)/edge-sdk inspect $(CACHE)/digits/digits.onnx
	$(BIN)/edge-sdk run $(CACHE)/digits/digits.onnx --input $(CACHE)/digits/pictures --labels $(CACHE)/digits/labels.txt --top 1
	$(BIN)/python examples/digits/score.py $(CACHE)/digits

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/dev.stamp
	$(BIN)/mypy

$(CACHE)/onnx-backend/.complete: $(VENV)/dev.stamp tests/backend/fetch.py
	$(BIN)/python tests/backend/fetch.py $(CACHE)/onnx-backend

test: lint typecheck $(CACHE)/onnx-backend/.complete
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

# Emulated ARM, accelerators and long fault runs. As root it installs the system packages that these need.
test-slow: $(CACHE)/onnx-backend/.complete
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap qemu-user-static chromium libvulkan1 gcc libc6-dev gcc-arm-linux-gnueabihf libc6-dev-armhf-cross prometheus >/dev/null; \
	  apt-get install -qq -y --no-install-recommends python3.11-venv libpython3.11 >/dev/null || \
	    echo "there is no Python 3.11 of the system: tests beside Triton skip"; fi
	$(BIN)/python -m pytest -m slow --timeout 3600

benchmarks: $(VENV)/dev.stamp
	for file in $$(grep -l -- '"--quick"' benchmarks/*.py); do $(BIN)/python $$file --quick || exit 1; done

clean:
	rm -rf $(VENV) $(CACHE) build dist
