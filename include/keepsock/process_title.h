/* SPDX-License-Identifier: ISC */
/*
 * What `ps` shows for each keepsock process. The title overwrites the memory
 * the kernel shows as the command line: argv and the environment behind it.
 */
#ifndef KEEPSOCK_PROCESS_TITLE_H
#define KEEPSOCK_PROCESS_TITLE_H

/*
 * First thing in main(). Moves the arguments and the environment to the heap
 * (argv[i] and environ stay valid) and takes their old place for the title.
 */
void process_title_init(int argc, char **argv);

/* A longer title than fits is cut. Without process_title_init() it does nothing. */
void process_title_set(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The thread name in top and core files; cut to 15 bytes. */
void process_title_set_name(const char *name);

#endif
