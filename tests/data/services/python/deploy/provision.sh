#!/bin/sh
# Runs while the image is baked, in the directory that the service will run in.
set -e
test -z "${PORT+set}${GREETING+set}"
python3 -m compileall -q shop
echo "provisioned" > provisioned.txt
