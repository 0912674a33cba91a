/* SPDX-License-Identifier: ISC */
/* Hexadecimal digits. */
#ifndef KEEPSOCK_HEX_H
#define KEEPSOCK_HEX_H

/* The value of a hexadecimal digit of either case, -1 for anything else. */
static inline int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif
