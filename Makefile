# make            the binary, bin/nova-agent
# make cluster    a real OpenStack on this machine with nova-agent as its compute service
# make test       everything the project tests
# make test-peer  the tests of the Docker API against real dockerds: what they ask for is Docker's behaviour
GO ?= go
export CGO_ENABLED = 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS = -s -w -X main.version=$(VERSION)
SHIM = engine/runtime/shimbin/bin/shim
ARCHES = arm64 ppc64le s390x riscv64

.PHONY: build bin/nova-agent shim cluster cluster-down test test-peer lint cross bench clean

build: bin/nova-agent
bin/nova-agent: shim
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./nova-agent

# The small program beside each container; nova-agent carries it inside.
shim:
	$(GO) build -trimpath -ldflags '-s -w' -o $(SHIM) ./engine/shim

cluster:
	devstack/cluster up
cluster-down:
	devstack/cluster down

test:
	tests/run

# A dockerd is started for each script.
test-peer: shim
	tests/peer/fetch
	NOVA_AGENT_TEST_STRICT=1 $(GO) test -tags peer -count 1 -timeout 60m -run 'Peer|Differ|DockerPy|Dockerode|Moby|Terminal|Compose' ./engine/dockerapi ./tests/clients

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags peer ./engine/dockerapi ./tests/clients
	$(GO) tool staticcheck ./...

# Each architecture needs its own shim inside; the host's is put back at the end.
cross:
	@set -e; for arch in $(ARCHES); do \
	  echo "build for $$arch"; \
	  GOARCH=$$arch $(GO) build -trimpath -ldflags '-s -w' -o $(SHIM) ./engine/shim; \
	  GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/nova-agent-linux-$$arch ./nova-agent; \
	done; $(MAKE) --no-print-directory shim

bench:
	tests/bench/run

clean:
	rm -rf bin dist $(SHIM)
