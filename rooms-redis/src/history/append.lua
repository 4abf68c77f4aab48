-- Appends a message to the log of a room and publishes it, in one step. docs/history.md tells how to call it.
--
-- KEYS: 1 the log, a list; 2 its mark, a hash; where there is an idempotency key, 3 those of the log, a sorted set.
-- ARGV: 1 the channel; 2 the payload; 3 PUBLISH or SPUBLISH; 4 how many messages are kept, 5 how many bytes, and 6 for how
-- many milliseconds; 7 a random epoch, should one begin: up to 16 hexadecimal digits, the first of them not 0; 8 an
-- idempotency key, or nothing; without one, 9 and so on more payloads, which follow the first.
-- Gives the epoch, the offset of the last message, and the number of connections that got it. Where the log has a message
-- with the idempotency key already, nothing is done: gives its epoch, its offset, and `repeated`.

local log, mark, keys, channel, key = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[8]
local most, bytes, age = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not (most and bytes and age and age >= 1) or not string.match(ARGV[7], '^[1-9a-f][0-9a-f]*$') or #ARGV[7] > 16 then
  return redis.error_reply('ERR append.lua: arguments 4 to 6 are numbers, and 7 is up to 16 hexadecimal digits')
end
if keys and (not key or key == '' or ARGV[9]) then
  return redis.error_reply('ERR append.lua: with a third key, argument 8 is an idempotency key, and the last')
end
local function text(number) return string.format('%d', number) end

-- What is read is read before anything is written: a mark or keys of another type end the script here, and a log of another
-- type ends it with the first write.
local marked = redis.call('HMGET', mark, 'epoch', 'offset', 'bytes', 'count', 'server', 'earlier', 'keyed')
local epoch, offset, size, count = marked[1], tonumber(marked[2]) or 0, tonumber(marked[3]) or 0, tonumber(marked[4]) or 0
local server, earlier, keyed = marked[5] or '', marked[6] or '', marked[7]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The offset and the time of an entry.
local function read(entry)
  local at, when = string.match(entry or '', '^(%d+);(%d+);')
  return tonumber(at), tonumber(when)
end
if keys then
  local known = tonumber(redis.call('ZSCORE', keys, key) or nil)
  -- Keys that the mark does not know of are those of a log that is gone.
  if epoch and keyed and known and known <= offset then
    local at, when = read(redis.call('LINDEX', log, text(known - offset - 1)))
    if at == known and now - when < age then
      -- As its publisher was told it: the epochs before the last each end somewhere, the latest first.
      local of = epoch
      for before, ended in string.gmatch(earlier, '(%x+)%.(%d+)') do
        if tonumber(ended) >= known then of = before end
      end
      return { of, text(known), 'repeated' }
    end
  end
end

-- A server that takes over from another, or that restarts, may have lost the newest messages. It begins an epoch of its
-- own, and notes where the one before ended here.
local info, now_at, begins = redis.pcall('INFO', 'replication'), server, true
if type(info) == 'string' then
  local _, place = string.find(info, 'master_replid:', 1, true)
  now_at = place and string.match(info, '^%x+', place + 1) or server
end
if not epoch then
  epoch, offset, earlier = ARGV[7], 0, ''
  -- A log whose mark is lost is worth nothing; a key of another type is somebody else's.
  redis.call('LINDEX', log, 0)
  redis.call('DEL', log)
elseif now_at ~= server then
  local ends = { epoch .. '.' .. text(offset) }
  for position in string.gmatch(earlier, '%S+') do
    if #ends < 8 then ends[#ends + 1] = position end
  end
  epoch, earlier = ARGV[7], table.concat(ends, ' ')
else
  begins = false
end

local payloads, entries, stamp, added = { ARGV[2] }, {}, ';' .. text(now) .. ';', 0
for at = 9, #ARGV do payloads[at - 7] = ARGV[at] end
for at, payload in ipairs(payloads) do
  entries[at], added = text(offset + at) .. stamp .. payload, added + #payload
end
local length = redis.call('RPUSH', log, unpack(entries))
if length == count + #entries then
  size = size + added
else
  -- The log was lost, or is too old, or somebody else has written to it.
  length, size = #entries, added
  redis.call('LTRIM', log, -length, -1)
end
local function trimmed(entry)
  local from = string.match(entry, '^%d+;%d+;()')
  length, size = length - 1, size - (from and #entry - from + 1 or 0)
end
if length > most then
  local too_many = length - most
  for _, entry in ipairs(redis.call('LRANGE', log, 0, too_many - 1)) do trimmed(entry) end
  redis.call('LTRIM', log, too_many, -1)
end
while length > 0 do
  local at, when = read(redis.call('LINDEX', log, 0))
  if at and size <= bytes and now - when < age then break end
  trimmed(redis.call('LPOP', log))
end

local before = offset
offset = offset + #entries
redis.call('HSET', mark, 'offset', text(offset), 'bytes', text(size), 'count', text(length))
if begins then redis.call('HSET', mark, 'epoch', epoch, 'server', now_at, 'earlier', earlier) end
redis.call('PEXPIRE', log, age)
-- A day longer than the messages, so that a room in which nothing happens for so long is the same when something does.
redis.call('PEXPIRE', mark, age + 86400000)

-- Last, as all before can fail. What can't be published is not kept.
local function undone(failure)
  for _ = 1, math.min(#entries, length) do redis.call('RPOP', log) end
  length, size = math.max(length - #entries, 0), math.max(size - added, 0)
  redis.call('HSET', mark, 'offset', text(before), 'bytes', text(size), 'count', text(length))
  return failure
end
if keys then
  if not keyed then redis.call('DEL', keys) end
  local noted = redis.pcall('ZADD', keys, text(offset), key)
  if type(noted) == 'table' then return undone(noted) end
  if not keyed then redis.call('HSET', mark, 'keyed', '1') end
  redis.call('ZREMRANGEBYSCORE', keys, '-inf', '(' .. text(offset - length + 1))
  redis.call('PEXPIRE', keys, age)
end
local receivers
for at, payload in ipairs(payloads) do
  receivers = redis.pcall(ARGV[3], channel, '\1p' .. epoch .. '.' .. text(before + at) .. ';' .. payload)
  if type(receivers) == 'table' then
    -- Whatever refuses one refuses the first.
    if keys then redis.call('ZREM', keys, key) end
    return undone(receivers)
  end
end
return { epoch, text(offset), receivers }
