# Trysail. `make` prints what there is.
#
#   PROFILE=dist-fast   cargo profile of the binaries in bin/ (dev: quick to compile, slow to run)
#   KEEP=1              demo: leave the cluster up afterwards
#   HUB=REGISTRY        walk: where the cluster finds the images (else docker.io/trysail)
#   DATA=DIR SET=name   conformance: other golden data, one set only
#   BENCH=quick         bench: two minutes instead of ten

PROFILE ?= dist-fast
profile_dir := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

ours   := drydock istiod istioctl pilot-agent story
theirs := envoy kubectl helm
cargo_build := cargo build --locked --profile $(PROFILE)
cargo_bench := cargo bench --locked --profile $(PROFILE)

.DEFAULT_GOAL := help
.PHONY: help build bins images demo walk test lint conformance bench bench-check clean

help:
	@echo 'make build        everything into bin/ and the container images'
	@echo 'make demo         walk the canary upgrade page on drydock, with traffic (KEEP=1 leaves it up)'
	@echo 'make walk         the same on the cluster of $$KUBECONFIG, which has no mesh (HUB=REGISTRY)'
	@echo 'make test         format, lint, licences, unit and story tests; one screen of summary'
	@echo 'make lint         format and clippy only'
	@echo 'make conformance  the golden sets (DATA=DIR, SET=name)'
	@echo 'make bench        simulated sidecars against istiod, and the floor to hold it against (target/bench; BENCH=quick)'
	@echo 'make bench-check  the ratios of the last `make bench` against the recorded ones'
	@echo 'make clean        stop the cluster and remove what was built'

build: images
	@echo '==> ready: $(addprefix bin/,$(ours) $(theirs))'

# Cargo decides what is stale, so this always asks it; when nothing changed that takes a second.
# The whole workspace, so that dependencies get the same features here as in `make test` and are compiled once.
bins: .tools/ready
	@echo '==> compiling $(ours) (profile $(PROFILE)); the first time takes some minutes'
	@$(cargo_build) --workspace --bins
	@mkdir -p bin
	@for b in $(ours); do ln -sfn ../target/$(profile_dir)/$$b bin/$$b; done
	@for b in $(theirs); do ln -sfn ../.tools/bin/$$b bin/$$b; done

images: bins
	@echo '==> container images'
	@target/$(profile_dir)/xtask images --profile $(profile_dir)

# Packages of the machine and pinned binaries. Done again only when the lists change.
.tools/ready: tools/needs.sh tools/fetch.sh tools/unpack.py tools/requirements.txt
	@tools/needs.sh
	@tools/fetch.sh
	@touch $@

demo: build
	@bin/story run e2e/canary-upgrade $(if $(KEEP),--keep)

walk: build
	@$(if $(HUB),TRYSAIL_HUB=$(HUB)) bin/story run e2e/canary-upgrade --kubeconfig "$${KUBECONFIG:?set KUBECONFIG to the cluster to walk on}"

test: build
	@tools/test.sh

lint:
	@tools/needs.sh build
	@tools/test.sh lint

conformance:
	@tools/needs.sh build
	@cargo run --locked --quiet --package conformance -- $(if $(DATA),--data $(DATA)) $(if $(SET),--set $(SET))

bench: bins
	@target/$(profile_dir)/xds-load suite --istiod bin/istiod $(if $(filter quick,$(BENCH)),--quick)
ifneq ($(BENCH),quick)
	@mkdir -p target/bench
	@$(cargo_bench) --package ads --bench push >target/bench/push.txt && cat target/bench/push.txt
	@$(cargo_bench) --package translate --bench generation >target/bench/generation.txt && cat target/bench/generation.txt
	@$(cargo_bench) --package translate --bench allocations >target/bench/allocations.txt && cat target/bench/allocations.txt
	@$(cargo_bench) --package inject --bench injection >target/bench/inject.txt && cat target/bench/inject.txt
	@$(cargo_bench) --package istiod --bench injection --no-run
	@taskset -c 0 $(cargo_bench) --package istiod --bench injection >target/bench/injection.txt && cat target/bench/injection.txt
	@$(cargo_bench) --package istioctl --bench proxy_status >target/bench/proxy-status.txt && cat target/bench/proxy-status.txt
endif

bench-check: bins
	@target/$(profile_dir)/xds-load check

clean:
	@if [ -x bin/drydock ]; then bin/drydock reset; fi
	@rm -rf bin .tools
	@cargo clean
