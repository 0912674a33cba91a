/* SPDX-License-Identifier: ISC */
/*
 * The admin commands, once: parser, privilege check, `help`, keepsockctl's
 * usage and the manual page read this table. A command that is not in it does
 * not exist.
 *
 * COMMAND(name, arguments, privilege, handler, help): the name is one or two
 * words. Arguments are words; those in brackets may be left out, and one that
 * ends in ... takes the rest of the line, spaces and all.
 */
#ifndef KEEPSOCK_ADMIN_COMMANDS_H
#define KEEPSOCK_ADMIN_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

struct buffer;

/* Each level may do what those before it may. */
enum admin_privilege {
	ADMIN_PRIVILEGE_VIEW,    /* whoever may connect to the socket */
	ADMIN_PRIVILEGE_OPERATE, /* until groups are configured: as admin */
	ADMIN_PRIVILEGE_ADMIN,   /* root and the service user */
};

/* clang-format off */
#define ADMIN_COMMANDS_TABLE(COMMAND)                                                              \
	COMMAND("help", "", VIEW, help,                                                            \
		"List the commands.")                                                              \
	COMMAND("status", "", VIEW, status,                                                        \
		"Say how the node is doing.")                                                      \
	COMMAND("show workers", "", VIEW, show_workers,                                            \
		"List the worker processes and their keepers; one that hangs shows its counters. " \
		"Protected: the keeper holds all that a successor needs.")                         \
	COMMAND("show connections", "", VIEW, show_connections,                                    \
		"List the connections.")                                                           \
	COMMAND("show connection", "ID", VIEW, show_connection,                                    \
		"Show everything about one connection.")                                           \
	COMMAND("show channels", "", VIEW, show_channels,                                          \
		"List the channels that have subscribers, once for each worker.")                  \
	COMMAND("show channel", "NAME", VIEW, show_channel,                                        \
		"Show one channel: each worker that has subscribers of it, and their number in all.") \
	COMMAND("show users", "", VIEW, show_users,                                                \
		"List the users with connections to this node, and how many.")                     \
	COMMAND("show user", "NAME...", VIEW, show_user,                                           \
		"List one user's connections to this node.")                                       \
	COMMAND("show sessions", "", VIEW, show_sessions,                                          \
		"List the clients of all nodes that share this node's Redis, as they are registered there.") \
	COMMAND("show nodes", "", VIEW, show_nodes,                                                \
		"List the registered workers of all nodes, and for how long they have been silent.") \
	COMMAND("show redis", "", VIEW, show_redis,                                                \
		"Show each worker's connections to Redis.")                                        \
	COMMAND("show sentinel", "", VIEW, show_sentinel,                                          \
		"Show what each Sentinel says about the master of its shard, and who is used.")    \
	COMMAND("show cluster", "", VIEW, show_cluster,                                            \
		"Show the node's role, and the role epoch that each Redis shard keeps. The "       \
		"supervisor's socket has a command of the same name, about all nodes.")            \
	COMMAND("show certificates", "", VIEW, show_certificates,                                  \
		"List the certificates of TLS listeners, and why the newest are not in force, if "  \
		"they are not.")                                                                   \
	COMMAND("show config", "", VIEW, show_config,                                              \
		"List the settings in force, without passwords.")                                  \
	COMMAND("show metrics", "", VIEW, show_metrics,                                            \
		"List the metrics of the node.")                                                   \
	COMMAND("show events", "", VIEW, show_events,                                              \
		"List the node's last events, the oldest first: Redis lost and back, verdicts on " \
		"continuity, purges, workers that died.")                                          \
	COMMAND("show fds", "", VIEW, show_fds,                                                    \
		"List each worker's open descriptors and their limit, the clients among them and " \
		"their limit, what it has deposited, and what its keeper has kept.")                \
	COMMAND("show takeovers", "", VIEW, show_takeovers,                                        \
		"List the last takeovers of workers that served: when, why, how that ended, how "  \
		"many connections moved, followed later, were lost, for how long nobody was "      \
		"served (freeze_us), and how many TLS handshakes the old worker still ended and "  \
		"handed over, or dropped.")                                                        \
	COMMAND("disconnect", "CLIENT_ID [CODE] [REASON...]", OPERATE, disconnect,                 \
		"Disconnect a client, with 3503 \"force disconnect\" unless told otherwise. "      \
		"Codes: 3000-3499 and 4000-4499 let it reconnect, 3500-3999 and 4500-4999 don't.") \
	COMMAND("unsubscribe", "CLIENT_ID [CHANNEL]", OPERATE, unsubscribe,                        \
		"End a client's subscription to a channel, or all of them. What a user has "       \
		"through the API it gets again when it reconnects.")                               \
	COMMAND("publish", "CHANNEL JSON...", OPERATE, publish,                                    \
		"Publish JSON to a channel.")                                                      \
	COMMAND("role", "", VIEW, role,                                                            \
		"Say what the node's role is, and whether it sends its clients away.")             \
	COMMAND("promote", "EPOCH", OPERATE, promote,                                              \
		"Be the primary: nodes with a lower epoch are fenced off in Redis, then the "      \
		"primary's listeners are opened. Answers when that is done. For the supervisor, "  \
		"which sees to it that no two nodes have the same epoch.")                         \
	COMMAND("demote", "[drain]", OPERATE, demote,                                              \
		"Be a standby: publish nothing any more, close the primary's listeners, send the " \
		"clients away with 3001, at once or, with drain, over drain.window. Answers when " \
		"they have been told.")                                                            \
	COMMAND("drain", "[now]", OPERATE, drain,                                                  \
		"Take no new clients, and send those that are there away with 3011 over "          \
		"drain.window, or at once. The role stays.")                                       \
	COMMAND("resume", "", OPERATE, resume,                                                     \
		"Take clients again after a drain.")                                               \
	COMMAND("purge", "NODE", ADMIN, purge,                                                     \
		"Take a node that is dead for sure out of Redis at once: its presence, sessions "  \
		"and registration. One that lives after all registers again.")                     \
	COMMAND("reload-certificates", "", ADMIN, reload_certificates,                             \
		"Read certificates, keys, revocation lists and ticket secrets again and put them " \
		"in force in all workers. No connection is closed; if they are no good, the old "  \
		"ones stay. Changed files are noticed without it.")                                \
	COMMAND("reload", "", ADMIN, reload,                                                       \
		"Read the configuration again and put it in force, without closing a connection; " \
		"answers when that is done, or why it is not.")                                    \
	COMMAND("upgrade", "[PATH]", ADMIN, upgrade,                                               \
		"Go over to another program, by default to what is installed by now where this "   \
		"one was started from, without closing a connection; answers when that is done, "  \
		"or why it is not. The file, and all directories above it, must be root's or the " \
		"service user's, and not writable by others.")                                     \
	COMMAND("log level", "LEVEL", ADMIN, log_level,                                            \
		"Log from now on at error, warning, info or debug.")

/* Test builds (--enable-crash-points) have these too. */
#define ADMIN_TEST_COMMANDS_TABLE(COMMAND)                                                         \
	COMMAND("debug arena", "SLOT", ADMIN, debug_arena,                                         \
		"Hand out the arena that the last dead worker of a slot left, as a descriptor.")   \
	COMMAND("debug adoption", "on|off", ADMIN, debug_adoption,                                 \
		"Let workers that follow a dead one adopt its connections, or end them. "          \
		"Keepers that are replaced forget it.")                                            \
	COMMAND("debug move", "FROM TO [COUNT]", ADMIN, debug_move,                                \
		"Begin to move connections of one worker slot to another, all of them or COUNT.")  \
	COMMAND("debug crash-after", "SLOT POINT [COUNT]", ADMIN, debug_crash_after,               \
		"Let a worker die when it reaches a crash point, for the COUNTth time.")           \
	COMMAND("debug crash-keeper", "SLOT POINT [SIGNAL]", ADMIN, debug_crash_keeper,            \
		"Let a slot's keeper die at a crash point, or have it stop there (SIGNAL 19).")    \
	COMMAND("debug crash-next", "SLOT POINT [SIGNAL]", ADMIN, debug_crash_next,                \
		"The same for the next worker that the slot's keeper starts.")                     \
	COMMAND("debug deposit-anew", "SLOT", ADMIN, debug_deposit_anew,                           \
		"Have a slot's worker deposit everything with its keeper anew.")                   \
	COMMAND("debug takeover", "SLOT [LIMIT_MS]", ADMIN, debug_takeover,                        \
		"Let a new worker take over from a slot's worker.")
/* clang-format on */

#define ADMIN_WORDS_MAX 8

struct admin_command {
	const char *name;
	const char *arguments;
	enum admin_privilege privilege;
	const char *help;
};

/* A request line, taken apart. */
struct admin_call {
	const struct admin_command *command; /* in the table; NULL = none */
	size_t index;                        /* of it */
	bool json;
	size_t argument_count;
	char *arguments[ADMIN_WORDS_MAX]; /* point into the line; the rest NULL */
};

size_t admin_command_count(void);
const struct admin_command *admin_command_at(size_t index);

const char *admin_privilege_name(enum admin_privilege privilege);

/*
 * Takes the line (which it cuts into strings) apart; 0, or -1 with error
 * saying what was expected.
 */
int admin_call_parse(char *line, struct admin_call *call, struct buffer *error);

/* The same by another table of that form. */
int admin_call_parse_in(const struct admin_command *rows, size_t count, char *line,
			struct admin_call *call, struct buffer *error);

/* Appends the commands as the section of the manual page keepsockctl(1). */
void admin_commands_write_man(struct buffer *out);

/* Appends the commands as keepsockctl --help shows them. */
void admin_commands_write_usage(struct buffer *out);

/* Both for another table of that form. */
void admin_rows_write_man(struct buffer *out, const struct admin_command *rows, size_t count);
void admin_rows_write_usage(struct buffer *out, const struct admin_command *rows, size_t count);

#endif
