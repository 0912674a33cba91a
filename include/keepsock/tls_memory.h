/* SPDX-License-Identifier: ISC */
/*
 * OpenSSL's memory: what it frees is overwritten first. It cleanses keys itself
 * but not all that they pass through; a TLS 1.2 session is written into a ticket
 * by way of a buffer that stays as it was. Every process that speaks TLS.
 */
#ifndef KEEPSOCK_TLS_MEMORY_H
#define KEEPSOCK_TLS_MEMORY_H

#include <stdbool.h>

/* Before any other call into OpenSSL; false: that has happened already. */
bool tls_memory_prepare(void);

#endif
