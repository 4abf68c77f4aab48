-- Reads the log of a room; begins one where there is none.
--
-- KEYS: 1 the log, a list; 2 its mark, a hash.
-- ARGV: 1 for how many milliseconds messages are kept; 2 a random epoch, should a log begin; 3 `newest` and 4 how many, or 3
-- the epoch and 4 the offset after which to read.
-- Gives the position of the head, the ends of earlier epochs, the time, and the entries, of two elements each.

local function run()
  local log, mark, age = KEYS[1], KEYS[2], tonumber(ARGV[1])
  local marked = redis.call('HMGET', mark, 'head', 'earlier')
  local head, epoch = string.match(marked[1] or '', '^(%d+);%d+;%d+;(%x+);%x*$')
  local time = redis.call('TIME')
  local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))

  if not epoch then
    local info = redis.pcall('INFO', 'replication')
    local _, place = string.find(type(info) == 'string' and info or '', 'master_replid:', 1, true)
    local server = place and string.match(string.sub(info, place + 1, place + 16), '^%x+$') or ''
    redis.call('HSET', mark, 'head', '0;0;0;' .. ARGV[2] .. ';' .. server, 'earlier', '')
    redis.call('DEL', log)
    redis.call('PEXPIRE', mark, age + 86400000)
    return { ARGV[2] .. '.0', '', now, {} }
  end
  -- The mark stays for a day longer than the log. To see to that twice a day is enough, so most reads write nothing. Where nothing
  -- may be written just now, as on a server without its replicas, the log is read all the same.
  if redis.call('PTTL', mark) < age + 43200000 then redis.pcall('PEXPIRE', mark, age + 86400000) end

  local offset, earlier, count = tonumber(head), marked[2] or '', 0
  if ARGV[3] == 'newest' then
    count = tonumber(ARGV[4])
  else
    local after, last = tonumber(ARGV[4]), ARGV[3] == epoch and offset
    for of, ended in string.gmatch(earlier, '(%x+)%.(%d+)') do
      if of == ARGV[3] then last = tonumber(ended) end
    end
    if last and after <= last then count = offset - after end
  end
  local messages = count > 0 and redis.call('LRANGE', log, string.format('%.0f', -2 * count), -1) or {}
  return { epoch .. '.' .. string.format('%.0f', offset), earlier, now, messages }
end

-- Redis does not say which command it is that a user may not run; from version 7 on it can be asked.
local function named(failure)
  if redis.acl_check_cmd and string.find(failure.err, "can't run this command", 1, true) then
    for command in string.gmatch('HMGET TIME HSET DEL PTTL PEXPIRE LRANGE', '%a+') do
      if not redis.acl_check_cmd(command) then
        return redis.error_reply('NOPERM read.lua: this user has no right to run ' .. command)
      end
    end
  end
  return failure
end

local _, answer = pcall(run)
if type(answer) ~= 'table' then answer = { err = answer } end
return answer.err and named(answer) or answer
