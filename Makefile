# make            find CPython, apply the series, build it, run the example
# make help       what else there is to do: each room adds its own targets
# make clean      remove all that was made

PYTHON = python3

.DEFAULT_GOAL := all

# Settings like BASE=, CPYTHON= and prefix= are in the environment of the command.
%: FORCE
	@command -v $(firstword $(PYTHON)) >/dev/null || { \
	    echo "this machine lacks $(PYTHON): apt-get install python3" >&2; \
	    exit 1; }; \
	$(PYTHON) -m series $@

clean:
	rm -rf build

Makefile: ;

.PHONY: clean FORCE
FORCE:
