/* SPDX-License-Identifier: ISC */
/*
 * The commands of a supervisor's admin socket, once: as admin_commands.h has
 * those of a node, and in the same form.
 */
#ifndef KEEPSOCK_SUPERVISOR_COMMANDS_H
#define KEEPSOCK_SUPERVISOR_COMMANDS_H

#include "keepsock/admin_commands.h"

/* What stands above them in the manual page. */
#define SUPERVISOR_COMMANDS_HEADING                                            \
	"## Commands of a supervisor\n\nOn the socket of keepsock-supervisor " \
	"(`cluster.socket`).\n\n"

/* clang-format off */
#define SUPERVISOR_COMMANDS_TABLE(COMMAND)                                                         \
	COMMAND("help", "", VIEW, help,                                                            \
		"List the commands.")                                                              \
	COMMAND("status", "", VIEW, status,                                                        \
		"Say which state the node is in and since when, what keeps it from being the primary, " \
		"and how the lease is.")                                                           \
	COMMAND("show cluster", "", VIEW, show_cluster,                                            \
		"List this node and its peers as they say they are.")                              \
	COMMAND("show checks", "", VIEW, show_checks,                                              \
		"List the health checks of the node.")                                             \
	COMMAND("show events", "", VIEW, show_events,                                              \
		"List the last changes of state of all nodes, the oldest first, as Redis has them; " \
		"without Redis those of this node.")                                               \
	COMMAND("show metrics", "", VIEW, show_metrics,                                            \
		"List the metrics of the supervisor.")                                             \
	COMMAND("monitor", "", VIEW, monitor,                                                      \
		"Show each change of state of this node as it happens, until interrupted.")        \
	COMMAND("promote", "", OPERATE, promote,                                                   \
		"Make this node the primary: the one that is hands over. Answers when it is.")     \
	COMMAND("demote", "[force]", OPERATE, demote,                                              \
		"Hand over to another node. Waits up to 15 s for one that can take over, and is "  \
		"refused when there is none, unless forced. Answers when it is done.")             \
	COMMAND("maintenance", "on|off", OPERATE, maintenance,                                     \
		"On: hand over if this node is the primary, and let it neither be started nor "    \
		"promoted until this is taken back. Answers when it is done.")                     \
	COMMAND("log level", "LEVEL", ADMIN, log_level,                                            \
		"Log from now on at error, warning, info or debug.")
/* clang-format on */

#endif
