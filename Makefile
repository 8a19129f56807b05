# make demo   a small detector's whole way, from pictures to metrics, from nothing but Python 3.11+ and make
# make test   everything this machine can run, with TensorFlow as the other side
# make check  style, spelling, types and the quick tests
# make docs-site   docs/ as a site in build/site, with a search
# make screenshots  every page as a browser shows it, into build/screenshots
# make mutants  change one token of the code at a time, and count how often the tests notice; cut off, it goes on
# make bench  the measurements behind the README's tables
# make shapes-detector   train a small detector on drawn shapes, in under an hour on two cores

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHARED ?= ../shared
# For PyTorch without CUDA: make demo PIP_OPTIONS=--extra-index-url=https://download.pytorch.org/whl/cpu
PIP_OPTIONS ?=
export OMP_NUM_THREADS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test check screenshots mutants bench docs docs-site shapes-detector clean

demo: $(VENV)/installed
	$(BIN)/effconv demo -o build/demo

# Two files of tests at a time, each test on one thread.
test: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(MAKE) --no-print-directory types
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(MAKE) --no-print-directory types
	$(BIN)/python -m pytest -m "not slow and not tf"

# The root of the checkout is the package; mypy finds it under its own name through a link.
.PHONY: types
types: $(VENV)/installed-for-tests
	@mkdir -p $(VENV)/source && ln -sfn "$(CURDIR)" $(VENV)/source/effconv
	cd $(VENV)/source && MYPYPATH=. ../bin/mypy --config-file effconv/setup.cfg --cache-dir ../mypy_cache \
	  -p effconv.convert -p effconv.effdet_torch -p effconv.parity -p effconv.commands \
	  -m effconv.__main__ -m effconv.cli -m effconv.allocation -m effconv.loading -m effconv.saving -m effconv.progress -m effconv.version -m effconv.waiting

screenshots: $(VENV)/installed-for-tests
	$(BIN)/python tools/screenshots.py build/screenshots

mutants: $(VENV)/installed-for-tests
	$(BIN)/python tools/record_mutants.py

# zylo117 and pytorch-tools are source trees to be put on PYTHONPATH; effdet and timm are installed without dependencies.
# What cannot be imported, or has no such model, is left out, and the record says so.
ENGINES := eager,fast,onnxruntime,openvino
PEERS := effdet,zylo117,pytorch-tools,tensorflow
bench: $(VENV)/installed-for-tests
	$(BIN)/effconv bench convert --model d0 --record results/measured/convert-d0.json
	$(BIN)/effconv bench convert --model d7x --record results/measured/convert-d7x.json
	$(BIN)/effconv bench parity --model d7x --record results/measured/parity-d7x.json
	$(BIN)/effconv bench coco --record results/measured/bench-coco.json
	$(BIN)/effconv bench allocation --record results/measured/bench-allocation.json
	$(BIN)/effconv bench waiting --record results/measured/bench-waiting.json
	$(BIN)/effconv bench runs --coco $(SHARED)/coco/val2017_66 --record results/measured/bench-runs.json
	$(BIN)/effconv bench nms --record results/measured/bench-nms.json
	$(BIN)/effconv bench input --images $(SHARED)/coco/val2017_66/val2017 --record results/measured/bench-input.json
	$(BIN)/effconv bench eval --coco $(SHARED)/coco/val2017_66 --record results/measured/bench-eval.json
	$(BIN)/effconv bench ablation --coco $(SHARED)/coco/val2017_66 --model d0 --record results/measured/bench-ablation.json
	$(BIN)/effconv bench inference --model d0 --engines $(ENGINES) --peers $(PEERS) --rounds 9 --record results/measured/bench-inference-d0.json
	$(BIN)/effconv bench inference --model d1 --engines $(ENGINES) --peers $(PEERS) --rounds 9 --record results/measured/bench-inference-d1.json
	$(BIN)/effconv bench inference --model d3 --engines $(ENGINES) --peers $(PEERS) --rounds 9 --record results/measured/bench-inference-d3.json
	$(BIN)/effconv bench inference --model lite0 --engines $(ENGINES) --peers $(PEERS) --rounds 9 --record results/measured/bench-inference-lite0.json
	$(BIN)/effconv bench predict --images $(SHARED)/coco/val2017_66/val2017 --model d0 --engines eager,fast,onnxruntime --peers effdet --rounds 9 --record results/measured/bench-predict-d0.json
	$(BIN)/effconv bench training --model d0 --peers effdet --record results/measured/bench-training-d0.json
	$(BIN)/effconv bench training --model d1 --batch 2 --peers effdet --record results/measured/bench-training-d1.json
	$(BIN)/effconv ablate --all --record results/measured/ablations.json
	$(BIN)/python tools/record_parity.py $(SHARED)
	$(BIN)/python tools/record_end_to_end.py $(SHARED)
	$(BIN)/python tools/record_float32.py $(SHARED)
	$(BIN)/python tools/record_faults.py
	$(BIN)/python tools/record_sensitivity.py $(SHARED)
	$(BIN)/python tools/record_backbone.py $(SHARED)
	$(BIN)/python tools/record_strip.py
	$(BIN)/python tools/record_precision.py "$$(mktemp -d)"
	$(BIN)/python tools/record_hostile.py
	$(BIN)/python tools/record_kills.py
	$(BIN)/python tools/record_verdicts.py
	$(BIN)/python tools/record_install.py
	$(BIN)/python tools/render_docs.py

# The detector in examples/shapes, from nothing: pictures, training, and the official-format checkpoint. Two processes of
# one thread each: two threads of one process gain little on maps this small. The pictures are not square, and larger
# than the input, so that resizing and padding have something to do. glibc is to keep the memory it has: the maps of a step
# are given back and asked for at every operation otherwise, which takes a fifth of the time.
SHAPES := build/shapes
shapes-detector: $(VENV)/installed-for-tests
	$(BIN)/effconv shapes -o $(SHAPES) --size 120x144 --images 10000 --seed 1 --split train2017
	$(BIN)/effconv shapes -o $(SHAPES) --size 120x144 --images 500 --seed 2 --split val2017
	MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=4000000000 $(BIN)/torchrun --standalone --nproc-per-node 2 -m effconv.cli train --data $(SHAPES) \
	  --model examples/shapes/config.json --out $(SHAPES)/detector \
	  --epochs 30 --batch 32 --rate 0.4 --warmup-epochs 0.5 --average-decay 0.999 --jitter 0.8 1.2 --eval-every 5 \
	  --threads 1 --workers 0 --local-norms --record results/measured/shapes-training.json
	$(BIN)/effconv torch2tf $(SHAPES)/detector/raw.safetensors --ema $(SHAPES)/detector/model.safetensors \
	  -o examples/shapes/model --force
	cp $(SHAPES)/detector/curve.png examples/shapes/curve.png
	$(BIN)/python tools/record_shapes.py
	$(BIN)/python tools/render_docs.py

docs: $(VENV)/installed-for-tests
	$(BIN)/python tools/render_docs.py

docs-site: $(VENV)/installed-for-site
	$(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e .
	touch $@

$(VENV)/installed-for-tests: $(VENV)/bin/python setup.cfg constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[tf,train,datasets,onnx,openvino,docs,dev]'
	touch $(VENV)/installed $(VENV)/installed-for-site $@

$(VENV)/installed-for-site: $(VENV)/bin/python setup.cfg constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[docs]'
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV)
