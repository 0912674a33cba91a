-- The run this server is on, as redis_info.c reads it from INFO when a connection
-- is made: one half names the process, the other its life as a master. Since
-- then it may have been demoted and promoted again under the connection.
local function actual_run()
	local id = string.match(redis.call('INFO', 'server'), '\nrun_id:(%w+)')
	local replication = redis.call('INFO', 'replication')
	return string.sub(id, 1, 20) .. string.sub(string.match(replication, '\nmaster_replid:(%w+)') or '', 1, 20),
		replication
end
