# The two commands: `make demo` and `make test`. Both install what is missing
# (apt; Debian 12, Ubuntu 24.04), build and run. The build proper is CMake's: see
# CMakePresets.json.

PRESET := release
CXX_FILES = $(shell git ls-files '*.h' '*.c' '*.cc' '*.cu' '*.cuh')
# Compiling takes up to 1.5 GB a process.
JOBS ?= $(shell nproc)
# Tests wait for the disk half of their time.
TEST_JOBS ?= $(shell expr 2 '*' $(JOBS))
CMAKE_FLAGS ?=
FUZZ_SECONDS ?= 60

.PHONY: help demo test bench microbench format format-check tidy fuzz clean

help:
	@echo 'make demo          make a small table, serve a real token trace from it, check every row'
	@echo 'make test          build and run all tests'
	@echo 'make bench         Tiercel beside fio, mmap, pread, RocksDB and DRAM: six minutes, BENCH_DIR='
	@echo 'make microbench    what a hash and a cache hit cost'
	@echo 'make format        clang-format every source file'
	@echo 'make format-check  fail where clang-format would change something'
	@echo 'make tidy          clang-tidy over the library'
	@echo 'make fuzz          run each fuzzer for FUZZ_SECONDS (60)'
	@echo 'make clean         remove build/'

demo:
	@scripts/install-deps.sh build
	@scripts/demo.sh

test:
	@scripts/install-deps.sh build
	cmake --preset $(PRESET) $(CMAKE_FLAGS)
	cmake --build --preset $(PRESET) -j $(JOBS) --target all all_verify_interface_header_sets
	ctest --preset $(PRESET) -j $(TEST_JOBS)

bench:
	@scripts/install-deps.sh build bench
	@PRESET=$(PRESET) scripts/bench.sh

microbench:
	@scripts/install-deps.sh build
	cmake --preset $(PRESET)
	cmake --build --preset $(PRESET) -j $(JOBS)
	@for name in hasher cache; do program=build/$(PRESET)/bench/$${name}_bench; \
	  if [ -x "$$program" ]; then echo "== $$program"; "$$program" || exit 1; fi; done

format:
	@scripts/install-deps.sh dev
	clang-format -i $(CXX_FILES)

format-check:
	@scripts/install-deps.sh dev
	@clang-format --dry-run --Werror $(CXX_FILES)

tidy:
	@scripts/install-deps.sh dev
	cmake --preset dev
	clang-tidy --quiet -p build/dev \
	  $(filter base/%.cc io/%.cc cache/%.cc engram/%.cc store/%.cc capi/%.cc tools/%.cc,$(CXX_FILES))

fuzz:
	@scripts/install-deps.sh dev
	@scripts/fuzz.sh $(FUZZ_SECONDS)

clean:
	rm -rf build
