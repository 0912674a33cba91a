#!/bin/sh
# SPDX-License-Identifier: ISC
# Makes ./configure from configure.ac. Run it once after a checkout.
set -eu
cd "$(dirname "$0")"

for tool in autoreconf automake pkg-config; do
	command -v "$tool" >/dev/null || {
		echo "autogen.sh: $tool is missing: apt-get install autoconf automake pkg-config" >&2
		exit 1
	}
done
exec autoreconf --install --force --warnings=all
