/* SPDX-License-Identifier: ISC */
/*
 * Fresh generations, for the calls that may renew one. Inside the Redis room
 * only.
 */
#ifndef KEEPSOCK_REDIS_GENERATION_H
#define KEEPSOCK_REDIS_GENERATION_H

#include "redis_request.h"

/* Adds REDIS_GENERATION_LENGTH random letters, never the same twice. */
void redis_generation_add_fresh(struct redis_request *request);

#endif
