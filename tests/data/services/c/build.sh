#!/bin/sh
set -e
mkdir -p dist check
cc -Wall -Wextra -Werror -pthread -o dist/shop src/shop.c src/prices.c
cc -Wall -Wextra -Werror -o check/check src/check.c
