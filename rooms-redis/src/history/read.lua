-- Reads the log of a room; begins one where there is none.
--
-- KEYS: 1 the log, a list; 2 its mark, a hash.
-- ARGV: 1 for how many milliseconds messages are kept; 2 a random epoch, should a log begin; 3 `newest` and 4 how many, or 3
-- the epoch and 4 the offset after which to read.
-- Gives the epoch and the offset of the head, the ends of earlier epochs, the time, and the entries, of two elements each.

local log, mark, age = KEYS[1], KEYS[2], tonumber(ARGV[1])
local marked = redis.call('HMGET', mark, 'epoch', 'offset', 'earlier', 'server')
local epoch, offset, earlier = marked[1], tonumber(marked[2]) or 0, marked[3] or ''
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))

if not epoch then
  local info = redis.pcall('INFO', 'replication')
  local server = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
  redis.call('HSET', mark, 'epoch', ARGV[2], 'offset', '0', 'bytes', '0', 'server', server, 'earlier', '')
  redis.call('DEL', log)
  redis.call('PEXPIRE', mark, age + 86400000)
  return { ARGV[2], '0', '', now, {} }
end

-- The mark stays for a day longer than the log. To see to that twice a day is enough, so most reads write nothing. Where nothing
-- may be written just now, as on a server without its replicas, the log is read all the same.
if redis.call('PTTL', mark) < age + 43200000 then redis.pcall('PEXPIRE', mark, age + 86400000) end

local count = 0
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
return { epoch, string.format('%.0f', offset), earlier, now, messages }
