/* SPDX-License-Identifier: ISC */
/*
 * Bodies that carry several calls: those of /api/batch, and those of the legacy
 * endpoint /api. Knows neither connections nor Redis. Run by the worker. It
 * only cuts; what a call says is read when it is its turn (http_api_fields.c).
 */
#ifndef KEEPSOCK_WORKER_HTTP_API_BATCH_H
#define KEEPSOCK_WORKER_HTTP_API_BATCH_H

#include "worker/http_api_request.h"

struct http_api_command {
	enum http_api_method method; /* UNKNOWN: error 104 */
	struct slice params;         /* raw JSON object, in the body */
	uint32_t id;                 /* legacy only: goes into the reply unless 0 */
	bool bad;                    /* legacy only: params are no such call, error 107 */
};

struct http_api_commands {
	struct http_api_command *items; /* owned; at most HTTP_API_COMMANDS_MAX + 1, so that more
					   can be told */
	size_t count;
	bool parallel;
};

/*
 * {"commands": [{"publish": {…}}, …], "parallel": bool}. Of several methods in one
 * command the first of the table counts. False: no such JSON, or one of the calls
 * has a field of the wrong type. Free it in both cases.
 */
bool http_api_batch_parse(struct slice body, struct http_api_commands *commands);

/*
 * One or more {"method": "publish", "params": {…}, "id": n}, white space between
 * them; methods in any case. False: no JSON, nothing, or no such object. Free it
 * in both cases.
 */
bool http_api_legacy_parse(struct slice body, struct http_api_commands *commands);

void http_api_commands_free(struct http_api_commands *commands);

#endif
