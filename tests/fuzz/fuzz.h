/* SPDX-License-Identifier: ISC */
/*
 * What the fuzz targets share. A target looks for more than memory errors: it
 * checks what the parser promises and aborts where that does not hold, so every
 * finding of libFuzzer is a bug. Targets keep nothing between two inputs.
 */
#ifndef KEEPSOCK_TESTS_FUZZ_H
#define KEEPSOCK_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/buffer.h"
#include "keepsock/slice.h"

/* libFuzzer's entry (https://llvm.org/docs/LibFuzzer.html); returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool promise)
{
	if (!promise)
		abort();
}

/* An empty slice may point anywhere. */
static inline bool lies_in(struct slice part, struct slice whole)
{
	return part.len == 0 ||
	       (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

/*
 * A heap copy of exactly these bytes, so that the sanitizer sees a read of one
 * byte more, also behind a piece of the input. Free data.
 */
static inline struct slice exact_copy(const void *data, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);

	require(copy != NULL);
	if (len > 0)
		memcpy(copy, data, len);
	return slice_from(copy, len);
}

/* Takes the first bytes, as many as there are up to len, off the input. */
static inline struct slice take_input(const uint8_t **data, size_t *size, size_t len)
{
	struct slice piece = slice_from(*data, len < *size ? len : *size);

	*data += piece.len;
	*size -= piece.len;
	return piece;
}

#endif
