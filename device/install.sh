#!/bin/sh
# Installs, upgrades or removes the Summit Edge daemon on a Debian-like machine. See device/README.md.
#
# Safe to run again: it brings the machine to the same state, whatever it finds. It never overwrites a configuration and
# never touches the outbox.
set -eu

PROGRAM=/opt/summit-edge
SETTINGS=/etc/summit-edge
STATE=/var/lib/summit-edge
UNIT=/etc/systemd/system/summit-edge.service
COMMAND=/usr/local/bin/summit-edge
RULES=/usr/local/lib/udev/rules.d/70-summit-edge-serial.rules
ACCOUNT=summit-edge

usage() {
  cat <<'HELP'
Usage: device/install.sh [--dry-run] [--no-start] [--from DIR] [--root DIR]
       device/install.sh --uninstall [--dry-run] [--root DIR]

  --dry-run    say what would be done, and do nothing
  --no-start   install, but neither enable nor start the service
  --uninstall  stop and remove the program; configuration and outbox stay
  --from DIR   the built project; by default the one this script is in
  --root DIR   install below DIR instead of /, without accounts and services (for images and tests)
HELP
}

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

say() { printf '%s\n' "$*"; }

# Does it, or in a dry run says that it would be done.
run() {
  if [ "$dry_run" = yes ]; then say "    would run: $*"; else "$@"; fi
}

dry_run=no
start=yes
action=install
root=
from=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes ;;
    --no-start) start=no ;;
    --uninstall) action=uninstall ;;
    --from | --root)
      [ $# -ge 2 ] || fail "$1 wants a folder" 2
      [ -d "$2" ] || fail "$1 $2: there is no such folder" 2
      folder=$(CDPATH='' cd -- "$2" && pwd)
      if [ "$1" = --from ]; then from=$folder; else root=${folder%/}; fi
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && fail "unknown option $1" 2 ;;
  esac
  shift
done

# Whether this very machine is meant, with its accounts and services, and not a folder that looks like one.
on_machine() { [ -z "$root" ]; }

check_machine() {
  say "==> Check"
  if on_machine && [ "$dry_run" = no ] && [ "$(id -u)" -ne 0 ]; then fail "run it as root: sudo $0"; fi
  [ "$action" = install ] || return 0
  # shellcheck disable=SC2016
  if on_machine && dpkg-query -W -f='${Status}' summit-edge 2>/dev/null | grep -q ' installed'; then
    fail "the Debian package summit-edge is installed here: upgrade it with apt, or remove it first (apt remove summit-edge)"
  fi
  [ -f "$from/dist/main.js" ] || fail "$from is not built: run npm ci and npm run build there first"
  for file in config/gateway.yaml systemd/summit-edge.service "device/udev/${RULES##*/}"; do
    [ -f "$from/$file" ] || fail "$from/$file is missing: is $from the project's folder?"
  done
  node=$(command -v node) || fail "there is no Node.js: install version 20.19 or newer"
  "$node" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    fail "$node is $("$node" --version): install version 20.19 or newer"
  case $node in
    /home/* | /root/*) fail "$node is in a home folder, which the service cannot see: install Node.js for everybody" ;;
  esac
  command -v npm >/dev/null || fail "there is no npm, which knows what the daemon needs to run"
  say "    $from, with $node $("$node" --version)"
}

create_account() {
  on_machine || return 0
  say "==> Account $ACCOUNT"
  if id "$ACCOUNT" >/dev/null 2>&1; then
    say "    is there"
  else
    run useradd --system --user-group --no-create-home --home-dir "$STATE" --shell /usr/sbin/nologin "$ACCOUNT"
  fi
  if getent group dialout >/dev/null; then
    run usermod --append --groups dialout "$ACCOUNT"
  else
    say "    there is no group dialout here: serial ports will stay closed to it"
  fi
}

# What the daemon needs to run, as paths below $from: no tests, and no module that only development needs.
program_files() {
  for file in dist package.json config certs/README.md docs device/README.md device/profiles device/sketch device/udev systemd LICENSE README.md; do
    if [ -e "$from/$file" ]; then printf '%s\n' "$file"; fi
  done
  # Nested modules come with the ones they are in.
  (cd "$from" && { npm ls --omit=dev --all --parseable 2>/dev/null || true; }) |
    sed -n "s|^$from/\(node_modules/.*\)|\1|p" | sed '/node_modules\/.*node_modules\//d' | sort -u
}

# Beside the old one first, then swapped, so that an upgrade that is cut short leaves a whole program.
install_program() {
  say "==> Program in $root$PROGRAM"
  run mkdir -p "$root$PROGRAM" "$root$(dirname "$COMMAND")"
  run rm -rf "$root$PROGRAM.new" "$root$PROGRAM.old"
  run mkdir "$root$PROGRAM.new"
  if [ "$dry_run" = yes ]; then
    say "    would copy $(program_files | wc -l) files and folders"
  else
    program_files | tar -c -C "$from" --exclude='dist/test' --exclude='*.tsbuildinfo' -f - -T - |
      tar -x --no-same-owner -C "$root$PROGRAM.new" -f -
    [ -f "$root$PROGRAM.new/dist/main.js" ] || fail "the program could not be copied"
    chmod -R a+rX,go-w "$root$PROGRAM.new"
    chmod a+x "$root$PROGRAM.new/dist/main.js"
  fi
  run mv "$root$PROGRAM" "$root$PROGRAM.old"
  run mv "$root$PROGRAM.new" "$root$PROGRAM"
  run rm -rf "$root$PROGRAM.old"
  run ln -sfn "$PROGRAM/dist/main.js" "$root$COMMAND"
}

install_settings() {
  say "==> Configuration in $root$SETTINGS"
  run mkdir -p "$root$SETTINGS/secrets"
  run chmod 0700 "$root$SETTINGS/secrets"
  if [ -e "$root$SETTINGS/gateway.yaml" ]; then
    say "    gateway.yaml is there and stays as it is"
    return 0
  fi
  run cp "$from/config/gateway.yaml" "$root$SETTINGS/gateway.yaml"
  run chmod 0640 "$root$SETTINGS/gateway.yaml"
  if on_machine; then run chown "root:$ACCOUNT" "$root$SETTINGS/gateway.yaml"; fi
}

install_unit() {
  say "==> Service in $root$UNIT"
  run mkdir -p "$root$(dirname "$UNIT")"
  if [ "$dry_run" = yes ]; then
    say "    would write it, to run $node"
  else
    sed "s|^ExecStart=/usr/bin/node |ExecStart=$node |" "$from/systemd/summit-edge.service" >"$root$UNIT.new"
    chmod 0644 "$root$UNIT.new"
    mv "$root$UNIT.new" "$root$UNIT"
  fi
  if on_machine; then run systemctl daemon-reload; fi
}

# Where the machine has no udev, or it does not run, they lie ready for it.
reload_rules() {
  if on_machine && [ -S /run/udev/control ]; then
    run udevadm control --reload
    run udevadm trigger --subsystem-match=tty --subsystem-match=usb-serial
  fi
}

install_rules() {
  say "==> udev rules in $root$RULES"
  run mkdir -p "$root$(dirname "$RULES")"
  run cp "$from/device/udev/${RULES##*/}" "$root$RULES"
  if [ -e "$root/etc/udev/rules.d/${RULES##*/}" ]; then
    say "    $root/etc/udev/rules.d/${RULES##*/} is there, stays as it is, and takes their place"
  fi
  reload_rules
}

start_service() {
  on_machine || return 0
  if [ "$start" = no ]; then
    say "==> Not started, as asked. When you want it: systemctl enable --now summit-edge"
    return 0
  fi
  say "==> Start"
  run systemctl enable summit-edge.service
  run systemctl restart summit-edge.service
  say "    see how it is: sudo summit-edge status"
}

uninstall() {
  if on_machine; then
    say "==> Stop"
    if [ -e "$UNIT" ]; then run systemctl disable --now summit-edge.service; else say "    is not installed"; fi
  fi
  say "==> Remove"
  run rm -f "$root$UNIT" "$root$COMMAND" "$root$RULES"
  run rm -rf "$root$PROGRAM" "$root$PROGRAM.new" "$root$PROGRAM.old"
  if on_machine; then run systemctl daemon-reload; fi
  reload_rules
  say "==> Kept: $root$SETTINGS (configuration), $root$STATE (readings that were acknowledged), account $ACCOUNT"
}

umask 022
check_machine
if [ "$action" = uninstall ]; then
  uninstall
else
  create_account
  install_program
  install_settings
  install_unit
  install_rules
  start_service
fi
if [ "$dry_run" = yes ]; then say "Nothing was changed."; else say "Done."; fi
