"""The end-to-end check: asks the shop at WINDLASS_URL for its greeting."""

import os
import urllib.request

from shop import VERSION

with urllib.request.urlopen(os.environ["WINDLASS_URL"], timeout=10) as answer:
    text = answer.read().decode()
print(text, end="")
assert text.startswith(f"version {VERSION} "), "another version answered"
