-- Reads the state of a room, which is used by that.
--
-- KEYS: 1 the state, a hash.
-- ARGV: 1 for how many milliseconds it is kept.
-- Gives the revision and the state; nothing where there is none.

local function run()
  local key = KEYS[1]
  local kept = redis.call('HMGET', key, 'epoch', 'offset', 'server', 'state')
  local epoch, offset, server, state = kept[1], tonumber(kept[2]) or 0, kept[3] or '', kept[4]
  if not epoch or not state then return {} end
  -- It stays up to an eighth longer than it has to, so that most reads write nothing. Where nothing may be written just now, as on a
  -- server without its replicas, the state is read all the same.
  local keep = tonumber(ARGV[1])
  if redis.call('PTTL', key) < keep then
    redis.pcall('PEXPIRE', key, string.format('%.0f', keep + math.min(math.floor(keep / 8), 3600000)))
  end

  -- A server that takes over from another, or that restarts, may have lost what came after this: whoever has that is to see
  -- that this is another epoch. It is made of the server's id, so that all read the same where it can't be written yet.
  local info = redis.pcall('INFO', 'replication')
  local now_at = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or server
  if now_at ~= server then
    epoch = string.gsub(string.sub(now_at, 1, 16), '^0', 'a')
    redis.pcall('HSET', key, 'epoch', epoch, 'server', now_at)
  end
  return { epoch .. '.' .. string.format('%.0f', offset), state }
end

-- Redis does not say which command it is that a user may not run; from version 7 on it can be asked.
local function named(failure)
  if redis.acl_check_cmd and string.find(failure.err, "can't run this command", 1, true) then
    for command in string.gmatch('HMGET PTTL PEXPIRE HSET', '%a+') do
      if not redis.acl_check_cmd(command) then
        return redis.error_reply('NOPERM read_state.lua: this user has no right to run ' .. command)
      end
    end
  end
  return failure
end

local _, answer = pcall(run)
if type(answer) ~= 'table' then answer = { err = answer } end
return answer.err and named(answer) or answer
