/* SPDX-License-Identifier: ISC */
/*
 * The armed crash point of a test build. Run by workers and keepers; compiled
 * empty in a release build.
 */
#include "keepsock/crash_points.h"

#ifdef KEEPSOCK_CRASH_POINTS
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum crash_point armed = CRASH_POINT_COUNT;
static unsigned hits_left;
static int armed_signal;

static const char *const names[CRASH_POINT_COUNT] = {
#define CRASH(symbol, name, doc) [CRASH_##symbol] = name,
	CRASH_POINT_TABLE(CRASH)
#undef CRASH
};

void crash_point(enum crash_point point)
{
	if (point == armed && --hits_left == 0)
		kill(getpid(), armed_signal);
}

bool crash_point_arm(const char *name, unsigned hits)
{
	return crash_point_arm_signal(name, hits, SIGKILL);
}

bool crash_point_arm_signal(const char *name, unsigned hits, int signal_number)
{
	for (int i = 0; i < CRASH_POINT_COUNT; i++) {
		if (strcmp(names[i], name) == 0) {
			hits_left = hits ? hits : 1;
			armed_signal = signal_number;
			armed = (enum crash_point)i;
			return true;
		}
	}
	return false;
}

void crash_poison(const char *kind, struct slice text)
{
	char poison[64];
	int length = snprintf(poison, sizeof(poison), "keepsock-poison-%s", kind);

	if (length > 0 && text.len > 0 && memmem(text.data, text.len, poison, (size_t)length))
		abort();
}
#else
/* ISO C wants a declaration in every file. */
typedef int crash_points_are_for_test_builds;
#endif
