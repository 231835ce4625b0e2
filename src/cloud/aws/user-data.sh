#!/bin/sh
# Windlass makes an image on this machine: what to do is fetched, and nothing comes in.
root=${WINDLASS_ROOT:-}
# A machine runs this as root. Somebody else tries it out.
[ -n "$root" ] || [ "$(id -u)" = 0 ] || root=$PWD
file="$root/var/lib/windlass-bootstrap"
#@values
# Whoever ends this machine in time may be gone for ever.
if [ -z "$root" ]; then
  if command -v shutdown >/dev/null 2>&1; then shutdown -P "+$minutes"; fi
elif [ -x "$root/usr/bin/shutdown" ]; then
  "$root/usr/bin/shutdown" -P "+$minutes"
fi
echo "windlass: this machine becomes an image"
#@fetch
