/* SPDX-License-Identifier: ISC */
/*
 * An upgrade, see upgrade.h. Runs in the master's loop.
 *
 *   may it be executed? ─► its self-check ─► each worker is taken over from by one of
 *   the new program ─► keepers of the new program ─► the master executes it
 *
 * A failure before the third step changes nothing, one in it is undone. In the
 * last one, an exec that fails leaves this program running, which then takes the
 * workers back; a new program that can't start as a master goes back by itself
 * (master.c).
 */
#include "master/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keepsock/admin_server.h"
#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/master.h"
#include "master/change.h"
#include "master/program_file.h"
#include "master/resume.h"
#include "master/self_check.h"
#include "master/takeovers.h"

#define UPGRADE_MAGIC UINT32_C(0x55504752) /* "UPGR" */

struct upgrade {
	uint32_t magic;
	struct master *master;
	int program_fd; /* the one that is not in force: first the new, then the old */
	char *path;     /* owned */
	struct self_check *check;
	struct upgrade_asker asker;
	struct buffer failure; /* why it is being undone */
};

static void free_upgrade(struct upgrade *upgrade)
{
	upgrade->master->upgrade = NULL;
	upgrade->master->is_changing = false;
	self_check_drop(upgrade->check);
	if (upgrade->program_fd >= 0)
		close(upgrade->program_fd);
	buffer_free(&upgrade->failure);
	free(upgrade->path);
	upgrade->magic = 0;
	free(upgrade);
}

void upgrade_drop(struct master *master)
{
	if (master->upgrade)
		free_upgrade(master->upgrade);
}

static void refuse(struct upgrade *upgrade, const char *error)
{
	const struct upgrade_asker asker = upgrade->asker;
	char *reason = xstrdup(error);

	log_error("upgrade_failed program=%s reason=%s", log_value_str(upgrade->path),
		  log_value_str(reason));
	free_upgrade(upgrade);
	asker.refused(asker.ctx, reason);
	free(reason);
}

static void exchange(struct upgrade *upgrade)
{
	int fd = upgrade->master->program_fd;

	upgrade->master->program_fd = upgrade->program_fd;
	upgrade->program_fd = fd;
}

/* ---- the last step ---- */

static void on_taken_back(void *ctx, const char *error)
{
	struct upgrade *upgrade = ctx;

	MAGIC_CHECK(upgrade, UPGRADE_MAGIC);
	if (error)
		buffer_printf(&upgrade->failure, "; %s", error);
	refuse(upgrade, buffer_cstr(&upgrade->failure));
}

/* Workers and keepers are new, the master can't be: all go back. */
static void take_back(struct upgrade *upgrade)
{
	const struct change_plan plan = {
		.reason = TAKEOVER_ROLLBACK,
		.replace_keepers = true,
		.done = on_taken_back,
		.ctx = upgrade,
	};

	exchange(upgrade);
	change_start(upgrade->master, &plan);
}

static void execute(struct upgrade *upgrade)
{
	struct master *master = upgrade->master;
	struct resume resume = {
		.lock_fd = master->lock_fd,
		.admin_fd = admin_server_fd(master->admin),
		.settings_fd = master->settings_fd,
		.old_program_fd = upgrade->program_fd,
		.config_name = (char *)(uintptr_t)master->config_name,
		.program_path = upgrade->path,
		.failure = (char *)(uintptr_t) "",
		.takeovers = takeovers_rows(master),
	};

	resume.asker_fd = upgrade->asker.detach(upgrade->asker.ctx, &resume.asker_json);
	resume_execute(&resume, master->program_fd, &upgrade->failure);
	/* We are still here. */
	json_decref(resume.takeovers);
	resume_answer(&resume, buffer_cstr(&upgrade->failure));
	take_back(upgrade);
}

/* ---- the steps before ---- */

static void revert(void *ctx)
{
	struct upgrade *upgrade = ctx;

	MAGIC_CHECK(upgrade, UPGRADE_MAGIC);
	exchange(upgrade);
}

static void on_changed(void *ctx, const char *error)
{
	struct upgrade *upgrade = ctx;

	MAGIC_CHECK(upgrade, UPGRADE_MAGIC);
	if (error)
		refuse(upgrade, error);
	else
		execute(upgrade);
}

static void on_checked(void *ctx, const char *error)
{
	struct upgrade *upgrade = ctx;
	const struct change_plan plan = {
		.reason = TAKEOVER_UPGRADE,
		.replace_keepers = true,
		.revert = revert,
		.done = on_changed,
		.ctx = upgrade,
	};

	MAGIC_CHECK(upgrade, UPGRADE_MAGIC);
	upgrade->check = NULL;
	if (error) {
		refuse(upgrade, error);
		return;
	}
	exchange(upgrade);
	change_start(upgrade->master, &plan);
}

void upgrade_start(struct master *master, const char *path, const struct upgrade_asker *asker)
{
	const char *obstacle = change_obstacle(master);
	struct self_check *check = NULL;
	struct upgrade *upgrade;
	struct buffer error = {0};

	if (obstacle) {
		asker->refused(asker->ctx, obstacle);
		return;
	}
	upgrade = xcalloc(1, sizeof(*upgrade));
	*upgrade = (struct upgrade){
		.magic = UPGRADE_MAGIC,
		.master = master,
		.path = xstrdup(path ? path : master->program_path),
		.asker = *asker,
	};
	master->upgrade = upgrade;
	master->is_changing = true;
	log_info("upgrade program=%s", log_value_str(upgrade->path));
	upgrade->program_fd = program_file_open(upgrade->path, &error);
	if (upgrade->program_fd < 0)
		refuse(upgrade, buffer_cstr(&error));
	else
		check = self_check_start(master, upgrade->program_fd, on_checked, upgrade);
	/* One that could not begin has been refused already. */
	if (check)
		upgrade->check = check;
	buffer_free(&error);
}
