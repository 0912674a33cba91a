/* SPDX-License-Identifier: ISC */
/*
 * The socket at which a keeper is found by those it was not started by or did
 * not start: run_dir/keeper-N.sock, SOCK_SEQPACKET, mode 0600. Whoever connects
 * must run under our own uid or be root. The path may be as long as the
 * directory's: it is reached through a descriptor of that.
 */
#ifndef KEEPSOCK_KEEPER_SOCKET_H
#define KEEPSOCK_KEEPER_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Listens there, in the place of a dead keeper's socket if need be. A
 * descriptor (non-blocking, close-on-exec), or -1 with errno.
 */
int keeper_socket_listen(const char *run_dir, uint32_t slot);

/* Connects; a descriptor (non-blocking, close-on-exec), or -1 with errno. */
int keeper_socket_connect(const char *run_dir, uint32_t slot);

/* The process that listens behind a connected descriptor; 0 when the kernel does not say. */
pid_t keeper_socket_peer(int fd);

/* Takes it away, when nobody is to look for the keeper any more. */
void keeper_socket_remove(const char *run_dir, uint32_t slot);

/* Which of the slots 0 .. max - 1 have a socket there, whether or not anybody listens; fills
 * `slots`, returns how many. */
size_t keeper_socket_list(const char *run_dir, uint32_t *slots, size_t max);

/*
 * Accepts one; *peer gets the process that connected. A descriptor as above,
 * or -1 with errno: EAGAIN, EPERM (a stranger, who is closed).
 */
int keeper_socket_accept(int fd, pid_t *peer);

#endif
