#!/bin/sh
# Made by Windlass for one builder: fetches what goes into an image, provisions it, says how that went
# while it goes on, and cleans up for the image.
#
# WINDLASS_ROOT stands before every path, so that all of this can be run in a directory of its own:
# nothing outside of it is touched then.

root=${WINDLASS_ROOT:-}
unset WINDLASS_ROOT
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
#@values
app="$root/opt/$service"
work="$root/var/lib/windlass-bake"
log="$work/log"

say() { echo "windlass: $*" >>"$log"; }

# A command of the machine itself. A directory has only what somebody put there in its place.
machine() {
  if [ -z "$root" ]; then
    command -v "$1" >/dev/null 2>&1 || return 0
    "$@" >>"$log" 2>&1 </dev/null || :
  elif [ -x "$root/usr/bin/$1" ]; then
    stand_in=$1
    shift
    "$root/usr/bin/$stand_in" "$@" >>"$log" 2>&1 </dev/null || :
  fi
}

# repeat COMMAND…: until it works, about a minute long
repeat() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || return 1
    sleep "$beat"
  done
}

# get URL FILE
get() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --connect-timeout 10 --speed-limit 1 --speed-time 60 -o "$2" "$1" 2>>"$log"
  else
    wget -q -T 60 -O "$2" "$1" 2>>"$log"
  fi
}

# put FILE URL
put() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --connect-timeout 10 --speed-limit 1 --speed-time 60 -X PUT -T "$1" "$2" >/dev/null
  else
    wget -q -T 60 -O /dev/null --method=PUT --body-file="$1" "$2"
  fi
}

# tell TEXT URL: what to say when there is no file left to say it from
tell() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --connect-timeout 10 --max-time 60 -X PUT --data-binary "$1" "$2" >/dev/null
  else
    wget -q -T 60 -O /dev/null --method=PUT --body-data="$1" "$2"
  fi
}

# Sends the log, whenever it has grown.
ship() {
  nap=
  trap 'kill $nap 2>/dev/null; exit 0' TERM
  sent=0
  while :; do
    size=$(wc -c <"$log")
    if [ "$size" -ne "$sent" ]; then
      cp "$log" "$work/part" && put "$work/part" "$log_url" && sent=$size
    fi
    sleep "$beat" &
    nap=$!
    wait "$nap"
  done
}

# The whole log, and nothing of it after this.
shipped() {
  kill "$shipper" 2>/dev/null
  wait "$shipper"
  repeat put "$log" "$log_url" || echo "windlass: the log cannot be written" >&2
}

# fail PHASE EXIT_CODE [COMMAND]
fail() {
  say "$1 failed, exit code $2"
  shipped
  repeat tell "{\"schema\":1,\"verdict\":\"failed\",\"phase\":\"$1\",\"command\":${3:-null},\"exit_code\":$2}" "$verdict_url"
  exit 1
}

# unpack URL: into the app directory
unpack() {
  repeat get "$1" "$work/archive" || return 1
  tar -xpf "$work/archive" -C "$app" >>"$log" 2>&1 || return 2
  rm -f "$work/archive"
}

# run NUMBER NAME SHELL…: one command, and what it says goes to the log
run() {
  number=$1
  say "command $1 of $commands: $2"
  shift 2
  (
    cd "$app" && exec env -i PATH="$PATH" HOME="$work/home" TMPDIR="$work/tmp" LANG=C.UTF-8 \
#@environment
      "$@" "$work/command-$number"
  ) >>"$log" 2>&1 </dev/null
  code=$?
  [ "$code" -eq 0 ] || fail provision "$code" "$number"
}

# Whether no link is on the way to a name in the app directory.
reached() {
  above=$1
  while [ "$above" != "${above%/*}" ]; do
    above=${above%/*}
    [ ! -L "$app/$above" ] || return 1
  done
}

fill() {
  rm -rf "$app"
  mkdir -p "$app" || return 1
#@contents
}

provision() {
  :
#@commands
}

# What was at hand only for provisioning.
take_away() {
  while IFS= read -r name; do
    if [ -n "$name" ] && reached "$name" && [ ! -d "$app/$name" -o -L "$app/$name" ]; then
      rm -f "$app/$name"
    fi
#@files
  while IFS= read -r name; do
    if [ -n "$name" ] && reached "$name" && [ -d "$app/$name" ] && [ ! -L "$app/$name" ]; then
      rmdir "$app/$name" 2>/dev/null
    fi
#@directories
  :
}

# The service as a unit that starts once a launch has written its environment.
enable() {
  units="$root/etc/systemd/system"
  mkdir -p "$units/multi-user.target.wants" "$root/etc/windlass" || return 1
#@unit
  ln -sf "/etc/systemd/system/$service.service" "$units/multi-user.target.wants/$service.service"
}

# Nothing of this machine and of this build goes into the image.
clean() {
  machine cloud-init clean --logs
  rm -rf "$root"/var/lib/cloud/instances/*/user-data* "$root"/var/lib/cloud/instances/*/scripts
  rm -rf "$root"/var/lib/amazon/ssm/*/document/orchestration/*
  rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/windlass/*.env
  rm -f "$root"/root/.*_history "$root"/home/*/.*_history
  rm -rf "$root"/tmp/* "$root"/tmp/.[!.]* "$root"/var/tmp/* "$root"/var/tmp/.[!.]*
  if [ -e "$root/etc/machine-id" ]; then : >"$root/etc/machine-id"; fi
  if [ -f "$root/var/lib/dbus/machine-id" ] && [ ! -L "$root/var/lib/dbus/machine-id" ]; then
    rm -f "$root/var/lib/dbus/machine-id"
  fi
}

main() {
  umask 022
  mkdir -p "$root/run" "$root/var/lib"
  # Delivered twice, it is run once.
  mkdir "$root/run/windlass-bake-$build" 2>/dev/null || exit 0
  rm -rf "$work"
  mkdir "$work" && chmod 700 "$work" && mkdir "$work/home" "$work/tmp" || exit 1
  : >"$log"
  # Whoever ends this machine in time may be gone for ever.
  machine shutdown -P "+$minutes"
  ship </dev/null >/dev/null 2>&1 &
  shipper=$!

  fill || fail contents $?
  provision
  take_away
  enable || fail unit $?
  clean
  say "provisioned"
  shipped
  rm -rf "$work" "$root/var/lib/windlass-bootstrap"
  sync
  repeat tell '{"schema":1,"verdict":"ok"}' "$verdict_url"
}

main
