/* SPDX-License-Identifier: ISC */
/*
 * Cross-origin requests of browsers (the Fetch standard's CORS protocol) to the
 * HTTP endpoints: which page may read an answer, and preflights. Run by the
 * worker. The origins are those that may open a WebSocket
 * (websocket.allowed_origins); a request without Origin is no concern of this.
 */
#ifndef KEEPSOCK_WORKER_HTTP_CORS_H
#define KEEPSOCK_WORKER_HTTP_CORS_H

#include "worker/internal.h"

/* True: no Origin, or one that is allowed. */
bool http_cors_origin_passes(const struct worker *w, const struct http_request *request);

/*
 * Notes the headers that the answer to this request needs in c->http_cors (owned
 * by the connection; NULL: none), where http_session_respond() finds them.
 */
void http_cors_prepare(struct connection *c, const struct http_request *request);

/* After prepare: answers a preflight (RFC 9110 OPTIONS with Access-Control-Request-Method) with
 * 204, or with 403 for a foreign page. False: it is none. methods: those of the resource. */
bool http_cors_preflight(struct connection *c, const struct http_request *request,
			 const char *methods);

#endif
