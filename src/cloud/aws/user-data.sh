#!/bin/sh
# Windlass makes an image on this machine: what to do is fetched, and nothing comes in.
root=${WINDLASS_ROOT:-}
file="$root/var/lib/windlass-bootstrap"
#@values
# Whoever ends this machine in time may be gone for ever.
if [ -z "$root" ]; then
  if command -v shutdown >/dev/null 2>&1; then shutdown -P "+$minutes"; fi
elif [ -x "$root/usr/bin/shutdown" ]; then
  "$root/usr/bin/shutdown" -P "+$minutes"
fi
#@fetch
