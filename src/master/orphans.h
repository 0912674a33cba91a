/* SPDX-License-Identifier: ISC */
/*
 * What a dead master left: its keepers, which listen in the runtime directory,
 * and workers whose keeper died as well, which look for one there. The next
 * master finds them before it makes anything itself. Used by the master only.
 */
#ifndef KEEPSOCK_MASTER_ORPHANS_H
#define KEEPSOCK_MASTER_ORPHANS_H

#include <stdint.h>
#include <sys/types.h>

#include "keepsock/ipc_messages.h"
#include "keepsock/listeners.h"
#include "keepsock/node_page.h"
#include "keepsock/settings.h"

struct buffer;

/* Of one slot. Descriptors are owned; -1 = none. */
struct orphan {
	pid_t keeper; /* 0 = it is dead too, or there was none */
	int keeper_pidfd;
	int channel;       /* to it, non-blocking; what it has to tell is still unread */
	uint64_t order;    /* number of the last one it got */
	uint64_t restarts; /* of its worker */
	uint32_t layout;   /* of its arena; 0 = there is none, or it is not known */
	pid_t worker;      /* that has no keeper; 0 = the keeper tells */
	int worker_pidfd;
	int program_fd;
	int page_fd;
	int settings_fd;
	int tls_fd;
	int listeners[IPC_START_LISTENERS_MAX];
	size_t listener_count;
};

struct orphans {
	uint32_t slots; /* the highest that has something, plus 1; 0 = nothing was left */
	struct orphan slot[NODE_WORKERS_MAX];
};

/*
 * Looks for them, the run directory's lock being ours. A keeper that does not
 * answer is killed; a worker without keeper has a moment to come. 0 with
 * *orphans filled, or -1 with error when something lives that can't be adopted.
 */
int orphans_find(struct orphans *orphans, const char *run_dir, struct buffer *error);

/* False, with error, if there is one whose arena no worker of this program could take over. */
bool orphans_fit(const struct orphans *orphans, struct buffer *error);

/* Closes whatever is still in there. */
void orphans_free(struct orphans *orphans);

static inline bool orphan_exists(const struct orphan *orphan)
{
	return orphan->keeper || orphan->worker;
}

/* All listening sockets, which stay the orphans'; the array is the caller's to free. */
struct listener_member *orphans_listeners(const struct orphans *orphans, size_t *count);

#endif
