/* SPDX-License-Identifier: ISC */
/*
 * Allocation for OpenSSL, see tls_memory.h: malloc() that forgets. Runs in every
 * process that speaks TLS.
 */
#include "keepsock/tls_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/secret.h"

static void *take(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(size);
}

static void give_back(void *memory, const char *file, int line)
{
	(void)file;
	(void)line;
	if (memory)
		secret_wipe(memory, malloc_usable_size(memory));
	free(memory);
}

/* realloc() might leave the old place as it is. */
static void *resize(void *old, size_t size, const char *file, int line)
{
	size_t had = old ? malloc_usable_size(old) : 0;
	void *fresh = size > 0 ? malloc(size) : NULL;

	if (size > 0 && !fresh)
		return NULL;
	if (fresh && old)
		memcpy(fresh, old, had < size ? had : size);
	give_back(old, file, line);
	return fresh;
}

bool tls_memory_prepare(void)
{
	return CRYPTO_set_mem_functions(take, resize, give_back) == 1;
}
