/* SPDX-License-Identifier: ISC */
/*
 * A master that executes another program in place: what it hands to itself.
 * Keepers, workers, listeners and Redis are found as any next master finds them.
 * Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_RESUME_H
#define KEEPSOCK_MASTER_RESUME_H

#include <jansson.h>
#include <stdbool.h>

struct buffer;
struct master;

/* Descriptors are owned; -1 = none. */
struct resume {
	int lock_fd;        /* of the run directory */
	int admin_fd;       /* the socket that listens */
	int asker_fd;       /* who asked for the upgrade */
	bool asker_json;    /* how it wants its answer */
	int settings_fd;    /* the configuration in force */
	int old_program_fd; /* to go back to; -1: this is the way back */
	char *config_name;  /* owned */
	char *program_path; /* owned */
	char *failure;      /* owned; why the other program was given up, "" = it was not */
	json_t *takeovers;  /* owned; rows of `show takeovers` */
};

/*
 * Executes the program, in this process; returns only when that failed, with
 * error. The struct's descriptors are close-on-exec before and after.
 */
void resume_execute(struct resume *resume, int program_fd, struct buffer *error);

/* What was handed over by that descriptor, which is closed; 0, or -1. */
int resume_read(int fd, struct resume *resume);

/* It is not needed any more, but for its texts. */
void resume_close(struct resume *resume);

/* Closes and frees what is still in there. */
void resume_free(struct resume *resume);

/* Tells the asker, if there is one, and forgets it; error: NULL = it is done. */
void resume_answer(struct resume *resume, const char *error);

#endif
