/* SPDX-License-Identifier: ISC */
/*
 * The VIP's nft rule, by libnftables. Runs in the supervisor. It must never
 * touch a table other than its own, nor leave a moment without the rule while
 * it sets it again: each change is one transaction.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/magic.h"
#include "supervisor/netlink.h"
#include "supervisor/vip_address.h"
#include "supervisor/vip_filter.h"

#define FILTER_MAGIC 0x46504956u /* "VIPF" */

struct vip_filter {
	uint32_t magic;
	char *table;           /* owned: its name */
	char *commands;        /* owned: what sets the rule */
	struct netlink events; /* changes of anybody's nft tables */
	struct event *event;
};

static char *table_name(const struct settings_vip *address)
{
	char host[VIP_ADDRESS_TEXT];

	vip_address_host(address, host);
	for (char *c = host; *c; c++)
		if (*c == '.' || *c == ':')
			*c = '_';
	return xasprintf("keepsock_vip_%s", host);
}

static char *make_commands(const char *table, const struct settings_vip *address)
{
	char host[VIP_ADDRESS_TEXT];

	/* Every line may be repeated: "flush" and the rule take effect in one transaction. */
	return xasprintf("add table inet %s\n"
			 "add chain inet %s output "
			 "{ type filter hook output priority 0; policy accept; }\n"
			 "flush chain inet %s output\n"
			 "add rule inet %s output %s saddr %s fib saddr type != local drop\n",
			 table, table, table, table, address->family == AF_INET ? "ip" : "ip6",
			 vip_address_host(address, host));
}

/* The first line of what libnftables says; the rest repeats our command. */
static void explain(struct nft_ctx *context, struct buffer *error)
{
	const char *text = nft_ctx_get_error_buffer(context);
	size_t len = text ? strcspn(text, "\n") : 0;

	buffer_append_str(error, "nft: ");
	if (len)
		buffer_append(error, text, len);
	else
		buffer_append_str(error, strerror(errno));
}

bool vip_filter_ensure(struct vip_filter *filter, struct buffer *error)
{
	struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
	bool done;

	if (!context) {
		buffer_append_str(error, "nft: no context");
		return false;
	}
	done = nft_ctx_buffer_output(context) == 0 && nft_ctx_buffer_error(context) == 0 &&
	       nft_run_cmd_from_buffer(context, filter->commands) == 0;
	if (!done)
		explain(context, error);
	nft_ctx_free(context);
	return done;
}

struct look {
	const struct vip_filter *filter;
	bool deleted;
};

static void on_message(const struct nlmsghdr *message, void *ctx)
{
	const uint16_t deleted = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE;
	struct look *look = ctx;
	const char *name;
	size_t len;

	if (message->nlmsg_type != deleted)
		return;
	name = netlink_attribute(message, NLMSG_LENGTH(sizeof(struct nfgenmsg)), NFTA_TABLE_NAME,
				 &len);
	if (name && strnlen(name, len) == strlen(look->filter->table) &&
	    memcmp(name, look->filter->table, strlen(look->filter->table)) == 0)
		look->deleted = true;
}

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
	struct vip_filter *filter = ctx;
	struct look look = {.filter = filter};
	struct buffer error = {0};

	(void)fd;
	(void)what;
	MAGIC_CHECK(filter, FILTER_MAGIC);
	/* When events were dropped, ours may be among them. */
	if (netlink_events(&filter->events, on_message, &look) == 0 && !look.deleted)
		return;
	if (vip_filter_ensure(filter, &error))
		log_warning("vip_rule_restored table=%s", filter->table);
	else
		log_error("vip_rule_missing table=%s reason=%s", filter->table,
			  log_value_str(buffer_cstr(&error)));
	buffer_free(&error);
}

static bool watch(struct vip_filter *filter, struct event_base *base, struct buffer *error)
{
	const unsigned group = NFNLGRP_NFTABLES;
	int code = netlink_open_events(&filter->events, NETLINK_NETFILTER, &group, 1);

	if (code < 0) {
		buffer_append_str(error, "the events of nft: ");
		netlink_explain(&filter->events, code, error);
		return false;
	}
	filter->event = event_new(base, filter->events.fd, EV_READ | EV_PERSIST, on_event, filter);
	if (filter->event && event_add(filter->event, NULL) == 0)
		return true;
	buffer_append_str(error, "no event for nft");
	return false;
}

struct vip_filter *vip_filter_open(struct event_base *base, const struct settings_vip *address,
				   struct buffer *error)
{
	struct vip_filter *filter = xcalloc(1, sizeof(*filter));

	filter->magic = FILTER_MAGIC;
	filter->events.fd = -1;
	filter->table = table_name(address);
	filter->commands = make_commands(filter->table, address);
	if (watch(filter, base, error) && vip_filter_ensure(filter, error))
		return filter;
	vip_filter_close(filter);
	return NULL;
}

void vip_filter_close(struct vip_filter *filter)
{
	MAGIC_CHECK(filter, FILTER_MAGIC);
	if (filter->event)
		event_free(filter->event);
	netlink_close(&filter->events);
	free(filter->table);
	free(filter->commands);
	filter->magic = 0;
	free(filter);
}
