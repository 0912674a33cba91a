# SPDX-License-Identifier: ISC
# What tools/demo and tools/check share. Sourced by bash, from the root of the source tree.

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# build_tree NAME MAKE-TARGETS [CONFIGURE-ARGUMENTS…]: builds out of tree in var/build/NAME; from
# scratch when it was configured with other arguments, while no arguments means: as it is.
build_tree() {
	local tree=var/build/$1 targets=$2
	shift 2
	if [ -e config.status ]; then
		die "this tree holds a build of its own; run 'make distclean' first"
	fi
	if [ ! -e configure ]; then
		./autogen.sh
	fi
	if [ ! -e "$tree/configured-with" ] ||
		{ [ $# -gt 0 ] && [ "$(cat "$tree/configured-with")" != "$*" ]; }; then
		rm -rf "$tree"
		mkdir -p "$tree"
		(cd "$tree" && ../../../configure -q "$@")
		echo "$*" >"$tree/configured-with"
	fi
	# shellcheck disable=SC2086 # a list of targets
	make -C "$tree" --no-print-directory -j "$(nproc)" $targets
}
