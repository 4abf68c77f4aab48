-- Sets the state of a room and publishes it, in one step. docs/history.md tells how to call it.
--
-- KEYS: 1 the state, a hash.
-- ARGV: 1 the channel; 2 the state; 3 what has changed, or nothing; 4 the revision that it takes the place of, nothing where
-- there is to be none, or * for any; 5 PUBLISH or SPUBLISH; 6 for how many milliseconds it is kept; 7 a random epoch, should
-- one begin: up to 16 hexadecimal digits, the first of them not 0.
-- Gives `set`, the revision and the number of connections that got it; or `conflict` and the revision that there is, if any.

local function run()
  local key, channel, state, patch, after = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
  local keep = tonumber(ARGV[6])
  if not (keep and keep >= 1) or not string.match(ARGV[7], '^[1-9a-f][0-9a-f]*$') or #ARGV[7] > 16 then
    return redis.error_reply('ERR state.lua: argument 6 is a number, and 7 is up to 16 hexadecimal digits')
  end
  local function text(number) return string.format('%.0f', number) end

  local before = redis.call('HMGET', key, 'epoch', 'offset', 'server', 'state')
  local epoch, offset, server = before[1], tonumber(before[2]) or 0, before[3] or ''
  local revision = epoch and epoch .. '.' .. text(offset) or ''

  -- A server that takes over from another, or that restarts, may have lost the newest state: it begins an epoch of its own. Who has
  -- read the state here may have been given the epoch that read_state.lua makes, while that could not be written.
  local info = redis.pcall('INFO', 'replication')
  local now_at = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or server
  local as_read = revision
  if epoch and now_at ~= server then
    as_read = string.gsub(string.sub(now_at, 1, 16), '^0', 'a') .. '.' .. text(offset)
  end
  if after ~= '*' and after ~= revision and after ~= as_read then return { 'conflict', as_read } end

  if not epoch or now_at ~= server then epoch = ARGV[7] end
  offset = offset + 1
  redis.call('HSET', key, 'epoch', epoch, 'offset', text(offset), 'server', now_at, 'state', state)
  redis.call('PEXPIRE', key, keep)

  -- Last, as all before can fail. What can't be published is not kept.
  if revision == '' or patch == '' then revision, patch = '', '' end
  local head = '\1s' .. epoch .. '.' .. text(offset) .. ';' .. revision .. ';' .. text(#patch) .. ';'
  local receivers = redis.pcall(ARGV[5], channel, head .. patch .. state)
  if type(receivers) == 'table' then
    if before[1] then
      redis.call('HSET', key, 'epoch', before[1], 'offset', before[2], 'server', server, 'state', before[4])
    else
      redis.call('DEL', key)
    end
    return receivers
  end
  return { 'set', epoch .. '.' .. text(offset), receivers }
end

-- Redis does not say which command it is that a user may not run; from version 7 on it can be asked.
local function named(failure)
  if redis.acl_check_cmd and string.find(failure.err, "can't run this command", 1, true) then
    for command in string.gmatch('HMGET HSET PEXPIRE DEL ' .. ARGV[5], '%a+') do
      if not redis.acl_check_cmd(command) then
        return redis.error_reply('NOPERM state.lua: this user has no right to run ' .. command)
      end
    end
  end
  return failure
end

local _, answer = pcall(run)
if type(answer) ~= 'table' then answer = { err = answer } end
return answer.err and named(answer) or answer
