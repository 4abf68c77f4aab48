-- Appends messages to the logs of rooms and publishes them, in one step. docs/history.md tells how to call it.
--
-- KEYS: for each room its log, a list, and its mark, a hash; with an idempotency key there is one room, and the third key is
-- that of the log's idempotency keys, a sorted set.
-- ARGV: 1 PUBLISH or SPUBLISH; 2 an idempotency key, or nothing; 3 a random epoch, should a log begin: up to 16 hexadecimal
-- digits, the first of them not 0; then for each room: its channel; how many messages are kept, how many bytes, and for how
-- many milliseconds, as `500;1048576;3600000`; how many payloads follow; and these.
-- Gives the position of the last message, and the number of connections that got it; for several rooms, a list of these.
-- Where the log has a message with the idempotency key already, nothing is done: gives its position, and `repeated`.
--
-- What is done for every message is four commands and few strings, as Redis' Lua hashes every byte of each string that it
-- makes: an entry is two elements of the list, so that what is read of it is the short one, and the mark has in one field
-- what every message changes. Trimming is done for several messages at a time.

local argv, call, match, format, sub = ARGV, redis.call, string.match, string.format, string.sub
local publish, once, fresh, keys = argv[1], argv[2], argv[3], #KEYS == 3 and KEYS[3] or nil
if #KEYS < 2 or not keys and #KEYS % 2 == 1 or not once or (keys ~= nil) ~= (once ~= '') then
  return redis.error_reply('ERR append.lua: there are two keys for each room; a third one with an idempotency key, argument 2')
end
if not fresh or #fresh > 16 or not match(fresh, '^[1-9a-f][0-9a-f]*$') then
  return redis.error_reply('ERR append.lua: argument 3 is an epoch, up to 16 hexadecimal digits of which the first is not 0')
end

local commands = 'TIME HMGET LINDEX DEL RPUSH LTRIM HSET PEXPIRE ZSCORE ZADD ZREMRANGEBYSCORE ZREM '

-- Redis does not say which command it is that a user may not run; from version 7 on it can be asked.
local function named(failure)
  if type(failure) ~= 'table' then failure = { err = failure } end
  if failure.err and redis.acl_check_cmd and string.find(failure.err, "can't run this command", 1, true) then
    for command in string.gmatch(commands .. publish, '%a+') do
      if not redis.acl_check_cmd(command) then
        return redis.error_reply('NOPERM append.lua: this user has no right to run ' .. command)
      end
    end
  end
  return failure
end

local time = redis.pcall('TIME')
if time.err then return named(time) end
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stamp = format(';%d;', now)
local info = redis.pcall('INFO', 'replication')
local _, place = string.find(type(info) == 'string' and info or '', 'master_replid:', 1, true)
local this_server = place and match(sub(info, place + 1, place + 16), '^%x+$')

-- What a log keeps, and how many messages at a time are trimmed: an eighth of those that it keeps, and 16 at most, so that
-- there are that many more. Read once for all rooms of which it is the same.
local retentions = {}
local function retention(text)
  local most, bytes, age = match(text or '', '^(%d+);(%d+);(%d+)$')
  if not most or tonumber(age) < 1 then return end
  local kept = { most = tonumber(most), bytes = tonumber(bytes), age = tonumber(age) }
  kept.stride = math.max(1, math.min(16, math.floor(kept.most / 8)))
  -- And an eighth of the bytes.
  kept.large = kept.bytes / 8 / kept.stride
  retentions[text] = kept
  return kept
end

-- The offset of the entry at an index, its time, and the bytes of all before it.
local function entry(log, index)
  local at, when, before = match(call('LINDEX', log, index) or '', '^(%d+);(%d+);(%d+)$')
  return tonumber(at), tonumber(when), tonumber(before)
end

-- What the publisher of the message with the idempotency key was told, if the log has it.
local function repeated(log, mark, known, epoch, offset, total, kept)
  if known > offset or offset - known >= kept.most then return end
  local at, when, before = entry(log, 2 * (known - offset - 1))
  if at ~= known or now - when >= kept.age or total - before > kept.bytes then return end
  -- The epochs before the last each end somewhere, the latest first.
  for earlier, ended in string.gmatch(call('HMGET', mark, 'earlier')[1] or '', '(%x+)%.(%d+)') do
    if tonumber(ended) >= known then epoch = earlier end
  end
  return { epoch .. '.' .. format('%d', known), 'repeated' }
end

-- Forgets what the log does not keep any more; gives how many messages are left.
local function trim(log, length, added, offset, total, kept)
  local there = length / 2
  local gone = math.max(there - kept.most, 0)
  while gone < there do
    local at, when, before = entry(log, math.floor(2 * gone))
    if at ~= offset - there + gone + 1 and there ~= added then
      -- The log was lost, or somebody else has written to it.
      call('LTRIM', log, -2 * added, -1)
      there, gone = added, math.max(added - kept.most, 0)
    elseif total - before <= kept.bytes and now - when < kept.age then
      break
    else
      gone = gone + 1
    end
  end
  if gone > 0 then call('LTRIM', log, 2 * gone, -1) end
  return there - gone
end

-- What can't be published is not kept.
local function undone(log, mark, added, head, failure)
  call('LTRIM', log, 0, -2 * added - 1)
  call('HSET', mark, 'head', head)
  return failure
end

-- Appends to a log what argv has from a place on; an epoch, should one begin, has the number of the room in it.
local function append(log, mark, from, room)
  local channel, added = argv[from], tonumber(argv[from + 2])
  local kept = retentions[argv[from + 1]] or retention(argv[from + 1])
  if not kept then
    return redis.error_reply('ERR append.lua: a retention is three numbers, as 500;1048576;3600000')
  end
  from = from + 2
  if not (added and added >= 1 and argv[from + added]) or keys and added > 1 then
    return redis.error_reply('ERR append.lua: there is a number of payloads and then these; one with an idempotency key')
  end

  -- What is read is read before anything is written: a mark or keys of another type end the script here, and a log of another
  -- type ends it with the first write.
  local marked, keyed = call('HMGET', mark, 'head')[1], nil
  local before, bytes_before, rest, expires, epoch, server = match(marked or '', '^(%d+);(%d+)(;(%d+);(%x+);(%x*))$')
  before, bytes_before, expires = tonumber(before or 0), tonumber(bytes_before or 0), tonumber(expires or 0)
  if keys then
    local known = tonumber(call('ZSCORE', keys, once) or nil)
    keyed = call('HMGET', mark, 'keyed')[1]
    -- Keys that the mark does not know of are those of a log that is gone.
    local answer = known and epoch and keyed and repeated(log, mark, known, epoch, before, bytes_before, kept)
    if answer then return answer end
  end

  -- A server that takes over from another, or that restarts, may have lost the newest messages. It begins an epoch of its
  -- own, and notes where the one before ended here.
  local earlier = nil
  if not epoch or this_server and this_server ~= server then
    earlier = ''
    if not epoch then
      -- A log whose mark is lost is worth nothing; a key of another type is somebody else's. Where there is none, nothing is
      -- written yet: Redis looks whether it is full only before a script's first write.
      if call('LINDEX', log, 0) then call('DEL', log) end
    else
      local ends = { epoch .. '.' .. format('%d', before) }
      for position in string.gmatch(call('HMGET', mark, 'earlier')[1] or '', '%S+') do
        if #ends < 8 then ends[#ends + 1] = position end
      end
      earlier = table.concat(ends, ' ')
    end
    epoch, server = room == 1 and fresh or sub(sub(fresh, 1, 13) .. format('%03x', room), 1, 16), this_server or ''
  end

  local offset, total, length = before, bytes_before, nil
  local positions, entries, position = added > 1 and {}, added > 1 and {}, nil
  for n = 1, added do
    local payload = argv[from + n]
    offset = offset + 1
    local digits = format('%d', offset)
    local about = digits .. stamp .. format('%d', total)
    position, total = epoch .. '.' .. digits, total + #payload
    if entries then
      positions[n], entries[2 * n - 1], entries[2 * n] = position, about, payload
    else
      length = call('RPUSH', log, about, payload)
    end
  end
  length = length or call('RPUSH', log, unpack(entries))

  local left, due = nil, earlier or length <= 2 * added or expires < now + kept.age
  if due or keys or offset % kept.stride < added or total - bytes_before > kept.large or length % 2 > 0 then
    left = trim(log, length, added, offset, total, kept)
    due = due or left <= added
  end
  if due then
    -- Longer than needed, so that it is to be done less often.
    local stays = kept.age + math.floor(math.min(kept.age / 8, 3600000))
    rest = format(';%d;%s;%s', now + stays, epoch, server)
    call('PEXPIRE', log, stays)
    call('HSET', mark, 'head', format('%d;%d%s', offset, total, rest))
    if earlier then call('HSET', mark, 'earlier', earlier) end
    -- A day longer than the messages, so that a room in which nothing happens for so long is the same when something does.
    call('PEXPIRE', mark, stays + 86400000)
  else
    call('HSET', mark, 'head', format('%d;%d', offset, total) .. rest)
  end

  -- Last, as all before can fail.
  local restored = nil
  if keys then
    restored = format('%d;%d', before, bytes_before) .. rest
    if not keyed then call('DEL', keys) end
    local noted = redis.pcall('ZADD', keys, offset, once)
    if type(noted) == 'table' then return undone(log, mark, math.min(added, left), restored, noted) end
    if not keyed then call('HSET', mark, 'keyed', '1') end
    call('ZREMRANGEBYSCORE', keys, '-inf', '(' .. format('%d', offset - left + 1))
    call('PEXPIRE', keys, kept.age)
  end
  -- Whatever refuses one refuses the first.
  local receivers = redis.pcall(publish, channel, '\1p' .. (positions and positions[1] or position) .. ';' .. argv[from + 1])
  if type(receivers) == 'table' then
    if keys then call('ZREM', keys, once) end
    restored = format('%d;%d', before, bytes_before) .. rest
    return undone(log, mark, math.min(added, left or added), restored, receivers)
  end
  for n = 2, added do receivers = call(publish, channel, '\1p' .. positions[n] .. ';' .. argv[from + n]) end
  return { position, receivers }
end

local answers, from = {}, 4
for room = 1, #KEYS / 2 do
  -- What is refused in one room is not in the others.
  local _, answer = pcall(append, KEYS[2 * room - 1], KEYS[2 * room], from, room)
  answers[room] = named(answer)
  from = from + 3 + (tonumber(argv[from + 2]) or 0)
end
return #KEYS < 4 and answers[1] or answers
