/* SPDX-License-Identifier: ISC */
/*
 * The master process: its one struct, and what its parts (worker slots,
 * inquiries, admin socket) need of each other. The master reads the
 * configuration, owns the listening sockets, the node page and the embedded
 * Redis, starts and replaces keepers, which do so with workers, and answers the
 * admin socket. It never
 * touches a client's byte and never reads a passport.
 */
#ifndef KEEPSOCK_MASTER_H
#define KEEPSOCK_MASTER_H

#include <stdbool.h>
#include <stdint.h>

#include "keepsock/ipc_messages.h"
#include "keepsock/listeners.h"
#include "keepsock/settings.h"
#include "keepsock/slot_move.h"

struct admin;
struct certificates;
struct buffer;
struct change;
struct embedded_redis;
struct sentinel_shard;
struct sentinel_watch;
struct event;
struct event_base;
struct ipc_message;
struct node_page;
struct reload;
struct resume;
struct upgrade;
struct takeovers;
struct inquiry;
struct role_change;
struct worker_slot;

enum master_phase {
	MASTER_STARTING, /* not every worker was ready yet */
	MASTER_RUNNING,
	MASTER_STOPPING,
};

/* Hexadecimal digits of a secret that this node makes for itself. */
#define CERTIFICATE_OWN_SECRET 64u

#define MASTER_SIGNALS 4
#define MASTER_MAGIC   UINT32_C(0x4d535452) /* "MSTR" */

struct master {
	uint32_t magic;
	enum master_phase phase;
	uint64_t phase_since_ms;
	uint64_t started_ms;
	struct event_base *base;
	struct settings settings;
	const char *config_name;       /* the file's name as given, or "defaults" */
	unsigned long open_file_limit; /* soft RLIMIT_NOFILE */
	int settings_fd;               /* the text that workers parse, sealed */
	int lock_fd;                   /* of the run directory */
	struct node_page *page;
	int page_fd;
	int program_fd; /* our own binary: keepers and workers are the same one */
	struct listeners listeners;
	struct embedded_redis *embedded;        /* NULL with an external server */
	struct sentinel_shard *sentinel_shards; /* shard_count; NULL with the embedded Redis */
	uint32_t shard_count;
	struct ipc_redis shards[REDIS_SHARDS_MAX]; /* as the workers know them */
	char *api_key;                             /* "" = none */
	struct ipc_keys token_keys;                /* as they were read last */
	struct ipc_keys subscription_token_keys;
	struct certificates *certificates; /* in force */
	uint64_t certificate_generation;   /* of the newest that was made */
	uint64_t certificate_seen;         /* stamp of the files when they were looked at last */
	uint64_t certificate_stamp;        /* ... when they were tried last */
	int64_t certificate_reminder;      /* the day of the last one */
	char *certificate_error;           /* why the newest are not in force; NULL = they are */
	struct event *certificate_timer;
	char ticket_secret[CERTIFICATE_OWN_SECRET + 1]; /* for listeners without a file */
	struct worker_slot *workers; /* worker_count of them, room for NODE_WORKERS_MAX */
	uint32_t worker_count;
	struct resize *resize;              /* under way, NULL = none */
	struct slot_move move;              /* under way */
	uint64_t moves;                     /* begun so far */
	struct ipc_message *message;        /* room for one incoming message of a worker */
	struct ipc_message *keeper_message; /* ... and of a keeper */
	struct inquiry *inquiries;          /* under way */
	uint64_t last_inquiry;
	struct admin *admin;
	struct admin *old_admin; /* has the last answer to give, at the place it had before; NULL */
	struct event *old_admin_timer;
	struct change *change; /* under way; NULL */
	struct reload *reload; /* that it is part of; NULL */
	struct upgrade *upgrade;
	struct resume *resume;    /* what it was before it executed this program; NULL = nothing */
	const char *program_path; /* as it was started; for an upgrade without a path */
	bool is_changing;         /* something that leads to one, or ends it */
	uint64_t last_takeover;
	struct takeovers *takeovers;
	struct role_change *role_change; /* owned; under way, NULL */
	bool log_level_changed;          /* by an operator: new workers are told */
	struct event *signals[MASTER_SIGNALS];
	struct event *stop_timer;
	bool other_program, other_settings; /* workers run with those of an earlier master */
	bool only_stops;                    /* it is there to end what a dead one left */
	int exit_status;
};

struct master_options {
	struct settings settings; /* parsed from config_text; becomes the master's */
	const char *config_name;
	struct slice config_text;
	unsigned long open_file_limit;
	const char *program_path;
	struct resume *resume; /* the master was another program until now; NULL; outlives it */
	bool only_stop;        /* end the node, also one whose master is dead */
};

const char *master_phase_name(enum master_phase phase);

/* Runs the node until it is told to stop; the exit status. */
int master_run(struct master_options *options);

/* A program that was executed in place can't be the master: executes the one before. Returns only
 * when that is impossible. */
void master_go_back(struct resume *resume, const char *reason);

/* Begins the graceful end; again: without grace. */
void master_stop(struct master *master, const char *reason);

/* Nothing more to wait for. */
void master_end_loop(struct master *master);

/* Starts or looks for Redis, and the workers, at once or when it is there; 0, or -1 with error. */
int master_redis_start(struct master *master, struct buffer *error);

/* Finds the embedded Redis that a dead master left, to end it; 0, also without one, or -1. */
int master_redis_adopt(struct master *master, struct buffer *error);

/* The settings are others: Sentinels are asked anew, workers told where Redis is. */
void master_redis_reloaded(struct master *master);

/* The workers are gone: ends the embedded Redis, then the loop. */
void master_redis_stop(struct master *master);
void master_redis_free(struct master *master);

/* Tells one worker where each shard is. */
void master_redis_tell(struct worker_slot *slot);

/* NULL when no Sentinels are asked about this shard. */
const struct sentinel_watch *master_redis_watch(const struct master *master, uint32_t shard);

/* Logs from now on as the settings say; 0, or -1 with error. */
int master_open_log(struct master *master, struct buffer *error);

/* Another admin socket; the one before closes once it has given its answers. */
void master_replace_admin(struct master *master, struct admin *admin);

/* A worker became ready or died. */
void master_on_worker_change(struct master *master);

/* Whether dead workers are to be replaced. */
static inline bool master_replaces_workers(const struct master *master)
{
	return master->phase != MASTER_STOPPING;
}

#endif
