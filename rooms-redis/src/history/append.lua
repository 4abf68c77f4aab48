-- Appends a message to the log of a room and publishes it, in one step. docs/history.md tells how to call it.
--
-- KEYS: 1 the log, a list; 2 its mark, a hash.
-- ARGV: 1 the channel; 2 the payload; 3 PUBLISH or SPUBLISH; 4 how many messages are kept, 5 how many bytes, and 6 for how
-- many milliseconds; 7 a random epoch, should one begin: up to 16 hexadecimal digits, the first of them not 0.
-- Gives the epoch, the offset, and the number of connections that got the message.

local log, mark, channel, payload = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local most, bytes, age = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not (most and bytes and age and age >= 1) or not string.match(ARGV[7], '^[1-9a-f][0-9a-f]*$') or #ARGV[7] > 16 then
  return redis.error_reply('ERR append.lua: arguments 4 to 6 are numbers, and 7 is up to 16 hexadecimal digits')
end
local function text(number) return string.format('%.0f', number) end

-- Both keys are read before anything is written: one of another type ends the script here.
local marked = redis.call('HMGET', mark, 'epoch', 'offset', 'bytes', 'server', 'earlier')
local newest = redis.call('LINDEX', log, -1)
local epoch, offset, size = marked[1], tonumber(marked[2]) or 0, tonumber(marked[3]) or 0
local server, earlier = marked[4] or '', marked[5] or ''

-- A server that takes over from another, or that restarts, may have lost the newest messages. It begins an epoch of its
-- own, and notes where the one before ended here.
local info = redis.pcall('INFO', 'replication')
local now_at = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or server
if not epoch then
  epoch, offset, earlier = ARGV[7], 0, ''
elseif now_at ~= server then
  local ends = { epoch .. '.' .. text(offset) }
  for position in string.gmatch(earlier, '%S+') do
    if #ends < 8 then ends[#ends + 1] = position end
  end
  epoch, earlier = ARGV[7], table.concat(ends, ' ')
end
-- A log whose mark is lost, or that somebody else has written to, is worth nothing.
if newest and string.match(newest, '^(%d+);') ~= text(offset) then
  redis.call('DEL', log)
  newest = false
end
if not newest then size = 0 end

local before, time = offset, redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
offset, size = offset + 1, size + #payload
local count = redis.call('RPUSH', log, text(offset) .. ';' .. text(now) .. ';' .. payload)
while count > 0 do
  local first = redis.call('LINDEX', log, 0)
  local at, from = string.match(first, '^%d+;(%d+);()')
  if at and count <= most and size <= bytes and now - tonumber(at) < age then break end
  redis.call('LPOP', log)
  count, size = count - 1, size - (from and #first - from + 1 or 0)
end
redis.call('HSET', mark, 'epoch', epoch, 'offset', text(offset), 'bytes', text(size), 'server', now_at, 'earlier', earlier)
redis.call('PEXPIRE', log, age)
-- A day longer than the messages, so that a room in which nothing happens for so long is the same when something does.
redis.call('PEXPIRE', mark, age + 86400000)

-- Last, as all before can fail. What can't be published is not kept.
local receivers = redis.pcall(ARGV[3], channel, '\1p' .. epoch .. '.' .. text(offset) .. ';' .. payload)
if type(receivers) == 'table' then
  redis.call('RPOP', log)
  redis.call('HSET', mark, 'offset', text(before), 'bytes', text(size - #payload))
  return receivers
end
return { epoch, text(offset), receivers }
