/* SPDX-License-Identifier: ISC */
/*
 * The process title. Runs in every process, once at the start and rarely
 * after. Linux lays argv and the environment out one behind the other and
 * /proc/PID/cmdline shows that memory (a title may run on from the arguments
 * into the environment), so both move away first.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/process_title.h"

static char *title_start; /* the kernel's memory, never freed; NULL before init */
static size_t title_size;

/* The end of the run of strings that begins at area; items not in it are left out. */
static char *extend_area(char *end, char **items)
{
	for (size_t i = 0; items[i]; i++) {
		if (items[i] == end)
			end += strlen(end) + 1;
	}
	return end;
}

void process_title_init(int argc, char **argv)
{
	char **copy;
	char *end;
	size_t count = 0;

	if (argc < 1 || title_start)
		return;
	end = extend_area(argv[0], argv);
	end = extend_area(end, environ);

	while (environ[count])
		count++;
	copy = xcalloc(count + 1, sizeof(*copy));
	for (size_t i = 0; i < count; i++)
		copy[i] = xstrdup(environ[i]);
	environ = copy;
	title_start = argv[0];
	title_size = (size_t)(end - argv[0]);
	for (int i = 0; i < argc; i++)
		argv[i] = xstrdup(argv[i]);
}

void process_title_set(const char *fmt, ...)
{
	va_list args;
	int len;

	if (!title_start)
		return;
	memset(title_start, 0, title_size);
	va_start(args, fmt);
	len = vsnprintf(title_start, title_size, fmt, args);
	va_end(args);
	if (len < 0)
		title_start[0] = '\0';
}

void process_title_set_name(const char *name)
{
	/* Cosmetic, and can only fail for an unreadable pointer. */
	(void)prctl(PR_SET_NAME, name, 0, 0, 0);
}
