/* SPDX-License-Identifier: ISC */
/*
 * The door to the worker process: where client bytes live. One libevent loop,
 * one thread.
 */
#ifndef KEEPSOCK_WORKER_H
#define KEEPSOCK_WORKER_H

/* Runs a worker on its end of the pair with the master until told to stop; the exit status. */
int worker_main(int ipc_fd, int argc, char **argv);

#endif
