# Sourced by run and full, in an activated virtual environment: ``install`` builds the package into a folder by a preset
# with sanitizers (CMakePresets.json), ``sanitized`` runs a command on it. GCC's runtimes must be there before Python is.
# Leaks are not looked for: Python itself keeps memory until it ends; and the threads of NumPy's BLAS, which is compiled
# without, would look like races.
install() { # folder, preset
  pip install -q --no-deps --target "$1/$2" . -C cmake.args=--preset="$2" -C install.strip=false -C build-dir="$1/build-$2"
}
sanitized() { # folder, preset, runtime, command ...
  local path=$1/$2 runtime=$3
  shift 3
  PYTHONPATH=$path LD_PRELOAD="$(g++ -print-file-name="$runtime") $(g++ -print-file-name=libstdc++.so)" \
    PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OPENBLAS_NUM_THREADS=1 "$@"
}
