/* SPDX-License-Identifier: ISC */
/*
 * An admin socket's server. Runs in the loop of the master and of the
 * supervisor: a slow or silent peer costs a timeout, never their time. Peers are
 * trusted no further than their uid; their text is parsed by the command table
 * alone.
 *
 *   READING ── line ──► ANSWERING ── written ──► freed
 *      │                    │  └── admin_answer_begin() ──► STREAMING ──► freed
 *      └── error, timeout ──┴──► freed (and what it waited for told)
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "keepsock/admin_server.h"
#include "keepsock/admin_text.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"

#define ADMIN_MAGIC         UINT32_C(0x41444d4e) /* "ADMN" */
#define ADMIN_REQUEST_MAGIC UINT32_C(0x41445251) /* "ADRQ" */

/* More peers than that wait in the socket's queue. */
#define REQUESTS_MAX     32
#define REQUEST_SIZE_MAX ((size_t)256 * 1024)
#define PEER_TIMEOUT_S   10
#define ACCEPT_PAUSE_S   1
#define ADMIN_BACKLOG    16
/* A streaming peer that leaves this much unread is cut off. */
#define STREAM_BACKLOG_MAX ((size_t)256 * 1024)

/* Making one takes a multiple of that in small pieces, which malloc() would keep for good. */
#define LARGE_ANSWER ((size_t)256 * 1024)

enum request_state { REQUEST_READING, REQUEST_ANSWERING, REQUEST_STREAMING };

struct admin {
	uint32_t magic;
	struct admin_options options; /* path is not used after the start */
	char *path;
	dev_t device; /* of the socket file, so that we never remove another's */
	ino_t inode;
	int fd;
	struct event *accept_event;
	struct event *pause_timer;
	struct admin_request *requests;
	unsigned request_count;
};

struct admin_request {
	uint32_t magic;
	enum request_state state;
	struct admin *admin;
	struct admin_request *next;
	struct bufferevent *stream;
	enum admin_privilege level;
	uid_t uid;
	char *line; /* owned; the call points into it */
	struct admin_call call;
	bool large;                 /* its answer is LARGE_ANSWER bytes or more */
	void (*on_gone)(void *ctx); /* who waits with an answer for it; NULL = nobody */
	void *on_gone_ctx;
};

static void resume_accepting(struct admin *admin)
{
	if (event_add(admin->accept_event, NULL) < 0)
		log_fatal("admin_event_failed");
}

static void free_request(struct admin_request *request)
{
	struct admin *admin = request->admin;
	struct admin_request **link = &admin->requests;

	while (*link != request)
		link = &(*link)->next;
	*link = request->next;
	if (request->on_gone)
		request->on_gone(request->on_gone_ctx);
	bufferevent_free(request->stream);
	free(request->line);
	if (request->large)
		alloc_trim();
	request->magic = 0;
	free(request);
	if (admin->request_count-- == REQUESTS_MAX)
		resume_accepting(admin);
}

/* ---- answering ---- */

static void on_written(struct bufferevent *stream, void *ctx)
{
	struct admin_request *request = ctx;

	(void)stream;
	MAGIC_CHECK(request, ADMIN_REQUEST_MAGIC);
	if (request->state == REQUEST_ANSWERING)
		free_request(request);
}

/* The request is freed when all of it is written. */
static void send_answer(struct admin_request *request, struct buffer *text)
{
	request->state = REQUEST_ANSWERING;
	request->large = text->len >= LARGE_ANSWER;
	if (bufferevent_write(request->stream, text->data, text->len) < 0)
		free_request(request);
	buffer_free(text);
}

void admin_answer_error(struct admin_request *request, const char *fmt, ...)
{
	struct buffer text = {0};
	va_list arguments;
	char *reason;

	va_start(arguments, fmt);
	if (vasprintf(&reason, fmt, arguments) < 0)
		abort();
	va_end(arguments);
	/* One line, whatever is in it. */
	for (char *c = reason; *c; c++) {
		if (*c == '\n' || *c == '\r')
			*c = ' ';
	}
	buffer_printf(&text, "ERROR %s\n", reason);
	free(reason);
	send_answer(request, &text);
}

static void append_json(struct buffer *out, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	buffer_append_str(out, text ? text : "null");
	buffer_append_char(out, '\n');
	free(text);
}

static void append_object(const struct admin_request *request, struct buffer *out,
			  const json_t *object)
{
	buffer_append_str(out, "OK\n");
	if (request->call.json)
		append_json(out, object);
	else
		admin_text_object(out, object);
}

void admin_answer_object(struct admin_request *request, json_t *object)
{
	struct buffer text = {0};

	append_object(request, &text, object);
	json_decref(object);
	send_answer(request, &text);
}

static void append_rows_json(struct buffer *out, json_t *summary, json_t *rows, json_t *silent)
{
	json_t *whole = json_deep_copy(summary);

	if (json_object_set(whole, "rows", rows) < 0 ||
	    json_object_set(whole, "not_answering", silent) < 0)
		log_error("admin_answer_failed");
	append_json(out, whole);
	json_decref(whole);
}

static void append_rows_text(struct buffer *out, json_t *summary, json_t *rows, json_t *silent)
{
	json_t *slot;
	size_t i;

	admin_text_rows(out, rows);
	if (json_object_size(summary) > 0)
		buffer_append_char(out, '\n');
	admin_text_object(out, summary);
	json_array_foreach(silent, i, slot)
		buffer_printf(out, "worker %d: not answering\n", (int)json_integer_value(slot));
}

void admin_answer_summary(struct admin_request *request, json_t *summary, json_t *rows,
			  json_t *not_answering)
{
	struct buffer text = {0};

	buffer_append_str(&text, "OK\n");
	if (request->call.json)
		append_rows_json(&text, summary, rows, not_answering);
	else
		append_rows_text(&text, summary, rows, not_answering);
	json_decref(summary);
	json_decref(rows);
	json_decref(not_answering);
	send_answer(request, &text);
}

void admin_answer_rows(struct admin_request *request, json_t *rows, json_t *not_answering)
{
	admin_answer_summary(request, json_object(), rows,
			     not_answering ? not_answering : json_array());
}

/* Nothing was written to this peer yet, so its socket has room for these few bytes. */
static int send_with_fd(int peer, const struct buffer *text, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {.iov_base = text->data, .iov_len = text->len};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;

	memset(&control, 0, sizeof(control));
	header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	return sendmsg(peer, &message, MSG_NOSIGNAL) == (ssize_t)text->len ? 0 : -1;
}

void admin_answer_object_with_fd(struct admin_request *request, json_t *object, int fd)
{
	struct buffer text = {0};

	append_object(request, &text, object);
	json_decref(object);
	if (send_with_fd(bufferevent_getfd(request->stream), &text, fd) < 0)
		log_warning("admin_send_failed error=%s", strerror(errno));
	buffer_free(&text);
	free_request(request);
}

/* ---- answers that come later, or go on ---- */

void admin_request_wait(struct admin_request *request, void (*on_gone)(void *ctx), void *ctx)
{
	MAGIC_CHECK(request, ADMIN_REQUEST_MAGIC);
	request->on_gone = on_gone;
	request->on_gone_ctx = ctx;
}

void admin_answer_begin(struct admin_request *request)
{
	MAGIC_CHECK(request, ADMIN_REQUEST_MAGIC);
	request->state = REQUEST_STREAMING;
	/* Its end of input is how we learn that the peer has gone. */
	bufferevent_set_timeouts(request->stream, NULL, NULL);
	if (bufferevent_write(request->stream, "OK\n", 3) < 0 ||
	    bufferevent_enable(request->stream, EV_READ) < 0)
		free_request(request);
}

void admin_answer_continue(struct admin_request *request, json_t *object)
{
	struct evbuffer *output = bufferevent_get_output(request->stream);
	struct buffer text = {0};

	MAGIC_CHECK(request, ADMIN_REQUEST_MAGIC);
	if (request->call.json)
		append_json(&text, object);
	else
		admin_text_line(&text, object);
	json_decref(object);
	if (evbuffer_get_length(output) + text.len > STREAM_BACKLOG_MAX ||
	    bufferevent_write(request->stream, text.data, text.len) < 0)
		free_request(request);
	buffer_free(&text);
}

void *admin_request_owner(const struct admin_request *request)
{
	return request->admin->options.owner;
}

const struct admin_call *admin_request_call(const struct admin_request *request)
{
	return &request->call;
}

/* ---- reading ---- */

static bool is_utf8(const char *text)
{
	json_t *value = json_string(text);
	bool valid = value != NULL;

	json_decref(value);
	return valid;
}

/* The one place where privileges are checked. The request may be freed when this returns. */
static void run_call(struct admin_request *request)
{
	const struct admin_command *command = request->call.command;

	if (command->privilege > request->level) {
		admin_answer_error(request, "%s needs the privilege %s, uid %ld has %s",
				   command->name, admin_privilege_name(command->privilege),
				   (long)request->uid, admin_privilege_name(request->level));
		return;
	}
	if (command->privilege > ADMIN_PRIVILEGE_VIEW)
		log_info("admin_command uid=%ld command=%s", (long)request->uid, command->name);
	request->admin->options.handlers[request->call.index](request);
}

/* Takes the line over. */
static void on_line(struct admin_request *request, char *line, size_t length)
{
	struct buffer error = {0};

	bufferevent_disable(request->stream, EV_READ);
	request->state = REQUEST_ANSWERING;
	request->line = line;
	if (strlen(line) != length || !is_utf8(line))
		admin_answer_error(request, "the request is not UTF-8 text");
	else if (admin_call_parse_in(request->admin->options.commands,
				     request->admin->options.command_count, line, &request->call,
				     &error) < 0)
		admin_answer_error(request, "%s", buffer_cstr(&error));
	else
		run_call(request);
	buffer_free(&error);
}

static void on_readable(struct bufferevent *stream, void *ctx)
{
	struct admin_request *request = ctx;
	struct evbuffer *input = bufferevent_get_input(stream);
	size_t length;
	char *line;

	MAGIC_CHECK(request, ADMIN_REQUEST_MAGIC);
	if (request->state != REQUEST_READING)
		return;
	line = evbuffer_readln(input, &length, EVBUFFER_EOL_LF);
	if (line)
		on_line(request, line, length);
	else if (evbuffer_get_length(input) >= REQUEST_SIZE_MAX)
		admin_answer_error(request, "the request is longer than %zu bytes",
				   REQUEST_SIZE_MAX);
}

/* A last line without its newline counts too: the peer has said all it has to say. */
static void on_end_of_input(struct admin_request *request)
{
	struct evbuffer *input = bufferevent_get_input(request->stream);
	size_t length = evbuffer_get_length(input);
	char *line;

	if (length == 0) {
		free_request(request);
		return;
	}
	line = xmalloc(length + 1);
	evbuffer_remove(input, line, length);
	line[length] = '\0';
	on_line(request, line, length);
}

static void on_stream_event(struct bufferevent *stream, short what, void *ctx)
{
	struct admin_request *request = ctx;

	(void)stream;
	MAGIC_CHECK(request, ADMIN_REQUEST_MAGIC);
	if (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))
		free_request(request);
	else if ((what & BEV_EVENT_EOF) && request->state == REQUEST_READING)
		on_end_of_input(request);
	else if ((what & BEV_EVENT_EOF) && request->state == REQUEST_STREAMING)
		free_request(request);
}

/* ---- accepting ---- */

/* Root and the service user may do everything, others look. */
static int identify_peer(int fd, struct admin_request *request)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -1;
	request->uid = peer.uid;
	request->level = peer.uid == 0 || peer.uid == geteuid() ? ADMIN_PRIVILEGE_ADMIN
								: ADMIN_PRIVILEGE_VIEW;
	return 0;
}

static void start_request(struct admin *admin, int fd)
{
	struct timeval timeout = {.tv_sec = PEER_TIMEOUT_S};
	struct admin_request *request = xcalloc(1, sizeof(*request));

	request->magic = ADMIN_REQUEST_MAGIC;
	request->admin = admin;
	request->stream = bufferevent_socket_new(admin->options.base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!request->stream)
		log_fatal("admin_stream_failed");
	request->next = admin->requests;
	admin->requests = request;
	if (++admin->request_count == REQUESTS_MAX)
		event_del(admin->accept_event);
	bufferevent_setcb(request->stream, on_readable, on_written, on_stream_event, request);
	bufferevent_setwatermark(request->stream, EV_READ, 0, REQUEST_SIZE_MAX);
	bufferevent_set_timeouts(request->stream, &timeout, &timeout);
	if (identify_peer(fd, request) < 0 ||
	    bufferevent_enable(request->stream, EV_READ | EV_WRITE) < 0)
		free_request(request);
}

static void on_connection(evutil_socket_t fd, short what, void *ctx)
{
	struct timeval pause = {.tv_sec = ACCEPT_PAUSE_S};
	struct admin *admin = ctx;
	int peer;

	(void)what;
	MAGIC_CHECK(admin, ADMIN_MAGIC);
	peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (peer >= 0) {
		start_request(admin, peer);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* Out of descriptors, most likely; the peer is still there after a pause. */
		log_warning("admin_accept_failed error=%s", strerror(errno));
		event_del(admin->accept_event);
		if (evtimer_add(admin->pause_timer, &pause) < 0)
			log_fatal("admin_timer_failed");
	}
}

static void on_pause_over(evutil_socket_t fd, short what, void *ctx)
{
	struct admin *admin = ctx;

	(void)fd;
	(void)what;
	MAGIC_CHECK(admin, ADMIN_MAGIC);
	if (admin->request_count < REQUESTS_MAX)
		resume_accepting(admin);
}

/* ---- the socket ---- */

static bool answers(int fd, const struct sockaddr_un *address)
{
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	       errno == EAGAIN;
}

/* Removes what a dead master left; anything else at that path is not ours to remove. */
static int remove_stale(const struct admin *admin, const struct sockaddr_un *address,
			struct buffer *error)
{
	struct stat status;
	bool alive;
	int fd;

	if (lstat(address->sun_path, &status) < 0) {
		if (errno == ENOENT)
			return 0;
		buffer_printf(error, "%s: %s", address->sun_path, strerror(errno));
		return -1;
	}
	if (!S_ISSOCK(status.st_mode)) {
		buffer_printf(error, "%s: %s exists and is no socket", admin->options.setting,
			      address->sun_path);
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	alive = fd >= 0 && answers(fd, address);
	if (fd >= 0)
		close(fd);
	if (alive) {
		buffer_printf(error, "%s: another process listens on %s", admin->options.setting,
			      address->sun_path);
		return -1;
	}
	if (unlink(address->sun_path) < 0) {
		buffer_printf(error, "cannot remove the old %s: %s", address->sun_path,
			      strerror(errno));
		return -1;
	}
	return 0;
}

/* With the mode in force from the file's first moment. */
static int bind_socket(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t before = umask((mode_t)0777 & ~mode);
	int result = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	int saved = errno;

	umask(before);
	errno = saved;
	return result;
}

/* Its file may have been removed meanwhile: then it is nobody's to remove. */
static int adopt_socket(struct admin *admin)
{
	struct stat status;

	admin->fd = admin->options.adopt_fd;
	if (lstat(admin->path, &status) == 0) {
		admin->device = status.st_dev;
		admin->inode = status.st_ino;
	}
	return 0;
}

static int open_socket(struct admin *admin, struct buffer *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;

	if (strlen(admin->path) >= sizeof(address.sun_path)) {
		buffer_printf(error, "%s: %s is longer than %zu bytes", admin->options.setting,
			      admin->path, sizeof(address.sun_path) - 1);
		return -1;
	}
	memcpy(address.sun_path, admin->path, strlen(admin->path));
	if (admin->options.adopt_fd > 0)
		return adopt_socket(admin);
	if (remove_stale(admin, &address, error) < 0)
		return -1;
	admin->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (admin->fd < 0 || bind_socket(admin->fd, &address, admin->options.mode) < 0 ||
	    listen(admin->fd, ADMIN_BACKLOG) < 0 || lstat(admin->path, &status) < 0) {
		buffer_printf(error, "cannot listen on %s: %s", admin->path, strerror(errno));
		return -1;
	}
	admin->device = status.st_dev;
	admin->inode = status.st_ino;
	return 0;
}

int admin_server_fd(const struct admin *admin)
{
	return admin->fd;
}

int admin_request_detach(struct admin_request *request)
{
	int fd = fcntl(bufferevent_getfd(request->stream), F_DUPFD_CLOEXEC, 0);
	int saved = errno;

	request->on_gone = NULL;
	free_request(request);
	errno = saved;
	return fd;
}

struct admin *admin_server_open(const struct admin_options *options, struct buffer *error)
{
	struct admin *admin = xcalloc(1, sizeof(*admin));

	admin->magic = ADMIN_MAGIC;
	admin->options = *options;
	admin->fd = -1;
	admin->path = xstrdup(options->path);
	admin->options.path = NULL;
	if (open_socket(admin, error) < 0) {
		admin_close(admin);
		return NULL;
	}
	admin->accept_event =
		event_new(options->base, admin->fd, EV_READ | EV_PERSIST, on_connection, admin);
	admin->pause_timer = evtimer_new(options->base, on_pause_over, admin);
	if (!admin->accept_event || !admin->pause_timer)
		log_fatal("admin_event_failed");
	resume_accepting(admin);
	log_info("admin_socket path=%s", log_value_str(admin->path));
	return admin;
}

static void remove_socket(struct admin *admin)
{
	struct stat status;

	if (admin->inode != 0 && lstat(admin->path, &status) == 0 &&
	    status.st_dev == admin->device && status.st_ino == admin->inode &&
	    unlink(admin->path) < 0)
		log_warning("admin_socket_left path=%s error=%s", log_value_str(admin->path),
			    strerror(errno));
}

void admin_close(struct admin *admin)
{
	if (!admin)
		return;
	MAGIC_CHECK(admin, ADMIN_MAGIC);
	while (admin->requests)
		free_request(admin->requests);
	if (admin->accept_event)
		event_free(admin->accept_event);
	if (admin->pause_timer)
		event_free(admin->pause_timer);
	remove_socket(admin);
	if (admin->fd >= 0)
		close(admin->fd);
	free(admin->path);
	admin->magic = 0;
	free(admin);
}
