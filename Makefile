# make                              patch, build, run the example's report
# make test                         the debug build and every test
# make series                       the patches, in build/series
# make check-series                 prove what the patches promise
# make check-series-quick           the same without building each prefix
# make docs                         the pages of the series as HTML
# make bench                        instructions, times and bytes beside stock
# make bench-quick                  the goals that counting ours alone decides
# make install prefix=P [DESTDIR=D] install the patched interpreter
#
# CPYTHON=PATH names a CPython source directory or archive to start from.

PYTHON = python3
SERIES = command -v $(firstword $(PYTHON)) >/dev/null || { \
	    echo "this machine lacks $(PYTHON): apt-get install python3" >&2; \
	    exit 1; }; \
	$(PYTHON) series/series.py

export CPYTHON

.PHONY: all test series check-series check-series-quick docs bench \
	bench-quick install clean

all:
	@$(SERIES) run

test:
	@$(SERIES) test

series:
	@$(SERIES) export

check-series:
	@$(SERIES) check

check-series-quick:
	@$(SERIES) check-quick

docs:
	@$(SERIES) docs

bench:
	@$(SERIES) bench

bench-quick:
	@$(SERIES) bench-quick

install:
	@$(SERIES) install "$(prefix)" "$(DESTDIR)"

clean:
	rm -rf build
