/* SPDX-License-Identifier: ISC */
/*
 * Comparing and wiping secrets. Runs in every process. It must never branch on
 * a secret's contents nor hand one to the log.
 */
#include <string.h>

#include "keepsock/secret.h"

bool secret_equal(struct slice a, struct slice b)
{
	/* volatile: the compiler must not stop at the first difference. */
	volatile unsigned char difference = 0;

	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		difference = (unsigned char)(difference | (a.data[i] ^ b.data[i]));
	return difference == 0;
}

void secret_wipe(void *p, size_t len)
{
	if (len > 0)
		explicit_bzero(p, len);
}
