/* SPDX-License-Identifier: ISC */
/*
 * Turns one formatted event into one line and writes it with one write(2).
 * Runs in every process; not from signal handlers. A line fits in PIPE_BUF, so
 * lines of several processes on one pipe never mix. Logging must never change
 * errno, fail its caller or let a value break out of its line or its quotes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "keepsock/hex.h"
#include "keepsock/log.h"

#define LINE_MAX_LEN  PIPE_BUF
#define LINE_RESERVED 16 /* room for closing quotes, brace and newline of a cut line */
#define TEXT_MAX      3072
#define VALUE_MAX     200
#define VALUE_RING    8

struct line {
	char data[LINE_MAX_LEN];
	size_t len;
	bool json;
	bool full; /* something did not fit: nothing more goes in, so no half escapes */
};

enum target_kind { TARGET_STDERR, TARGET_SYSLOG, TARGET_FILE };

enum log_level log_threshold = LOG_LEVEL_INFO;

static enum log_format log_format = LOG_FORMAT_LOGFMT;
static char process_name[48] = "keepsock";
static enum target_kind target = TARGET_STDERR;
static char *target_path; /* owned; set for TARGET_FILE only */
static int target_fd = STDERR_FILENO;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static const char *const format_names[] = {
	[LOG_FORMAT_LOGFMT] = "logfmt",
	[LOG_FORMAT_JSON] = "json",
};

/* ---- one line ---- */

/* The data stays as it is: no reason to clear 4 KiB for each event. */
static void line_init(struct line *l, bool json)
{
	l->len = 0;
	l->json = json;
	l->full = false;
}

static void line_put(struct line *l, const char *data, size_t len)
{
	if (l->full || l->len + len > sizeof(l->data) - LINE_RESERVED) {
		l->full = true;
		return;
	}
	memcpy(l->data + l->len, data, len);
	l->len += len;
}

static void line_put_str(struct line *l, const char *text)
{
	line_put(l, text, strlen(text));
}

/* Into the reserved room. */
static void line_close(struct line *l, const char *text)
{
	size_t len = strlen(text);

	memcpy(l->data + l->len, text, len);
	l->len += len;
}

/* Length of the well-formed UTF-8 sequence of a printable character at p, 0 when it is none. */
static size_t utf8_sequence(const unsigned char *p, size_t len)
{
	static const unsigned char second_min[] = {[0xe0 - 0xc2] = 0xa0, [0xf0 - 0xc2] = 0x90};
	size_t need = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

	if (p[0] < 0xc2 || p[0] > 0xf4 || len < need)
		return 0;
	for (size_t i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if (p[0] - 0xc2u < sizeof(second_min) && p[1] < second_min[p[0] - 0xc2])
		return 0; /* overlong */
	if ((p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0; /* surrogates, beyond U+10FFFF */
	if (p[0] == 0xc2 && p[1] < 0xa0)
		return 0; /* C1 controls, which terminals act on */
	return need;
}

/* Bytes that mean the same in and out of quotes, in logfmt and JSON. */
static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void line_put_escaped(struct line *l, struct slice value)
{
	const unsigned char *p = (const unsigned char *)value.data;
	size_t at = 0;

	while (at < value.len && !l->full) {
		char escape[8];
		size_t len = 1;

		if (!is_plain(p[at]))
			len = utf8_sequence(p + at, value.len - at);
		if (len > 0) {
			line_put(l, value.data + at, len);
			at += len;
			continue;
		}
		if (p[at] == '"' || p[at] == '\\')
			snprintf(escape, sizeof(escape), "\\%c", p[at]);
		else if (p[at] == '\n')
			snprintf(escape, sizeof(escape), "\\n");
		else if (l->json && p[at] >= 0x80)
			snprintf(escape, sizeof(escape), "\\ufffd");
		else
			snprintf(escape, sizeof(escape), l->json ? "\\u%04x" : "\\x%02x", p[at]);
		line_put_str(l, escape);
		at++;
	}
}

static bool needs_quotes(struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];

		if (!is_plain(c) || c == ' ' || c == '=')
			return true;
	}
	return value.len == 0;
}

static void line_put_pair(struct line *l, struct slice key, struct slice value)
{
	bool quoted = l->json || needs_quotes(value);
	size_t start = l->len;

	if (l->json) {
		line_put_str(l, l->len == 0 ? "{\"" : ",\"");
		line_put(l, key.data, key.len);
		line_put_str(l, "\":");
	} else {
		if (l->len > 0)
			line_put_str(l, " ");
		line_put(l, key.data, key.len);
		line_put_str(l, "=");
	}
	if (quoted)
		line_put_str(l, "\"");
	if (l->full) {
		l->len = start; /* leave out what has not even begun */
		return;
	}
	line_put_escaped(l, value);
	if (quoted)
		line_close(l, "\"");
}

/* ---- the text of a call: event, then key=value pairs ---- */

/* Length of `key=` at text, without the `=`; 0 when there is none. */
static size_t key_length(struct slice text)
{
	size_t i = 0;

	while (i < text.len &&
	       ((text.data[i] >= 'a' && text.data[i] <= 'z') ||
		(text.data[i] >= '0' && text.data[i] <= '9') || text.data[i] == '_'))
		i++;
	return i < text.len && text.data[i] == '=' ? i : 0;
}

/* How far a value reaches: past its quotes, then to the next ` key=`. */
static size_t value_length(struct slice text)
{
	size_t i = 0;

	if (text.len > 0 && text.data[0] == '"') {
		for (i = 1; i < text.len && text.data[i] != '"'; i++) {
			if (text.data[i] == '\\')
				i++;
		}
	}
	for (; i < text.len; i++) {
		if (text.data[i] == ' ' &&
		    key_length(slice_from(text.data + i + 1, text.len - i - 1)))
			return i;
	}
	return text.len;
}

/* Undoes log_value()'s quoting into out (at least value.len bytes); other values stay as they are.
 */
static struct slice value_unquote(struct slice value, char *out)
{
	size_t len = 0;

	if (value.len < 2 || value.data[0] != '"' || value.data[value.len - 1] != '"')
		return value;
	for (size_t i = 1; i < value.len - 1; i++) {
		if (value.data[i] != '\\' || i + 1 >= value.len - 1) {
			out[len++] = value.data[i];
			continue;
		}
		i++;
		if (value.data[i] == 'n') {
			out[len++] = '\n';
		} else if (value.data[i] == 'x' && i + 2 < value.len - 1 &&
			   hex_value(value.data[i + 1]) >= 0 && hex_value(value.data[i + 2]) >= 0) {
			out[len++] = (char)(hex_value(value.data[i + 1]) * 16 +
					    hex_value(value.data[i + 2]));
			i += 2;
		} else {
			out[len++] = value.data[i];
		}
	}
	return slice_from(out, len);
}

static void line_put_text(struct line *l, struct slice text)
{
	char unquoted[TEXT_MAX];
	struct slice key = SLICE("event");

	for (;;) {
		size_t len = value_length(text);

		line_put_pair(l, key, value_unquote(slice_from(text.data, len), unquoted));
		if (len == text.len)
			return;
		text = slice_from(text.data + len + 1, text.len - len - 1);
		key = slice_from(text.data, key_length(text));
		text = slice_from(text.data + key.len + 1, text.len - key.len - 1);
	}
}

static void line_put_head(struct line *l, enum log_level level)
{
	char text[CLOCK_TEXT_SIZE];

	clock_wall_text(clock_wall_ms(), text);
	line_put_pair(l, SLICE("time"), slice_str(text));
	line_put_pair(l, SLICE("level"), slice_str(level_names[level]));
	line_put_pair(l, SLICE("process"), slice_str(process_name));
	snprintf(text, sizeof(text), "%ld", (long)getpid());
	line_put_pair(l, SLICE("process_id"), slice_str(text));
}

/* ---- where it goes ---- */

static void line_write(const struct line *l, enum log_level level)
{
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	ssize_t written;

	if (target == TARGET_SYSLOG) {
		syslog(priorities[level], "%.*s", (int)l->len - 1, l->data);
		return;
	}
	/* A log that can't be written has nobody to tell: the line is lost, the service goes on. */
	do {
		written = write(target_fd, l->data, l->len);
	} while (written < 0 && errno == EINTR);
}

static void log_write_va(enum log_level level, const char *fmt, va_list args)
	__attribute__((format(printf, 2, 0)));

static void log_write_va(enum log_level level, const char *fmt, va_list args)
{
	struct line line;
	char text[TEXT_MAX];
	int saved = errno;
	int len = vsnprintf(text, sizeof(text), fmt, args);

	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof(text))
		len = (int)sizeof(text) - 1;
	line_init(&line, log_format == LOG_FORMAT_JSON);
	line_put_head(&line, level);
	line_put_text(&line, slice_from(text, (size_t)len));
	line_close(&line, line.json ? "}\n" : "\n");
	line_write(&line, level);
	errno = saved;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_write_va(level, fmt, args);
	va_end(args);
}

void log_fatal(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_write_va(LOG_LEVEL_ERROR, fmt, args);
	va_end(args);
	_exit(1);
}

const char *log_value(struct slice value)
{
	static char ring[VALUE_RING][VALUE_MAX * 4 + 8]; /* \xNN for each byte, quotes, dots */
	static size_t turn;
	char *out = ring[turn++ % VALUE_RING];
	struct line line;
	struct slice shown = slice_from(value.data, value.len < VALUE_MAX ? value.len : VALUE_MAX);
	bool cut = shown.len < value.len;
	bool quoted = needs_quotes(shown);

	line_init(&line, false);
	if (quoted)
		line_put_str(&line, "\"");
	line_put_escaped(&line, shown);
	if (cut)
		line_put_str(&line, "...");
	if (quoted)
		line_put_str(&line, "\"");
	memcpy(out, line.data, line.len);
	out[line.len] = '\0';
	return out;
}

const char *log_value_str(const char *value)
{
	return log_value(slice_str(value ? value : ""));
}

/* ---- set-up ---- */

void log_init(const char *role, int slot)
{
	if (slot < 0)
		snprintf(process_name, sizeof(process_name), "%s", role);
	else
		snprintf(process_name, sizeof(process_name), "%s-%d", role, slot);
}

static int open_file(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

static void change_target(enum target_kind kind, char *path, int fd)
{
	if (target == TARGET_FILE)
		close(target_fd);
	if (target == TARGET_SYSLOG)
		closelog();
	free(target_path);
	target = kind;
	target_path = path;
	target_fd = fd;
}

int log_set_target(const char *name)
{
	int fd;

	if (strcmp(name, "stderr") == 0) {
		change_target(TARGET_STDERR, NULL, STDERR_FILENO);
		return 0;
	}
	if (strcmp(name, "syslog") == 0) {
		change_target(TARGET_SYSLOG, NULL, -1);
		openlog("keepsockd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
		return 0;
	}
	if (strncmp(name, "file:", 5) != 0 || name[5] == '\0') {
		errno = EINVAL;
		return -1;
	}
	fd = open_file(name + 5);
	if (fd < 0)
		return -1;
	change_target(TARGET_FILE, xstrdup(name + 5), fd);
	return 0;
}

int log_open(const char *level_wanted, const char *format_wanted, const char *target_wanted,
	     struct buffer *error)
{
	enum log_format format;
	enum log_level level;

	if (!log_level_parse(level_wanted, &level) || !log_format_parse(format_wanted, &format)) {
		buffer_append_str(error, "log.level or log.format is unknown");
		return -1;
	}
	log_set_format(format);
	log_set_level(level);
	if (log_set_target(target_wanted) < 0) {
		buffer_printf(error, "log.target: %s: %s", target_wanted, strerror(errno));
		return -1;
	}
	return 0;
}

int log_reopen(void)
{
	int fd;

	if (target != TARGET_FILE)
		return 0;
	fd = open_file(target_path);
	if (fd < 0)
		return -1;
	close(target_fd);
	target_fd = fd;
	return 0;
}

void log_set_format(enum log_format format)
{
	log_format = format;
}

bool log_format_parse(const char *name, enum log_format *format)
{
	for (size_t i = 0; i < sizeof(format_names) / sizeof(format_names[0]); i++) {
		if (strcmp(name, format_names[i]) == 0) {
			*format = (enum log_format)i;
			return true;
		}
	}
	return false;
}

void log_set_level(enum log_level level)
{
	log_threshold = level;
}

enum log_level log_get_level(void)
{
	return log_threshold;
}

bool log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}
