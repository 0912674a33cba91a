/* SPDX-License-Identifier: ISC */
/*
 * What depends on the listener a request came by: the redirect from HTTP to HTTPS,
 * the challenges of ACME, Strict-Transport-Security. Run by the worker.
 */
#ifndef KEEPSOCK_WORKER_HTTP_EDGE_H
#define KEEPSOCK_WORKER_HTTP_EDGE_H

#include "worker/internal.h"

/* Answers a request for an ACME challenge, or one that is to come back by TLS; false: it is
 * somebody else's. */
bool http_edge_serve(struct connection *c, const struct http_request *request);

/* Appends the header that a response of this connection has beyond others. */
void http_edge_append_headers(const struct connection *c, struct buffer *headers);

#endif
