/* SPDX-License-Identifier: ISC */
/*
 * The door to the worker process: where client bytes live. One libevent loop,
 * one thread.
 */
#ifndef KEEPSOCK_WORKER_H
#define KEEPSOCK_WORKER_H

/*
 * Runs a worker until it is told to stop; keeper_fd is its end of the pair with the keeper, the
 * next descriptor that of the pair with the master (keeper_messages.h). The exit status.
 */
int worker_main(int keeper_fd, int argc, char **argv);

#endif
