/* SPDX-License-Identifier: ISC */
/*
 * Executing another program in place, see resume.h. Runs in the master: before
 * the exec in its loop, after it before anything else.
 */
#include "master/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "keepsock/admin_text.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/privileges.h"
#include "keepsock/text_file.h"

#define STATE_SIZE_MAX ((size_t)4 * 1024 * 1024)

/* A descriptor and the name under which it is handed over. */
struct handed {
	const char *name;
	int *fd;
};

#define HANDED_COUNT 5

static void list_handed(struct resume *resume, struct handed handed[HANDED_COUNT])
{
	handed[0] = (struct handed){"lock", &resume->lock_fd};
	handed[1] = (struct handed){"admin", &resume->admin_fd};
	handed[2] = (struct handed){"asker", &resume->asker_fd};
	handed[3] = (struct handed){"settings", &resume->settings_fd};
	handed[4] = (struct handed){"old_program", &resume->old_program_fd};
}

static void keep_over_exec(int fd, bool keep)
{
	if (fd >= 0 && fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC) < 0)
		log_error("descriptor_flags_failed error=%s", strerror(errno));
}

static void keep_all_over_exec(struct resume *resume, int state_fd, bool keep)
{
	struct handed handed[HANDED_COUNT];

	list_handed(resume, handed);
	for (size_t i = 0; i < HANDED_COUNT; i++)
		keep_over_exec(*handed[i].fd, keep);
	keep_over_exec(state_fd, keep);
}

/* A memfd with it, or -1. */
static int write_state(struct resume *resume)
{
	json_t *object =
		json_pack("{s:b, s:s, s:s, s:s, s:O}", "asker_json", resume->asker_json,
			  "config_name", resume->config_name, "program_path", resume->program_path,
			  "failure", resume->failure, "takeovers", resume->takeovers);
	struct handed handed[HANDED_COUNT];
	char *text;
	int fd = memfd_create("keepsock-resume", MFD_CLOEXEC);

	list_handed(resume, handed);
	for (size_t i = 0; i < HANDED_COUNT; i++)
		(void)json_object_set_new(object, handed[i].name, json_integer(*handed[i].fd));
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (fd >= 0 && (!text || text_file_write_all(fd, slice_str(text)) < 0)) {
		close(fd);
		fd = -1;
	}
	free(text);
	json_decref(object);
	return fd;
}

void resume_execute(struct resume *resume, int program_fd, struct buffer *error)
{
	char program[] = "keepsockd", config_option[] = "-c";
	char *state_option;
	int state_fd = write_state(resume);
	char *argv[] = {program, config_option, resume->config_name, NULL, NULL};
	sigset_t all, before;

	if (state_fd < 0) {
		buffer_printf(error, "cannot write down the state: %s", strerror(errno));
		return;
	}
	state_option = xasprintf("--resume=%d", state_fd);
	argv[3] = state_option;
	log_info("master_executes");
	keep_all_over_exec(resume, state_fd, true);
	/* A signal that comes meanwhile is for the one that follows. */
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	if (privileges_keep_over_exec(error) == 0) {
		execveat(program_fd, "", argv, environ, AT_EMPTY_PATH);
		buffer_printf(error, "cannot execute it: %s", strerror(errno));
	}
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	keep_all_over_exec(resume, state_fd, false);
	close(state_fd);
	free(state_option);
}

static char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return xstrdup(text ? text : "");
}

int resume_read(int fd, struct resume *resume)
{
	struct buffer text = {0}, error = {0};
	char *path = xasprintf("/proc/self/fd/%d", fd);
	struct handed handed[HANDED_COUNT];
	json_t *object = NULL;
	json_t *number;

	*resume = (struct resume){-1, -1, -1, false, -1, -1, NULL, NULL, NULL, NULL};
	list_handed(resume, handed);
	if (lseek(fd, 0, SEEK_SET) == 0 && text_file_read(path, STATE_SIZE_MAX, &text, &error) == 0)
		object = json_loadb(text.data, text.len, 0, NULL);
	for (size_t i = 0; object && i < HANDED_COUNT; i++) {
		number = json_object_get(object, handed[i].name);
		*handed[i].fd = number ? (int)json_integer_value(number) : -1;
		keep_over_exec(*handed[i].fd, false);
	}
	resume->asker_json = json_is_true(json_object_get(object, "asker_json"));
	resume->config_name = text_of(object, "config_name");
	resume->program_path = text_of(object, "program_path");
	resume->failure = text_of(object, "failure");
	resume->takeovers = json_incref(json_object_get(object, "takeovers"));
	buffer_free(&text);
	buffer_free(&error);
	free(path);
	close(fd);
	json_decref(object);
	return resume->lock_fd >= 0 && resume->settings_fd >= 0 ? 0 : -1;
}

void resume_close(struct resume *resume)
{
	struct handed handed[HANDED_COUNT];

	list_handed(resume, handed);
	for (size_t i = 0; i < HANDED_COUNT; i++) {
		if (*handed[i].fd >= 0)
			close(*handed[i].fd);
		*handed[i].fd = -1;
	}
	json_decref(resume->takeovers);
	resume->takeovers = NULL;
}

void resume_free(struct resume *resume)
{
	resume_close(resume);
	free(resume->config_name);
	free(resume->program_path);
	free(resume->failure);
	resume->config_name = resume->program_path = resume->failure = NULL;
}

static void append_success(const struct resume *resume, struct buffer *out)
{
	json_t *object = json_pack("{s:s, s:s}", "upgraded", resume->program_path, "version",
				   PACKAGE_VERSION);
	char *text = NULL;

	buffer_append_str(out, "OK\n");
	if (resume->asker_json)
		text = json_dumps(object, JSON_COMPACT);
	if (text)
		buffer_printf(out, "%s\n", text);
	else
		admin_text_object(out, object);
	free(text);
	json_decref(object);
}

/* Some words into a socket that had nothing in it: they fit. */
void resume_answer(struct resume *resume, const char *error)
{
	struct buffer text = {0};

	if (resume->asker_fd < 0)
		return;
	if (error)
		buffer_printf(&text, "ERROR %s\n", error);
	else
		append_success(resume, &text);
	for (size_t i = 0; error && i + 1 < text.len; i++) {
		if (text.data[i] == '\n')
			text.data[i] = ' ';
	}
	if (send(resume->asker_fd, text.data, text.len, MSG_NOSIGNAL | MSG_DONTWAIT) !=
	    (ssize_t)text.len)
		log_warning("upgrade_answer_lost");
	close(resume->asker_fd);
	resume->asker_fd = -1;
	buffer_free(&text);
}
