/* SPDX-License-Identifier: ISC */
/*
 * The processes of a node, as one who wants none of them to go on finds them:
 * master, keepers and workers each hold a lock on a byte of one file in the
 * runtime directory for as long as they live. The kernel knows the holder and
 * forgets it with the process, so the list is right whatever state they are in,
 * stopped ones included, and whoever started them.
 *
 * The byte's offset is kind << 32 | pid. POSIX locks on purpose: they name their
 * holder. They end when the process closes any descriptor of the file, so a
 * process that has joined must never open it again.
 */
#ifndef KEEPSOCK_NODE_PROCESSES_H
#define KEEPSOCK_NODE_PROCESSES_H

struct buffer;

/* In the order in which they are to end: none of them starts those before it. */
enum node_process { NODE_PROCESS_MASTER, NODE_PROCESS_KEEPER, NODE_PROCESS_WORKER };

/* We are one of them from now on, until we end. -1 with errno. */
int node_processes_join(const char *run_dir, enum node_process kind);

/*
 * Sends SIGKILL to each; how many there were, 0 once all have ended. One that had
 * just been started may not be found yet: zero counts when it is found some times,
 * a moment apart. -1 with error: it can't be known, or one is not ours to kill.
 */
int node_processes_kill(const char *run_dir, struct buffer *error);

#define NODE_PROCESSES_AGAIN_MS 50 /* that moment */
#define NODE_PROCESSES_TIMES    4  /* ... and so many times */

/* Kills and waits until none is left. 0, or -1 with error; none may have been there. */
int node_processes_end(const char *run_dir, int timeout_ms, struct buffer *error);

#endif
