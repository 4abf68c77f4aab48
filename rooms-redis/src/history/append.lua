-- Appends messages to the logs of rooms and publishes them, in one step. docs/history.md tells how to call it.
--
-- KEYS: for each room its log, a list, and its mark, a hash; with an idempotency key there is one room, and the third key is
-- that of the log's idempotency keys, a sorted set.
-- ARGV: 1 PUBLISH or SPUBLISH; 2 an idempotency key, or nothing; then for each room: its channel; how many messages are kept,
-- how many bytes, and for how many milliseconds; a random epoch, should one begin: up to 16 hexadecimal digits, the first of
-- them not 0; how many payloads follow; and these.
-- Gives the epoch, the offset of the last message, and the number of connections that got it; for several rooms, a list of
-- these. Where the log has a message with the idempotency key already, nothing is done: gives its epoch, its offset, and
-- `repeated`.
--
-- Redis' Lua hashes every byte of each string that it makes, so payloads are made into strings as rarely as can be: an entry is
-- two elements of the list, and what is read to trim it is the short one.

local argv, call, match, format = ARGV, redis.call, string.match, string.format
local publish, once, keys = argv[1], argv[2], #KEYS == 3 and KEYS[3] or nil
if #KEYS < 2 or not keys and #KEYS % 2 == 1 or not once or (keys ~= nil) ~= (once ~= '') then
  return redis.error_reply('ERR append.lua: there are two keys for each room; a third one with an idempotency key, argument 2')
end

local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stamp = format(';%d;', now)
local info = redis.pcall('INFO', 'replication')
local _, place = string.find(type(info) == 'string' and info or '', 'master_replid:', 1, true)
local this_server = place and match(info, '^%x+', place + 1)

-- The offset of the entry at an index, its time, and the bytes of all before it.
local function entry(log, index)
  local at, when, before = match(call('LINDEX', log, index) or '', '^(%d+);(%d+);(%d+)$')
  return tonumber(at), tonumber(when), tonumber(before)
end

-- What the publisher of the message with the idempotency key was told, if the log has it.
local function repeated(log, mark, known, epoch, offset, age)
  if known > offset then return end
  local at, when = entry(log, 2 * (known - offset - 1))
  if at ~= known or now - when >= age then return end
  -- The epochs before the last each end somewhere, the latest first.
  for before, ended in string.gmatch(call('HMGET', mark, 'earlier')[1] or '', '(%x+)%.(%d+)') do
    if tonumber(ended) >= known then epoch = before end
  end
  return { epoch, format('%d', known), 'repeated' }
end

-- What can't be published is not kept.
local function undone(log, mark, added, offset, bytes, failure)
  call('LTRIM', log, 0, -2 * added - 1)
  call('HSET', mark, 'offset', offset, 'bytes', bytes)
  return failure
end

-- Appends to a log what argv has from a place on.
local function append(log, mark, from)
  local channel, most, bytes, age = argv[from], tonumber(argv[from + 1]), tonumber(argv[from + 2]), tonumber(argv[from + 3])
  local fresh, added = argv[from + 4], tonumber(argv[from + 5])
  from = from + 5
  if not (most and bytes and age and age >= 1) or not match(fresh, '^[1-9a-f][0-9a-f]*$') or #fresh > 16 then
    return redis.error_reply('ERR append.lua: a retention is three numbers, and an epoch up to 16 hexadecimal digits')
  end
  if not (added and added >= 1 and argv[from + added]) or keys and added > 1 then
    return redis.error_reply('ERR append.lua: there is a number of payloads and then these; one with an idempotency key')
  end

  -- What is read is read before anything is written: a mark or keys of another type end the script here, and a log of another
  -- type ends it with the first write.
  local marked = call('HMGET', mark, 'epoch', 'offset', 'bytes', 'server', 'until')
  local epoch, before, bytes_before = marked[1], tonumber(marked[2]) or 0, tonumber(marked[3]) or 0
  local server, expires, keyed = marked[4] or '', tonumber(marked[5]) or 0, nil
  if keys then
    local known = tonumber(call('ZSCORE', keys, once) or nil)
    keyed = call('HMGET', mark, 'keyed')[1]
    -- Keys that the mark does not know of are those of a log that is gone.
    local answer = known and epoch and keyed and repeated(log, mark, known, epoch, before, age)
    if answer then return answer end
  end

  -- A server that takes over from another, or that restarts, may have lost the newest messages. It begins an epoch of its
  -- own, and notes where the one before ended here.
  local now_at, begins, earlier = this_server or server, true, ''
  if not epoch then
    epoch, before, bytes_before = fresh, 0, 0
    -- A log whose mark is lost is worth nothing; a key of another type is somebody else's. Where there is none, nothing is
    -- written yet: Redis looks whether it is full only before a script's first write.
    if call('LINDEX', log, 0) then call('DEL', log) end
  elseif now_at ~= server then
    local ends = { epoch .. '.' .. format('%d', before) }
    for position in string.gmatch(call('HMGET', mark, 'earlier')[1] or '', '%S+') do
      if #ends < 8 then ends[#ends + 1] = position end
    end
    epoch, earlier = fresh, table.concat(ends, ' ')
  else
    begins = false
  end

  local offset, total, length = before, bytes_before, nil
  local frames, entries = {}, added > 1 and {}
  for n = 1, added do
    local payload = argv[from + n]
    offset = offset + 1
    local digits = format('%d', offset)
    local about = digits .. stamp .. format('%d', total)
    frames[n], total = '\1p' .. epoch .. '.' .. digits .. ';' .. payload, total + #payload
    if entries then
      entries[2 * n - 1], entries[2 * n] = about, payload
    else
      length = call('RPUSH', log, about, payload)
    end
  end
  length = length or call('RPUSH', log, unpack(entries))
  local kept = length / 2
  local gone = math.max(kept - most, 0)
  while gone < kept do
    local at, when, bytes_earlier = entry(log, math.floor(2 * gone))
    if at ~= offset - kept + gone + 1 and kept ~= added then
      -- The log was lost, or somebody else has written to it.
      call('LTRIM', log, -2 * added, -1)
      length, kept, gone = 2 * added, added, math.max(added - most, 0)
    elseif total - bytes_earlier <= bytes and now - when < age then
      break
    else
      gone = gone + 1
    end
  end
  if gone > 0 then call('LTRIM', log, 2 * gone, -1) end
  kept = kept - gone

  call('HSET', mark, 'offset', offset, 'bytes', total)
  if begins then call('HSET', mark, 'epoch', epoch, 'server', now_at, 'earlier', earlier) end
  -- Longer than needed, so that it is to be done less often.
  if begins or kept <= added or expires < now + age then
    local stays = age + math.floor(math.min(age / 8, 3600000))
    call('HSET', mark, 'until', now + stays)
    call('PEXPIRE', log, stays)
    -- A day longer than the messages, so that a room in which nothing happens for so long is the same when something does.
    call('PEXPIRE', mark, stays + 86400000)
  end

  -- Last, as all before can fail.
  if keys then
    if not keyed then call('DEL', keys) end
    local noted = redis.pcall('ZADD', keys, offset, once)
    if type(noted) == 'table' then return undone(log, mark, math.min(added, kept), before, bytes_before, noted) end
    if not keyed then call('HSET', mark, 'keyed', '1') end
    call('ZREMRANGEBYSCORE', keys, '-inf', '(' .. format('%d', offset - kept + 1))
    call('PEXPIRE', keys, age)
  end
  -- Whatever refuses one refuses the first.
  local receivers = redis.pcall(publish, channel, frames[1])
  if type(receivers) == 'table' then
    if keys then call('ZREM', keys, once) end
    return undone(log, mark, math.min(added, kept), before, bytes_before, receivers)
  end
  for n = 2, added do receivers = call(publish, channel, frames[n]) end
  return { epoch, format('%d', offset), receivers }
end

if #KEYS < 4 then return append(KEYS[1], KEYS[2], 3) end
local answers, from = {}, 3
for room = 1, #KEYS / 2 do
  local done, answer = pcall(append, KEYS[2 * room - 1], KEYS[2 * room], from)
  -- What is refused in one room is not in the others.
  answers[room] = (done or type(answer) == 'table') and answer or { err = answer }
  from = from + 6 + (tonumber(argv[from + 5]) or 0)
end
return answers
