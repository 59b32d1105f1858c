# Shared by tools/quickstart and tools/run-tests, which source it from the repository's root: what the
# project needs from outside, and how it comes onto the machine.
# shellcheck shell=bash

export LC_ALL=C DEBIAN_FRONTEND=noninteractive

# The names are the same on Debian 12 and 13 and on Ubuntu 22.04, 24.04 and 26.04.
# shellcheck disable=SC2034  # read by those who source this
build_packages=(g++ ninja-build libdnnl-dev nlohmann-json3-dev libcli11-dev libstb-dev libjpeg-dev
  libssl-dev)
command -v cmake >/dev/null || build_packages+=(cmake)
# shellcheck disable=SC2034
test_packages=(catch2 python3 python3-venv python3-numpy python3-pil dataset-fashion-mnist pkg-config
  libzstd-dev liblz4-dev)
torch_at_least=1.13 # as weights/reference.py wants it
cmake_at_least=3.25 # as in CMakeLists.txt
onednn_at_least=2.6 # as in cmake/XceptionDependencies.cmake
log_dir=build/log
may_install=yes
jobs=$(nproc)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# logged NAME COMMAND...: quiet where it goes well; else the end of what it printed, and where it lies.
logged() {
  local log="$log_dir/$1.log"
  shift
  mkdir -p "$log_dir"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    say "failed: $*"
    say "all of its output is in $log"
    return 1
  fi
}

# missing_packages NAME...: those that are not installed, one a line.
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null)
  local package
  for package in "$@"; do
    grep -qxF "installed $package" <<<"$installed" || echo "$package"
  done
}

# ensure_packages NAME...: installs what is missing, or says with which command to do so.
ensure_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "no Debian packages here; going on with what is installed. Needed are a C++20 compiler," \
      "cmake, ninja, oneDNN, nlohmann-json, CLI11, stb, libjpeg-turbo and OpenSSL."
    return 0
  fi
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0

  local as_root=() may=$may_install
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
    else
      may=no
    fi
  fi
  if [ "$may" = no ]; then
    say "missing: ${missing[*]}"
    say "install them and start again:"
    local sudo
    sudo=$([ "$(id -u)" -eq 0 ] || echo "sudo ")
    echo "  ${sudo}apt-get update && ${sudo}apt-get install --no-install-recommends ${missing[*]}" >&2
    return 1
  fi
  say "installing ${missing[*]}"
  # A foreign package source that does not answer is no reason to stop: the packages may come anyway.
  logged apt-update "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update ||
    say "apt-get update failed; trying with the package lists that are there"
  logged apt-install "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 \
    install -y --no-install-recommends "${missing[@]}"
}

# ensure_venv: .venv over the system's Python, whose packages (PyTorch) it sees.
ensure_venv() {
  [ -x .venv/bin/pip ] && return 0
  ensure_packages python3-venv && logged venv /usr/bin/python3 -m venv --system-site-packages .venv
}

# ensure_pip NAME...: installs into .venv what pip does not list there.
ensure_pip() {
  local present package missing=()
  present=$(.venv/bin/pip list --format=freeze --disable-pip-version-check 2>/dev/null)
  for package in "$@"; do
    grep -qi "^${package}==" <<<"$present" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$may_install" = no ]; then
    say "missing in .venv: .venv/bin/pip install --no-deps ${missing[*]}"
    return 1
  fi
  say "installing into .venv: ${missing[*]}"
  logged pip .venv/bin/pip install --disable-pip-version-check --no-deps "${missing[@]}"
}

# is_at_least LEAST VERSION
is_at_least() { [[ "$2" =~ ^[0-9] ]] && printf '%s\n%s\n' "$1" "$2" | sort -VC; }

# cmake_is_recent CMAKE
cmake_is_recent() {
  is_at_least "$cmake_at_least" "$("$1" --version 2>/dev/null | sed -n 's/^cmake version //p')"
}

# ensure_cmake: puts a new enough CMake first on PATH. Ubuntu 22.04 has 3.22; PyPI has newer ones.
ensure_cmake() {
  cmake_is_recent cmake && return 0
  if ! cmake_is_recent .venv/bin/cmake; then
    say "the system's CMake is older than $cmake_at_least; getting one from PyPI into .venv"
    if ! { ensure_venv && ensure_pip cmake; }; then
      say "install CMake $cmake_at_least or newer and put it on PATH, for example:"
      echo "  python3 -m venv .venv && .venv/bin/pip install cmake" >&2
      return 1
    fi
  fi
  PATH="$PWD/.venv/bin:$PATH"
}

# ensure_onednn: has CMake find a new enough oneDNN. Ubuntu 22.04 has 2.2; PyPI has newer ones.
ensure_onednn() {
  local header=/usr/include/oneapi/dnnl/dnnl_version.h version
  [ -e "$header" ] || return 0 # where it is, CMake asks for its version
  version=$(sed -nE 's/^#define DNNL_VERSION_M(AJOR|INOR) +([0-9]+).*/\2/p' "$header" | paste -sd .)
  is_at_least "$onednn_at_least" "$version" && return 0
  if [ ! -e .venv/lib/libdnnl.so ]; then
    say "the system's oneDNN is older than $onednn_at_least; getting one from PyPI into .venv"
    ensure_venv && ensure_pip onednn-cpu-gomp onednn-devel-cpu-gomp || return 1
  fi
  export CMAKE_PREFIX_PATH="$PWD/.venv"
}

# apt_version PACKAGE: what apt would install; "(none)" or nothing where it has none.
apt_version() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p'; }

# ensure_torch: installs PyTorch and torchvision; 2 where one is missing, for apt has none that is new enough,
# as on Ubuntu, and nobody else brought one.
ensure_torch() {
  local torch=(python3-torch
    libopenblas0-serial) # else PyTorch's double goes through plain loops, several times slower
  if is_at_least "$torch_at_least" "$(apt_version python3-torch)"; then
    if is_at_least 0 "$(apt_version python3-torchvision)"; then
      ensure_packages "${torch[@]}" python3-torchvision
      return
    fi
    ensure_packages "${torch[@]}" || return 1
  fi
  local python
  for python in .venv/bin/python3 /usr/bin/python3; do
    [ -x "$python" ] && "$python" -c 'import torch, torchvision' 2>/dev/null && return 0
  done
  return 2
}

# build_preset NAME [CONFIGURE-OPTION...]
build_preset() {
  local preset="$1"
  shift
  logged "configure-$preset" cmake --preset "$preset" "$@" &&
    logged "build-$preset" cmake --build --preset "$preset" -j "$jobs"
}
