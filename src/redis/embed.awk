# SPDX-License-Identifier: ISC
#
# Writes each script named on the command line as a C string constant
# redis_script_<file name> to standard output. Any POSIX awk.

BEGIN {
	print "/* Made from src/redis/scripts by src/redis/embed.awk. */"
}

FNR == 1 {
	if (name != "")
		print "\t;"
	name = FILENAME
	sub(/.*\//, "", name)
	sub(/\.lua$/, "", name)
	print "\nextern const char redis_script_" name "[];"
	print "const char redis_script_" name "[] ="
}

{
	# Character by character: what gsub() makes of backslashes differs between awks.
	line = ""
	for (i = 1; i <= length($0); i++) {
		character = substr($0, i, 1)
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

END {
	if (name != "")
		print "\t;"
}
