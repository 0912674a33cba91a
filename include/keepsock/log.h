/* SPDX-License-Identifier: ISC */
/*
 * The log of every keepsock process: one event a line, as logfmt or JSON, to
 * stderr, syslog or a file. The text of a call is
 *
 *	event_name key=value key=value ...
 *
 * and is printf-checked; the time, level, role, slot and pid are added. A
 * value may be bare and hold spaces (it reaches to the next ` key=`), but
 * whatever came from a peer or an operator goes through log_value(), which
 * quotes it, so that nobody can forge a key. A line is always one line: what
 * is not printable is escaped here whatever the caller did.
 */
#ifndef KEEPSOCK_LOG_H
#define KEEPSOCK_LOG_H

#include <stdbool.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

/*
 * Names the process in every line from now on. role is a short word
 * ("master", "worker") and is copied; slot below 0 means "has none".
 */
void log_init(const char *role, int slot);

/*
 * "stderr", "syslog" or "file:/path" (appended to, created with mode 0640).
 * 0, or -1 with errno and the old target still in use.
 */
int log_set_target(const char *target);

void log_set_format(enum log_format format);
bool log_format_parse(const char *name, enum log_format *format);

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
bool log_level_parse(const char *name, enum log_level *level);
const char *log_level_name(enum log_level level);

/*
 * The three of them by the words of the settings log.level, log.format and
 * log.target; -1 with the reason appended to error.
 */
int log_open(const char *level, const char *format, const char *target, struct buffer *error);

/* Opens a file target again, after log rotation; 0, or -1 with errno and the old file in use. */
int log_reopen(void);

/*
 * A value as one log word: quoted when it needs to be, cut after some 200
 * bytes. The text lives in a ring of eight, so one call of log_*() may use up
 * to eight of them.
 */
const char *log_value(struct slice value);
const char *log_value_str(const char *value);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For start-up errors that end the process: logs at level error, then _exit(1). */
_Noreturn void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Read by the macros below, set by log_set_level(). */
extern enum log_level log_threshold;

/* Macros, so that the arguments of a line nobody wants are not even evaluated. */
#define log_at(level, ...)                               \
	do {                                             \
		if ((level) <= log_threshold)            \
			log_write((level), __VA_ARGS__); \
	} while (0)
#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
