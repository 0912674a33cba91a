/* SPDX-License-Identifier: ISC */
/*
 * The log: one line an event whatever a value holds, keys that can't be forged,
 * JSON that parses, levels, targets and rotation. Lines are read back from a
 * file in a private directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "keepsock/log.h"

static char directory[64];
static char path[96];
static char rotated[96];
static char content[65536];

static int set_up(void **state)
{
	char target[112];

	(void)state;
	snprintf(directory, sizeof(directory), P_tmpdir "/keepsock-test-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/log", directory);
	snprintf(rotated, sizeof(rotated), "%s/log.1", directory);
	snprintf(target, sizeof(target), "file:%s", path);
	log_init("worker", 3);
	log_set_format(LOG_FORMAT_LOGFMT);
	log_set_level(LOG_LEVEL_INFO);
	return log_set_target(target);
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	unlink(rotated);
	return log_set_target("stderr") != 0 || rmdir(directory) != 0;
}

/* The whole file; empties it for the next look. */
static const char *take_file(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	len = read(fd, content, sizeof(content) - 1);
	assert_true(len >= 0);
	content[len] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	return content;
}

/* The one line written, without what differs from run to run: from "event" on. */
static const char *take_event(void)
{
	const char *line = take_file(path);
	const char *event = strstr(line, "event=");

	assert_non_null(event);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	content[strlen(content) - 1] = '\0';
	return event;
}

static json_t *take_json(void)
{
	json_error_t error;
	json_t *line = json_loads(take_file(path), JSON_REJECT_DUPLICATES, &error);

	assert_non_null(line);
	return line;
}

static const char *json_text(const json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	assert_non_null(text);
	return text;
}

static void test_head_of_a_line(void **state)
{
	char expected[96];
	const char *line;

	(void)state;
	log_info("started");
	line = take_file(path);
	assert_int_equal(strncmp(line, "time=2", 6), 0);
	assert_int_equal(line[15], 'T');
	assert_int_equal(line[24], '.');
	assert_int_equal(line[28], 'Z');
	snprintf(expected, sizeof(expected),
		 " level=info process=worker-3 process_id=%ld event=started\n", (long)getpid());
	assert_string_equal(line + 29, expected);

	log_init("master", -1);
	log_warning("started");
	assert_non_null(strstr(take_file(path), " level=warning process=master process_id="));
}

static void test_pairs(void **state)
{
	(void)state;
	log_info("worker_died slot=%d status=%s", 4, "killed");
	assert_string_equal(take_event(), "event=worker_died slot=4 status=killed");
	log_info("two words key=bare value with spaces next=1");
	assert_string_equal(take_event(),
			    "event=\"two words\" key=\"bare value with spaces\" next=1");
	log_info("state old=a new=b -> c");
	assert_string_equal(take_event(), "event=state old=a new=\"b -> c\"");
	log_info("empty key= next=");
	assert_string_equal(take_event(), "event=empty key=\"\" next=\"\"");
	log_info("%s", "");
	assert_string_equal(take_event(), "event=\"\"");
}

static void test_peer_values_cannot_forge(void **state)
{
	(void)state;
	log_info("closed reason=%s code=1", log_value_str("bye level=error \"x\" admin=true"));
	assert_string_equal(take_event(),
			    "event=closed reason=\"bye level=error \\\"x\\\" admin=true\" code=1");
	log_info("closed reason=%s code=1", log_value_str("a\nlevel=error event=b\\"));
	assert_string_equal(take_event(),
			    "event=closed reason=\"a\\nlevel=error event=b\\\\\" code=1");
	/* Even a caller that forgot log_value() can't be made to write two lines. */
	log_info("closed reason=%s code=1", "a\r\nb\x1b[31m");
	assert_string_equal(take_event(), "event=closed reason=\"a\\x0d\\nb\\x1b[31m\" code=1");
}

static void test_values(void **state)
{
	char text[300];

	(void)state;
	assert_string_equal(log_value_str("plain-word_1.2:3/4"), "plain-word_1.2:3/4");
	assert_string_equal(log_value_str(""), "\"\"");
	assert_string_equal(log_value_str(NULL), "\"\"");
	assert_string_equal(log_value_str("a b"), "\"a b\"");
	assert_string_equal(log_value_str("a=b"), "\"a=b\"");
	assert_string_equal(log_value(SLICE("nul\0byte")), "\"nul\\x00byte\"");
	assert_string_equal(log_value_str("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"),
			    "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"");
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(strlen(log_value_str(text)), 203);
	assert_string_equal(log_value_str(text) + 200, "...");
}

static void test_eight_values_in_one_call(void **state)
{
	(void)state;
	log_info("e a=%s b=%s c=%s d=%s e=%s f=%s g=%s h=%s", log_value_str("1"),
		 log_value_str("2"), log_value_str("3"), log_value_str("4"), log_value_str("5"),
		 log_value_str("6"), log_value_str("7"), log_value_str("8"));
	assert_string_equal(take_event(), "event=e a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8");
}

static void test_bad_utf8_is_escaped(void **state)
{
	static const struct {
		const char *bytes;
		const char *shown;
	} cases[] = {
		{"\x80", "\"\\x80\""},
		{"\xc0\xaf", "\"\\xc0\\xaf\""},
		{"\xe0\x80\x80", "\"\\xe0\\x80\\x80\""},
		{"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""},
		{"\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},
		{"\xf5\x80\x80\x80", "\"\\xf5\\x80\\x80\\x80\""},
		{"\xe2\x82", "\"\\xe2\\x82\""},
		{"\xc2\x85", "\"\\xc2\\x85\""}, /* well-formed, but a control character */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(log_value_str(cases[i].bytes), cases[i].shown);
}

static void test_json(void **state)
{
	json_t *line;

	(void)state;
	log_set_format(LOG_FORMAT_JSON);
	log_error("closed reason=%s bare=some words id=7",
		  log_value_str("quote \" back \\ line \n bad \xff nul \x01 ok \xc3\xbc"));
	line = take_json();
	assert_string_equal(json_text(line, "level"), "error");
	assert_string_equal(json_text(line, "process"), "worker-3");
	assert_string_equal(json_text(line, "event"), "closed");
	assert_string_equal(json_text(line, "reason"),
			    "quote \" back \\ line \n bad \xef\xbf\xbd nul \x01 ok \xc3\xbc");
	assert_string_equal(json_text(line, "bare"), "some words");
	assert_string_equal(json_text(line, "id"), "7");
	json_decref(line);
}

static void test_long_lines_are_cut_and_stay_whole(void **state)
{
	char text[9000];
	json_t *line;

	(void)state;
	memset(text, '\1', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("long a=%s b=1", text);
	assert_true(strlen(take_event()) < 4096);

	log_set_format(LOG_FORMAT_JSON);
	log_info("long a=%s b=1", text);
	line = take_json();
	assert_string_equal(json_text(line, "event"), "long");
	json_decref(line);

	/* Pairs that do not fit any more are left out as a whole. */
	memset(text, '\1', 1000);
	text[1000] = '\0';
	log_info("long a=%s b=1 c=2", text);
	line = take_json();
	assert_null(json_object_get(line, "c"));
	json_decref(line);
}

static void test_levels(void **state)
{
	enum log_level level = LOG_LEVEL_INFO;

	(void)state;
	log_debug("quiet");
	assert_string_equal(take_file(path), "");
	log_set_level(LOG_LEVEL_DEBUG);
	assert_int_equal(log_get_level(), LOG_LEVEL_DEBUG);
	log_debug("loud");
	assert_string_equal(take_event(), "event=loud");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("quiet");
	log_info("quiet");
	assert_string_equal(take_file(path), "");
	log_error("loud");
	assert_string_equal(take_event(), "event=loud");

	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
		assert_true(log_level_parse(log_level_name((enum log_level)i), &level));
		assert_int_equal(level, i);
	}
	assert_false(log_level_parse("loud", &level));
	assert_false(log_level_parse("", &level));
}

static void test_unwanted_arguments_are_not_evaluated(void **state)
{
	int evaluated = 0;

	(void)state;
	log_debug("quiet n=%d", ++evaluated);
	assert_int_equal(evaluated, 0);
}

static void test_errno_survives(void **state)
{
	(void)state;
	errno = ENOENT;
	log_info("failed error=%m");
	assert_int_equal(errno, ENOENT);
	assert_string_equal(take_event(), "event=failed error=\"No such file or directory\"");
}

static void test_rotation(void **state)
{
	struct stat st;

	(void)state;
	log_info("before");
	assert_int_equal(rename(path, rotated), 0);
	log_info("between");
	assert_int_equal(log_reopen(), 0);
	log_info("after");
	assert_string_equal(take_event(), "event=after");
	assert_non_null(strstr(take_file(rotated), "event=between"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0137, 0);
}

static void test_targets(void **state)
{
	(void)state;
	assert_int_equal(log_set_target("file:/nonexistent/log"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(log_set_target("file:"), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(log_set_target("elsewhere"), -1);
	assert_int_equal(errno, EINVAL);
	log_info("still here");
	assert_string_equal(take_event(), "event=\"still here\"");
	assert_int_equal(log_set_target("syslog"), 0);
	assert_int_equal(log_reopen(), 0);
	log_info("to syslog");
	assert_string_equal(take_file(path), "");
}

static void test_fatal_logs_and_exits_with_1(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		log_fatal("no_way out=%d", 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_non_null(strstr(take_file(path), "level=error"));
}

static void test_formats(void **state)
{
	enum log_format format = LOG_FORMAT_LOGFMT;

	(void)state;
	assert_true(log_format_parse("json", &format));
	assert_int_equal(format, LOG_FORMAT_JSON);
	assert_true(log_format_parse("logfmt", &format));
	assert_int_equal(format, LOG_FORMAT_LOGFMT);
	assert_false(log_format_parse("xml", &format));
}

int main(void)
{
#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_FILE(test_head_of_a_line),
		WITH_FILE(test_pairs),
		WITH_FILE(test_peer_values_cannot_forge),
		WITH_FILE(test_values),
		WITH_FILE(test_eight_values_in_one_call),
		WITH_FILE(test_bad_utf8_is_escaped),
		WITH_FILE(test_json),
		WITH_FILE(test_long_lines_are_cut_and_stay_whole),
		WITH_FILE(test_levels),
		WITH_FILE(test_unwanted_arguments_are_not_evaluated),
		WITH_FILE(test_errno_survives),
		WITH_FILE(test_rotation),
		WITH_FILE(test_targets),
		WITH_FILE(test_fatal_logs_and_exits_with_1),
		WITH_FILE(test_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
