/* SPDX-License-Identifier: ISC */
/* The role `keeper` of keepsockd; what it does is told in src/keeper/keeper.c. */
#ifndef KEEPSOCK_KEEPER_H
#define KEEPSOCK_KEEPER_H

/* Runs the process; ipc_fd is its end of the channel to the master. The exit status. */
int keeper_main(int ipc_fd, int argc, char **argv);

#endif
