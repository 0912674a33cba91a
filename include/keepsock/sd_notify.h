/* SPDX-License-Identifier: ISC */
/*
 * Readiness and status for systemd (Type=notify), sd_notify(3)'s protocol: one
 * datagram to the socket named by $NOTIFY_SOCKET. Used by the master only;
 * workers must not speak for the service.
 */
#ifndef KEEPSOCK_SD_NOTIFY_H
#define KEEPSOCK_SD_NOTIFY_H

/*
 * state holds lines such as "READY=1" or "STATUS=...". 1 = sent, 0 = nobody
 * asked for it (no $NOTIFY_SOCKET), -1 with errno.
 */
int sd_notify_send(const char *state);

#endif
