# SPDX-License-Identifier: ISC
#
# Writes each script named on the command line as a C string constant
# redis_script_<file name> to standard output. A line "--include NAME" is
# replaced by scripts/include/NAME, whose own comments are left out. Any POSIX
# awk.

BEGIN {
	print "/* Made from src/redis/scripts by src/redis/embed.awk. */"
}

# Character by character: what gsub() makes of backslashes differs between awks.
function put(text,    line, i, character) {
	line = ""
	for (i = 1; i <= length(text); i++) {
		character = substr(text, i, 1)
		if (character == "\\" || character == "\"")
			line = line "\\"
		else if (character == "\t") {
			line = line "\\t"
			continue
		}
		line = line character
	}
	print "\t\"" line "\\n\""
}

function include(path,    text, result) {
	while ((result = (getline text < path)) > 0)
		if (text !~ /^[ \t]*--/)
			put(text)
	if (result < 0) {
		print "embed.awk: cannot read " path > "/dev/stderr"
		failed = 1
		exit 1
	}
	close(path)
}

FNR == 1 {
	if (name != "")
		print "\t;"
	name = directory = FILENAME
	sub(/.*\//, "", name)
	sub(/\.lua$/, "", name)
	sub(/[^\/]*$/, "", directory)
	print "\nextern const char redis_script_" name "[];"
	print "const char redis_script_" name "[] ="
}

/^--include / {
	include(directory "include/" $2)
	next
}

{
	put($0)
}

END {
	if (failed)
		exit 1
	if (name != "")
		print "\t;"
}
