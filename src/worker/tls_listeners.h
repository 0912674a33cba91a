/* SPDX-License-Identifier: ISC */
/*
 * The TLS contexts of the worker's listeners, made from what the master sends,
 * and replaced in place when certificates change. Opens no file.
 */
#ifndef KEEPSOCK_WORKER_TLS_LISTENERS_H
#define KEEPSOCK_WORKER_TLS_LISTENERS_H

#include "worker/control.h"
#include "worker/internal.h"

/* From the descriptor of the start, which is taken over. Ends the process with a log line when it
 * can't be used. */
void tls_listeners_open(struct worker *w, int fd);
void tls_listeners_close(struct worker *w);

/* Which settings a listener (or a connection) has is found out by its address. */
const struct settings_listener *tls_listeners_settings(const struct worker *w, int fd);
/* A listener gets its context, if its settings have TLS; false: it has no settings. */
bool tls_listeners_attach(struct listener *listener);

/* New certificates: takes fd over. What can't be used is logged, and all stays as it is. */
void tls_listeners_replace(struct worker *w, int fd);

/* Which set is in force, for the master: inquiry.h. */
control_command_fn control_show_certificates;

#endif
