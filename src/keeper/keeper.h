/* SPDX-License-Identifier: ISC */
/*
 * What the files of the keeper room share. Nothing outside src/keeper includes
 * this.
 */
#ifndef KEEPSOCK_KEEPER_KEEPER_H
#define KEEPSOCK_KEEPER_KEEPER_H

#include <event2/event.h>

#include "keeper/keeper_takeover.h"
#include "keepsock/buffer.h"
#include "keepsock/child.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/kept_table.h"

#define KEEPER_MAGIC UINT32_C(0x4b454550) /* "KEEP" */

/* Besides the program, what may come with an order: node page, settings, listeners. */
#define KEEPER_ORDER_FDS_MAX (IPC_FDS_MAX - 1) /* an arena may come before them */

enum keeper_phase {
	PHASE_IDLE,     /* no worker: none was ordered yet, the next one is due, or we stop */
	PHASE_ABSENT,   /* one runs that another keeper started; it has not said HELLO */
	PHASE_OFFERED,  /* one was started and offered what is kept; it takes it over, or refuses */
	PHASE_ATTACHED, /* one runs, and deposits */
};

/* What is to be sent and could not be yet; bits. */
enum keeper_due {
	DUE_START = 1u << 0,
	DUE_BATCH = 1u << 1,
	DUE_AGAIN = 1u << 2,
	DUE_DEATH = 1u << 3,
	DUE_WORKER = 1u << 4,
	DUE_STATUS = 1u << 5,
	DUE_CHANNEL = 1u << 6,
	DUE_STATE = 1u << 7,
	/* Of a takeover. */
	DUE_FREEZE = 1u << 8,
	DUE_THAW = 1u << 9,
	DUE_NEXT_START = 1u << 10,
	DUE_NEXT_BATCH = 1u << 11,
	DUE_NEXT_WORKER = 1u << 12,
	DUE_TAKEN_OVER = 1u << 13,
};

/* At the socket at the same time: the worker, a master, and somebody who is neither. */
#define KEEPER_VISITORS_MAX 3

/* Somebody at the socket who has not said yet what for. */
struct visitor {
	struct keeper *keeper; /* NULL = nobody */
	pid_t pid;
	int fd; /* owned */
	struct event *event;
};

struct keeper {
	uint32_t magic;
	uint32_t slot;
	enum keeper_phase phase;
	uint64_t phase_since_ms;
	bool stopping;
	struct event_base *base;
	struct ipc_message *message; /* room for one incoming message; owned */
	unsigned due;                /* enum keeper_due */
	struct event *retry;         /* for what is due */
	struct event *status_timer;  /* a changed number of descriptors is told soon */

	/* The master. */
	int master_fd; /* owned; -1: it is dead, the next one comes by the socket */
	struct event *master_event;

	/* What a worker is started with; wiped when it is replaced. */
	uint64_t order; /* 0 = none yet */
	struct buffer order_payload;
	int order_fds[KEEPER_ORDER_FDS_MAX]; /* owned */
	size_t order_fd_count;

	/* The worker. */
	pid_t worker;              /* 0 = none runs */
	struct child child;        /* if it is ours */
	int worker_pidfd;          /* if it is not: owned, -1 = none */
	struct event *worker_exit; /* ... watched */
	int worker_fd;             /* owned; our end of the pair, or a visitor's; -1 */
	struct event *worker_event;
	int master_end;          /* of the worker's channel to the master, until that has it */
	int worker_end;          /* of one that the worker does not have yet */
	bool needs_channel;      /* the master has none to the worker that runs */
	uint64_t worker_order;   /* it was started with */
	uint64_t alive_since_ms; /* started fresh, or adopted; 0 = not yet */
	uint64_t restarts;
	uint32_t restart_delay_ms;
	struct event *restart;
	struct keeper_death last_death;
	int left_arena; /* a copy for the master, in test builds; -1 */

	/* What is kept. */
	struct kept_table kept;
	int arena_fd;              /* owned; -1 = none */
	bool never_adopt;          /* test builds: as a test wants it */
	unsigned failed_adoptions; /* in a row: died before they had adopted */
	size_t hand_over_cursor;
	uint32_t handed_over;
	bool is_protected;
	uint64_t asked_again_ms; /* to deposit everything again */

	struct takeover takeover;
	struct leaver *leavers;                /* owned */
	struct keeper_crash_point crash_point; /* for the next worker, in test builds */

	/* The socket. */
	int listen_fd;
	struct event *listen_event;
	struct visitor visitors[KEEPER_VISITORS_MAX];
	unsigned next_visitor; /* where the next one has its place */
	char *run_dir;         /* owned */
};

/* --- keeper.c: the process, the master, sending --- */
void keeper_close_fd(int *fd);
void keeper_free_event(struct event **event);
void keeper_change_phase(struct keeper *keeper, enum keeper_phase to, const char *reason);
/* Something is to be sent: now, or when the other side can take it. */
void keeper_send_due(struct keeper *keeper, unsigned due);
/* The number of descriptors changed: the master is told, but not each time. */
void keeper_status_changed(struct keeper *keeper);
void keeper_end(struct keeper *keeper);
/* A master that goes on for a dead one; takes over its channel. False: there is one that lives. */
bool keeper_master_attach(struct keeper *keeper, int fd);

/* --- keeper_worker.c: its life --- */
/* Whether what failed with that errno is worth another attempt. */
bool keeper_may_be_sent_later(int error);
/* Starts a worker; offered what is kept, if there is anything. */
void keeper_worker_start(struct keeper *keeper);
void keeper_worker_init(struct keeper *keeper);
/* Watches one that runs already; takes the pidfd over. */
void keeper_worker_watch(struct keeper *keeper, pid_t pid, int pidfd);
/*
 * Starts a process by the newest order; *channel and *master_end get our ends of
 * its channels. 0, or -1 with error.
 */
int keeper_worker_launch(struct keeper *keeper, struct child *child,
			 void (*on_exit)(struct child *child, int status, void *ctx), int *channel,
			 int *master_end, struct buffer *error);
/* Tells a worker what it starts with; with flags also the arena. 0, or -1 with errno. */
int keeper_worker_send_start(struct keeper *keeper, int fd, uint32_t flags);
/* The callback of keeper->child. */
void keeper_worker_on_exit(struct child *child, int status, void *ctx);
/* Whoever had the arena is dead: the next one starts. */
void keeper_worker_on_death(struct keeper *keeper, int32_t status);
void keeper_worker_kill(struct keeper *keeper, const char *reason);
/* Takes over the worker's channel. */
void keeper_worker_attach(struct keeper *keeper, int fd);
/* Gives worker and master a channel if they have none and the worker can take it now. */
void keeper_worker_connect_master(struct keeper *keeper);
int keeper_worker_pidfd(const struct keeper *keeper);
/* Sends what of `due` is for the worker; what is left of it. */
unsigned keeper_worker_send(struct keeper *keeper, unsigned due);
void keeper_worker_free(struct keeper *keeper);

/* --- keeper_deposits.c: what the worker says --- */
/* One message of the worker's channel. */
void keeper_on_worker_message(struct keeper *keeper, struct ipc_message *message);
/* Sends the next batch of a hand-over, or its end; 0, or -1 with errno. */
int keeper_hand_over(struct keeper *keeper);
/* The arena that counts from now on. */
const char *keeper_on_arena(struct keeper *keeper, struct ipc_message *message);
/* Ends the kept connections and forgets the arena. */
void keeper_give_up_kept(struct keeper *keeper, const char *reason);
void keeper_set_protected(struct keeper *keeper, bool is_protected);

/* --- keeper_visitor.c: the socket --- */
int keeper_visitors_listen(struct keeper *keeper);
void keeper_visitors_free(struct keeper *keeper);

#endif
