/* SPDX-License-Identifier: ISC */
/*
 * The certificates of the node's TLS listeners: the set in force, checked before
 * any worker sees it, and replaced in place when its files change or an operator
 * says so. A set that is no good changes nothing. Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_CERTIFICATES_H
#define KEEPSOCK_MASTER_CERTIFICATES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct buffer;
struct event_base;
struct master;
struct settings;
struct tls_context;
struct worker_slot;

/* Shorter than this it is a warning, repeated every day. */
#define CERTIFICATE_WARNING_DAYS 21

/* ---- a set ---- */

struct certificates {
	uint64_t generation;
	uint64_t stamp;                /* of the files, before they were read */
	int64_t loaded_at;             /* Unix s */
	int fd;                        /* what workers get, sealed; owned */
	struct tls_context **contexts; /* owned; one for each listener, NULL without TLS */
	size_t count;
};

/*
 * Reads and tries what the settings name. NULL with error, and *line (may be NULL)
 * that of the setting, 0 when there is none. Free it with certificates_free().
 */
struct certificates *certificates_load(const struct settings *settings, const char *own_secret,
				       uint64_t generation, struct buffer *error, int *line);
void certificates_free(struct certificates *certificates);

/* The same from what workers were given before, by fd. NULL: it is not for these settings. */
struct certificates *certificates_unseal(const struct settings *settings, int fd,
					 uint64_t generation);

/* keepsockd -t: 0, or -1 with "FILE:LINE: what is wrong" appended to error. */
int certificates_check(const struct settings *settings, const char *config_name,
		       struct buffer *error);

/* How many there are; *days_left (may be NULL): until the first of them expires, 0 = it has. */
size_t certificates_count(const struct certificates *certificates, int64_t now, int64_t *days_left);

/* A row for each, for `show certificates`. A new array. */
json_t *certificates_rows(const struct certificates *certificates, const struct settings *settings);

/* Logs each one, or only those that expire within that many days; -1: all. */
void certificates_log(const struct certificates *certificates, const struct settings *settings,
		      int64_t within_days);

/* False with error: the next set has a certificate that is new and out of date. */
bool certificates_acceptable(const struct certificates *from, const struct certificates *next,
			     const struct settings *settings, struct buffer *error);

/* ---- the set in force (certificate_watch.c) ---- */

/*
 * At the start: makes the first set, and the secret of tickets; 0, or -1 with error. When the files
 * are no good, what the workers of a dead master have (left_fd, -1 = nothing) stays in force.
 */
int certificates_open(struct master *master, int left_fd, struct buffer *error);
/* Begins to look at the files, once a second. */
void certificates_watch(struct master *master);
void certificates_close(struct master *master);

/* For a reload of the configuration: the set of other settings. NULL with error. */
struct certificates *certificates_prepare(struct master *master, const struct settings *settings,
					  struct buffer *error);

/* Reads the files again; 0: the new set is in force, or -1 with error and all is as before. */
int certificates_reload(struct master *master, const char *reason, struct buffer *error);

/* A worker is there, started with the set in force, or with another one: then it is told. */
void certificates_on_worker(struct worker_slot *slot, bool has_newest);

#endif
