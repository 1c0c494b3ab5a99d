# make                              patch, build, run the example's report
# make test                         the debug build and every test
# make compare                      the API's tests on stock CPython and on ours
# make compare-readme               put the table of it into the README
# make asan                         the monitoring tests under sanitizers
# make test-full                    all of CPython's tests on stock and on ours
# make test-freethreaded            the interpreter's tests without a GIL
# make tsan                         the monitoring tests with ThreadSanitizer
# make series                       the patches, in build/series
# make check-series                 prove what the patches promise
# make check-series-quick           the same without building each prefix
# make faults                       that the model test finds seeded faults
# make compat                       the header for unpatched interpreters, tested
# make compat-readme                put the table of its promises into its README
# make docs                         the pages of the series as HTML
# make bench                        instructions, times and bytes beside stock
# make bench-quick                  the goals that counting ours alone decides
# make bench-readme                 put the figures of make bench into the README
# make clients                      tools from the package index over a producer
# make install prefix=P [DESTDIR=D] install the patched interpreter
#
# CPYTHON=PATH names a CPython source directory or archive to start from,
# PYTHONS='PATH ...' interpreters to test the header on besides those found.

PYTHON = python3
SERIES = command -v $(firstword $(PYTHON)) >/dev/null || { \
	    echo "this machine lacks $(PYTHON): apt-get install python3" >&2; \
	    exit 1; }; \
	$(PYTHON) -m series

export CPYTHON PYTHONS

.PHONY: all test compare compare-readme asan test-full test-freethreaded tsan \
	series check-series check-series-quick faults docs bench bench-quick \
	bench-readme clients compat compat-readme install clean

all:
	@$(SERIES) run

test:
	@$(SERIES) test

compare:
	@$(SERIES) compare

compare-readme:
	@$(SERIES) compare-readme

asan:
	@$(SERIES) asan

test-full:
	@$(SERIES) test-full

test-freethreaded:
	@$(SERIES) test-freethreaded

tsan:
	@$(SERIES) tsan

series:
	@$(SERIES) export

check-series:
	@$(SERIES) check

check-series-quick:
	@$(SERIES) check-quick

faults:
	@$(SERIES) faults

compat:
	@$(SERIES) compat

compat-readme:
	@$(SERIES) compat-readme

docs:
	@$(SERIES) docs

bench:
	@$(SERIES) bench

bench-quick:
	@$(SERIES) bench-quick

bench-readme:
	@$(SERIES) bench-readme

clients:
	@$(SERIES) clients

install:
	@$(SERIES) install "$(prefix)" "$(DESTDIR)"

clean:
	rm -rf build
