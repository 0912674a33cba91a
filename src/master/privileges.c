/* SPDX-License-Identifier: ISC */
/*
 * Changing from root to the service user. Runs in the master, once, before it
 * opens anything that outlives the start. Nothing here can be undone, and a
 * failure halfway must end the process.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/privileges.h"

int privileges_find_user(const char *name, struct service_user *user, struct buffer *error)
{
	struct passwd *entry;

	user->uid = geteuid();
	user->gid = getegid();
	if (name[0] == '\0')
		return 0;
	errno = 0;
	entry = getpwnam(name);
	if (!entry) {
		buffer_printf(error, "node.user: %s: %s", name,
			      errno ? strerror(errno) : "there is no such user");
		return -1;
	}
	if (entry->pw_uid != user->uid && user->uid != 0) {
		buffer_printf(error,
			      "node.user: only root can become %s: start keepsockd as root "
			      "or as %s",
			      name, name);
		return -1;
	}
	user->uid = entry->pw_uid;
	user->gid = entry->pw_gid;
	return 0;
}

/* The C library has no call for it, and one capability is not worth a dependency. */
static int keep_bind_capability(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	memset(data, 0, sizeof(data));
	data[0].permitted = data[0].effective = UINT32_C(1) << CAP_NET_BIND_SERVICE;
	return (int)syscall(SYS_capset, &header, data);
}

/* Only what is inheritable can be ambient, and only that is left by an exec that is not root's. */
int privileges_keep_over_exec(struct buffer *error)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	const uint32_t bind_bit = UINT32_C(1) << CAP_NET_BIND_SERVICE;

	memset(data, 0, sizeof(data));
	if (syscall(SYS_capget, &header, data) < 0) {
		buffer_printf(error, "capget: %s", strerror(errno));
		return -1;
	}
	if (geteuid() == 0 || !(data[0].permitted & bind_bit))
		return 0;
	data[0].inheritable |= bind_bit;
	if (syscall(SYS_capset, &header, data) == 0 &&
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0)
		return 0;
	buffer_printf(error, "cannot keep the right to bind low ports: %s", strerror(errno));
	return -1;
}

int privileges_drop(const char *name, const struct service_user *user, struct buffer *error)
{
	const char *step = NULL;

	if (user->uid == geteuid())
		return 0;
	if (initgroups(name, user->gid) < 0)
		step = "initgroups";
	else if (setresgid(user->gid, user->gid, user->gid) < 0)
		step = "setresgid";
	else if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		step = "prctl";
	else if (setresuid(user->uid, user->uid, user->uid) < 0)
		step = "setresuid";
	else if (keep_bind_capability() < 0)
		step = "capset";
	else if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		step = "prctl";
	if (!step)
		return 0;
	buffer_printf(error, "cannot become %s: %s: %s", name, step, strerror(errno));
	return -1;
}

unsigned long privileges_raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	if (limit.rlim_cur < limit.rlim_max) {
		rlim_t before = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			return (unsigned long)before;
	}
	return (unsigned long)limit.rlim_cur;
}
