# shellcheck shell=bash
# Sourced by scripts/demo and scripts/test. `cosim_setup [extra]` leaves a working .venv/ in the checkout:
# system packages through apt where they are missing (root on Debian 12 or 13 or Ubuntu 24.04; anywhere else it says
# what to install), then the pinned Python packages. Running it again costs about a second.

COSIM_NGSPICE_MIN=42 # the first that Debian and Ubuntu build with both OSDI and KLU

cosim_say() { printf 'cosim: %s\n' "$*" >&2; }

cosim_has_ngspice() {
  local version
  version=$(ngspice --version 2>/dev/null </dev/null | sed -n 's/.*ngspice-\([0-9][0-9]*\).*/\1/p' | head -n 1)
  [ "${version:-0}" -ge "$COSIM_NGSPICE_MIN" ]
}

cosim_has_compiler() {
  local cc
  for cc in "${CC:-cc}" gcc; do # as cosim/devices/build.py looks for it
    if printf '#include <math.h>\ndouble f(double x) { return exp(x); }\n' |
      "$cc" -shared -fPIC -x c - -lm -o /dev/null 2>/dev/null; then return 0; fi
  done
  return 1
}

# the versions that constraints.txt is made for
cosim_is_python() {
  "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)))' 2>/dev/null
}

cosim_find_python() {
  local candidate
  for candidate in ${PYTHON:-} .venv/bin/python python3 python3.14 python3.13 python3.12 python3.11; do
    if cosim_is_python "$candidate"; then echo "$candidate"; return 0; fi
  done
  return 1
}

# one line for each thing that is missing: apt package names, a bar, what it is
cosim_missing() {
  cosim_has_ngspice || echo "ngspice|ngspice $COSIM_NGSPICE_MIN or newer, built with OSDI and KLU"
  cosim_has_compiler || echo "gcc libc6-dev|a C compiler with the C library's headers (gcc, or another named by CC)"
  cosim_find_python >/dev/null || echo "python3 python3-venv|Python 3.11 to 3.14 with venv"
}

cosim_system() { (. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}") || true; }

# Debian 12's own ngspice is too old: print the apt source of bookworm-backports, on the mirror that apt uses already
cosim_backports_source() {
  local targets
  # shellcheck disable=SC2016  # the $(...) are apt's
  targets=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages')
  awk '
    $1 == "bookworm-backports" { listed = 1 }
    $1 ~ /^(bookworm|stable|oldstable)$/ && !uri { uri = $2; key = ($3 ~ /^\//) ? "[signed-by=" $3 "] " : "" }
    END { if (!listed && uri) print "deb " key uri " bookworm-backports main" }
  ' <<<"$targets"
}

# the shell commands that install the apt packages "$@", one on each line
cosim_apt_commands() {
  local install='apt-get install -y --no-install-recommends' release='' source
  local packages=" $* "
  if [[ $packages == *" ngspice "* && $(cosim_system) == debian-12 ]]; then
    release='-t bookworm-backports '
    source=$(cosim_backports_source)
    [ -z "$source" ] || echo "echo '$source' >/etc/apt/sources.list.d/bookworm-backports.list"
  fi
  echo 'apt-get update'
  if [ -n "$release" ]; then
    packages=${packages/ ngspice / }
    echo "$install ${release}ngspice"
  fi
  packages=$(xargs <<<"$packages")
  [ -z "$packages" ] || echo "$install $packages"
}

cosim_install_system() {
  local missing packages commands command log
  missing=$(cosim_missing)
  [ -n "$missing" ] || return 0
  cosim_say "this machine lacks:"
  sed 's/.*|/  - /' <<<"$missing" >&2
  case $(cosim_system) in
  debian-12 | debian-13 | ubuntu-24.04) ;;
  *)
    cosim_say "install these, then run this again (only Debian 12 and 13 and Ubuntu 24.04 are done automatically)"
    return 1
    ;;
  esac
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=$'\nca-certificates|'
  packages=$(sed 's/|.*//' <<<"$missing" | xargs)
  # shellcheck disable=SC2086  # several package names
  mapfile -t commands < <(cosim_apt_commands $packages)
  if [ "$(id -u)" -ne 0 ]; then
    cosim_say "run these as root, then run this again:"
    printf '  %s\n' "${commands[@]}" >&2
    return 1
  fi
  log=$(mktemp)
  for command in "${commands[@]}"; do
    cosim_say "+ $command"
    DEBIAN_FRONTEND=noninteractive bash -c "$command" >"$log" 2>&1 </dev/null || {
      cat "$log" >&2
      cosim_say "failed: $command"
      return 1
    }
  done
  rm -f "$log"
  missing=$(cosim_missing)
  [ -z "$missing" ] || { cosim_say "still missing after the installation: ${missing#*|}"; return 1; }
}

# On Linux the torch of PyPI brings gigabytes of CUDA libraries; without an NVIDIA GPU take PyTorch's CPU build if it can be had
cosim_torch_index() {
  local index=https://download.pytorch.org/whl/cpu
  [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null || return 0
  "$1" -c "import urllib.request; urllib.request.urlopen('$index/torch/', timeout=5)" 2>/dev/null || return 0
  echo "--extra-index-url=$index"
}

cosim_install_python() {
  local extra=$1 python digest stamp
  digest=$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)
  stamp=.venv/.cosim-setup-${extra:-user}
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] && cosim_is_python .venv/bin/python; then return 0; fi
  python=$(cosim_find_python)
  if ! cosim_is_python .venv/bin/python; then
    if [ -e .venv ] && ! compgen -G '.venv/.cosim-setup-*' >/dev/null; then
      cosim_say "$PWD/.venv is not a virtual environment of Python 3.11 to 3.14: move it away, then run this again"
      return 1
    fi
    "$python" -m venv --clear .venv || return 1
  fi
  cosim_say "installing the Python packages into .venv (some minutes the first time)"
  # shellcheck disable=SC2046  # nothing, or one option
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input $(cosim_torch_index .venv/bin/python) \
    -c constraints.txt -e ".${extra:+[$extra]}" >&2 || {
    cosim_say "pip failed: see above"
    return 1
  }
  echo "$digest" >.venv/.cosim-setup-user
  echo "$digest" >"$stamp"
}

cosim_setup() {
  cosim_install_system || return 1
  cosim_install_python "${1:-}" || return 1
}
